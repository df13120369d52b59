"""Groups of runs: what belongs together, and the numbers of several seeds."""

import msgspec
import numpy as np
import pytest

from jaxconv.analysis import comparison
from jaxconv.config import Optimizer, Training
from jaxconv.models import MnistConvNet
from jaxconv.runs import history
from jaxconv.runs.directory import write_config
from jaxconv.runs.history import EpochResult, Result
from jaxconv.runtime.errors import InputError
from tests.made_runs import PRINTS, row, settings, write_numbers

SHORT = Training(epochs=2, steps_per_epoch=3, batch_size=4)


def run_at(workdir, *, epochs=2, result=True, versions=None, **changes):
    """A run directory without a net: config.json, metrics.jsonl and result.json; accuracies rise with the seed."""
    config = settings(MnistConvNet(), (28, 28, 1), ["cats", "dogs"], **changes)
    write_numbers(workdir, epochs=epochs, result=result, lift=config.seed / 100)
    write_config(workdir, msgspec.structs.replace(config, versions=versions or {}))
    return workdir


def test_seeds_are_one_group_with_mean_and_range(tmp_path):
    for seed in (3, 4, 11):
        run_at(tmp_path / f"seeds/seed{seed}", seed=seed, versions={"jax": f"0.10.{seed}"})
    (group,) = comparison.read([tmp_path / "seeds"])
    assert (group.name, group.class_names) == ("Cats against dogs: plain net", ["cats", "dogs"])
    assert [run.config.seed for run in group.runs] == [3, 4, 11]
    assert group.numbers()["last epoch"]["test_acc"] == pytest.approx((0.75 + 0.06, 0.78, 0.86))
    assert group.numbers()["lowest val_loss"]["epoch"] == (1, 1, 1)
    assert group.numbers(group.runs[2:])["last epoch"]["test_acc"] == pytest.approx((0.86, 0.86, 0.86))
    assert group.confusion == ([[273, 27], [51, 249]], "test pictures, lowest val_loss, 3 seeds together", [])
    np.testing.assert_allclose(group.curve("val_acc"), [[0.53] * 2, [0.54] * 2, [0.61] * 2])
    shown = {setting.name: setting.values for setting in comparison.settings([group])}
    assert (shown["seed"], shown["versions.jax"]) == (["3, 4, 11"], ["0.10.3, 0.10.4, 0.10.11"])


def test_configurations_are_groups_of_their_own(tmp_path):
    faster = msgspec.structs.replace(SHORT, optimizer=Optimizer(learning_rate=1e-3))
    one, other = run_at(tmp_path / "one"), run_at(tmp_path / "other", training=faster)
    third = run_at(tmp_path / "third", variant="aug", fingerprint=PRINTS | {"validation": "c"})
    again = run_at(tmp_path / "again", seed=1, path="elsewhere", versions={"jax": "0.11"})
    found = comparison.read([one, other, third, again])
    assert [(group.name, len(group.runs)) for group in found] == [
        ("Cats against dogs: plain net (one)", 2),
        ("Cats against dogs: plain net (other)", 1),
        ("Cats against dogs: augmentation", 1),
    ]
    assert [group.chosen_by_test for group in found] == [False, False, True]
    differ = {setting.name: setting.values for setting in comparison.settings(found) if setting.differs}
    assert differ["training.optimizer.learning_rate"] == ["0.0001", "0.001", "0.0001"]
    assert differ["data.path"] == ["-, elsewhere", "-", "-"] and "training.epochs" not in differ


def test_names_are_distinct_even_where_titles_and_directories_are_equal(tmp_path):
    for number, place in enumerate("abc", 1):
        run_at(tmp_path / place / "run", training=msgspec.structs.replace(SHORT, batch_size=number))
    groups = comparison.read([tmp_path / place / "run" for place in "abc"])
    name = "Cats against dogs: plain net (run)"
    assert [group.name for group in groups] == [name, f"{name} 2", f"{name} 3"]


def test_unfinished_runs_are_shown_so_far(tmp_path):
    (group,) = comparison.read([run_at(tmp_path / "run", epochs=1, result=False)])
    assert group.numbers() == {"last epoch so far": {"epoch": (1, 1, 1), "val_acc": (0.5, 0.5, 0.5)}}
    assert group.confusion is None


def test_unfinished_seeds_are_left_out_of_the_numbers_and_shorten_the_curves(tmp_path):
    run_at(tmp_path / "seeds/seed0")
    run_at(tmp_path / "seeds/seed1", seed=1, epochs=1, result=False)
    run_at(tmp_path / "seeds/seed2", seed=2, epochs=0, result=False)
    (group,) = comparison.read([tmp_path / "seeds"])
    assert [run.config.seed for run in group.runs] == [0, 1]
    assert group.epochs == 1 and [len(row) for row in group.curve("acc")] == [1, 1]
    assert group.numbers()["last epoch"]["test_acc"].high == 0.75


def test_the_result_of_before_a_run_was_made_longer_does_not_count(tmp_path):
    run = run_at(tmp_path / "run")
    history.append_row(run, row(3, lift=0.3))
    (group,) = comparison.read([run])
    assert group.runs[0].result is None
    assert group.numbers()["last epoch so far"]["val_acc"].mean == 0.8


def test_a_run_that_is_named_twice_is_read_once(tmp_path):
    for seed in (0, 1):
        run_at(tmp_path / f"seeds/seed{seed}", seed=seed)
    (group,) = comparison.read([tmp_path / "seeds", tmp_path / "seeds/seed1", tmp_path / "seeds"])
    assert [run.config.seed for run in group.runs] == [0, 1]


def test_a_run_without_a_best_epoch_has_the_numbers_of_its_last(tmp_path):
    run = run_at(tmp_path / "run", result=False, fingerprint=PRINTS | {"validation": "c"})
    tested = EpochResult(epoch=2, val_loss=1, val_acc=0.5, test_loss=1, test_acc=0.5, test_confusion=[[1, 0], [1, 0]])
    history.write_result(run, Result(val_acc_mean_last_10=0.5, last=tested))
    (group,) = comparison.read([run])
    assert [*group.numbers()] == ["last epoch"] and group.chosen_by_test
    assert group.confusion == ([[1, 0], [1, 0]], "test pictures, last epoch", ["dogs"])


def test_settings_are_shown_as_a_person_would_write_them():
    texts = [
        comparison.as_text(value) for value in (None, True, False, [150, 150, 3], (28, 28, 1), 3453121, 1e-4, "<b>")
    ]
    assert texts == ["-", "yes", "no", "150, 150, 3", "28, 28, 1", "3,453,121", "0.0001", "<b>"]


def test_a_directory_without_a_finished_epoch_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none is not a run directory \(no config\.json\): use one that"):
        comparison.read([tmp_path / "none"])
    early = run_at(tmp_path / "early", epochs=0, result=False)
    with pytest.raises(InputError, match=r"early has no epoch in its metrics\.jsonl: name a run that has finished one"):
        comparison.read([early])


def test_a_damaged_result_is_refused(tmp_path):
    run = run_at(tmp_path / "run")
    (run / "result.json").write_text("{")
    with pytest.raises(InputError, match=r"result\.json is damaged \(.*\): --resume the run, which writes it anew"):
        comparison.read([run])


def test_a_confusion_matrix_of_other_classes_is_named(tmp_path):
    run = run_at(tmp_path)
    result = history.read_result(run)
    wrong = msgspec.structs.replace(result.last, test_confusion=[[1, 0, 0]] * 3)
    history.write_result(run, msgspec.structs.replace(result, last=wrong))
    with pytest.raises(InputError, match=r"result\.json is damaged \(a confusion matrix has other classes\): --resume"):
        comparison.read([run])
