"""Event files, as TensorBoard itself reads them."""

import functools
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jaxconv.runs import history
from tests import commands
from tests.made_runs import row, write_numbers
from tools import tensorboard

fails = functools.partial(commands.fails, tensorboard.main)


def shown(run, name="loss"):
    """The epochs and values of a scalar."""
    return [(event.step, event.value) for event in EventAccumulator(str(run / "tensorboard")).Reload().Scalars(name)]


def test_every_number_of_every_epoch_is_shown(tmp_path, capsys):
    runs = [write_numbers(tmp_path / name, epochs=3, result=False) for name in ("one", "other")]
    tensorboard.main([*map(str, runs)])
    assert capsys.readouterr().out == "".join(f"{run / 'tensorboard'}: 3 epochs\n" for run in runs)
    for run in runs:
        assert set(EventAccumulator(str(run / "tensorboard")).Reload().Tags()["scalars"]) == {*tensorboard.SCALARS}
        for name in tensorboard.SCALARS:
            assert shown(run, name) == [(epoch, pytest.approx(row(epoch)[name])) for epoch in (1, 2, 3)]


def test_a_run_that_went_on_is_shown_anew_with_every_epoch_once(tmp_path):
    run = write_numbers(tmp_path / "run", epochs=3, result=False)
    tensorboard.main([str(run)])
    history.write_rows(run, history.read_rows(run)[:2])  # as a resumed run does with an epoch that was never saved
    history.append_row(run, row(3) | {"loss": 0.25})
    history.append_row(run, row(4))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 5, "lo')  # the run is writing the next
    tensorboard.main([str(run)])
    assert shown(run) == [(1, 1.0), (2, 0.5), (3, 0.25), (4, 0.25)]
    assert [path.name for path in (run / "tensorboard").iterdir()] == [tensorboard.FILE]


def test_custom_metrics_are_shown_and_no_learning_rate_of_a_custom_optimizer(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    history.append_row(tmp_path / "run", row(1) | {"learning_rate": None, "val_metrics": {"top2": 0.75}})
    tensorboard.main([str(tmp_path / "run")])
    assert capsys.readouterr().out == f"{tmp_path / 'run/tensorboard'}: 1 epoch\n"
    assert shown(tmp_path / "run", "val_top2") == [(1, 0.75)]
    tags = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload().Tags()["scalars"]
    assert set(tags) == {*tensorboard.SCALARS, "val_top2"} - {"learning_rate"}


def test_what_is_wrong_is_named(tmp_path, capsys, monkeypatch):
    early = write_numbers(tmp_path / "early", epochs=0, result=False)
    for none in (early, tmp_path / "none"):
        error = f"error: {none} has no epoch in its metrics.jsonl: name a run that has finished one\n"
        assert fails(capsys, none) == error
    run = write_numbers(tmp_path / "run", result=False)
    (run / "tensorboard").write_text("a file")
    assert f"{run / 'tensorboard'} cannot be written (File exists): fix this and try again" in fails(capsys, run)
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    assert "tensorboardX is needed: pip install -e '.[tensorboard]'" in fails(capsys, run)
