"""Whole runs on tiny pictures: what they leave behind, and that a resumed one equals an uninterrupted one."""

import os
import signal

import flax.linen as nn
import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import optax
import pytest
from jaxtyping import TypeCheckError

from jaxconv import loop
from jaxconv.analysis.predictor import Predictor
from jaxconv.config import BOOK_AUGMENTATION, Optimizer, Training
from jaxconv.data import batches
from jaxconv.data.arrays import ArraySource
from jaxconv.data.records import Splits, read_splits
from jaxconv.loop import describe, fit, place
from jaxconv.runs import history
from jaxconv.runs.checkpoints import Checkpoints
from jaxconv.runs.directory import read_config
from jaxconv.runs.history import Highest
from jaxconv.runs.proof import list_steps, settings_digest
from jaxconv.runs.writer import RunWriter
from jaxconv.runtime.errors import InputError, Stopped
from jaxconv.training import optimizers
from jaxconv.training.feed import evaluate
from jaxconv.training.state import create_state
from jaxconv.training.steps import compiled_eval_step, compiled_train_step
from tests.faults import damage as faults
from tests.nets import SmallNet

pytestmark = pytest.mark.usefixtures("undrawn")  # but for the fixture `whole`, which is made before
TIMES = {"seconds", "images_per_second", "data_wait"}
TRAINING = Training(epochs=3, steps_per_epoch=3, batch_size=4, augmentation=BOOK_AUGMENTATION)


@pytest.fixture(scope="module")
def splits(photos):
    return read_splits(photos, (12, 12))


def run(splits, workdir, model=None, **options):
    """A run, which is resumed if it has begun."""
    given = {name: options.pop(name) for name in ("seed", "tx", "loss", "metrics") if name in options}
    rates = {name: options.pop(name) for name in ("learning_rate", "schedule") if name in options}
    training = msgspec.structs.replace(TRAINING, optimizer=Optimizer(**rates), **options)
    resume = (workdir / "config.json").exists()
    return fit(model or SmallNet(), splits, training, workdir, resume=resume, **given).result


def rows_of(workdir):
    return [{key: value for key, value in row.items() if key not in TIMES} for row in history.read_rows(workdir)]


def state_of(workdir, model=None):
    """The newest state, with all its arrays on the host."""
    config = read_config(workdir)
    tx = optimizers.make(config.training.optimizer, config.training.epochs * config.steps_of_an_epoch)
    template = jax.eval_shape(
        lambda: create_state(model or SmallNet(), config.data.image_shape, tx, 0, ema=config.training.ema)
    )
    with Checkpoints(workdir / "checkpoints", template, settings_digest(config)) as checkpoints:
        state = checkpoints.restore_newest().state
    return jax.device_get(state.replace(key=jax.random.key_data(state.key)))


def assert_equal_runs(one, other, model=None):
    """To the bit: lines, results and every array of the newest state."""
    assert rows_of(one) == rows_of(other)
    assert history.read_result(one) == history.read_result(other)
    states = (state_of(workdir, model) for workdir in (one, other))
    jax.tree.map(np.testing.assert_array_equal, *(jax.tree.leaves(state) for state in states))


class Killed(KeyboardInterrupt):
    """What ends a run as a kill does, without its handlers."""


def kill_at_step(monkeypatch, number):
    """Let the training die before its step of this number."""
    steps = iter(range(number + 100))

    def step(state, batch):
        if next(steps) == number:
            raise Killed
        return compiled_train_step(state, batch)

    monkeypatch.setattr(loop, "compiled_train_step", step)


@pytest.fixture(scope="module")
def whole(splits, tmp_path_factory):
    """An uninterrupted run of three epochs, and how often each step was compiled for it."""
    workdir = tmp_path_factory.mktemp("whole")
    programs = compiled_train_step.compiled, compiled_eval_step.compiled
    before = [program._cache_size() for program in programs]
    result = run(splits, workdir)
    return workdir, result, [program._cache_size() - count for program, count in zip(programs, before, strict=True)]


def test_what_a_run_leaves_behind(whole):
    workdir, result, compiled = whole
    rows = history.read_rows(workdir)
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 3), (2, 6), (3, 9)]
    assert " ".join(rows[0]) == (
        "epoch step loss acc val_loss val_acc learning_rate seconds images_per_second data_wait"
    )
    assert [row["learning_rate"] for row in rows] == pytest.approx([1e-4] * 3)
    assert all(0 <= row["data_wait"] <= 1 for row in rows)
    assert all(row["acc"] * 12 == round(row["acc"] * 12) and row["val_acc"] * 5 % 1 < 1e-6 for row in rows)
    best = min(rows, key=lambda row: row["val_loss"])["epoch"]
    assert {int(path.name) for path in (workdir / "checkpoints").iterdir()} == {3 * best, 6, 9}
    drawn = {path.stem for path in (workdir / "figures").glob("*.png")}
    assert drawn == {"accuracy", "loss", "confusion", "predictions"}
    assert history.read_result(workdir) == result
    assert (result.last.epoch, result.best.epoch) == (3, best)
    assert np.sum(result.best.test_confusion) == 3
    highest = max(rows, key=lambda row: row["val_acc"])  # of equal ones the first
    assert result.highest_val_acc == Highest(highest["epoch"], highest["val_acc"])
    assert result.val_acc_mean_last_10 == pytest.approx(np.mean([row["val_acc"] for row in rows]))
    assert compiled == [1, 1]


@pytest.mark.parametrize("first", [1, 2])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(whole, splits, tmp_path, first):
    run(splits, tmp_path, epochs=first)
    # As if it had been killed after the next line was written and before its checkpoint was.
    history.append_row(tmp_path, history.read_rows(whole[0])[first] | {"loss": 123.0})
    run(splits, tmp_path)
    assert_equal_runs(tmp_path, whole[0])


class Bn(nn.Module):
    """Batch norm, dropout, and a penalty that the net sows."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3), strides=2)(images))).mean((1, 2))
        head = nn.Dense(2)
        x = head(nn.Dropout(0.5, deterministic=not train)(x))
        self.sow("losses", "l2", 1e-3 * (head.variables["params"]["kernel"] ** 2).sum())
        return x


@pytest.mark.parametrize(
    "options, step, model",
    [
        ({"checkpoint_every": 2}, 5, SmallNet()),
        ({"checkpoint_every": 1, "ema": 0.9, "learning_rate": 1e-3}, 7, SmallNet()),
        ({"checkpoint_every": 1, "ema": 0.9, "schedule": "plateau", "learning_rate": 1e-3}, 5, Bn()),
        ({"steps_per_epoch": None, "schedule": "cosine"}, 3, SmallNet()),
    ],
    ids=["in an epoch", "average", "batch norm", "whole passes"],
)
def test_a_killed_run_goes_on_to_the_bit(options, step, model, splits, tmp_path, monkeypatch):
    """Every array of the state, with the sums of the epoch that was cut; the whole run saves at epochs' ends alone."""
    run(splits, tmp_path / "whole", model, **options | {"checkpoint_every": None})
    with monkeypatch.context() as patched:
        kill_at_step(patched, step)
        with pytest.raises(Killed):
            run(splits, tmp_path / "killed", model, **options)
    assert not (tmp_path / "killed/result.json").exists()
    run(splits, tmp_path / "killed", model, **options)
    assert_equal_runs(tmp_path / "killed", tmp_path / "whole", model)


@pytest.mark.parametrize("moment", ["draw_curves", "save"])
def test_a_run_killed_between_its_line_and_its_checkpoint_goes_on_to_the_bit(
    moment, splits, whole, tmp_path, monkeypatch
):
    original = getattr(RunWriter, moment)

    def killed_at_the_second(self, *arguments, **keywords):
        if len(self.rows) == 2:
            raise Killed
        return original(self, *arguments, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "DRAW_EVERY", -1.0)  # each epoch
        patched.setattr(RunWriter, moment, killed_at_the_second)
        with pytest.raises(Killed):
            run(splits, tmp_path)
    run(splits, tmp_path)
    assert_equal_runs(tmp_path, whole[0])


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_a_signal_ends_a_run_after_its_step_which_is_saved(step, splits, whole, tmp_path, monkeypatch):
    """Whatever the step: the first, which is compiled, one between two saves, or the last of an epoch."""
    before, steps = signal.getsignal(signal.SIGTERM), iter(range(1, 100))

    def with_a_signal(state, batch):
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return compiled_train_step(state, batch)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "compiled_train_step", with_a_signal)
        with pytest.raises(Stopped, match=rf"SIGTERM: {step} steps are trained and saved in .*: add --resume \(in"):
            run(splits, tmp_path)
    assert signal.getsignal(signal.SIGTERM) == before
    assert list_steps(tmp_path / "checkpoints")[-1] == step
    run(splits, tmp_path)
    assert_equal_runs(tmp_path, whole[0])


def test_a_signal_while_the_figures_are_drawn_ends_the_run_when_it_is_complete(splits, tmp_path, monkeypatch):
    """Else the next of several seeds would be trained as if nobody had asked for the end."""
    monkeypatch.setattr(RunWriter, "write_final_figures", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped, match=r"SIGTERM: .* is complete; if there are other seeds, add --resume to"):
        run(splits, tmp_path, epochs=1)
    assert history.read_result(tmp_path).last.epoch == 1


def test_a_run_that_diverges_names_step_and_pictures_and_keeps_its_checkpoints(splits, tmp_path):
    options = {"tx": optax.sgd(1e30), "checkpoint_every": 1}
    with pytest.raises(InputError, match=r"not finite in step \d \(epoch 1\): .*(cat|dog)s/\w+\.\d\.png, "):
        run(splits, tmp_path, **options)
    kept = faults.contents(tmp_path / "checkpoints")
    assert list_steps(tmp_path / "checkpoints") and history.read_rows(tmp_path) == []
    with pytest.raises(InputError, match="not finite in step"):
        run(splits, tmp_path, **options)
    assert faults.contents(tmp_path / "checkpoints") == kept


def test_a_net_that_cannot_tell_the_classes_is_refused(tmp_path):
    images = np.zeros((6, 12, 12, 3), np.uint8)
    ten = ArraySource(images, np.arange(6, dtype=np.int32), list("0123456789"))
    with pytest.raises(ValueError, match="a net of 1 logits cannot tell 10 classes apart"):
        run(Splits(ten, ten, ten), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("change, error", [({"label": 0.9}, TypeError), ({"image": np.float32}, ValueError)])
def test_records_of_other_types_are_refused(change, error, tmp_path):
    """Bytes made of fractions would be black pictures, and labels other labels."""

    class Other(ArraySource):
        def __getitem__(self, index):
            record = super().__getitem__(index)
            return record | ({"image": np.float32(record["image"]) / 255} if "image" in change else change)

    train = Other(np.full((6, 12, 12, 3), 200, np.uint8), np.zeros(6, np.int32), ["a", "b"])
    with pytest.raises((error, TypeCheckError)):  # the annotations, which the tests check, are before our own check
        run(Splits(train, train, train), tmp_path)


def test_weights_of_a_run_score_what_its_lines_say(whole, splits):
    """To the bit: pictures, labels and predictions stay in step through saving and restoring."""
    workdir, result, _ = whole
    state = Predictor(workdir, best=False, model=SmallNet).state
    validated, tested = (evaluate(state, source, 4) for source in splits[1:])
    last = history.read_rows(workdir)[-1]
    assert (validated["loss"], validated["acc"]) == (last["val_loss"], last["val_acc"])
    assert (tested["loss"], tested["acc"]) == (result.last.test_loss, result.last.test_acc)
    assert tested["confusion"] == result.last.test_confusion


@pytest.mark.parametrize("threads", [1, 7])
def test_the_number_of_the_loader_s_threads_changes_nothing(threads, whole, splits, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "usable_cores", lambda: threads)
    run(splits, tmp_path)
    assert_equal_runs(tmp_path, whole[0])


def test_curves_are_drawn_now_and_then_and_at_the_end(splits, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(RunWriter, "draw_curves", lambda self: drawn.append(len(self.rows)))
    for often, expected in ((1e9, [3]), (-1.0, [1, 2, 3, 3])):
        monkeypatch.setattr(loop, "DRAW_EVERY", often)
        run(splits, tmp_path / str(often))
        assert drawn == expected
        drawn.clear()


def test_a_complete_run_is_only_summed_up_again(whole, splits, capsys):
    workdir, result, _ = whole
    before = (workdir / "metrics.jsonl").read_text()
    assert run(splits, workdir) == result
    assert (workdir / "metrics.jsonl").read_text() == before
    assert capsys.readouterr().out == "epoch 3 of 3 is already trained: give more --epochs to train longer\n"


def test_epochs_of_whole_passes_with_a_schedule_where_the_test_pictures_validate(splits, tmp_path):
    """As MNIST is trained: six pictures make steps of four and of two, and the rate falls to zero.

    That the pictures are the same is told by their fingerprint, as of a linked or copied folder.
    """
    copied = read_splits(splits.test.root, (12, 12)).test
    options = {"steps_per_epoch": None, "epochs": 2, "schedule": "cosine"}
    result = run(splits._replace(validation=copied), tmp_path / "run", **options)
    rows = history.read_rows(tmp_path / "run")
    assert [row["step"] for row in rows] == [2, 4]
    assert all(row["acc"] * 6 == pytest.approx(round(row["acc"] * 6)) for row in rows)
    # Half of the cosine's way before the second step of four, almost three quarters of it before the last.
    assert [row["learning_rate"] for row in rows] == pytest.approx([8.5355e-5, 1.4645e-5], rel=1e-3)
    assert result.best is result.highest_val_acc is None  # it would be chosen by the test pictures
    assert result.last.test_loss == pytest.approx(rows[-1]["val_loss"])
    for choice in ({"patience": 3}, {"schedule": "plateau"}):
        with pytest.raises(InputError, match="and here the validation pictures are the test pictures: leave them out"):
            run(splits._replace(validation=copied), tmp_path / "other", **choice)


def test_a_run_ends_out_of_patience_after_its_rate_was_reduced(splits, tmp_path, monkeypatch, capsys):
    """At this rate weights do not move: the first epoch stays the best. It is killed on the way, too."""
    options = {"epochs": 20, "steps_per_epoch": 2, "learning_rate": 1e-12, "schedule": "plateau", "patience": 13}
    with monkeypatch.context() as patched:
        kill_at_step(patched, 23)
        with pytest.raises(Killed):
            run(splits, tmp_path, **options)
    result = run(splits, tmp_path, **options)
    rows = history.read_rows(tmp_path)
    assert [row["learning_rate"] for row in rows] == pytest.approx([1e-12] * 11 + [1e-13] * 3)
    assert (result.last.epoch, result.best.val_loss) == (14, rows[0]["val_loss"])
    said = "out of patience: val_loss has not fallen since epoch 1\n"
    assert capsys.readouterr().out.endswith(said)
    before = faults.contents(tmp_path / "checkpoints"), history.read_rows(tmp_path)
    assert run(splits, tmp_path, **options) == result
    assert capsys.readouterr().out.endswith(said)
    assert (faults.contents(tmp_path / "checkpoints"), history.read_rows(tmp_path)) == before


def test_averaged_weights_are_validated_tested_and_loaded(splits, tmp_path):
    result = run(splits, tmp_path / "average", learning_rate=1e-3, ema=0.9)
    predictor = Predictor(tmp_path / "average", best=False, model=SmallNet)
    tested = evaluate(predictor.state, splits.test, 4)
    assert (predictor.epoch, tested["acc"]) == (3, result.last.test_acc)
    assert tested["loss"] == pytest.approx(result.last.test_loss, rel=1e-6)
    plain = run(splits, tmp_path / "plain", learning_rate=1e-3)
    losses = [[row["loss"] for row in history.read_rows(tmp_path / name)] for name in ("average", "plain")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)  # training is the same
    assert result.last.val_loss != pytest.approx(plain.last.val_loss, rel=1e-4)


def brier(logits, targets):
    """The squared distance of the second class's probability from its target."""
    return jnp.square(jax.nn.sigmoid(logits[:, 0]) - targets[:, 1])


def test_an_optimizer_a_loss_and_metrics_of_one_s_own_are_recorded_by_name(splits, tmp_path):
    given = {"tx": optax.sgd(0.01), "loss": brier, "metrics": {"brier": brier}}
    result = run(splits, tmp_path, epochs=2, **given)
    training = read_config(tmp_path).training
    assert training.optimizer is None
    assert training.given["loss"] == training.given["brier"] == f"{__name__}.brier"
    assert "optax" in training.given["tx"]
    rows = history.read_rows(tmp_path)
    assert [row["val_metrics"]["brier"] for row in rows] == [row["val_loss"] for row in rows]
    assert result.last.test_metrics == {"brier": result.last.test_loss}
    assert {row["learning_rate"] for row in rows} == {None}
    with pytest.raises(InputError, match=r"training\.given\.loss=\S+brier, but now it is missing"):
        run(splits, tmp_path, epochs=2, tx=given["tx"], metrics=given["metrics"])


def test_an_optimizer_of_another_structure_is_no_damage(splits, tmp_path):
    """Its name may be the same."""
    run(splits, tmp_path, epochs=1, tx=optax.sgd(0.01))
    with pytest.raises(InputError, match="is of another net or optimizer: opt_state"):
        run(splits, tmp_path, epochs=2, tx=optax.sgd(0.01, momentum=0.9))
    assert list_steps(tmp_path / "checkpoints") == [3]


def test_label_smoothing_moves_the_training_loss_alone(splits, whole, tmp_path):
    run(splits, tmp_path, epochs=1, label_smoothing=0.3, learning_rate=1e-9)
    run(splits, tmp_path / "plain", epochs=1, learning_rate=1e-9)
    smooth, plain = history.read_rows(tmp_path)[0], history.read_rows(tmp_path / "plain")[0]
    assert smooth["val_loss"] == pytest.approx(plain["val_loss"], rel=1e-5)
    assert abs(smooth["loss"] - plain["loss"]) > 1e-3
    assert smooth["acc"] == plain["acc"]


@pytest.mark.parametrize(
    "step, where", [(2, "epoch 1 of 3"), (3, "step 1 of 2 in epoch 2 of 3"), (1, "step 1 of 2 in epoch 1 of 3")]
)
def test_a_step_has_a_place(step, where):
    assert place(step, 2, 3) == where


def test_an_epoch_as_a_line():
    row = {"epoch": 7, "loss": 0.5, "acc": 0.75, "val_loss": 0.6, "val_acc": 0.7}
    row |= {"seconds": 12.34, "images_per_second": 61.7, "data_wait": 0.0123}
    line = "epoch   7/100  loss 0.5000  acc 0.7500  val_loss 0.6000  val_acc 0.7000  12.3s  62 images/s  data wait 1.2%"
    assert describe(row, 100) == line


def test_runs_with_equal_nets_made_anew_compile_nothing_twice(whole, splits, tmp_path):
    """`whole` has compiled its step and its evaluation, with a net and an optimizer of its own."""
    programs = compiled_train_step.compiled, compiled_eval_step.compiled
    before = [program._cache_size() for program in programs]
    for seed in (1, 2):
        run(splits, tmp_path / str(seed), epochs=1, seed=seed)
    assert [program._cache_size() for program in programs] == before
