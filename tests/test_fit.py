"""Whole runs on tiny pictures: what they leave behind, and that a resumed one equals an uninterrupted one."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxconv import figures, metrics
from jaxconv.augment import RandomAffine
from jaxconv.batches import training_batches
from jaxconv.checkpoints import Checkpoints
from jaxconv.config import FitConfig
from jaxconv.fit import describe, evaluate, fit, train_epoch
from jaxconv.models import CatsDogsConvNet
from jaxconv.records import read_splits
from jaxconv.train_step import create_state, eval_step, learning_rates, rmsprop, train_step

TIMES = {"seconds", "images_per_second", "data_wait"}


@pytest.fixture(scope="module")
def splits(photos):
    return read_splits(photos, (46, 46))


def run(splits, workdir, epochs, **options):
    config = FitConfig(**{"epochs": epochs, "steps_per_epoch": 3, "batch_size": 4, "learning_rate": 1e-4} | options)
    return fit(CatsDogsConvNet(dropout=0.5), splits, config, workdir, title="a test", augment=RandomAffine())


def rows_of(workdir):
    return [{key: value for key, value in row.items() if key not in TIMES} for row in metrics.read(workdir)]


def state_of(workdir):
    optimizer = rmsprop(learning_rates("constant", 1e-4, 1))
    template = jax.eval_shape(lambda: create_state(CatsDogsConvNet(dropout=0.5), (46, 46, 3), optimizer, 0))
    with Checkpoints(workdir / "checkpoints", template) as checkpoints:
        state = checkpoints.restore(checkpoints.latest_epoch)
    return jax.device_get((state.step, state.params, state.opt_state))


@pytest.fixture(scope="module")
def whole(splits, tmp_path_factory):
    """An uninterrupted run of three epochs, and how often each step was compiled for it."""
    workdir = tmp_path_factory.mktemp("whole")
    before = train_step._cache_size(), eval_step._cache_size()
    result = run(splits, workdir, 3)
    return workdir, result, (train_step._cache_size() - before[0], eval_step._cache_size() - before[1])


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
    assert {int(path.name) for path in (workdir / "checkpoints").iterdir()} == {best, 3}
    assert sorted(path.name for path in (workdir / "figures").iterdir()) == ["accuracy.png", "loss.png"]
    assert json.loads((workdir / "result.json").read_text()) == result
    assert (result["last"]["epoch"], result["best"]["epoch"]) == (3, best)
    assert np.sum(result["best"]["test_confusion"]) == 3
    assert result["val_acc_mean_last_10"] == pytest.approx(np.mean([row["val_acc"] for row in rows]))
    assert compiled == (1, 1)


@pytest.mark.parametrize("first", [1, 2])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(whole, splits, tmp_path, first):
    run(splits, tmp_path, first)
    # As if it had been killed after the next line was written and before its checkpoint was.
    metrics.append(tmp_path, {"epoch": first + 1, "loss": 123.0})
    result = run(splits, tmp_path, 3)
    assert rows_of(tmp_path) == rows_of(whole[0])
    assert result == whole[1]
    jax.tree.map(np.testing.assert_array_equal, state_of(tmp_path), state_of(whole[0]))


@pytest.mark.parametrize("moment", ["write_curves", "save"])
def test_a_killed_run_of_whole_passes_and_a_schedule_goes_on_to_the_bit(moment, splits, tmp_path, monkeypatch):
    """Steps of four and of two pictures, and a rate that depends on the step; killed in its second epoch."""
    options = {"steps_per_epoch": None, "schedule": "cosine"}
    result = run(splits, tmp_path / "whole", 3, **options)
    owner = {"write_curves": figures, "save": Checkpoints}[moment]
    original = getattr(owner, moment)

    def killed_at_the_second(*arguments, **keywords):
        if len(metrics.read(tmp_path / "killed")) == 2:
            raise KeyboardInterrupt
        return original(*arguments, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr(owner, moment, killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            run(splits, tmp_path / "killed", 3, **options)
    assert run(splits, tmp_path / "killed", 3, **options) == result
    assert rows_of(tmp_path / "killed") == rows_of(tmp_path / "whole")
    jax.tree.map(np.testing.assert_array_equal, state_of(tmp_path / "killed"), state_of(tmp_path / "whole"))


def test_a_complete_run_is_only_summed_up_again(whole, splits):
    workdir, result, _ = whole
    before = (workdir / "metrics.jsonl").read_text()
    assert run(splits, workdir, 3) == result
    assert (workdir / "metrics.jsonl").read_text() == before


def test_epochs_of_whole_passes_with_a_schedule_where_the_test_pictures_validate(splits, tmp_path):
    """As MNIST is trained: six pictures make steps of four and of two, and the rate falls to zero."""
    config = FitConfig(epochs=2, steps_per_epoch=None, batch_size=4, learning_rate=1e-4, schedule="cosine")
    result = fit(CatsDogsConvNet(), splits._replace(validation=splits.test), config, tmp_path, title="a test")
    rows = metrics.read(tmp_path)
    assert [row["step"] for row in rows] == [2, 4]
    assert all(row["acc"] * 6 == pytest.approx(round(row["acc"] * 6)) for row in rows)
    # Half of the cosine's way before the second step of four, almost three quarters of it before the last.
    assert [row["learning_rate"] for row in rows] == pytest.approx([8.5355e-5, 1.4645e-5], rel=1e-3)
    assert "best" not in result  # it would be chosen by the test pictures
    assert result["last"]["test_loss"] == pytest.approx(rows[-1]["val_loss"])


def test_evaluation_does_not_depend_on_the_batch_size(splits):
    state = create_state(CatsDogsConvNet(), (46, 46, 3), rmsprop(1e-4), 0)
    one, other = (evaluate(state, splits.validation, batch_size) for batch_size in (2, 5))
    assert (one["acc"], one["confusion"]) == (other["acc"], other["confusion"])
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    assert one["acc"] == np.trace(one["confusion"]) / 5


def test_a_run_on_the_device_s_pictures_is_the_host_s_and_resumes_to_the_bit(splits, tmp_path):
    """Without augmentation all pictures are equal, and so are the metrics."""
    config = FitConfig(epochs=2, steps_per_epoch=2, batch_size=4, learning_rate=1e-4)

    def run(name, config, **options):
        return fit(CatsDogsConvNet(dropout=0.5), splits, config, tmp_path / name, title="a test", **options)

    results = {where: run(where, config, augment_on=where) for where in ("host", "device")}
    for name in ("last", "best"):
        for key, expected in results["host"][name].items():
            np.testing.assert_allclose(results["device"][name][key], expected, rtol=1e-3)
    augmented = {"augment": RandomAffine(), "augment_on": "device"}
    run("halves", dataclasses.replace(config, epochs=1), **augmented)
    assert run("halves", config, **augmented) == run("whole", config, **augmented)
    assert rows_of(tmp_path / "halves") == rows_of(tmp_path / "whole")
    jax.tree.map(np.testing.assert_array_equal, state_of(tmp_path / "halves"), state_of(tmp_path / "whole"))


def test_an_epoch_reads_from_the_device_once_and_feeds_it_bytes(splits, monkeypatch):
    """What keeps the host out of the way; a read for every step would stop the device there."""
    state, reads, dtypes = create_state(CatsDogsConvNet(), (46, 46, 3), rmsprop(1e-4), 0), [], []
    read = jax.device_get
    monkeypatch.setattr(jax, "device_get", lambda tree: (reads.append(len(tree)), read(tree))[1])
    batches = training_batches(splits.train, 4, seed=0, augment=RandomAffine())
    stream = (dtypes.append(batch["image"].dtype) or batch for batch in batches)
    state, _, _ = train_epoch(state, stream, 3, 1)
    evaluate(state, splits.validation, 4)
    assert reads == [3, 2]
    assert set(dtypes) == {np.dtype(np.uint8)}


def test_an_epoch_as_a_line():
    row = {"epoch": 7, "loss": 0.5, "acc": 0.75, "val_loss": 0.6, "val_acc": 0.7}
    row |= {"seconds": 12.34, "images_per_second": 61.7, "data_wait": 0.0123}
    assert describe(row, 100) == (
        "epoch   7/100  loss 0.5000  acc 0.7500  val_loss 0.6000  val_acc 0.7000  12.3s  62 images/s  data wait 1.2%"
    )
