"""Run directories for tests: with settings, sound checkpoints and numbers but no training, or of a net of one's own."""

from pathlib import Path

import flax.linen as nn
import pytest

from jaxconv.config import Config, Data, Optimizer, Training
from jaxconv.data.records import read_splits
from jaxconv.loop import fit
from jaxconv.models import registry
from jaxconv.runs import history
from jaxconv.runs.checkpoints import Checkpoints
from jaxconv.runs.directory import write_config
from jaxconv.runs.history import EpochResult, Result
from jaxconv.runs.proof import Progress, digest, settings_digest
from jaxconv.runs.writer import RunWriter
from jaxconv.training import optimizers
from jaxconv.training.state import TrainState, create_state
from tests.nets import BatchNormNet

PRINTS = {"train": "a", "validation": "b", "test": "c"}


def settings(
    model: nn.Module,
    image_shape: tuple[int, int, int],
    class_names: list[str],
    *,
    experiment: str = "catsdogs",
    variant: str = "plain",
    seed: int = 0,
    training: Training = Training(epochs=2, steps_per_epoch=3, batch_size=4),  # noqa: B008 (it is frozen)
    **data: object,
) -> Config:
    """The settings of a run of two epochs of three steps; `data` are fields of `Data`."""
    fields = {"interpolation": "bilinear", "counts": {"train": 12}, "fingerprint": PRINTS} | data
    return Config(
        experiment=experiment,
        variant=variant,
        seed=seed,
        model=registry.describe(model, image_shape),
        data=Data(class_names=class_names, image_shape=image_shape, **fields),
        training=training,
    )


def write(workdir: Path, model: nn.Module, config: Config) -> list[TrainState]:
    """Write a run of two epochs, of which the first had the lower val_loss; returns the states after each."""
    image_shape, settings = config.data.image_shape, settings_digest(config)
    tx = optimizers.make(config.training.optimizer, 6)
    states = [create_state(model, image_shape, tx, seed) for seed in (1, 2)]
    with Checkpoints(workdir / "checkpoints", states[0], settings) as checkpoints:
        for epoch, state in enumerate(states, 1):
            checkpoints.save(3 * epoch, state, Progress(digest([]), val_loss=epoch / 10))
    write_config(workdir, config)
    return states


def write_run(workdir: Path, model: nn.Module, image_shape: tuple[int, int, int], class_names: list[str], **changes):
    """`write` with `settings`."""
    return write(workdir, model, settings(model, image_shape, class_names, **changes))


def row(epoch: int, lift: float = 0.0) -> history.Row:
    """A line of metrics.jsonl, with accuracies higher by `lift`."""
    return {
        "epoch": epoch,
        "step": 3 * epoch,
        "loss": 1 / epoch,
        "acc": 0.6 + lift,
        "val_loss": 2 / epoch,
        "val_acc": 0.5 + lift,
        "learning_rate": 1e-4,
        "seconds": 1.0,
        "images_per_second": 12.0,
        "data_wait": 0.25,
    }


def write_numbers(workdir: Path, *, epochs: int = 2, lift: float = 0.0, result: bool = True) -> Path:
    """Write metrics.jsonl of some epochs and result.json of two."""
    workdir.mkdir(parents=True, exist_ok=True)
    for epoch in range(1, epochs + 1):
        history.append_row(workdir, row(epoch, lift))
    if result:
        scores = {"val_loss": 1.0, "val_acc": 0.5 + lift, "test_loss": 0.25, "test_acc": 0.75 + lift}
        last = EpochResult(epoch=2, test_confusion=[[1, 2], [3, 4]], **scores)
        best = EpochResult(epoch=1, test_confusion=[[91, 9], [17, 83]], **scores)
        history.write_result(workdir, Result(val_acc_mean_last_10=0.5 + lift, last=last, best=best))
    return workdir


def fit_own(photos: Path, workdir: Path) -> Path:
    """Train `tests.nets.BatchNormNet` for two epochs on the tiny data set, without figures."""
    training = Training(epochs=2, steps_per_epoch=2, batch_size=4, optimizer=Optimizer(learning_rate=1e-3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunWriter, "draw_curves", lambda *_: None)
        patch.setattr(RunWriter, "write_final_figures", lambda *_: None)
        fit(BatchNormNet(), read_splits(photos, (20, 22)), training, workdir)
    return workdir
