"""Write the run directory during training."""

import dataclasses
import math
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from jaxconv.config import Config, Training
from jaxconv.data.batches import batch_positions
from jaxconv.data.records import Splits
from jaxconv.runs import figures, history
from jaxconv.runs.checkpoints import Checkpoints
from jaxconv.runs.history import EpochResult, Highest, Result, Row
from jaxconv.runs.proof import Progress, digest
from jaxconv.runtime.errors import InputError
from jaxconv.training import optimizers
from jaxconv.training.feed import evaluate
from jaxconv.training.state import TrainState, is_sound
from jaxconv.training.steps import compiled_next_epoch, compiled_predict_step


@dataclasses.dataclass
class RunWriter:
    """Writes the run directory of one seed. It keeps the row of each epoch and the seconds of the current epoch."""

    workdir: Path
    config: Config
    splits: Splits
    checkpoints: Checkpoints
    title: str
    rows: list[Row] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    waited: float = 0.0

    @property
    def training(self) -> Training:
        """How the net is trained."""
        return self.config.trained[0]

    def restore(self) -> TrainState | None:
        """Restore the newest valid checkpoint; None for a new run. Remove metrics of later epochs.

        Raises:
            InputError: metrics.jsonl differs from the rows at the time of the checkpoint, or it has rows but no
                checkpoint is left, or as `Checkpoints`.
        """
        saved = self.checkpoints.restore_newest()
        progress = saved.progress if saved else Progress(digest([]))
        self.seconds, self.waited = progress.seconds, progress.waited
        epochs = int(saved.state.step) // self.config.steps_of_an_epoch if saved else 0
        rows, file = history.read_rows(self.workdir), self.workdir / history.METRICS
        if digest(rows[:epochs]) != progress.rows_sha256:
            raise InputError(f"{file} was changed in its first {epochs} epochs: train anew in another --workdir")
        if len(rows) > epochs + 1:  # a kill between row and checkpoint leaves one more row
            lost = f"{file} has {len(rows)} epochs, and no checkpoint after epoch {epochs} is there"
            if not epochs:
                raise InputError(f"{lost}: bring the checkpoints back, or train anew in another --workdir")
            print(f"{lost}: {len(rows) - epochs} are trained again", flush=True)
        self.rows = rows[:epochs]
        history.write_rows(self.workdir, self.rows)
        return saved.state if saved else None

    def add_time(self, seconds: float, waited: float) -> None:
        """Add seconds of training, and the seconds among them that were spent waiting for data."""
        self.seconds += seconds
        self.waited += waited

    def save(self, state: TrainState, val_loss: float | None = None) -> None:
        """Save a checkpoint, in the background."""
        progress = Progress(digest(self.rows), self.seconds, self.waited, val_loss)
        self.checkpoints.save(int(state.step), state, progress)

    def check_finite(self, state: TrainState) -> None:
        """Check a state before it is saved.

        Raises:
            InputError: a loss, a gradient or a weight is not finite; earlier checkpoints stay.
        """
        if (bad := int(state.sums.first_bad_step)) >= 0:
            raise self._diverged("the loss or its gradient is not finite in", bad)
        if not is_sound(state):
            raise self._diverged("the weights are not finite after", int(state.step) - 1)

    def end_epoch(self, state: TrainState, scores: dict[str, Any], seconds: float) -> TrainState:
        """Write the row of an epoch and save; returns the state for the next epoch.

        `scores` are the validation scores, and `seconds` is the time of the validation.

        Raises:
            InputError: the validation loss is not finite.
        """
        step = int(state.step)
        if not math.isfinite(scores["loss"]):
            raise self._diverged(f"the validation loss is {scores['loss']} after", step - 1)
        optimizer, steps = self.training.optimizer, self.config.steps_of_an_epoch
        loss, acc = state.sums.mean()
        row: Row = {
            "epoch": step // steps,
            "step": step,
            "loss": loss,
            "acc": acc,
            "val_loss": scores["loss"],
            "val_acc": scores["acc"],
            "learning_rate": optimizers.learning_rate(state, optimizer, self.training.epochs * steps),
            "seconds": round(self.seconds + seconds, 3),
            "images_per_second": round(int(state.sums.count) / self.seconds, 1),
            "data_wait": round(self.waited / self.seconds, 4),
        }
        if state.metric_fns:
            row["val_metrics"] = {name: scores[name] for name, _ in state.metric_fns}
        self.rows.append(row)
        self.checkpoints.wait()  # else a kill could leave rows of several epochs without a checkpoint
        history.append_row(self.workdir, row)
        state = compiled_next_epoch(optimizers.observe(state, optimizer, scores["loss"]))
        self.seconds = self.waited = 0.0
        self.save(state, val_loss=row["val_loss"])
        return state

    @property
    def stale_since(self) -> int | None:
        """The best epoch, once val_loss has not improved for `patience` epochs; else None."""
        if self.training.patience is None or not self.rows:
            return None
        lowest = min(self.rows, key=lambda row: row["val_loss"])["epoch"]
        return lowest if len(self.rows) - lowest >= self.training.patience else None

    def best(self) -> tuple[int, TrainState]:
        """The saved epoch with the lowest val_loss, and its state."""
        state = self.checkpoints.restore_best().state
        best = int(state.step) // self.config.steps_of_an_epoch
        lowest = min(self.rows, key=lambda row: row["val_loss"])
        if lowest["val_loss"] < self.rows[best - 1]["val_loss"]:
            lost = f"the weights of epoch {lowest['epoch']}, the best by val_loss, are lost"
            print(f"{lost}: the best that is saved is epoch {best}", flush=True)
        return best, state

    def write_result(self, state: TrainState) -> Result:
        """Write result.json, with the last and the best epoch, and the figures.

        If the validation pictures are the test pictures, there is no best epoch: its test loss would choose it.
        """
        last, best, highest = self._test(len(self.rows), state), None, None
        shown = last, state
        if not self.config.data.validated_on_test:
            epoch, best_state = self.best()
            best = last if epoch == last.epoch else self._test(epoch, best_state)
            shown = shown if history.uses_last(self.config) else (best, best_state)
            row = max(self.rows, key=lambda row: row["val_acc"])
            highest = Highest(row["epoch"], row["val_acc"])
        result = Result(fmean(row["val_acc"] for row in self.rows[-10:]), last, best, highest)
        history.write_result(self.workdir, result)
        self.draw_curves()
        self.write_final_figures(*shown)
        return result

    def _test(self, epoch: int, state: TrainState) -> EpochResult:
        row, splits = self.rows[epoch - 1], self.splits
        scores = evaluate(state, splits.test or splits.validation, self.training.batch_size)
        validated = epoch, row["val_loss"], row["val_acc"]
        if splits.test is None:
            return EpochResult(*validated, val_confusion=scores["confusion"])
        metrics = {name: scores[name] for name, _ in state.metric_fns}
        return EpochResult(*validated, scores["loss"], scores["acc"], scores["confusion"], metrics)

    def draw_curves(self) -> None:
        """Draw the curves so far."""
        figures.write_curves(self.rows, self.workdir / "figures", f"{self.title}, seed {self.config.seed}")

    def write_final_figures(self, tested: EpochResult, state: TrainState) -> None:
        """Write confusion.png and predictions.png, of the test pictures or else of the validation pictures."""
        folder, split = self.workdir / "figures", self.config.data.final_split
        source, names = self.splits.named()[split], self.splits.class_names
        title = f"{self.title}, seed {self.config.seed}, epoch {tested.epoch}"
        figures.write_confusion(tested.confusion, names, folder / "confusion.png", title, split)
        records = [source[position] for position in figures.spread_positions(source)]
        probabilities = np.asarray(compiled_predict_step(state, np.stack([record["image"] for record in records])))
        figures.write_predictions(records, probabilities, names, folder / "predictions.png", title, split)

    def _diverged(self, what: str, step: int) -> InputError:
        """The error of a run that diverged in a step, counted from 0; it names the pictures of that step."""
        (training, seed), source = self.config.trained, self.splits.train
        whole = training.steps_per_epoch is None
        positions = batch_positions(len(source), training.batch_size, step, seed=seed, whole_passes=whole)
        names = ", ".join(source.name(position) for position in positions)
        epoch = step // self.config.steps_of_an_epoch + 1
        return InputError(
            f"{what} step {step + 1} (epoch {epoch}): try a lower --learning-rate in another --workdir, or look at the "
            f"pictures of that step: {names}. Earlier checkpoints stay"
        )
