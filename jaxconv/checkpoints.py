"""Orbax checkpoints of a run: the latest and the best by val_loss, each complete or absent."""

import math
import os
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
from jaxconv.train_step import TrainState


def _negative_val_loss(metrics: dict[str, float]) -> float:
    """For Orbax's `max`; it would take a NaN for the best."""
    return -metrics["val_loss"] if math.isfinite(metrics["val_loss"]) else -math.inf


class Checkpoints:
    """The checkpoints in a folder, by epoch; a context manager, because saving goes on in the background.

    `template` is a state, or its shapes from `jax.eval_shape`, with the structure of what is saved. The `latest` epochs
    are kept. What is restored is whole on every device, wherever it was saved.
    """

    def __init__(self, folder: str | os.PathLike[str], template: TrainState, latest: int = 1) -> None:
        # Orbax accepts a relative path here and fails in the background.
        self._folder, self._latest = Path(folder).absolute(), latest
        everywhere = devices.everywhere()
        self._template = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere), template
        )

    def __enter__(self) -> "Checkpoints":
        self._manager = ocp.CheckpointManager(
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
            ),
            item_names=("state",),
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._manager.close()

    def save(self, epoch: int, state: TrainState, val_loss: float) -> None:
        """Save in the background; a kill before it is complete leaves the checkpoint before."""
        args = ocp.args.Composite(state=ocp.args.StandardSave(state))
        if not self._manager.save(epoch, args=args, metrics={"val_loss": val_loss}):
            raise RuntimeError(f"epoch {epoch} is older than the newest checkpoint in {self._folder}")

    @property
    def latest_epoch(self) -> int:
        """The last epoch that is saved, 0 if none is."""
        return self._manager.latest_step() or 0

    @property
    def best_epoch(self) -> int:
        """The saved epoch of the lowest val_loss, 0 if none is."""
        self.wait()
        return self._manager.best_step() or 0

    def wait(self) -> None:
        """Until what was saved is complete."""
        self._manager.wait_until_finished()

    def forget_after(self, epoch: int) -> None:
        """Delete the checkpoints of later epochs."""
        for later in self._manager.all_steps():
            if later > epoch:
                self._manager.delete(later)

    def restore(self, epoch: int) -> TrainState:
        """The state as it was saved after `epoch`."""
        args = ocp.args.Composite(state=ocp.args.StandardRestore(self._template))
        return self._manager.restore(epoch, args=args).state


def restore_params(model: nn.Module, image_shape: tuple[int, ...], workdir: Path) -> Any:
    """The weights after a run's last saved epoch, whatever it was optimized with."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    shapes = jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)
    item = {"params": jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), shapes["params"])}
    arguments = ocp.checkpoint_utils.construct_restore_args(item)
    with ocp.CheckpointManager((workdir / "checkpoints").absolute(), item_names=("state",)) as manager:
        wanted = ocp.args.PyTreeRestore(item, restore_args=arguments, partial_restore=True)
        return manager.restore(manager.latest_step(), args=ocp.args.Composite(state=wanted)).state["params"]
