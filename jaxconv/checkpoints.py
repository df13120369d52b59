"""Orbax checkpoints of a run: the two latest and the best by val_loss, each complete or absent, and proved when read.

Orbax restores flipped bytes without noticing. So the digest of every value is kept in the file of the metrics.
"""

import contextlib
import errno
import functools
import hashlib
import itertools
import json
import logging
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
LATEST = 2  # so that a damaged one does not cost all that was trained since the best

PROOFS = ("sha256", "params_sha256", "average_sha256", "metrics_sha256")
OTHER_VALUES = "its values are not those that were saved"

# Where these are the reason that a checkpoint cannot be read, it may be as sound as ever.
OF_THE_MACHINE = {errno.EACCES, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EPERM}


def quiet_orbax() -> None:
    """For commands, which say a failure in one line: no tracebacks of Orbax's threads and tasks before it."""
    for logger in ("absl", "asyncio"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)


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


def _proof(step: int, state: TrainState, metrics: Mapping[str, Any]) -> dict[str, str]:
    """What a checkpoint is known by: its state, the weights to use, and what was measured, which is never the same.

    The weights go by the name of the item that holds them.
    """
    item = "average" if isinstance(state, AveragedState) else "params"
    proof = {"sha256": digest(state, step), f"{item}_sha256": digest(state.weights)}
    return proof | {"metrics_sha256": digest({}, step, metrics)}


class Checkpoints:
    """The checkpoints in a folder, by steps trained; a context manager, because saving goes on in the background.

    Entering proves them all. The damaged ones are named, and moved to a folder `damaged` beside this one.

    `template` is a state, or its shapes from `jax.eval_shape`, with the structure of what is saved. What is restored is
    whole on every device, wherever it was saved.

    Raises:
        InputError: on entering, with nothing moved, that none of the checkpoints is sound.
        OSError: what is saved cannot be written, and what was saved before stays; or read, but not for being damaged.
    """

    def __init__(self, folder: str | os.PathLike[str], template: TrainState) -> None:
        self._folder = Path(folder).absolute()  # Orbax accepts a relative path and fails in the background
        everywhere = devices.everywhere()
        self._template = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere), template
        )

    def __enter__(self) -> "Checkpoints":
        with contextlib.ExitStack() as closing:
            _ignore_closed_loops()
            closing.callback(self._remove_deleted)
            self._set_damaged_aside()
            self._remove_deleted()
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
                        checkpoint_managers.LatestN(LATEST),
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
        args = ocp.args.Composite(state=ocp.args.StandardSave(state))
        with self._storage():
            if not self._manager.save(step, args=args, metrics={**metrics} | _proof(step, state, metrics)):
                raise RuntimeError(f"step {step} is older than the newest checkpoint in {self._folder}")

    @property
    def steps(self) -> list[int]:
        """Those that are saved."""
        return sorted(self._manager.all_steps())

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
        earlier = [saved for saved in self.steps if saved <= step]
        best = max(earlier, key=lambda saved: (_negative_val_loss(self.metrics(saved)), saved), default=0)
        for saved in self.steps:
            if saved not in (best, *earlier[-LATEST:]):
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
        try:
            yield
        except ValueError as error:
            number = _system_s_number(error)
            if number is None:
                raise
            raise OSError(number, os.strerror(number), str(self._folder)) from error

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
            path.rename(next(new for n in itertools.count() if not (new := aside / f"{path.name}-{n}").exists()))

    def _damage(self, path: Path) -> str:
        """What is wrong with a checkpoint; nothing if it is sound."""
        try:
            metrics = _metrics(path)
            proof = {name: metrics.pop(name) for name in PROOFS if name in metrics}
            with ocp.StandardCheckpointer() as checkpointer:
                state = checkpointer.restore(path / "state", self._template)
        except Exception as error:
            return _damage_that_shows_in(error)
        found = _proof(int(path.name), state, metrics)
        return "" if found == proof else OTHER_VALUES


def _system_s_number(error: Exception) -> int | None:
    """What stands between Orbax and the disk raises ValueError, with the number of the system's error in its text."""
    number = re.search(r"os_error_code='(\d+)'", str(error))
    return int(number[1]) if number else getattr(error, "errno", None)


def _damage_that_shows_in(error: Exception) -> str:
    """What an error says of the checkpoint that was read; raises what may have another reason than damage.

    JSON, Orbax and its storage raise all kinds of errors on damaged files.
    """
    if isinstance(error, MemoryError | jax.errors.JaxRuntimeError):
        raise error
    if (number := _system_s_number(error)) in OF_THE_MACHINE:
        raise OSError(number, os.strerror(number)) from error
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"


def _metrics(checkpoint: Path) -> dict[str, Any]:
    return json.loads((checkpoint / "metrics" / "metrics").read_text())


@functools.cache
def _ignore_closed_loops() -> None:
    """Where Orbax fails, threads of its storage complain later of the event loop that it has closed.

    The failure itself is an exception. The complaints may come at any time, hence this is once for the whole process.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook


def restore_params(
    model: nn.Module, image_shape: tuple[int, ...], workdir: Path, *, best: bool = False
) -> tuple[Any, int]:
    """The weights of a run's newest checkpoint, whatever it was optimized with, and the steps they were trained.

    Of averaged weights it is the average. `best` takes those of the lowest val_loss.

    Raises:
        InputError: there are none, or they are damaged.
    """
    folder = (workdir / "checkpoints").absolute()
    steps = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    if not steps:
        raise InputError(f"{folder} holds no checkpoint: name a run that has trained an epoch")
    damage = ""
    _ignore_closed_loops()
    try:
        worth = {step: (_negative_val_loss(_metrics(folder / str(step))) if best else 0, step) for step in steps}
        step = max(steps, key=lambda step: worth[step])
        proof = _metrics(folder / str(step))
        item = "average" if "average_sha256" in proof else "params"
        with ocp.CheckpointManager(folder, item_names=("state",)) as manager:
            params = manager.restore(step, args=_weights_alone(model, image_shape, item)).state[item]
        if digest(params) != proof[f"{item}_sha256"]:
            damage = f"{step}: {OTHER_VALUES}"
    except Exception as error:
        damage = _damage_that_shows_in(error)
    if damage:
        raise InputError(f"{folder} holds a damaged checkpoint ({damage}): --resume sets it aside, or name another run")
    return params, step


def _weights_alone(model: nn.Module, image_shape: tuple[int, ...], name: str) -> ocp.args.Composite:
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    shapes = jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)
    item = {name: jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), shapes["params"])}
    arguments = ocp.checkpoint_utils.construct_restore_args(item)
    return ocp.args.Composite(state=ocp.args.PyTreeRestore(item, restore_args=arguments, partial_restore=True))
