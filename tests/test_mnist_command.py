"""The command, end to end on MNIST in small, and every message it can end with."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import commands
import digits
import pytest

from experiments import mnist
from jaxconv.errors import InputError
from jaxconv.models import DOWNSAMPLE
from tools import report


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return digits.write(tmp_path / "files", monkeypatch)


fails = functools.partial(commands.fails, mnist.main)


def test_the_book_s_numbers() -> None:
    book = mnist.BOOK
    assert (book.epochs, book.steps_per_epoch, book.batch_size, book.learning_rate) == (5, None, 64, 1e-3)
    assert (book.schedule, mnist.DOWNSAMPLE) == ("constant", DOWNSAMPLE)


def test_variants_have_names() -> None:
    configs = [mnist.Config(), mnist.Config(downsample="stride"), mnist.Config(model="dense", dtype="bfloat16")]
    assert [config.variant for config in configs] == ["convnet", "convnet-stride", "dense-bfloat16"]
    assert mnist.Config(downsample="max").variant == "convnet"
    with pytest.raises(InputError, match="--downsample is a choice of the convnet"):
        mnist.Config(model="dense", downsample="max")


@pytest.mark.parametrize("choice", [("--patience", 3), ("--schedule", "plateau")])
def test_nothing_is_chosen_by_the_test_digits(choice, files: Path, capsys) -> None:
    said = "--patience and --schedule plateau go by val_loss, which is here that of the test pictures: leave them out"
    assert said in fails(capsys, "--files", files, *choice)
    assert not Path("runs").exists()


def test_a_run_learns_the_digits_and_can_be_resumed(files: Path, capsys) -> None:
    command = ["--files", str(files), "--batch-size", "20"]
    mnist.main([*command, "--epochs", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "preparing MNIST in data/mnist/3.0.1"
    assert lines[2].startswith("epoch 2/2  loss ") and lines[3].startswith("last epoch: epoch 2  val_acc ")
    assert lines[4].startswith("val_acc, mean of the last 2 epochs: ")
    workdir = Path("runs/mnist-convnet-seed0")
    assert (lines[5], len(lines)) == (f"saved in {workdir}", 9)
    assert {path.stem for path in (workdir / "figures").iterdir()} == {"accuracy", "loss", "confusion", "predictions"}
    config, result = (json.loads((workdir / f"{name}.json").read_text()) for name in ("config", "result"))
    assert (config["experiment"], config["variant"], config["image_shape"]) == ("mnist", "convnet", [28, 28, 1])
    assert config["data"]["counts"] == {"train": 320, "validation": 40, "test": 40}
    assert (config["data"]["kind"], config["data"]["validation"]) == ("MNIST", "the test digits")
    assert result["last"]["test_acc"] > 0.9
    assert len(result["last"]["test_confusion"]) == 10
    assert "holds a run: continue it with --resume" in fails(capsys, *command)
    assert "epochs=2, but now it is 1, and a run is only made longer" in fails(
        capsys, *command, "--epochs", 1, "--resume"
    )
    mnist.main([*command, "--epochs", "3", "--resume"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"data/mnist/3.0.1 is there already: --files {files} is not read"
    assert lines[1] == "going on after step 32 (epoch 2.00)"
    assert lines[2].startswith("epoch 3/3  loss ")


@pytest.mark.usefixtures("undrawn")
def test_several_seeds_are_each_a_run_and_are_summed_up(files: Path, capsys) -> None:
    command = ["--files", str(files), "--model", "dense", "--batch-size", "20", "--seeds", "2"]
    mnist.main([*command, "--seed", "5", "--epochs", "2"])
    last = "last epoch: epoch 2  val_acc "
    lines = capsys.readouterr().out.splitlines()
    closing = [line for line in lines if line.startswith(last)]
    workdir = Path("runs/mnist-dense-seeds5-6")
    assert (lines[-4], lines[-2]) == (f"saved in {workdir}", f"  python -m tools.evaluate {workdir / 'seed5'}")
    assert {path.name for path in workdir.iterdir()} == {"seed5", "seed6", "result.json", "figures"}
    assert {path.name for path in (workdir / "figures").iterdir()} == {"accuracy.png", "loss.png"}
    result = json.loads((workdir / "result.json").read_text())
    found = [json.loads((workdir / f"seed{seed}/result.json").read_text())["last"]["test_acc"] for seed in (5, 6)]
    assert result["seeds"] == [5, 6] and min(found) > 0.9
    assert (result["min"]["last"]["test_acc"], result["max"]["last"]["test_acc"]) == (min(found), max(found))
    mean, std, low, high = (result[name]["last"]["val_acc"] for name in ("mean", "std", "min", "max"))
    assert closing[0].startswith(f"{last}{mean:.4f} ± {std:.4f} ({low:.4f} to {high:.4f})  test_acc ")
    assert [json.loads((workdir / f"seed{seed}/config.json").read_text())["seed"] for seed in (5, 6)] == [5, 6]
    assert "seed5 holds a run: continue it with --resume" in fails(capsys, *command, "--seed", 5)
    report.main([str(workdir)])
    page = (workdir / "report.html").read_text()
    assert "mnist dense: 2 seeds, mean, lowest to highest" in page.replace("\n", "")
    assert "of 40 test pictures of data/mnist." in page
    mnist.main([*command, "--seed", "5", "--epochs", "3", "--resume"])
    assert capsys.readouterr().out.count("epoch 3/3  loss ") == 2


@pytest.mark.usefixtures("undrawn")
def test_a_run_in_bfloat16_learns_the_digits(files: Path) -> None:
    mnist.main(["--files", str(files), "--dtype", "bfloat16", "--batch-size", "20", "--epochs", "2"])
    workdir = Path("runs/mnist-convnet-bfloat16-seed0")
    assert json.loads((workdir / "config.json").read_text())["model"]["dtype"] == "bfloat16"
    assert json.loads((workdir / "result.json").read_text())["last"]["test_acc"] > 0.9


@pytest.mark.usefixtures("undrawn")
def test_a_schedule_belongs_to_its_number_of_epochs(files: Path, capsys) -> None:
    command = ["--files", str(files), "--model", "dense", "--schedule", "cosine"]
    mnist.main([*command, "--epochs", "1"])
    error = fails(capsys, *command, "--epochs", 2, "--resume")
    assert 'has schedule="cosine over 1 epochs", but now it is "cosine over 2 epochs"' in error


@pytest.mark.parametrize("downsample, parameters", [(None, "93,322"), ("stride", "121,994"), ("none", "2,038,922")])
def test_the_summary_needs_no_data(downsample, parameters, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    mnist.main(["--summary", *(["--downsample", downsample] if downsample else [])])
    assert capsys.readouterr().out.splitlines()[-1].split() == ["total", parameters]
    assert not list(tmp_path.iterdir())


def test_missing_files_are_named_before_anything_is_made(capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert "nowhere/train-images-idx3-ubyte.gz is missing" in fails(capsys, "--files", "nowhere")
    assert not list(tmp_path.iterdir())


def test_a_dense_net_has_nothing_to_downsample(capsys) -> None:
    assert "--downsample is a choice of the convnet" in fails(capsys, "--model", "dense", "--downsample", "max")


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
