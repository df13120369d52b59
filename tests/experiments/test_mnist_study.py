"""The study, end to end on MNIST in small, and its shifts by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import mnist, mnist_measures, mnist_study
from jaxconv.data.arrays import ArraySource
from jaxconv.models import DenseNet
from jaxconv.runs.history import read_result
from tests import digits
from tests.commands import fails


def test_digits_are_moved_by_whole_pixels() -> None:
    image = np.zeros((1, 28, 28, 1), np.uint8)
    image[0, 20, 5] = 9
    digit = ArraySource(image, np.array([3], np.int32), list("0123456789"))
    for rows, cols in ((0, 0), (6, 0), (-2, 0), (0, 3), (0, -5)):
        moved = mnist_measures.move(digit, rows, cols)
        assert np.argwhere(moved.images[0, :, :, 0]).tolist() == [[20 + rows, 5 + cols]]
        assert (moved.labels, moved.images.sum()) == ([3], 9)
    assert mnist_measures.move(digit, 0, -6).images.sum() == 0


LAYOUTS = {
    "max pooling": ("3x3x64 = 576", "93,322"),
    "average pooling": ("3x3x64 = 576", "93,322"),
    "strided convolutions": ("4x4x64 = 1,024", "121,994"),
    "no downsampling": ("22x22x64 = 30,976", "2,038,922"),
    "dense net": ("28x28x1 = 784", "407,050"),
}


@pytest.mark.parametrize("name", mnist_study.NETS)
def test_the_layout_of_each_net(name) -> None:
    layout = mnist_measures.layout(mnist.net(*mnist_study.NETS[name], "float32"))
    shape = layout["into_dense"]
    assert (f"{'x'.join(map(str, shape))} = {np.prod(shape):,}", f"{layout['parameters']:,}") == LAYOUTS[name]


def dense(model: str, downsample: str | None, dtype: str) -> DenseNet:
    """One net in the place of five, which is compiled once."""
    return DenseNet(dtype)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "net, layouts",
    [
        (dense, dict.fromkeys(LAYOUTS, LAYOUTS["dense net"])),
        pytest.param(mnist.net, LAYOUTS, marks=pytest.mark.campaign),
    ],
    ids=["one net for all", "each its net"],
)
def test_the_study_trains_each_net_once_and_answers(net, layouts, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(mnist_study, "net", net)
    monkeypatch.chdir(tmp_path)
    files = digits.write(tmp_path / "files", monkeypatch)
    command = ["--files", str(files), "--seeds", "1", "--epochs", "1"]
    mnist_study.main(command)
    output = capsys.readouterr().out
    tables = Path("runs/mnist-study/tables.md").read_text()
    assert output.endswith(tables + "\n")
    lines = tables.splitlines()
    assert lines[2:8] == [
        "| VALID | 1 | 26x26 |",
        "| VALID | 2 | 13x13 |",
        "| VALID | 3 | 9x9 |",
        "| SAME | 1 | 28x28 |",
        "| SAME | 2 | 14x14 |",
        "| SAME | 3 | 10x10 |",
    ]
    rows = [[f"| {name}", *layout] for name, layout in layouts.items()]
    assert [line.split(" | ")[:3] for line in lines[11:16]] == rows
    study = json.loads(Path("runs/mnist-study/study.json").read_text())
    nets, shifts = study["downsampling"], study["translation"]
    convnet, dense = (1 - nets[name]["test_acc"][0] for name in ("max pooling", "dense net"))
    assert lines[17].startswith(f"Test errors: {dense:.2%} of the dense net, {convnet:.2%} of the convnet, ")
    assert shifts["pixels"] == [0, 1, 2, 3, 4, 5, 6]
    assert shifts["ink_lost"][0] == 0 and shifts["ink_lost"] == sorted(shifts["ink_lost"])
    for name in ("max pooling", "dense net"):
        (found,) = shifts[name]
        assert found[0] == pytest.approx(nets[name]["test_acc"][0])
        assert found[6] < found[0]
    assert Path("runs/mnist-study/translation.png").stat().st_size > 10_000
    runs = Path("runs/mnist-study/runs")
    assert sorted(path.name for path in runs.iterdir()) == [
        "convnet-average-seed0", "convnet-none-seed0", "convnet-seed0", "convnet-stride-seed0", "dense-seed0",
    ]  # fmt: skip
    # The same weights, evaluated twice.
    assert nets["max pooling"]["test_acc"] == [pytest.approx(read_result(runs / "convnet-seed0").last.test_acc)]
    mnist_study.main(command)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("net: ")] == [f"net: {name}" for name in mnist_study.NETS]
    assert sum(line.startswith("epoch 1 of 1 is already trained") for line in lines) == 5


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--seeds", "0"], "--seeds is 0: give a whole number above 0"),
        (["--epochs", "0"], "--epochs is 0: give a whole number above 0"),
        (["--seed", "3"], "unrecognized arguments: --seed 3: --help lists the flags"),
        (["--out", "file"], "--out file cannot be made (File exists): name another folder"),
    ],
)
def test_mistakes_end_the_study_before_it_starts(flags, message, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    assert fails(mnist_study.main, capsys, *flags) == f"error: {message}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_tables_by_hand() -> None:
    nets = {
        "max pooling": {"into_dense": (3, 3, 64), "parameters": 93322, "train_acc": [1.0, 0.998]},
        "dense net": {"into_dense": (28, 28, 1), "parameters": 407050, "train_acc": [1.0, 1.0]},
    }
    nets["max pooling"] |= {"test_acc": [0.99, 0.994], "test_loss": [0.03, 0.05]}
    nets["dense net"] |= {"test_acc": [0.98, 0.98], "test_loss": [0.1, 0.2]}
    shifts = {"pixels": [0, 1], "ink_lost": [0.0, 0.25]}
    shifts |= {"max pooling": [[0.99, 0.9], [0.994, 0.8]], "dense net": [[0.98, 0.5], [0.98, 0.7]]}
    lines = mnist_study.tables([("VALID", 1, (26, 25))], nets, shifts).splitlines()
    assert lines == [
        "| padding | stride | 28x28 becomes |",
        "|---|---|---|",
        "| VALID | 1 | 26x25 |",
        "",
        "| net | into the dense layers | parameters | training acc | test acc | test loss |",
        "|---|---|---|---|---|---|",
        "| max pooling | 3x3x64 = 576 | 93,322 | 0.9990 | 0.9920 (0.9900 to 0.9940) | 0.0400 (0.0300 to 0.0500) |",
        "| dense net | 28x28x1 = 784 | 407,050 | 1.0000 | 0.9800 (0.9800 to 0.9800) | 0.1500 (0.1000 to 0.2000) |",
        "",
        "Test errors: 2.00% of the dense net, 0.80% of the convnet, 60% fewer.",
        "",
        "| pixels moved | convnet, test acc | dense net, test acc | ink moved out |",
        "|---|---|---|---|",
        "| 0 | 0.9920 (0.9900 to 0.9940) | 0.9800 (0.9800 to 0.9800) | 0.0% |",
        "| 1 | 0.8500 (0.8000 to 0.9000) | 0.6000 (0.5000 to 0.7000) | 25.0% |",
    ]
