"""What a run directory says, without any training."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxconv import metrics
from jaxconv.checkpoints import Checkpoints
from jaxconv.config import FitConfig
from jaxconv.errors import InputError
from jaxconv.records import ArraySource
from jaxconv.runs import Run
from jaxconv.train_step import TrainState

SOURCE = ArraySource(np.zeros((5, 4, 4, 3), np.uint8), np.zeros(5, np.int32), ["a", "b"])
CONFIG = FitConfig(epochs=4, steps_per_epoch=None, batch_size=2, learning_rate=0.1)  # 3 steps an epoch
SCHEDULE = optax.constant_schedule(0.1)
SCORES = {"loss": 0.5, "acc": 0.75}


def state_of(value: float) -> TrainState:
    params = {"kernel": jnp.full((3, 2), value)}
    state = TrainState.create(apply_fn=print, params=params, tx=optax.sgd(0.1), dropout_key=jax.random.key(0))
    return state.replace(step=jnp.int32(0))


def sums(*losses):
    return {
        "loss": np.array(losses, np.float32),
        "correct": np.ones(len(losses), np.float32),
        "count": np.full(len(losses), 2, np.float32),
    }


@pytest.fixture
def checkpoints(tmp_path):
    with Checkpoints(tmp_path / "checkpoints", state_of(0)) as opened:
        yield opened


@pytest.fixture
def run(tmp_path, checkpoints):
    return Run(CONFIG, SOURCE, tmp_path, checkpoints, SCHEDULE, "a test")


def test_an_epoch_in_pieces_is_a_whole_one(run, tmp_path, checkpoints):
    """Sums that are not exact in float64 would else depend on where they are cut."""
    losses = [1e-9, 3.3, 1e8]
    run.add(sums(*losses[:1]), 1.0, 0.25)
    run.save(state_of(1))
    checkpoints.wait()
    again = Run(CONFIG, SOURCE, tmp_path, checkpoints, SCHEDULE, "a test")
    assert float(again.go_back_to(1).params["kernel"][0, 0]) == 1
    again.add(sums(*losses[1:]), 1.0, 0.25)
    again.record(state_of(2), SCORES, 0.5)
    (row,) = metrics.read(tmp_path)
    assert row == {
        "epoch": 1,
        "step": 3,
        "loss": ((np.float64(np.float32(1e-9)) + np.float32(3.3)) + np.float32(1e8)) / 6,
        "acc": 0.5,
        "val_loss": 0.5,
        "val_acc": 0.75,
        "learning_rate": 0.1,
        "seconds": 2.5,
        "images_per_second": 3.0,
        "data_wait": 0.25,
    }
    assert again.best()[0] == 1


@pytest.mark.parametrize("loss, said", [(np.nan, "nan"), (np.inf, "inf")])
def test_the_first_loss_that_is_not_finite_is_named_with_its_pictures(run, loss, said):
    run.add(sums(1, 1, 1), 1.0, 0.0)
    message = rf"the loss is {said} in step 5 \(epoch 2\): .* that step: number \d, number \d\. The checkpoints"
    with pytest.raises(InputError, match=message):
        run.add(sums(1, loss, loss), 1.0, 0.0)
    assert run.step == 3


def test_weights_and_validation_that_are_not_finite_are_never_saved(run, checkpoints, tmp_path):
    run.add(sums(1, 1, 1), 1.0, 0.0)
    with pytest.raises(InputError, match=r"the validation loss is nan after step 3 \(epoch 1\)"):
        run.record(state_of(1), SCORES | {"loss": float("nan")}, 1.0)
    with pytest.raises(InputError, match=r"the weights are not finite after step 3 \(epoch 1\)"):
        run.save(state_of(float("inf")))
    assert (checkpoints.steps, metrics.read(tmp_path)) == ([], [])


@pytest.fixture
def two_epochs(run, tmp_path, checkpoints):
    for step in (3, 6):
        run.add(sums(1, 1, 1), 1.0, 0.0)
        run.record(state_of(step), SCORES, 1.0)
    checkpoints.wait()
    return run, tmp_path / "metrics.jsonl"


@pytest.mark.parametrize(
    "change", [lambda text: text.replace("0.75", "0.85", 1), lambda text: text.partition("\n")[2], lambda text: ""]
)
def test_lines_are_proved_by_the_checkpoint(two_epochs, change):
    """A changed figure would else choose another best."""
    run, file = two_epochs
    file.write_text(change(file.read_text()))
    before = file.read_text()
    with pytest.raises(InputError, match=r"metrics.jsonl is not what was written until epoch 2: train anew in another"):
        run.go_back_to(6)
    assert file.read_text() == before


def test_lost_checkpoints_are_said(run, checkpoints, tmp_path, capsys):
    """One line too many is what a kill leaves."""
    for epoch in range(1, 5):
        run.add(sums(1, 1, 1), 1.0, 0.0)
        run.record(state_of(epoch), SCORES | {"loss": epoch / 10}, 1.0)
    checkpoints.wait()
    assert checkpoints.steps == [3, 9, 12]
    lost = f"{tmp_path / 'metrics.jsonl'} has 4 epochs, and no checkpoint after epoch"
    with pytest.raises(InputError, match=f"{lost} 0 is there: bring the checkpoints back, or train anew in another"):
        run.go_back_to(0)
    assert (len(metrics.read(tmp_path)), checkpoints.steps) == (4, [3, 9, 12])
    run.go_back_to(9)
    assert (len(metrics.read(tmp_path)), checkpoints.steps) == (3, [3, 9])
    assert capsys.readouterr().out == ""
    run.go_back_to(3)
    assert (len(metrics.read(tmp_path)), checkpoints.steps) == (1, [3])
    said = capsys.readouterr().out
    assert said.endswith("has 3 epochs, and no checkpoint after epoch 1 is there: 2 are trained again\n")


def test_a_best_epoch_whose_weights_are_lost_is_named(run, tmp_path, checkpoints, capsys):
    for step, loss in ((3, 0.1), (6, 0.3), (9, 0.2), (12, 0.4)):
        run.add(sums(1, 1, 1), 1.0, 0.0)
        run.record(state_of(step), SCORES | {"loss": loss}, 1.0)
    assert run.best()[0] == 1
    assert capsys.readouterr().out == ""
    run.rows[1]["val_loss"] = 0.05
    assert run.best()[0] == 1
    assert capsys.readouterr().out == (
        "the weights of epoch 2, the best by val_loss, are lost: the best that is saved is epoch 1\n"
    )


@pytest.mark.parametrize(
    "val_losses, patience, since",
    [
        ([], 1, None),
        ([0.5], 1, None),
        ([0.5, 0.5], 1, 1),
        ([0.5, 0.6, 0.4], 2, None),
        ([0.6, 0.5, 0.6, 0.55], 2, 2),
        ([0.5, 0.6, 0.55], 3, None),
        ([0.5, 0.6, 0.7, 0.8], None, None),
    ],
)
def test_patience_ends_when_val_loss_has_not_fallen_for_so_long(run, val_losses, patience, since):
    run.config = dataclasses.replace(CONFIG, patience=patience)
    run.rows = [{"epoch": epoch, "val_loss": val_loss} for epoch, val_loss in enumerate(val_losses, 1)]
    assert run.stale_since == since


def test_what_is_saved_in_the_middle_of_an_epoch_is_never_the_best(run, checkpoints):
    for step in range(1, 5):
        run.add(sums(1), 1.0, 0.0)
        if step == 3:
            run.record(state_of(step), SCORES, 1.0)
        else:
            run.save(state_of(step))
    assert (checkpoints.best_step, checkpoints.steps) == (3, [3, 4])
    assert json.loads(json.dumps(checkpoints.metrics(4)))["totals"]["count"] == 2
