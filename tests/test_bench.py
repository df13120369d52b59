"""The benchmark's own work on tiny pictures, without its peers, and what it says."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from tools import bench, turns


def test_the_table_by_hand() -> None:
    found = {
        "step": {"jaxconv": [100.0, 300.0, 200.0], "pytorch": [50.0, 40.0, 90.0]},
        "epoch": {"jaxconv": [20.0, 10.0, 30.0], "pytorch": [60.0, 50.0, 50.0]},
        "memory": {"jaxconv": [1234.5], "pytorch": [617.25]},
    }
    assert turns.table(found).splitlines() == [
        "| | contestant | median | lowest to highest | jaxconv is |",
        "|---|---|---|---|---|",
        "| training step, batch 32 | jaxconv | 200 images/s | 100 to 300 |  |",
        "| training step, batch 32 | pytorch | 50.0 images/s | 40.0 to 90.0 | 4.00x as fast |",
        "| an epoch and its validation, from the files on | jaxconv | 20.0 s | 10.0 to 30.0 |  |",
        "| an epoch and its validation, from the files on | pytorch | 50.0 s | 50.0 to 60.0 | 2.50x as fast |",
        "| peak memory after that | jaxconv | 1,234 MB | 1,234 to 1,234 |  |",
        "| peak memory after that | pytorch | 617 MB | 617 to 617 | 0.50x as small |",
    ]


@pytest.mark.campaign
def test_each_part_is_measured_and_written_down(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    figures = tmp_path / "figures.json"
    parts = ["--only", "input-one-core", "epoch"]
    bench.main(["--data", str(photos), *parts, "--rounds", "2", "--against", "--json", str(figures)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines if "jaxconv |" in line] == [
        "| input alone, a later pass, one core",
        "| an epoch and its validation, from the files on",
        "| peak memory after that",
    ]
    written = json.loads(figures.read_text())
    assert {part: len(found["jaxconv"]) for part, found in written["figures"].items()} == {
        "input-one-core": 2,
        "epoch": 2,
        "memory": 1,
    }
    assert written["figures"]["memory"]["jaxconv"][0] > 100
    assert {"cpu", "cores", "python", "jax", "grain"} <= written["machine"].keys()
    assert lines[-1].startswith("cpu ")


def test_a_peer_that_is_not_installed_is_named(photos, capsys, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(bench, "take_turns", lambda part, names, data, rounds: {part: {name: [1.0] for name in names}})
    bench.main(["--data", str(photos), "--only", "step", "--against", "pytorch", "keras-grain"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "pytorch is left out: torch is not installed (pip install '.[bench]')",
        "keras-grain is left out: keras is not installed (pip install '.[bench]')",
    ]
    assert sum("training step" in line for line in lines) == 1


def fails(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    with pytest.raises(SystemExit) as stop:
        bench.main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_mistakes_are_named(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert fails(capsys, "--rounds", 0) == "error: --rounds is 0: give a whole number above 0\n"
    assert fails(capsys, "--data", tmp_path) == (
        f"error: --data {tmp_path} has no folder train: name a folder of train and validation\n"
    )
    assert fails(capsys, "--only", "speed") == (
        "error: --only speed: give some of step, inference, input, input-one-core, epoch, start\n"
    )
    copy = shutil.copytree(photos, tmp_path / "copy")
    broken = copy / "train" / "cats" / "cat.0.png"
    broken.write_bytes(b"")
    error = fails(capsys, "--data", copy, "--only", "input", "--against")
    assert error.startswith("error: jaxconv failed (") and f"{broken} is empty" in error and error.count("\n") == 1
