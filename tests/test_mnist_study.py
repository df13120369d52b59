"""The study, end to end on MNIST in small, and its shifts by hand."""

import json
from pathlib import Path

import digits
import numpy as np
import pytest

from experiments import mnist_study
from jaxconv.records import ArraySource


def test_digits_are_moved_by_whole_pixels() -> None:
    image = np.zeros((1, 28, 28, 1), np.uint8)
    image[0, 20, 5] = 9
    digit = ArraySource(image, np.array([3], np.int32), list("0123456789"))
    for rows, cols in ((0, 0), (6, 0), (-2, 0), (0, 3), (0, -5)):
        moved = mnist_study.move(digit, rows, cols)
        assert np.argwhere(moved.images[0, :, :, 0]).tolist() == [[20 + rows, 5 + cols]]
        assert (moved.labels, moved.images.sum()) == ([3], 9)
    assert mnist_study.move(digit, 0, -6).images.sum() == 0


def test_the_study_trains_each_net_once_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    files = digits.write(tmp_path / "files", monkeypatch)
    command = ["--files", str(files), "--seeds", "1", "--epochs", "3"]
    mnist_study.main(command)
    output = capsys.readouterr().out
    tables = Path("runs/mnist-study/tables.md").read_text()
    assert output.endswith(tables + "\n")
    lines = tables.splitlines()
    assert [line.split(" | ")[:3] for line in lines[2:7]] == [
        ["| max pooling", "3x3x64 = 576", "93,322"],
        ["| average pooling", "3x3x64 = 576", "93,322"],
        ["| strided convolutions", "4x4x64 = 1,024", "121,994"],
        ["| no downsampling", "22x22x64 = 30,976", "2,038,922"],
        ["| dense net", "28x28x1 = 784", "407,050"],
    ]
    study = json.loads(Path("runs/mnist-study/study.json").read_text())
    shifts = study["translation"]
    assert shifts["pixels"] == [0, 1, 2, 3, 4, 5, 6]
    assert shifts["ink_lost"][0] == 0 and shifts["ink_lost"] == sorted(shifts["ink_lost"])
    for name in ("max pooling", "dense net"):
        (found,) = shifts[name]
        assert found[0] == pytest.approx(study["downsampling"][name]["test_acc"][0])
        assert found[6] < found[0]
    assert Path("runs/mnist-study/translation.png").stat().st_size > 10_000
    assert len(list(Path("runs").glob("mnist-*-seed0"))) == 5
    mnist_study.main(command)
    assert capsys.readouterr().out.count("all 3 epochs are trained already") == 5


def test_no_seeds_are_an_error(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        mnist_study.main(["--seeds", "0"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: --seeds is 0: give a whole number above 0\n"
