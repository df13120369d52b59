"""The command, end to end on MNIST in small, and every message that it can end with."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import common, mnist
from jaxconv.config import DOWNSAMPLE
from jaxconv.models import DenseNet, MnistConvNet
from jaxconv.runs.history import read_result, read_rows
from jaxconv.runtime.errors import InputError
from tests import digits
from tests.commands import fails
from tools import report

NUMBERS = ("epochs", "batch_size", "learning_rate", "steps_per_epoch")
ONE_EPOCH = "batch32-lr0.003-cosine-epochs1"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return digits.write(tmp_path / "files", monkeypatch)


def test_the_book_s_settings() -> None:
    book = mnist.BOOK
    assert (book.epochs, book.steps_per_epoch, book.batch_size) == (5, None, 64)
    assert (book.optimizer.learning_rate, book.optimizer.schedule) == (1e-3, "constant")
    assert mnist.DOWNSAMPLE == DOWNSAMPLE


def test_nets_and_variants_have_names() -> None:
    chosen = [("convnet", None, "float32"), ("convnet", "stride", "float32"), ("dense", None, "bfloat16")]
    assert [mnist.variant(*choice) for choice in chosen] == ["convnet", "convnet-stride", "dense-bfloat16"]
    assert mnist.variant("convnet", "max") == "convnet"
    nets = [mnist.net(*choice) for choice in chosen]
    assert nets == [MnistConvNet("max", "float32"), MnistConvNet("stride", "float32"), DenseNet("bfloat16")]
    with pytest.raises(InputError, match="--downsample is a choice of the convnet"):
        mnist.net("dense", "max", "float32")


def test_a_run_is_named_by_its_changes_from_the_book(monkeypatch, tmp_path) -> None:
    """The book's result is quoted for the book's run alone."""
    found = {}
    monkeypatch.setattr("jaxconv.data.mnist.read_mnist", lambda *_: None)
    monkeypatch.setattr(mnist, "describe", lambda splits: None)
    monkeypatch.setattr(mnist, "launch", lambda _, experiment: found.update(vars(experiment)))
    for flags, name, book in (
        ("", "convnet", "the book's run has test_acc 0.9912"),
        ("--model dense --seed 4", "dense", "the book's run has test_acc 0.978"),
        ("--epochs 2", "convnet", None),
        ("--downsample none --steps-per-epoch 100", "convnet-none-steps100", None),
        ("--epochs 1 --schedule cosine --learning-rate 3e-3 --batch-size 32", f"convnet-{ONE_EPOCH}", None),
    ):
        mnist.main(flags.split())
        assert (found["variant"], found["book"]) == (name, book)


@pytest.mark.parametrize(
    "choice, message",
    [
        (("--patience", 3), "unrecognized arguments: --patience 3: --help lists the flags"),
        (("--schedule", "plateau"), "argument --schedule: invalid choice: 'plateau' (choose from "),
    ],
)
def test_nothing_is_chosen_by_the_test_digits(choice, message, capsys, monkeypatch, tmp_path) -> None:
    """There are no such flags, so nothing is downloaded before they are refused."""
    monkeypatch.chdir(tmp_path)
    assert message in fails(mnist.main, capsys, *choice)
    assert not list(tmp_path.iterdir())
    assert "there are no flags --patience and --schedule plateau" in mnist.__doc__


def test_a_run_learns_the_digits_and_can_be_resumed(files: Path, capsys, request) -> None:
    command = ["--files", str(files)]
    mnist.main(command)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "preparing MNIST in data/mnist/3.0.1"
    assert lines[5].startswith("epoch 5/5  loss ") and lines[6].startswith("last epoch: epoch 5  val_acc ")
    assert lines[7].startswith("val_acc, mean of the last 5 epochs: ")
    assert lines[8] == "baseline (always '0'): test_acc 0.1000"
    assert lines[9] == "for comparison: the book's run has test_acc 0.9912"
    workdir = Path("runs/mnist-convnet-seed0")
    assert (lines[10], len(lines)) == (f"saved in {workdir}", 14)
    assert {path.stem for path in (workdir / "figures").iterdir()} == {"accuracy", "loss", "confusion", "predictions"}
    config, result = json.loads((workdir / "config.json").read_text()), read_result(workdir)
    data = config["data"]
    assert (config["experiment"], config["variant"]) == ("mnist", "convnet")
    assert (data["image_shape"], data["counts"]) == ([28, 28, 1], {"train": 320, "validation": 40, "test": 40})
    assert (data["kind"], data["path"]) == ("MNIST", "data/mnist")
    assert data["fingerprint"]["validation"] == data["fingerprint"]["test"] != data["fingerprint"]["train"]
    assert result.last.test_acc > 0.9 and result.best is None
    assert len(result.last.test_confusion) == 10
    assert [row["step"] for row in read_rows(workdir)] == [5, 10, 15, 20, 25]  # every digit once
    assert "already contains this run: add --resume" in fails(mnist.main, capsys, *command)
    for more in ([], ["--resume"]):
        shorter = fails(mnist.main, capsys, *command, "--epochs", 1, *more)
        assert "training.epochs=5, but now it is 1, and a run is only made longer" in shorter
    request.getfixturevalue("undrawn")
    mnist.main([*command, "--epochs", "6", "--resume"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"data/mnist/3.0.1 is there already: --files {files} is not read"
    assert lines[1] == "resuming after step 25 (epoch 5 of 6)"
    assert lines[2].startswith("epoch 6/6  loss ")


@pytest.mark.usefixtures("undrawn")
def test_several_seeds_are_each_a_run_and_are_summed_up(files: Path, capsys) -> None:
    command = ["--files", str(files), "--model", "dense", "--seeds", "2", "--seed", "5"]
    mnist.main([*command, "--epochs", "4"])
    last = "last epoch: epoch 4  val_acc "
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("seed ")] == ["seed 5", "seed 6"]
    closing = [line for line in lines if line.startswith(last)]
    workdir = Path("runs/mnist-dense-seeds5-6")
    assert lines[-4:] == [
        f"saved in {workdir}",
        f"  python -m tools.predict {workdir / 'seed5'} PICTURE",
        f"  python -m tools.evaluate {workdir / 'seed5'}",
        f"  python -m tools.report {workdir}",
    ]
    assert {path.name for path in workdir.iterdir()} == {"seed5", "seed6", "result.json", "figures"}
    assert {path.name for path in (workdir / "figures").iterdir()} == {"accuracy.png", "loss.png"}
    result = json.loads((workdir / "result.json").read_text())
    found = [read_result(workdir / f"seed{seed}").last.test_acc for seed in (5, 6)]
    assert result["seeds"] == [5, 6] and min(found) > 0.9
    assert (result["min"]["last"]["test_acc"], result["max"]["last"]["test_acc"]) == (min(found), max(found))
    mean, std, low, high = (result[name]["last"]["val_acc"] for name in ("mean", "std", "min", "max"))
    assert closing[0].startswith(f"{last}{mean:.4f} ± {std:.4f} ({low:.4f} to {high:.4f})  test_acc ")
    assert [json.loads((workdir / f"seed{seed}/config.json").read_text())["seed"] for seed in (5, 6)] == [5, 6]
    refused = fails(mnist.main, capsys, *command, "--epochs", 4)
    assert "seed5 already contains this run: add --resume" in refused
    report.main([str(workdir)])
    page = (workdir / "report.html").read_text()
    assert "mean of 2 seeds" in page
    assert "of 40 test pictures." in page
    mnist.main([*command, "--epochs", "5", "--resume"])
    assert capsys.readouterr().out.count("epoch 5/5  loss ") == 2


@pytest.mark.usefixtures("undrawn")
def test_a_run_in_bfloat16_learns_the_digits(files: Path) -> None:
    mnist.main(["--files", str(files), "--dtype", "bfloat16", "--epochs", "4"])
    workdir = Path("runs/mnist-convnet-bfloat16-seed0")
    assert json.loads((workdir / "config.json").read_text())["model"]["options"]["dtype"] == "bfloat16"
    assert read_result(workdir).last.test_acc > 0.9


@pytest.mark.usefixtures("undrawn")
def test_a_schedule_belongs_to_its_number_of_epochs(files: Path, capsys) -> None:
    command = ["--files", str(files), "--model", "dense", "--schedule", "cosine", "--workdir", "run"]
    mnist.main([*command, "--epochs", "1"])
    error = fails(mnist.main, capsys, *command, "--epochs", 2, "--resume")
    assert "training.epochs=1, over which its learning rate falls, but now it is 2" in error


def test_a_wrong_number_is_named_before_anything_is_made(capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    for flag, value in (("--epochs", 0), ("--steps-per-epoch", -1), ("--learning-rate", 0.0), ("--seed", -1)):
        assert f"error: {flag} is {value}: give " in fails(mnist.main, capsys, f"{flag}={value}")
    assert not list(tmp_path.iterdir())


def test_steps_per_epoch_0_is_the_book_s_default() -> None:
    parser = common.parser("experiments.mnist", "", **dict.fromkeys(NUMBERS, "the book's"))
    assert common.training(parser.parse_args(["--steps-per-epoch", "0"]), mnist.BOOK) == mnist.BOOK


@pytest.mark.parametrize("downsample, parameters", [(None, "93,322"), ("stride", "121,994"), ("none", "2,038,922")])
def test_the_summary_needs_no_data(downsample, parameters, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    mnist.main(["--summary", *(["--downsample", downsample] if downsample else [])])
    assert capsys.readouterr().out.splitlines()[-1].split() == ["total", parameters]
    assert not list(tmp_path.iterdir())


def test_missing_files_are_named_before_anything_is_made(capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert "nowhere/train-images-idx3-ubyte.gz is missing" in fails(mnist.main, capsys, "--files", "nowhere")
    assert not list(tmp_path.iterdir())


def test_a_dense_net_has_nothing_to_downsample(capsys) -> None:
    assert "--downsample is a choice of the convnet" in fails(
        mnist.main, capsys, "--model", "dense", "--downsample", "max"
    )


def test_help_and_mistakes_need_no_jax() -> None:
    code = (
        "import sys, experiments.mnist, experiments.mnist_study; assert not {'jax', 'grain', 'numpy'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    for command in ("mnist", "mnist_study"):
        shown = subprocess.run(
            [sys.executable, "-m", f"experiments.{command}", "--help"], capture_output=True, text=True, check=True
        ).stdout
        assert shown.startswith(f"usage: python -m experiments.{command} ") and "--files" in shown
