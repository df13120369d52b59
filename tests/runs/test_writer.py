"""What a run directory gets, without any training."""

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import optax
import pytest

from jaxconv.config import Config, Data, Model, Training
from jaxconv.data.arrays import ArraySource
from jaxconv.data.records import Splits
from jaxconv.runs import history
from jaxconv.runs.checkpoints import Checkpoints
from jaxconv.runs.proof import list_steps, settings_digest
from jaxconv.runs.writer import RunWriter
from jaxconv.runtime.errors import InputError
from jaxconv.training.state import EpochSums, create_state
from tests.nets import SmallNet

SOURCE = ArraySource(np.zeros((5, 4, 4, 3), np.uint8), np.zeros(5, np.int32), ["a", "b"])
SPLITS = Splits(SOURCE, SOURCE, SOURCE)
CONFIG = Config(
    experiment="a",
    variant="test",
    seed=0,
    model=Model(name="SmallNet"),
    data=Data(class_names=["a", "b"], image_shape=(4, 4, 3), counts={"train": 5}),
    training=Training(epochs=4, steps_per_epoch=None, batch_size=2),  # 3 steps an epoch
)
SCORES = {"loss": 0.5, "acc": 0.75, "confusion": [[1, 0], [0, 1]]}


def state_of(step, *, bias=0.0, losses=(), bad=-1):
    """After a step, with these losses of two pictures each in the epoch's sums, one of each pair right."""
    state = create_state(SmallNet(), (4, 4, 3), optax.sgd(0.1), 0)
    params = state.params | {"Dense_1": state.params["Dense_1"] | {"bias": jnp.array([bias], jnp.float32)}}
    n = jnp.int32(len(losses))
    sums = EpochSums(jnp.float32(2 * sum(losses)), n, 2 * n, jnp.int32(bad))
    return state.replace(step=jnp.int32(step), params=params, sums=sums)


@pytest.fixture
def open_run(tmp_path):
    """A function that opens the run directory anew."""
    opened = []

    def new(config=CONFIG):
        if opened:
            opened.pop().__exit__(None, None, None)
        template = jax.eval_shape(lambda: state_of(0))
        opened.append(Checkpoints(tmp_path / "checkpoints", template, settings_digest(config)).__enter__())
        return RunWriter(tmp_path, config, SPLITS, opened[0], "a test")

    yield new
    for checkpoints in opened:
        checkpoints.__exit__(None, None, None)


def train(writer, val_losses):
    for epoch, loss in enumerate(val_losses, 1):
        writer.add_time(1.0, 0.0)
        writer.end_epoch(state_of(3 * epoch, bias=epoch, losses=[1, 1, 1]), SCORES | {"loss": loss}, 1.0)
    writer.checkpoints.wait()
    return writer


def test_an_epoch_in_pieces_is_a_whole_one(open_run, tmp_path):
    """The sums are in the state, and the seconds beside it."""
    writer = open_run()
    assert writer.restore() is None
    writer.add_time(1.0, 0.25)
    writer.save(state_of(1, losses=[0.5]))
    again = open_run()
    state = again.restore()
    assert (int(state.step), int(state.sums.count), again.seconds, again.waited) == (1, 2, 1.0, 0.25)
    again.add_time(1.0, 0.25)
    after = again.end_epoch(state_of(3, losses=[0.5, 0.25, 1.5]), SCORES, 0.5)
    assert int(after.sums.count) == again.seconds == again.waited == 0
    (row,) = history.read_rows(tmp_path)
    assert row == {
        "epoch": 1,
        "step": 3,
        "loss": 0.75,
        "acc": 0.5,
        "val_loss": 0.5,
        "val_acc": 0.75,
        "learning_rate": pytest.approx(1e-4),
        "seconds": 2.5,
        "images_per_second": 3.0,
        "data_wait": 0.25,
    }
    assert again.best()[0] == 1
    assert int(open_run().restore().sums.count) == 0


@pytest.mark.parametrize(
    "state, message",
    [
        (
            {"bad": 4},
            r"the loss or its gradient is not finite in step 5 \(epoch 2\): .* that step: number \d, number \d\.",
        ),
        ({"bias": np.inf}, r"the weights are not finite after step 6 \(epoch 2\)"),
        ({"bias": np.nan}, r"the weights are not finite after step 6 \(epoch 2\)"),
        ({"losses": [np.nan]}, r"the weights are not finite after step 6 \(epoch 2\)"),
    ],
)
def test_what_is_not_finite_is_named_and_never_saved(open_run, tmp_path, state, message):
    writer = train(open_run(), [0.5])
    writer.add_time(1.0, 0.0)
    with pytest.raises(InputError, match=message):
        writer.check_finite(state_of(6, **state))
    with pytest.raises(InputError, match=r"the validation loss is nan after step 6 \(epoch 2\): try a lower"):
        writer.end_epoch(state_of(6), SCORES | {"loss": float("nan")}, 1.0)
    assert (list_steps(tmp_path / "checkpoints"), len(history.read_rows(tmp_path))) == ([3], 1)


def test_an_optimizer_s_own_state_may_hold_infinity_but_no_nan(open_run, tmp_path):
    writer, state = open_run(), state_of(3)
    for value in (jnp.inf, jnp.nan):
        held = state.replace(step=jnp.int32(4), opt_state=(jnp.full((2,), value), jnp.int32(1)))
        if jnp.isnan(value):
            with pytest.raises(InputError, match="not finite"):
                writer.check_finite(held)
        else:
            writer.check_finite(held)


@pytest.mark.parametrize(
    "change", [lambda text: text.replace("0.75", "0.85", 1), lambda text: text.partition("\n")[2], lambda text: ""]
)
def test_lines_are_proved_by_the_checkpoint(open_run, tmp_path, change):
    """A changed figure would else choose another best."""
    train(open_run(), [0.5, 0.5])
    file = tmp_path / "metrics.jsonl"
    file.write_text(change(file.read_text()))
    before = file.read_text()
    with pytest.raises(InputError, match=r"metrics.jsonl (was changed in its first 2|is damaged).*: train anew"):
        open_run().restore()
    assert file.read_text() == before


def test_lost_checkpoints_are_said(open_run, tmp_path, capsys):
    """One line too many is what a kill leaves."""

    def lose(*steps):
        for step in steps:
            (tmp_path / f"checkpoints/{step}").rename(tmp_path / f"lost-{step}")

    train(open_run(), [0.1, 0.2, 0.3, 0.4])
    assert list_steps(tmp_path / "checkpoints") == [3, 9, 12]
    lose(12)
    assert int(open_run().restore().step) == 9
    assert (len(history.read_rows(tmp_path)), capsys.readouterr().out) == (3, "")
    lose(9)
    assert int(open_run().restore().step) == 3
    assert len(history.read_rows(tmp_path)) == 1
    said = capsys.readouterr().out
    assert said.endswith("has 3 epochs, and no checkpoint after epoch 1 is there: 2 are trained again\n")


def test_a_run_whose_checkpoints_are_all_gone_is_left_as_it_is(open_run, tmp_path):
    train(open_run(), [0.1, 0.2])
    for step in (3, 6):
        (tmp_path / f"checkpoints/{step}").rename(tmp_path / f"lost-{step}")
    with pytest.raises(InputError, match="no checkpoint after epoch 0 is there: bring the checkpoints back, or train"):
        open_run().restore()
    assert len(history.read_rows(tmp_path)) == 2


def test_a_best_epoch_whose_weights_are_lost_is_named(open_run, tmp_path, capsys):
    writer = train(open_run(), [0.1, 0.3, 0.2, 0.4])
    assert writer.best()[0] == 1
    assert capsys.readouterr().out == ""
    (tmp_path / "checkpoints/3/proof.json").write_text("{}")
    epoch, state = writer.best()
    assert epoch == 3 and float(state.params["Dense_1"]["bias"][0]) == 3
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"the checkpoint {tmp_path / 'checkpoints/3'} is damaged (")
    assert said[1:] == ["the weights of epoch 1, the best by val_loss, are lost: the best that is saved is epoch 3"]


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
def test_patience_ends_when_val_loss_has_not_fallen_for_so_long(open_run, val_losses, patience, since):
    training = msgspec.structs.replace(CONFIG.training, patience=patience)
    writer = open_run(msgspec.structs.replace(CONFIG, training=training))
    writer.rows = [{"epoch": epoch, "val_loss": val_loss} for epoch, val_loss in enumerate(val_losses, 1)]
    assert writer.stale_since == since
