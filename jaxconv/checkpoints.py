"""Orbax checkpoints of a run: the latest and the best by val_loss, each complete or absent, and proved when it is read.

Orbax restores flipped bytes without noticing. So the digest of every value is kept in the file of the metrics.
"""

import contextlib
import gc
import hashlib
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from jaxconv import devices
from jaxconv.errors import InputError
from jaxconv.train_step import AveragedState, TrainState

DELETED = "deleted"  # a folder in that of the checkpoints, for those that are being removed


def _negative_val_loss(metrics: Mapping[str, Any]) -> float:
    """For Orbax's `max`: the least of all in the middle of an epoch, where there is none."""
    return -metrics.get("val_loss", math.inf)


def digest(tree: Any, *more: Any) -> str:
    """SHA-256 of the names, dtypes, shapes and values of a tree's leaves, and of `more` as JSON."""
    found = hashlib.sha256(json.dumps(more, sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        found.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _proof(state: TrainState, step: int, metrics: Mapping[str, Any]) -> dict[str, str]:
    """The digest of all that is saved, and that of the weights to use, by the name of the item that holds them."""
    item = "average" if isinstance(state, AveragedState) else "params"
    return {"sha256": digest(state, step, metrics), f"{item}_sha256": digest(state.weights)}


class Checkpoints:
    """The checkpoints in a folder, by steps trained; a context manager, because saving goes on in the background.

    Entering proves them all. The damaged ones are named, and moved to a folder `damaged` beside this one.

    `template` is a state, or its shapes from `jax.eval_shape`, with the structure of what is saved. The `latest` ones
    are kept. What is restored is whole on every device, wherever it was saved.

    Raises:
        InputError: on entering, with nothing moved, that none of the checkpoints is sound.
        OSError: what is saved cannot be written. What was saved before stays.
    """

    def __init__(self, folder: str | os.PathLike[str], template: TrainState, latest: int = 1) -> None:
        # Orbax accepts a relative path here and fails in the background.
        self._folder, self._latest = Path(folder).absolute(), latest
        everywhere = devices.everywhere()
        self._template = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere), template
        )

    def __enter__(self) -> "Checkpoints":
        with contextlib.ExitStack() as closing:
            closing.enter_context(_closed_loops_unheard())
            closing.callback(self._remove_deleted)
            self._remove_deleted()
            self._set_damaged_aside()
            self._manager = self._open()
            closing.callback(self._manager.close)
            self._closing = closing.pop_all()
        return self

    def _open(self) -> ocp.CheckpointManager:
        return ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                best_fn=_negative_val_loss,  # without it Orbax writes no metrics at all
                best_mode="max",
                # max_to_keep would delete the newest when it is not among the best.
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(
                    [
                        checkpoint_managers.LatestN(self._latest),
                        checkpoint_managers.BestN(get_metric_fn=_negative_val_loss, reverse=False, n=1),
                    ]
                ),
                cleanup_tmp_directories=True,
                todelete_subdir=DELETED,  # a kill while files are removed would leave half a checkpoint
            ),
            item_names=("state",),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._storage():
            self._closing.close()

    def save(self, step: int, state: TrainState, metrics: Mapping[str, Any]) -> None:
        """Save in the background; a kill before it is complete leaves the checkpoint before.

        `metrics` is what JSON can hold. "val_loss" in it is what the best is known by.
        """
        proof = _proof(state, step, metrics)
        args = ocp.args.Composite(state=ocp.args.StandardSave(state))
        with self._storage():
            if not self._manager.save(step, args=args, metrics={**metrics} | proof):
                raise RuntimeError(f"step {step} is older than the newest checkpoint in {self._folder}")

    @property
    def latest_step(self) -> int:
        """The step of the newest checkpoint, 0 if there is none."""
        return self._manager.latest_step() or 0

    @property
    def best_step(self) -> int:
        """The step of the checkpoint with the lowest val_loss, 0 if there is none."""
        self.wait()
        return self._manager.best_step() or 0

    def wait(self) -> None:
        """Until what was saved is complete."""
        with self._storage():
            self._manager.wait_until_finished()
        self._remove_deleted()

    def _remove_deleted(self) -> None:
        shutil.rmtree(self._folder / DELETED, ignore_errors=True)

    def forget_after(self, step: int) -> None:
        """Delete the checkpoints of later steps, and what a kill left beside the latest and the best."""
        steps = sorted(self._manager.all_steps())
        earlier = [saved for saved in steps if saved <= step]
        best = max(earlier, key=lambda saved: (_negative_val_loss(self.metrics(saved)), saved), default=0)
        for saved in steps:
            if saved not in (best, *earlier[-self._latest :]):
                self._manager.delete(saved)

    def restore(self, step: int) -> TrainState:
        """The state that was saved after `step`."""
        args = ocp.args.Composite(state=ocp.args.StandardRestore(self._template))
        return self._manager.restore(step, args=args).state

    def metrics(self, step: int) -> dict[str, Any]:
        """What was saved with it."""
        return _metrics(self._folder / str(step))

    @contextlib.contextmanager
    def _storage(self) -> Iterator[None]:
        """What stands between Orbax and the disk raises ValueError, with the system's number in its text."""
        try:
            yield
        except ValueError as error:
            number = re.search(r"os_error_code='(\d+)'", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(self._folder)) from error

    def _set_damaged_aside(self) -> None:
        saved = [path for path in self._folder.glob("*") if path.name.isdigit()]
        damaged = {path: why for path in sorted(saved) if (why := self._damage(path))}
        for path, why in damaged.items():
            print(f"the checkpoint {path} is damaged ({why})", flush=True)
        if damaged and len(damaged) == len(saved):
            raise InputError(f"no checkpoint in {self._folder} is sound: train anew in another --workdir")
        for path in damaged:
            aside = self._folder.with_name("damaged")
            aside.mkdir(exist_ok=True)
            path.rename(aside / f"{path.name}-{len(list(aside.iterdir()))}")

    def _damage(self, path: Path) -> str:
        """What is wrong with a checkpoint; nothing if it is sound."""
        try:
            metrics = _metrics(path)
            proof = {name: metrics.pop(name) for name in [*metrics] if name.endswith("sha256")}
            with ocp.StandardCheckpointer() as checkpointer:
                state = checkpointer.restore(path / "state", self._template)
        except Exception as error:  # whatever JSON, Orbax and its storage make of damaged files
            return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
        return "" if _proof(state, int(path.name), metrics) == proof else "its values are not those that were saved"


def _metrics(checkpoint: Path) -> dict[str, Any]:
    return json.loads((checkpoint / "metrics" / "metrics").read_text())


@contextlib.contextmanager
def _closed_loops_unheard() -> Iterator[None]:
    """Where Orbax fails, what it left unfinished complains of its closed event loop: at once, or when it is collected.

    The failure itself is an exception.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        gc.collect()
        sys.unraisablehook = before


def restore_params(
    model: nn.Module, image_shape: tuple[int, ...], workdir: Path, *, best: bool = False
) -> tuple[Any, int]:
    """The weights of a run's newest checkpoint, whatever it was optimized with, and the steps they were trained.

    Of averaged weights it is the average. `best` takes those of the lowest val_loss.

    Raises:
        InputError: there are none, or they are damaged.
    """
    folder = (workdir / "checkpoints").absolute()
    with _closed_loops_unheard():
        try:
            steps = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
            worth = {step: (_negative_val_loss(_metrics(folder / str(step))) if best else 0, step) for step in steps}
            step = max(steps, key=lambda step: worth[step])
            proof = _metrics(folder / str(step))
            item = "average" if "average_sha256" in proof else "params"
            with ocp.CheckpointManager(folder, item_names=("state",)) as manager:
                params = manager.restore(step, args=_weights_alone(model, image_shape, item)).state[item]
            sound = digest(params) == proof[f"{item}_sha256"]
            damage = "" if sound else f"{step}: its values are not those that were saved"
        except Exception as error:  # as in `_damage`
            damage = type(error).__name__
    if damage:
        raise InputError(f"{folder} holds no weights to be relied on ({damage}): --resume takes the checkpoint before")
    return params, step


def _weights_alone(model: nn.Module, image_shape: tuple[int, ...], name: str) -> ocp.args.Composite:
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    shapes = jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)
    item = {name: jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), shapes["params"])}
    arguments = ocp.checkpoint_utils.construct_restore_args(item)
    return ocp.args.Composite(state=ocp.args.PyTreeRestore(item, restore_args=arguments, partial_restore=True))
