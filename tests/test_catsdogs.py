"""The command, end to end on tiny pictures, and every message it can end with."""

import dataclasses
import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import commands
import filelock
import pytest
from nets import SmallNet

from experiments import catsdogs, command, folders, mnist, mnist_study
from experiments.folders import Config
from jaxconv import demo, machine
from tools import evaluate, predict

SHORT = ["--epochs", "2", "--steps-per-epoch", "2", "--batch-size", "4"]

fails = functools.partial(commands.fails, catsdogs.main)


def test_the_book_s_numbers():
    plain, augmented = folders.book(False, False), folders.book(True, True)
    assert (plain.batch_size, plain.steps_per_epoch, plain.epochs, plain.learning_rate) == (20, 100, 30, 1e-4)
    assert (augmented.batch_size, augmented.steps_per_epoch, augmented.epochs) == (32, 100, 100)
    assert folders.book(True, False) == folders.book(False, True) == augmented


@pytest.mark.parametrize(
    "aug, dropout, data, variant",
    [
        (False, False, "photos", "plain"),
        (True, False, "photos", "aug"),
        (False, True, "demo", "demo-dropout"),
        (True, True, "demo", "demo-aug-dropout"),
        (False, False, "demo", "demo-plain"),
    ],
)
def test_variants_have_names(aug, dropout, data, variant):
    config = Config(aug, dropout, data, folders.book(aug, dropout), 150)
    assert catsdogs.variant(config) == variant
    assert catsdogs.variant(dataclasses.replace(config, dtype="bfloat16")) == f"{variant}-bfloat16"


def test_a_run_of_everything_then_resumed(photos, tmp_path, capsys):
    workdir = tmp_path / "run"
    command = ["--aug", "--dropout", "--data", str(photos), "--workdir", str(workdir), *SHORT]
    catsdogs.main(command)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("epoch 1/2  loss ") and lines[1].startswith("epoch 2/2  loss ")
    assert lines[2].startswith("last epoch: epoch 2  val_acc ")
    tools = [f"  python -m tools.{what}" for what in (f"predict {workdir} PICTURE", f"evaluate {workdir}")]
    assert lines[-4:] == [f"saved in {workdir}", *tools, f"  python -m tools.report {workdir}"]
    drawn = {path.stem for path in (workdir / "figures").iterdir()}
    assert drawn == {"accuracy", "loss", "augmented", "confusion", "predictions"}
    config = json.loads((workdir / "config.json").read_text())
    assert (config["variant"], config["batch_size"], config["parameters"]) == ("aug-dropout", 4, 3_453_121)
    assert config["class_names"] == ["cats", "dogs"]
    assert (config["data"]["kind"], config["data"]["counts"]) == ("photos", {"train": 6, "validation": 5, "test": 3})
    assert "holds a run: continue it with --resume" in fails(capsys, *command)
    assert config["model"]["dtype"] == "float32"
    assert 'has model.dtype="float32", but now it is "bfloat16"' in fails(
        capsys, *command, "--resume", "--dtype", "bfloat16"
    )
    assert "holds a run of one seed: name another directory" in fails(capsys, *command, "--resume", "--seeds", 2)
    assert "has seed=0, but now it is 1" in fails(capsys, *command, "--resume", "--seed", 1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").touch()
    assert "holds other files: name a new" in fails(capsys, *command, "--seeds", 2, "--workdir", tmp_path / "mine")
    catsdogs.main([*command, "--resume"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "all 2 epochs are trained already: --epochs makes a run longer"
    catsdogs.main([*command, "--resume", "--epochs", "3"])
    assert capsys.readouterr().out.startswith("going on after step 4 (epoch 2.00)\nepoch 3/3  loss ")


def test_the_closing_lines_name_what_is_not_yet_said(capsys):
    numbers = {"val_acc": 0.5, "test_acc": 0.4}
    result = {"last": {"epoch": 9} | numbers, "best": {"epoch": 7} | numbers, "val_acc_mean_last_10": 0.45}
    command.print_result(result | {"highest_val_acc": {"epoch": 8, "val_acc": 0.6}}, Path("my run"))
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "last epoch: epoch 9  val_acc 0.5000  test_acc 0.4000",
        "lowest val_loss: epoch 7  val_acc 0.5000  test_acc 0.4000",
        "val_acc, mean of the last 9 epochs: 0.4500",
        "highest val_acc: epoch 8  0.6000",
        "saved in my run",
        "  python -m tools.predict 'my run' PICTURE",
        "  python -m tools.evaluate 'my run'",
        "  python -m tools.report 'my run'",
    ]
    command.print_result(result | {"highest_val_acc": {"epoch": 7, "val_acc": 0.5}}, Path("my run"))
    assert capsys.readouterr().out.splitlines() == [line for line in lines if not line.startswith("highest")]


@pytest.mark.usefixtures("undrawn")
def test_choices_of_training_are_recorded_and_stay(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(folders, "net", lambda config, classes: SmallNet())
    workdir = tmp_path / "run"
    command = ["--data", str(photos), "--workdir", str(workdir), "--steps-per-epoch", "2", "--epochs", "5"]
    chosen = ["--patience", "1", "--ema", "0.5", "--schedule", "plateau", "--learning-rate", "1e-12"]
    catsdogs.main([*command, *chosen])
    lines = capsys.readouterr().out.splitlines()
    ended, said = sum(line.startswith("epoch ") for line in lines), "out of patience: val_loss has not fallen since"
    assert any(line.startswith(said) for line in lines)
    config = json.loads((workdir / "config.json").read_text())
    assert [config[name] for name in ("patience", "ema", "schedule", "tensorboard")] == [1, 0.5, "plateau", False]
    assert not (workdir / "tensorboard").exists()
    assert json.loads((workdir / "result.json").read_text())["last"]["epoch"] == ended < 5
    refused = fails(capsys, *command, *chosen, "--patience", 2, "--ema", "0.6", "--schedule", "constant", "--resume")
    for change in ("patience=1, but now it is 2", "ema=0.5, but now it is 0.6", 'schedule="plateau", but now it is'):
        assert change in refused
    catsdogs.main([*command, *chosen, "--epochs", "9", "--resume", "--tensorboard"])
    assert capsys.readouterr().out.startswith(said)
    (events,) = (workdir / "tensorboard").iterdir()
    assert b"val_loss" in events.read_bytes()


@pytest.mark.usefixtures("undrawn")
def test_demo_pictures_say_that_they_are_drawn(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = functools.partial(demo.write, counts={"train": 3, "validation": 2, "test": 2})
    monkeypatch.setattr(demo, "write", few)
    monkeypatch.setattr(folders, "net", lambda config, classes: SmallNet())
    catsdogs.main(["--data", "demo", *SHORT])
    assert "these are drawn pictures, kept in data/demo, not photos" in capsys.readouterr().out
    config = json.loads((tmp_path / "runs/catsdogs-demo-plain-seed0/config.json").read_text())
    assert (config["data"]["kind"], config["variant"]) == ("drawn", "demo-plain")


def test_the_summary_needs_no_data(capsys):
    catsdogs.main(["--summary", "--dropout"])
    assert capsys.readouterr().out.splitlines()[-1].split() == ["total", "3,453,121"]


def test_missing_data_names_the_three_ways_on(capsys):
    error = fails(capsys, "--data", "nowhere")
    assert "--data nowhere does not exist" in error
    for way in ("split_catsdogs --source train.zip --dest nowhere", "--download --dest nowhere", "--data demo"):
        assert way in error


def test_other_classes_than_two_are_refused(photos, tmp_path, capsys):
    copy = shutil.copytree(photos, tmp_path / "three")
    for split in copy.iterdir():
        shutil.copytree(split / "cats", split / "wolves")
    assert "has the classes cats, dogs, wolves: this net tells two apart" in fails(capsys, "--data", copy)


def test_a_broken_picture_ends_the_command_before_it_leaves_anything(photos, tmp_path, capsys):
    copy = shutil.copytree(photos, tmp_path / "copy")
    (copy / "validation/dogs/dog.1.png").write_bytes(b"")
    assert "dog.1.png is empty" in fails(capsys, "--data", copy, "--workdir", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "flag, value",
    [
        ("--epochs", 0),
        ("--batch-size", -2),
        ("--seed", -1),
        ("--learning-rate", 0),
        ("--seeds", 1),
        ("--patience", 0),
        ("--ema", 1),
    ],
)
def test_wrong_numbers_are_named(capsys, flag, value):
    assert f"error: {flag} is " in fails(capsys, flag, value)


@pytest.mark.usefixtures("undrawn")
def test_several_seeds_change_together_or_not_at_all(photos, tmp_path, capsys, monkeypatch):
    """One of them is in use, so that none is made longer; a part of a result is no foreign file."""
    monkeypatch.setattr(folders, "net", lambda config, classes: SmallNet())
    command = ["--data", str(photos), "--workdir", str(tmp_path), "--seeds", "2", *SHORT]
    catsdogs.main(command)
    (tmp_path / "result.part").touch()
    before = (tmp_path / "seed0/config.json").read_text()
    with filelock.FileLock(tmp_path / "seed1/.lock"):
        assert "seed1 is in use by another process" in fails(capsys, *command, "--resume", "--epochs", 3)
    assert (tmp_path / "seed0/config.json").read_text() == before
    catsdogs.main([*command, "--resume", "--epochs", "3"])
    assert json.loads((tmp_path / "seed1/config.json").read_text())["epochs"] == 3


def test_what_is_not_the_run_directory_s_is_not_blamed_on_it(photos, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(28, "No space left on device", "/dev/full")

    monkeypatch.setattr("jaxconv.fit.fit", fail)
    with pytest.raises(OSError, match="/dev/full"):
        catsdogs.main(["--data", str(photos), "--workdir", str(tmp_path / "run"), *SHORT])


@pytest.mark.parametrize("main", [catsdogs.main, mnist.main, mnist_study.main, evaluate.main, predict.main])
def test_freed_memory_is_kept_unless_a_flag_says_otherwise(main, tmp_path, monkeypatch, capsys):
    """It comes before all else, so that any mistake after it will do here."""
    kept = []
    monkeypatch.setattr(machine, "keep_freed_memory", lambda: kept.append(1))
    wrong = {catsdogs.main: ["--data", "nowhere"], mnist.main: ["--seeds", "1"], mnist_study.main: ["--seeds", "0"]}
    arguments = wrong.get(main, [str(tmp_path), *["picture.png"] * (main is predict.main)])
    for flags in ([], ["--low-memory"]):
        with pytest.raises(SystemExit):
            main([*arguments, *flags])
        assert "unrecognized" not in capsys.readouterr().err
    assert kept == [1]


def test_a_mistyped_flag_is_one_line(capsys):
    assert fails(capsys, "--epoch-count", 3) == (
        "error: unrecognized arguments: --epoch-count 3: --help lists the flags\n"
    )


def test_help_and_mistakes_need_no_jax():
    """That is what makes them quick."""
    code = "import sys, experiments.catsdogs; assert not {'jax', 'grain', 'numpy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
    shown = subprocess.run(
        [sys.executable, "-m", "experiments.catsdogs", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert shown.startswith("usage: python -m experiments.catsdogs ")
    assert "--aug" in shown and "python -m experiments.catsdogs --data demo" in shown
