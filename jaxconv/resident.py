"""Training on pictures that stay on the device, warped there: an epoch is one dispatch for each size of its batches.

The host only draws: which pictures, in which order, warped by which matrices. It draws what `batches` and `augment`
draw for training from the host, so that both train on the same pictures, to the rounding of a pixel.
"""

import dataclasses
import itertools
import operator
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, UInt8

from jaxconv import devices, metrics
from jaxconv.augment import AffineRanges, RandomAffine, draw_matrix
from jaxconv.batches import Positions, training_batches
from jaxconv.compilation import jit
from jaxconv.config import FitConfig
from jaxconv.errors import InputError
from jaxconv.machine import available_memory
from jaxconv.metrics import StepSums
from jaxconv.records import Source, Splits
from jaxconv.train_step import Sums, TrainState, eval_step, train_step

Pictures = dict[str, Array]  # {"image": uint8[n, h, w, c], "label": int32[n]} of a whole split, on the device
Plan = dict[str, np.ndarray]  # a leading axis of steps; then for each picture its index, matrix or mask


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
    device = jax.local_devices()[0]
    if wish == "host" or (wish is None and device.platform == "cpu"):
        return "host"
    needed = sum(len(s) * s[0]["image"].nbytes for s in {id(source): source for source in splits}.values())
    room = min(available_memory(), (device.memory_stats() or {}).get("bytes_limit", available_memory())) // 2
    if needed <= room:
        return "device"
    found = f"the pictures take {needed / 1e6:.1f} MB, and there is room for {room / 1e6:.1f} MB"
    if wish == "device":
        raise InputError(f"--augment-on device: {found}: make room, or begin a run with --augment-on host")
    print(f"{found} on the device: they are fed from the host", flush=True)
    return "host"


def place(source: Source) -> Pictures:
    """All pictures of a split, whole on every device."""
    images = np.empty((len(source), *source[0]["image"].shape), np.uint8)
    labels = np.empty(len(source), np.int32)
    for index in range(len(source)):
        record = source[index]
        if record["image"].dtype != np.uint8:  # which NumPy would make bytes of without a word
            raise ValueError(f"the image of record {index} is {record['image'].dtype}, not uint8[h, w, c]")
        images[index], labels[index] = record["image"], operator.index(record["label"])
    return jax.device_put({"image": images, "label": labels}, devices.everywhere())


def training_plans(
    source: Source, config: FitConfig, done: int, augment: RandomAffine | None = None
) -> Iterator[list[Plan]]:
    """The plans of each stretch after `done` steps; those of a smaller last batch come apart."""
    height, width, _ = source[0]["image"].shape
    stream = training_batches(
        Positions(len(source)),
        config.batch_size,
        seed=config.seed,
        augment=RandomMatrix(augment.ranges, height, width) if augment is not None else None,
        whole_passes=config.steps_per_epoch is None,
        first_step=done,
        threads=0,  # whoever draws ahead does so in one of its own, which is faster than Grain's at records this small
    )
    for stretch in config.stretches(len(source), done):
        groups = itertools.groupby(itertools.islice(stream, len(stretch)), key=lambda batch: len(batch["index"]))
        yield [jax.tree.map(lambda *rows: np.stack(rows), *group) for _, group in groups]


def evaluation_plan(count: int, batch_size: int) -> Plan:
    """Each of `count` pictures once, in order; the last batch filled up with masked ones."""
    positions = np.arange(-(-count // batch_size) * batch_size, dtype=np.int32).reshape(-1, batch_size)
    return {"index": np.where(positions < count, positions, 0), "mask": positions < count}


def _take(pictures: Pictures, plan: dict[str, Array]) -> dict[str, Array]:
    """The batch that a step of a plan says."""
    images, labels = pictures["image"][plan["index"]], pictures["label"][plan["index"]]
    if "matrix" in plan:
        images = warp(images, plan["matrix"])
    return {"image": images, "label": labels} | ({"mask": plan["mask"]} if "mask" in plan else {})


@partial(jit, donate_argnums=0)
def train_steps(
    states: list[TrainState], pictures: Pictures, plans: list[dict[str, Array]]
) -> tuple[list[TrainState], list[Sums]]:
    """`train_step` for each step of a plan, in one dispatch, and the sums of each; for each state with its plan."""

    def train(state: TrainState, plan: dict[str, Array]) -> tuple[TrainState, Sums]:
        return lax.scan(lambda state, step: train_step(state, _take(pictures, step)), state, plan)

    if len(states) == 1:  # which vectorizing would slow
        found = [train(states[0], plans[0])]
    else:
        several = [jax.tree.map(lambda *leaves: jnp.stack(leaves), *items) for items in (states, plans)]
        trained = jax.vmap(train)(*several)
        found = [jax.tree.map(lambda leaf, i=i: leaf[i], trained) for i in range(len(states))]
    return [state for state, _ in found], [sums for _, sums in found]


@jit
def eval_steps(state: TrainState, pictures: Pictures, plan: dict[str, Array]) -> Sums:
    """`eval_step` for each step of a plan, in one dispatch; the sums over them."""
    sums = lax.map(lambda step: eval_step(state, _take(pictures, step)), plan)
    return jax.tree.map(lambda x: x.sum(0), sums)


class Resident:
    """A source of training for one seed or several at once, from the step after `done` on.

    The plans of a stretch are drawn while the devices work on the one before. A context manager, because a thread
    does that.
    """

    def __init__(self, splits: Splits, configs: Sequence[FitConfig], done: int, augment: RandomAffine | None) -> None:
        sources = {id(source): source for source in splits}
        batch_size = configs[0].batch_size
        self._pictures = {key: place(source) for key, source in sources.items()}
        self._evaluations = {
            key: devices.split(evaluation_plan(len(source), batch_size), axis=1) for key, source in sources.items()
        }
        self._train = self._pictures[id(splits.train)]
        self._stretches = zip(*(training_plans(splits.train, config, done, augment) for config in configs), strict=True)

    def __enter__(self) -> "Resident":
        self._thread = ThreadPoolExecutor(1)
        self._draw()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def _draw(self) -> None:
        self._next = self._thread.submit(next, self._stretches, None)

    def train(self, states: list[TrainState], stretch: range) -> tuple[list[TrainState], list[StepSums], float]:
        """The states after the next stretch, its sums, and the seconds waited for its plans."""
        asked = time.perf_counter()
        plans = self._next.result()
        assert plans and sum(len(plan["index"]) for plan in plans[0]) == len(stretch)
        waited = time.perf_counter() - asked
        sums: list[list[Sums]] = []
        for group in zip(*plans, strict=True):  # one for each size of batches
            states, group_sums = train_steps(states, self._train, devices.split([*group], axis=1))
            sums.append(group_sums)
        self._draw()
        return states, [metrics.of_steps(of_state) for of_state in zip(*sums, strict=True)], waited

    def evaluate(self, states: list[TrainState], source: Source) -> list[list[Sums]]:
        """The sums over every picture exactly once, for each state."""
        pictures, plan = self._pictures[id(source)], self._evaluations[id(source)]
        return [[eval_steps(state, pictures, plan)] for state in states]
