"""Load the weights of a run without its optimizer state."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxconv.runs import proof
from jaxconv.runtime.errors import InputError


def restore_variables(folder: Path, shapes: dict[str, Any], settings: str, *, best: bool) -> tuple[dict[str, Any], int]:
    """The variables of a run's newest or best checkpoint, and the number of steps that they were trained.

    `shapes` are the shapes of the net's variables, from `jax.eval_shape`. If the run uses EMA, return the averaged
    weights. A run that is still training may replace the checkpoint in the meantime; then the new one is read.

    Raises:
        InputError: there is no checkpoint, or it is damaged, or it belongs to another net.
    """
    folder = folder.absolute()
    while steps := proof.list_steps(folder):
        step, what = steps[-1], "damaged checkpoint"
        try:
            if best:
                losses = {}
                for step in steps:
                    losses[step] = proof.val_loss(folder / str(step))
                step = min(steps, key=lambda step: (losses[step], -step))
            if (why := proof.damage(folder / str(step), settings)) is None:
                return _restore_variables(folder / str(step), shapes), step
        except (InputError, MemoryError, jax.errors.JaxRuntimeError):  # the files are not at fault
            raise
        except Exception as error:  # JSON, msgspec and Orbax raise many kinds if a file vanishes or is damaged
            if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                what = "checkpoint that cannot be read"
            why = f"{type(error).__name__}: {error}".partition("\n")[0]
        if proof.list_steps(folder) == steps:  # else the run has replaced it meanwhile
            raise InputError(
                f"{folder} holds a {what} ({step}: {why}): --resume sets damaged ones aside, or name another run"
            )
    raise InputError(f"{folder} holds no checkpoint: name a run that has trained an epoch")


def _restore_variables(path: Path, shapes: dict[str, Any]) -> dict[str, Any]:
    found = proof.read_proof(path)
    averaged = any(name.startswith("average/") for name in found.structure)
    collections = {name: part for name, part in shapes.items() if name != "params"}
    item: dict[str, Any] = {"average": shapes} if averaged else {"params": shapes["params"]}
    if collections and not averaged:
        item["collections"] = collections
    held = {name: kind for name, kind in found.structure.items() if name.split("/")[0] in item}
    proof.check_structure(path, held, proof.structure(item))
    item = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), item)
    arguments = ocp.checkpoint_utils.construct_restore_args(item)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        restored = checkpointer.restore(
            path / "state", args=ocp.args.PyTreeRestore(item, restore_args=arguments, partial_restore=True)
        )
    return restored["average"] if averaged else {"params": restored["params"], **restored.get("collections", {})}
