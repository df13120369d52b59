"""The command tools.bench: jaxconv's own work on tiny pictures without its peers, the table, the mistakes."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from tests.commands import fails
from tools import bench
from tools.benchmarks import protocol


def test_the_table_by_hand() -> None:
    found = {
        "step": {"jaxconv": [100.0, 300.0, 200.0], "pytorch": [50.0, 40.0, 90.0]},
        "epoch": {"jaxconv": [20.0, 10.0, 30.0], "pytorch": [60.0, 50.0, 50.0]},
        "memory": {"jaxconv": [1234.5], "pytorch": [617.25]},
    }
    assert protocol.table(found).splitlines() == [
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
    parts = ["--only", "step", "inference", "input-one-core", "epoch", "start"]
    bench.main(["--data", str(photos), *parts, "--rounds", "2", "--against", "--json", str(figures)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines if "jaxconv |" in line] == [
        "| training step, batch 32",
        "| inference, batch 32",
        "| input alone, a later pass, one core",
        "| an epoch and its validation, from the files on",
        "| peak memory after that",
        "| start to first step, nothing compiled before",
        "| start to first step, compiled before",
    ]
    written = json.loads(figures.read_text())
    assert {part: len(found["jaxconv"]) for part, found in written["figures"].items()} == {
        "step": 2,
        "inference": 2,
        "input-one-core": 2,
        "epoch": 2,
        "memory": 1,
        "cold-start": 2,
        "warm-start": 2,
    }
    assert all(figure > 0 for found in written["figures"].values() for figure in found["jaxconv"])
    assert written["figures"]["memory"]["jaxconv"][0] > 100
    assert {"cpu", "cores", "python", "jax", "grain"} <= written["machine"].keys()
    assert "growth" not in written
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


def test_growth_runs_only_when_it_is_named(photos, tmp_path, capsys, monkeypatch) -> None:
    figures, grown = tmp_path / "figures.json", []
    monkeypatch.setattr(bench.growth, "measure", lambda data: grown.append(data) or {"sizes": [], "threads": []})
    monkeypatch.setattr(bench, "PARTS", {part: lambda *_: {} for part in bench.PARTS})
    bench.main(["--data", str(photos), "--against"])
    assert not grown
    monkeypatch.setattr(bench, "PARTS", {})
    bench.main(["--data", str(photos), "--only", "growth", "--json", str(figures)])
    assert grown == [photos]
    assert json.loads(figures.read_text())["growth"] == {"sizes": [], "threads": []}
    assert "left out" not in capsys.readouterr().out  # growth has no peers


def test_mistakes_are_named(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert fails(bench.main, capsys, "--rounds", 0) == "error: --rounds is 0: give a whole number above 0\n"
    assert fails(bench.main, capsys, "--data", tmp_path) == (
        f"error: --data {tmp_path} has no folder train: give a folder with train and validation\n"
    )
    error = fails(bench.main, capsys, "--only", "speed")
    assert error.startswith("error: argument --only: invalid choice: 'speed' (choose from")
    copy = shutil.copytree(photos, tmp_path / "copy")
    shutil.copytree(copy / "train" / "cats", copy / "train" / "birds")
    assert fails(bench.main, capsys, "--data", copy) == (
        f"error: --data {copy} has 3 classes in train: the net of the benchmark tells two apart\n"
    )


def test_a_worker_that_ends_is_named_with_its_last_line(tmp_path: Path) -> None:
    with (
        pytest.raises(protocol.InputError, match=r"^pytorch failed \(.*[Ee]rror: .*\): leave it out$"),
        protocol.working("pytorch", tmp_path, tmp_path, workers="json.tool") as ask,
    ):
        ask("step")


@pytest.mark.campaign
def test_a_damaged_picture_is_named(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    copy = shutil.copytree(photos, tmp_path / "copy")
    broken = copy / "train" / "cats" / "cat.0.png"
    broken.write_bytes(b"")
    error = fails(bench.main, capsys, "--data", copy, "--only", "input", "--against")
    assert error.startswith("error: jaxconv failed (") and f"{broken} is empty" in error
