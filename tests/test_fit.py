"""Whole runs on tiny pictures: what they leave behind, and that a resumed one equals an uninterrupted one."""

import dataclasses
import json
import os
import signal

import faults
import jax
import numpy as np
import pytest
from jaxtyping import TypeCheckError
from nets import SmallNet
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jaxconv import batches, metrics
from jaxconv.augment import RandomAffine
from jaxconv.checkpoints import Checkpoints, restore_params
from jaxconv.config import FitConfig
from jaxconv.errors import InputError, Stopped
from jaxconv.fit import describe, fit
from jaxconv.records import ArraySource, Splits, read_splits
from jaxconv.runs import Run
from jaxconv.streaming import Streaming, compiled_eval_step, compiled_train_step, evaluate
from jaxconv.tensorboard import SCALARS
from jaxconv.train_step import create_state, evaluation_state, learning_rates, rmsprop

pytestmark = pytest.mark.usefixtures("undrawn")  # but for the fixture `whole`, which is made before
TIMES = {"seconds", "images_per_second", "data_wait"}


@pytest.fixture(scope="module")
def splits(photos):
    return read_splits(photos, (46, 46))


def run(splits, workdir, epochs, **options):
    config = FitConfig(**{"epochs": epochs, "steps_per_epoch": 3, "batch_size": 4, "learning_rate": 1e-4} | options)
    return fit(SmallNet(), splits, config, workdir, title="a test", augment=RandomAffine())


def rows_of(workdir):
    return [{key: value for key, value in row.items() if key not in TIMES} for row in metrics.read(workdir)]


def state_of(workdir):
    optimizer = rmsprop(learning_rates("constant", 1e-4, 1))
    template = jax.eval_shape(lambda: create_state(SmallNet(), (46, 46, 3), optimizer, 0))
    with Checkpoints(workdir / "checkpoints", template) as checkpoints:
        state = checkpoints.restore(checkpoints.steps[-1])
    return jax.device_get((state.step, state.params, state.opt_state))


@pytest.fixture(scope="module")
def whole(splits, tmp_path_factory):
    """An uninterrupted run of three epochs, and how often each step was compiled for it."""
    workdir = tmp_path_factory.mktemp("whole")
    programs = compiled_train_step.compiled, compiled_eval_step.compiled
    before = [program._cache_size() for program in programs]
    result = run(splits, workdir, 3)
    return workdir, result, [program._cache_size() - count for program, count in zip(programs, before, strict=True)]


def test_what_a_run_leaves_behind(whole):
    workdir, result, compiled = whole
    rows = metrics.read(workdir)
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 3), (2, 6), (3, 9)]
    assert " ".join(rows[0]) == (
        "epoch step loss acc val_loss val_acc learning_rate seconds images_per_second data_wait"
    )
    assert {row["learning_rate"] for row in rows} == {1e-4}
    assert all(0 <= row["data_wait"] <= 1 for row in rows)
    assert all(row["acc"] * 12 == round(row["acc"] * 12) and row["val_acc"] * 5 % 1 < 1e-6 for row in rows)
    best = min(rows, key=lambda row: row["val_loss"])["epoch"]
    assert {int(path.name) for path in (workdir / "checkpoints").iterdir()} == {3 * best, 6, 9}
    drawn = {path.stem for path in (workdir / "figures").glob("*.png")}
    assert drawn == {"accuracy", "loss", "confusion", "predictions"}
    assert json.loads((workdir / "result.json").read_text()) == result
    assert (result["last"]["epoch"], result["best"]["epoch"]) == (3, best)
    assert np.sum(result["best"]["test_confusion"]) == 3
    highest = max(rows, key=lambda row: row["val_acc"])  # of equal ones the first
    assert result["highest_val_acc"] == {"epoch": highest["epoch"], "val_acc": highest["val_acc"]}
    assert result["val_acc_mean_last_10"] == pytest.approx(np.mean([row["val_acc"] for row in rows]))
    assert compiled == [1, 1]


@pytest.mark.parametrize("first", [1, 2])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(whole, splits, tmp_path, first):
    run(splits, tmp_path, first)
    # As if it had been killed after the next line was written and before its checkpoint was.
    metrics.append(tmp_path, {"epoch": first + 1, "loss": 123.0})
    result = run(splits, tmp_path, 3)
    assert rows_of(tmp_path) == rows_of(whole[0])
    assert result == whole[1]
    jax.tree.map(np.testing.assert_array_equal, state_of(tmp_path), state_of(whole[0]))


@pytest.mark.parametrize("moment", ["draw", "save"])
def test_a_killed_run_of_whole_passes_and_a_schedule_goes_on_to_the_bit(moment, splits, tmp_path, monkeypatch):
    """Steps of four and of two pictures, and a rate that depends on the step; killed in its second epoch."""
    options = {"steps_per_epoch": None, "schedule": "cosine"}
    result = run(splits, tmp_path / "whole", 3, **options)
    owner = {"draw": Run, "save": Checkpoints}[moment]
    original = getattr(owner, moment)

    def killed_at_the_second(*arguments, **keywords):
        if len(metrics.read(tmp_path / "killed")) == 2:
            raise KeyboardInterrupt
        return original(*arguments, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr("jaxconv.fit.DRAW_EVERY", -1.0)  # each epoch
        patched.setattr(owner, moment, killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            run(splits, tmp_path / "killed", 3, **options)
    assert run(splits, tmp_path / "killed", 3, **options) == result
    assert rows_of(tmp_path / "killed") == rows_of(tmp_path / "whole")
    jax.tree.map(np.testing.assert_array_equal, state_of(tmp_path / "killed"), state_of(tmp_path / "whole"))


def test_a_run_killed_after_a_checkpoint_in_the_middle_of_an_epoch_goes_on_to_the_bit(splits, tmp_path, monkeypatch):
    """Its epochs are cut in two; those of the whole run are not."""
    config = FitConfig(epochs=2, steps_per_epoch=3, batch_size=4, learning_rate=1e-4)
    options = {"title": "a test", "augment": RandomAffine()}
    model, add = SmallNet(), Run.add

    def killed_at_the_end(self, *arguments):
        if self.step == 5:
            raise KeyboardInterrupt
        add(self, *arguments)

    result = fit(model, splits, config, tmp_path / "whole", **options)
    config = dataclasses.replace(config, checkpoint_every=2)
    with monkeypatch.context() as patched:
        patched.setattr(Run, "add", killed_at_the_end)
        with pytest.raises(KeyboardInterrupt):
            fit(model, splits, config, tmp_path / "killed", **options)
    assert "5" in [path.name for path in (tmp_path / "killed/checkpoints").iterdir()]
    assert fit(model, splits, config, tmp_path / "killed", **options) == result
    assert rows_of(tmp_path / "killed") == rows_of(tmp_path / "whole")
    jax.tree.map(np.testing.assert_array_equal, state_of(tmp_path / "killed"), state_of(tmp_path / "whole"))


def test_a_signal_ends_a_run_after_its_step(splits, whole, tmp_path, monkeypatch):
    """It comes while the first step is compiled."""
    config = FitConfig(epochs=3, steps_per_epoch=3, batch_size=4, learning_rate=1e-4)
    options = {"title": "a test", "augment": RandomAffine()}
    train, before = Streaming.train, signal.getsignal(signal.SIGTERM)

    def with_a_signal(self, *arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return train(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Streaming, "train", with_a_signal)
        with pytest.raises(Stopped, match=r"SIGTERM: 1 steps are trained and saved in .*: the same command"):
            fit(SmallNet(), splits, config, tmp_path, **options)
    assert signal.getsignal(signal.SIGTERM) == before
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]
    result = fit(SmallNet(), splits, config, tmp_path, **options)
    assert (result, rows_of(tmp_path)) == (whole[1], rows_of(whole[0]))


def test_a_signal_while_the_figures_are_drawn_ends_the_run_when_it_is_complete(splits, tmp_path, monkeypatch):
    """Else the next of several seeds would be trained as if nobody had asked for the end."""
    monkeypatch.setattr(Run, "draw_tested", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Stopped, match=r"SIGINT: .* is complete; of several seeds, the same command with --resume"):
        run(splits, tmp_path, 1)
    assert json.loads((tmp_path / "result.json").read_text())["last"]["epoch"] == 1


def test_a_run_that_diverges_names_step_and_pictures_and_keeps_its_checkpoint(splits, tmp_path):
    config = FitConfig(epochs=1, steps_per_epoch=3, batch_size=4, learning_rate=1e-4)
    fit(SmallNet(), splits, config, tmp_path, title="a test")
    before = faults.contents(tmp_path / "checkpoints"), metrics.read(tmp_path)
    config = dataclasses.replace(config, epochs=2, learning_rate=1e30)
    with pytest.raises(InputError, match=r"the loss is (inf|nan) in step 5 \(epoch 2\): .*(cat|dog)s/\w+\.\d\.png, "):
        fit(SmallNet(), splits, config, tmp_path, title="a test")
    assert (faults.contents(tmp_path / "checkpoints"), metrics.read(tmp_path)) == before


def test_a_net_that_cannot_tell_the_classes_is_refused(splits, tmp_path):
    images = np.zeros((6, 12, 12, 3), np.uint8)
    ten = ArraySource(images, np.arange(6, dtype=np.int32), list("0123456789"))
    config = FitConfig(epochs=1, steps_per_epoch=2, batch_size=4, learning_rate=1e-5)
    with pytest.raises(ValueError, match="a net of 1 logits cannot tell 10 classes apart"):
        fit(SmallNet(), Splits(ten, ten, ten), config, tmp_path, title="a test")


@pytest.mark.parametrize("change, error", [({"label": 0.9}, TypeError), ({"image": np.float32}, ValueError)])
def test_records_of_other_types_are_refused(change, error, splits, tmp_path):
    """Bytes made of fractions would be black pictures, and labels other labels."""

    class Other(ArraySource):
        def __getitem__(self, index):
            record = super().__getitem__(index)
            return record | ({"image": np.float32(record["image"]) / 255} if "image" in change else change)

    train = Other(np.full((6, 12, 12, 3), 200, np.uint8), np.zeros(6, np.int32), ["a", "b"])
    config = FitConfig(epochs=1, steps_per_epoch=2, batch_size=4, learning_rate=1e-5)
    with pytest.raises((error, TypeCheckError)):  # the annotations, which the tests check, are before our own check
        fit(SmallNet(), Splits(train, train, train), config, tmp_path, title="a test")


def test_weights_of_a_run_score_what_its_lines_say(whole, splits):
    """To the bit: pictures, labels and predictions stay in step through saving and restoring."""
    workdir, result, _ = whole
    model = SmallNet()
    state = evaluation_state(model, restore_params(model, (46, 46, 3), workdir)[0])
    validated, tested = (metrics.mean(metrics.total(evaluate(state, source, 4))) for source in splits[1:])
    last = metrics.read(workdir)[-1]
    assert (validated["loss"], validated["acc"]) == (last["val_loss"], last["val_acc"])
    assert (tested["loss"], tested["acc"]) == (result["last"]["test_loss"], result["last"]["test_acc"])
    assert tested["confusion"] == result["last"]["test_confusion"]


@pytest.mark.parametrize("threads", [1, 7])
def test_the_number_of_the_loader_s_threads_changes_nothing(threads, whole, splits, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "usable_cores", lambda: threads)
    assert run(splits, tmp_path, 3) == whole[1]
    assert rows_of(tmp_path) == rows_of(whole[0])


def test_curves_are_drawn_while_the_next_epoch_runs_and_at_the_end(splits, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Run, "draw", lambda self: drawn.append(len(self.rows)))
    for often, expected in ((1e9, [3]), (-1.0, [1, 2, 3])):
        monkeypatch.setattr("jaxconv.fit.DRAW_EVERY", often)
        run(splits, tmp_path / str(often), 3)
        assert drawn == expected
        drawn.clear()


def test_a_complete_run_is_only_summed_up_again(whole, splits):
    workdir, result, _ = whole
    before = (workdir / "metrics.jsonl").read_text()
    assert run(splits, workdir, 3) == result
    assert (workdir / "metrics.jsonl").read_text() == before


def test_epochs_of_whole_passes_with_a_schedule_where_the_test_pictures_validate(splits, tmp_path):
    """As MNIST is trained: six pictures make steps of four and of two, and the rate falls to zero."""
    config = FitConfig(epochs=2, steps_per_epoch=None, batch_size=4, learning_rate=1e-4, schedule="cosine")
    result = fit(SmallNet(), splits._replace(validation=splits.test), config, tmp_path, title="a test")
    rows = metrics.read(tmp_path)
    assert [row["step"] for row in rows] == [2, 4]
    assert all(row["acc"] * 6 == pytest.approx(round(row["acc"] * 6)) for row in rows)
    # Half of the cosine's way before the second step of four, almost three quarters of it before the last.
    assert [row["learning_rate"] for row in rows] == pytest.approx([8.5355e-5, 1.4645e-5], rel=1e-3)
    assert not {"best", "highest_val_acc"} & result.keys()  # it would be chosen by the test pictures
    assert result["last"]["test_loss"] == pytest.approx(rows[-1]["val_loss"])


KILLED = {"title": "a test", "augment": RandomAffine()}


def killed_in_its_epoch(splits, config, folder, step, monkeypatch, **options):
    """What the run and its twin, which was killed after the checkpoint of this step and went on, return and say."""
    result = fit(SmallNet(), splits, config, folder / "whole", **KILLED, **options)
    often, add = dataclasses.replace(config, checkpoint_every=1), Run.add

    def killed(self, *arguments):
        if self.step == step:
            raise KeyboardInterrupt
        add(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Run, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(SmallNet(), splits, often, folder / "killed", **KILLED, **options)
    assert str(step) in [path.name for path in (folder / "killed/checkpoints").iterdir()]
    assert fit(SmallNet(), splits, often, folder / "killed", **KILLED, **options) == result
    assert rows_of(folder / "killed") == rows_of(folder / "whole")
    last = config.epochs * config.steps_of_an_epoch(len(splits.train))
    files = [folder / name / f"checkpoints/{last}/metrics/metrics" for name in ("whole", "killed")]
    return result, [json.loads(path.read_text()) for path in files if path.exists()]  # none, out of patience


def test_a_run_ends_out_of_patience_after_its_rate_was_reduced(splits, tmp_path, monkeypatch, capsys):
    """At this rate weights do not move: the first epoch stays the best."""
    config = FitConfig(epochs=20, steps_per_epoch=2, batch_size=4, learning_rate=1e-12)
    config = dataclasses.replace(config, schedule="plateau", patience=13, tensorboard=True)
    result, _ = killed_in_its_epoch(splits, config, tmp_path, 23, monkeypatch)
    rows = metrics.read(tmp_path / "killed")
    assert [row["learning_rate"] for row in rows] == pytest.approx([1e-12] * 11 + [1e-13] * 3)
    assert (result["last"]["epoch"], result["best"]["val_loss"]) == (14, rows[0]["val_loss"])
    said = "out of patience: val_loss has not fallen since epoch 1\n"
    assert capsys.readouterr().out.endswith(said)
    before = faults.contents(tmp_path / "killed/checkpoints"), metrics.read(tmp_path / "killed")
    assert fit(SmallNet(), splits, config, tmp_path / "killed", **KILLED) == result
    assert capsys.readouterr().out == said
    assert (faults.contents(tmp_path / "killed/checkpoints"), metrics.read(tmp_path / "killed")) == before
    for name in ("whole", "killed"):
        events = EventAccumulator(str(tmp_path / name / "tensorboard")).Reload()
        assert set(events.Tags()["scalars"]) == {*SCALARS}
        rows = metrics.read(tmp_path / name)
        for scalar in SCALARS:
            found = [(event.step, event.value) for event in events.Scalars(scalar)]
            assert found == [(row["epoch"], pytest.approx(row[scalar])) for row in rows]


def test_averaged_weights_are_validated_tested_and_loaded_and_go_on_to_the_bit(splits, tmp_path, monkeypatch):
    config = FitConfig(epochs=3, steps_per_epoch=3, batch_size=4, learning_rate=1e-3, ema=0.9)
    result, proofs = killed_in_its_epoch(splits, config, tmp_path, 5, monkeypatch)
    assert len(proofs) == 2 and len({proof["average_sha256"] for proof in proofs}) == 1
    (params, step), last = restore_params(SmallNet(), (46, 46, 3), tmp_path / "killed"), result["last"]
    tested = metrics.mean(metrics.total(evaluate(evaluation_state(SmallNet(), params), splits.test, 4)))
    assert (step, tested["acc"]) == (9, last["test_acc"])
    assert tested["loss"] == pytest.approx(last["test_loss"], rel=1e-6)
    plain = fit(SmallNet(), splits, dataclasses.replace(config, ema=None), tmp_path / "plain", **KILLED)
    losses = [[row["loss"] for row in metrics.read(tmp_path / name)] for name in ("whole", "plain")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)  # training is the same
    assert last["val_loss"] != pytest.approx(plain["last"]["val_loss"], rel=1e-4)


def test_an_epoch_as_a_line():
    row = {"epoch": 7, "loss": 0.5, "acc": 0.75, "val_loss": 0.6, "val_acc": 0.7}
    row |= {"seconds": 12.34, "images_per_second": 61.7, "data_wait": 0.0123}
    line = "epoch   7/100  loss 0.5000  acc 0.7500  val_loss 0.6000  val_acc 0.7000  12.3s  62 images/s  data wait 1.2%"
    assert describe(row, 100) == line


def test_seeds_and_runs_with_equal_nets_made_anew_compile_nothing_twice(whole, splits, tmp_path):
    """`whole` has compiled its step and its evaluation, with a net and an optimizer of its own."""
    programs = compiled_train_step.compiled, compiled_eval_step.compiled
    before = [program._cache_size() for program in programs]
    for seed in (1, 2):
        run(splits, tmp_path / str(seed), 1, seed=seed)
    assert [program._cache_size() for program in programs] == before
