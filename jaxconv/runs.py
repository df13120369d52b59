"""What the training of one seed has reached, and what it leaves in its directory."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxconv import figures, metrics, plateau
from jaxconv.batches import batch_positions
from jaxconv.checkpoints import Checkpoints, digest
from jaxconv.config import FitConfig
from jaxconv.errors import InputError
from jaxconv.metrics import Row, StepSums
from jaxconv.records import Source
from jaxconv.tensorboard import Events
from jaxconv.train_step import TrainState
from jaxconv.trained import compiled_predict_step


@dataclasses.dataclass
class Run:
    """A run directory that is being filled: a row for each epoch, and the totals of the steps since the last one."""

    config: FitConfig
    source: Source
    workdir: Path
    checkpoints: Checkpoints
    schedule: optax.Schedule
    title: str
    step: int = 0
    rows: list[Row] = dataclasses.field(default_factory=list)
    totals: dict[str, float] = dataclasses.field(default_factory=dict)
    events: Events | None = None

    def __post_init__(self) -> None:
        self._steps = self.config.steps_of_an_epoch(len(self.source))

    def go_back_to(self, step: int) -> TrainState | None:
        """The state after a saved step, None for 0; what came later is forgotten.

        Raises:
            InputError: the lines of metrics.jsonl are not those that were written before it, or all checkpoints of an
                epoch and more are gone.
        """
        state = self.checkpoints.restore(step) if step else None
        new: dict[str, Any] = {"totals": {}, "rows_sha256": digest({}, [])}
        saved = self.checkpoints.metrics(step) if step else new
        self.step, self.totals = step, saved["totals"]
        self.rows = self._lines_until(step // self._steps, saved["rows_sha256"])
        self.checkpoints.forget_after(step)
        return state

    def _lines_until(self, epochs: int, sha256: str) -> list[Row]:
        """The lines of the first epochs, proved; later ones are dropped."""
        rows, file = metrics.read(self.workdir), self.workdir / metrics.FILE
        if digest({}, rows[:epochs]) != sha256:
            raise InputError(f"{file} is not what was written until epoch {epochs}: train anew in another --workdir")
        if len(rows) > epochs + 1:  # a kill between line and checkpoint leaves one too many
            lost = f"{file} has {len(rows)} epochs, and no checkpoint after epoch {epochs} is there"
            if not epochs:
                raise InputError(f"{lost}: bring the checkpoints back, or train anew in another --workdir")
            print(f"{lost}: {len(rows) - epochs} are trained again", flush=True)
        return metrics.truncate(self.workdir, epochs)

    def add(self, sums: StepSums, seconds: float, waited: float) -> None:
        """Steps that were trained, one after the other.

        Raises:
            InputError: a loss is not finite.
        """
        broken = ~np.isfinite(sums["loss"])
        if broken.any():
            first = int(broken.argmax())
            raise self._diverged(f"the loss is {sums['loss'][first]} in", self.step + first)
        self.step += len(broken)
        times = {"seconds": np.array([seconds]), "waited": np.array([waited])}
        self.totals = metrics.add(self.totals, sums | times)

    def record(self, state: TrainState, scores: Row, seconds: float) -> TrainState:
        """The end of an epoch: its line and its checkpoint, which has the state that is returned.

        `scores` are those of validation, which took `seconds`; where they decide the learning rate, the state has it.

        Raises:
            InputError: the validation loss or the weights are not finite.
        """
        if not math.isfinite(scores["loss"]):
            raise self._diverged(f"the validation loss is {scores['loss']} after", self.step - 1)
        self._check_finite(state)
        row: Row = {"epoch": self.step // self._steps, "step": self.step} | metrics.mean(self.totals)
        row |= {"val_loss": scores["loss"], "val_acc": scores["acc"]}
        row |= {"learning_rate": float(self.schedule(self.step - 1))}  # of the epoch's last step
        if self.config.schedule == "plateau":
            row["learning_rate"] *= plateau.scale(state)
            state = plateau.observe(state, scores["loss"])
        row |= {"seconds": round(self.totals["seconds"] + seconds, 3)} | metrics.speed(self.totals)
        self.rows.append(row)
        self.totals = {}
        metrics.append(self.workdir, row)
        if self.events is not None:
            self.events.write(row)
        self.save(state, val_loss=row["val_loss"])
        return state

    def save(self, state: TrainState, **more: Any) -> None:
        """A checkpoint, which knows the totals of the steps since the last epoch.

        Raises:
            InputError: the weights are not finite.
        """
        self._check_finite(state)
        written = {"totals": self.totals, "rows_sha256": digest({}, self.rows)}
        self.checkpoints.save(self.step, state, written | more)

    def _check_finite(self, state: TrainState) -> None:
        if not jax.tree.reduce(jnp.logical_and, jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), state.params)):
            raise self._diverged("the weights are not finite after", self.step - 1)

    @property
    def stale_since(self) -> int | None:
        """The epoch after which val_loss has not fallen for so long that patience ends; None until then."""
        if self.config.patience is None or not self.rows:
            return None
        lowest = min(self.rows, key=lambda row: row["val_loss"])["epoch"]
        return lowest if len(self.rows) - lowest >= self.config.patience else None

    def best(self) -> tuple[int, TrainState]:
        """The epoch of the lowest val_loss among those that are saved, and its state."""
        best = self.checkpoints.best_step // self._steps
        lowest = min(self.rows, key=lambda row: row["val_loss"])
        if lowest["val_loss"] < self.rows[best - 1]["val_loss"]:  # it was damaged and set aside
            lost = f"the weights of epoch {lowest['epoch']}, the best by val_loss, are lost"
            print(f"{lost}: the best that is saved is epoch {best}", flush=True)
        return best, self.checkpoints.restore(best * self._steps)

    def draw(self) -> None:
        """The curves so far."""
        figures.write_curves(self.rows, self.workdir / "figures", f"{self.title}, seed {self.config.seed}")

    def draw_tested(self, state: TrainState, test: Source, confusion: list[list[int]], epoch: int) -> None:
        """What the state of an epoch makes of the test pictures: how often which class, and of some which one."""
        folder, title = self.workdir / "figures", f"{self.title}, seed {self.config.seed}, epoch {epoch}"
        figures.write_confusion(confusion, test.class_names, folder / "confusion.png", title)
        records = [test[position] for position in figures.shown(test)]
        probabilities = np.asarray(compiled_predict_step(state, np.stack([record["image"] for record in records])))
        figures.write_predictions(records, probabilities, test.class_names, folder / "predictions.png", title)

    def _diverged(self, what: str, step: int) -> InputError:
        """`step` counts from 0."""
        whole_passes = self.config.steps_per_epoch is None
        positions = batch_positions(
            len(self.source), self.config.batch_size, step, seed=self.config.seed, whole_passes=whole_passes
        )
        names = ", ".join(self.source.name(position) for position in positions)
        return InputError(
            f"{what} step {step + 1} (epoch {step // self._steps + 1}): try a lower --learning-rate in another "
            f"--workdir, or look at the pictures of that step: {names}. The checkpoints before it stay"
        )
