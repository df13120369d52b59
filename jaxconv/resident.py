"""Training on pictures that stay on the device, warped there: an epoch is one dispatch for each size of its batches.

The host only draws: which pictures, in which order, warped by which matrices. It draws what `batches` and `augment`
draw for training from the host, so that both train on the same pictures, to the rounding of a pixel.
"""

import dataclasses
import itertools
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, UInt8

from jaxconv import metrics
from jaxconv.augment import AffineRanges, RandomAffine, draw_matrix
from jaxconv.batches import Batch, evaluation_batches, training_batches
from jaxconv.errors import InputError
from jaxconv.machine import available_memory
from jaxconv.metrics import Row
from jaxconv.records import Source, Splits
from jaxconv.train_step import Sums, TrainState, eval_step, train_step

Pictures = dict[str, Array]  # {"image": uint8[n, h, w, c], "label": int32[n]} of a whole split, on the device
Plan = dict[str, np.ndarray]  # a leading axis of steps; then for each picture its index, matrix or mask


class Positions:
    """A source whose records are their own positions: {"index": int}."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, int]:
        return {"index": index}


@dataclasses.dataclass(frozen=True)
class RandomMatrix(grain.transforms.RandomMap):
    """Adds to each record the matrix that `RandomAffine` would warp its picture by."""

    ranges: AffineRanges
    height: int
    width: int

    def random_map(self, element: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """The record with "matrix": float32[2, 3]."""
        return element | {"matrix": draw_matrix(self.height, self.width, self.ranges, rng).astype(np.float32)}


def warp(
    images: UInt8[Array, "n h w c"],
    matrices: Float[Array, "n 2 3"],
    *,
    fill: str = "nearest",
    interpolation: str = "bilinear",
    cval: float = 0.0,
) -> UInt8[Array, "n h w c"]:
    """`augment.warp` of each picture by its matrix, to within 1 of 255, inside a jitted function."""
    order = {"nearest": 0, "bilinear": 1}[interpolation]
    mode = {"nearest": "nearest", "reflect": "reflect", "constant": "nearest"}[fill]
    _, height, width, _ = images.shape

    def one(image: Array, matrix: Array) -> Array:
        rows, cols = jnp.arange(height, dtype=jnp.float32)[:, None], jnp.arange(width, dtype=jnp.float32)[None]
        at = [matrix[axis, 0] * rows + matrix[axis, 1] * cols + matrix[axis, 2] for axis in (0, 1)]
        channel = partial(map_coordinates, coordinates=at, order=order, mode=mode)
        warped = jax.vmap(channel, in_axes=2, out_axes=2)(image.astype(jnp.float32))
        if fill == "constant":  # JAX blends cval into the edge pixels; SciPy's starts where the picture ends
            outside = (at[0] < 0) | (at[0] > height - 1) | (at[1] < 0) | (at[1] > width - 1)
            warped = jnp.where(outside[..., None], cval, warped)
        return jnp.round(warped).astype(jnp.uint8)

    return jax.vmap(one)(images, matrices)


def choose(wish: str | None, splits: Splits) -> str:
    """Where to keep and augment the pictures, "host" or "device": as wished, else on an accelerator that has room.

    Half of the device's memory may be taken by pictures, and half of the host's while they are on their way.

    Raises:
        InputError: "device" is wished, and there is no room.
    """
    device = jax.devices()[0]
    if wish == "host" or (wish is None and device.platform == "cpu"):
        return "host"
    needed = sum(len(s) * s[0]["image"].nbytes for s in {id(source): source for source in splits}.values())
    room = min(available_memory(), (device.memory_stats() or {}).get("bytes_limit", available_memory())) // 2
    if needed <= room:
        return "device"
    found = f"the pictures take {needed / 1e6:.1f} MB, and there is room for {room / 1e6:.1f} MB"
    if wish == "device":
        raise InputError(f"--augment-on device: {found}: leave it out, and they are fed from the host")
    print(f"{found} on the device: they are fed from the host", flush=True)
    return "host"


def place(source: Source) -> Pictures:
    """All pictures of a split on the device."""
    images = np.empty((len(source), *source[0]["image"].shape), np.uint8)
    labels = np.empty(len(source), np.int32)
    for index in range(len(source)):
        record = source[index]
        images[index], labels[index] = record["image"], record["label"]
    return jax.device_put({"image": images, "label": labels})


def training_plans(
    source: Source, batch_size: int, steps: int, *, augment: RandomAffine | None, **options: Any
) -> Iterator[list[Plan]]:
    """The plans of an epoch of `steps` after the other; those of a smaller last batch come apart.

    `options` are those of `training_batches`.
    """
    height, width, _ = source[0]["image"].shape
    matrices = RandomMatrix(augment.ranges, height, width) if augment is not None else None
    stream = training_batches(Positions(len(source)), batch_size, augment=matrices, **options)
    while True:
        yield stack(itertools.islice(stream, steps))


def stack(batches: Iterator[Batch]) -> list[Plan]:
    """Batches on a leading axis, in their order; a new plan where the size changes."""
    groups = itertools.groupby(batches, key=lambda batch: len(batch["index"]))
    return [jax.tree.map(lambda *rows: np.stack(rows), *group) for _, group in groups]


def _take(pictures: Pictures, plan: dict[str, Array]) -> dict[str, Array]:
    """The batch that a step of a plan says."""
    images, labels = pictures["image"][plan["index"]], pictures["label"][plan["index"]]
    if "matrix" in plan:
        images = warp(images, plan["matrix"])
    return {"image": images, "label": labels} | ({"mask": plan["mask"]} if "mask" in plan else {})


@partial(jax.jit, donate_argnums=0)
def train_steps(state: TrainState, pictures: Pictures, plan: dict[str, Array]) -> tuple[TrainState, Sums]:
    """`train_step` for each step of a plan, in one dispatch; the sums over all of them."""
    state, sums = lax.scan(lambda state, step: train_step(state, _take(pictures, step)), state, plan)
    return state, jax.tree.map(lambda x: x.sum(0), sums)


@jax.jit
def eval_steps(state: TrainState, pictures: Pictures, plan: dict[str, Array]) -> Sums:
    """`eval_step` for each step of a plan, in one dispatch; the sums over all of them."""
    sums = lax.map(lambda step: eval_step(state, _take(pictures, step)), plan)
    return jax.tree.map(lambda x: x.sum(0), sums)


def train_epoch(
    state: TrainState, pictures: Pictures, plans: Iterator[list[Plan]]
) -> tuple[TrainState, Row, dict[str, float]]:
    """As `fit.train_epoch`, with the next of `plans`."""
    started = time.perf_counter()
    epoch = next(plans)
    waited, sums = time.perf_counter() - started, []
    for plan in epoch:
        state, plan_sums = train_steps(state, pictures, plan)
        sums.append(plan_sums)
    totals = metrics.total(sums)
    return state, metrics.mean(totals), metrics.speed(totals, time.perf_counter() - started, waited)


def evaluate(state: TrainState, pictures: Pictures, batch_size: int) -> Row:
    """As `fit.evaluate`."""
    plan = stack(evaluation_batches(Positions(len(pictures["label"])), batch_size))
    totals = metrics.total([eval_steps(state, pictures, part) for part in plan])
    return metrics.mean(totals) | {"confusion": totals["confusion"].astype(int).tolist()}
