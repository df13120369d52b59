"""Checkpoints of a run: the two latest, and the best by val_loss. Each is complete or absent, and checked before use.

Orbax writes and restores them, but does not notice flipped bytes. So each checkpoint has a file `proof.json` with
checksums, which is written before the checkpoint gets its name.
"""

import contextlib
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from jaxconv.runs import proof
from jaxconv.runs.proof import Progress, Proof
from jaxconv.runtime import sharding
from jaxconv.runtime.errors import InputError
from jaxconv.runtime.files import errno_of
from jaxconv.training.state import TrainState

DELETED = "deleted"  # a folder below the folder of checkpoints, for checkpoints that are being removed
LATEST = 2  # if one is damaged, the other is used


class Saved(NamedTuple):
    """The content of a valid checkpoint."""

    state: TrainState
    progress: Progress


class Checkpoints:
    """The checkpoints in a folder, by steps trained; a context manager, because saving goes on in the background.

    `template` is a state with the structure of the saved states, or its shapes from `jax.eval_shape`. A restored state
    is replicated on all devices. `settings` is the digest of the run's settings. The name of a damaged checkpoint is
    printed when it would be used. Once a valid one is found, damaged ones are moved to a folder `damaged` beside this
    folder.

    Raises:
        InputError: no checkpoint is valid, and nothing is moved; or the structure differs.
        OSError: the folder cannot be written, or a file cannot be read for another reason than damage. Earlier
            checkpoints stay.
    """

    def __init__(self, folder: str | os.PathLike[str], template: TrainState, settings: str) -> None:
        self._folder = Path(folder).absolute()  # Orbax accepts a relative path and fails in the background
        self._settings = settings
        replicated = sharding.replicated()
        self._template = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated), template
        )
        self._val_loss: dict[int, float] = {}
        self._pending: tuple[int, Progress] | None = None

    def __enter__(self) -> "Checkpoints":
        self._remove_deleted()
        self._val_loss = {step: self._read_val_loss(step) for step in proof.list_steps(self._folder)}
        with _storage(self._folder):
            self._manager = ocp.CheckpointManager(
                self._folder,
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=_Preserve(self._kept),
                    cleanup_tmp_directories=True,
                    todelete_subdir=DELETED,  # a kill while files are removed would leave half a checkpoint
                    async_options=ocp.AsyncOptions(post_finalization_callback=self._write_proof),
                ),
                item_names=("state",),
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with _storage(self._folder):
                self._manager.close()
        finally:
            self._remove_deleted()

    def save(self, step: int, state: TrainState, progress: Progress) -> None:
        """Save in the background. A kill before this is complete leaves the previous checkpoint."""
        self.wait()
        self._pending = step, progress
        self._val_loss[step] = math.inf if progress.val_loss is None else progress.val_loss
        with _storage(self._folder):
            if not self._manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state))):
                raise RuntimeError(f"step {step} is older than the newest checkpoint in {self._folder}")

    def wait(self) -> None:
        """Wait until the last save is complete."""
        with _storage(self._folder):
            self._manager.wait_until_finished()
        self._remove_deleted()

    def restore_newest(self) -> Saved | None:
        """The newest valid checkpoint; None if there are no checkpoints."""
        steps = proof.list_steps(self._folder)[::-1]
        return self._restore_first(steps) if steps else None

    def restore_best(self) -> Saved:
        """The valid checkpoint with the lowest val_loss."""
        self.wait()
        return self._restore_first(self._best_first())

    def _read_val_loss(self, step: int) -> float:
        try:
            return proof.val_loss(self._folder / str(step))
        except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):  # it is damaged
            return math.inf

    def _restore_first(self, steps: Sequence[int]) -> Saved:
        damaged = []
        for step in steps:
            path = self._folder / str(step)
            if (why := proof.damage(path, self._settings)) is None:
                break
            print(f"the checkpoint {path} is damaged ({why})", flush=True)
            damaged.append(step)
        else:
            raise InputError(f"no checkpoint in {self._folder} is valid: train anew in another --workdir")
        self._set_aside(damaged)
        found = proof.read_proof(path)
        proof.check_structure(path, found.structure, proof.structure(self._template))
        args = ocp.args.Composite(state=ocp.args.StandardRestore(self._template))
        return Saved(self._manager.restore(step, args=args).state, found.progress)

    def _set_aside(self, steps: Sequence[int]) -> None:
        for step in steps:
            aside = self._folder.with_name("damaged")
            aside.mkdir(exist_ok=True)
            (self._folder / str(step)).rename(aside / f"{step}-{uuid.uuid4().hex[:8]}")
            del self._val_loss[step]
        if steps:
            self._manager.reload()

    def _best_first(self) -> list[int]:
        validated = [step for step in proof.list_steps(self._folder) if self._val_loss.get(step, math.inf) < math.inf]
        return sorted(validated, key=lambda step: (self._val_loss[step], -step))

    def _kept(self, step: int, steps: Sequence[int]) -> bool:
        best = [saved for saved in self._best_first() if saved in steps][:1]
        return step in [*sorted(steps)[-LATEST:], *best]

    def _write_proof(self) -> None:
        """Write proof.json. Orbax calls this after it wrote the state, before the checkpoint gets its name."""
        assert self._pending
        step, progress = self._pending
        (path,) = self._folder.glob(f"{step}.*")
        content = Proof(step, self._settings, proof.structure(self._template), proof.file_digests(path), progress)
        with (path / proof.FILE).open("wb") as file:
            file.write(proof.encode(content))
            file.flush()
            os.fsync(file.fileno())

    def _remove_deleted(self) -> None:
        shutil.rmtree(self._folder / DELETED, ignore_errors=True)


class _Preserve(checkpoint_managers.PreservationPolicy):
    """Keeps the steps for which a function of the step and all steps is true."""

    def __init__(self, kept: Any) -> None:
        self._kept = kept

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        return [self._kept(step, steps) for step in steps]


@contextlib.contextmanager
def _storage(folder: Path) -> Iterator[None]:
    """Raise OSError for errors of the operating system. Orbax and its storage raise them as ValueError and others."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.filename:
            raise
        number = errno_of(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(folder)) from error
