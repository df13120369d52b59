"""The command, end to end on tiny pictures, and every message that it can end with."""

import functools
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import filelock
import flax.linen as nn
import pytest

from experiments import catsdogs, closing, mnist, mnist_study, recipes
from experiments import photos as chapter
from jaxconv.config import BOOK_AUGMENTATION
from jaxconv.data import demo
from jaxconv.data.records import read_splits
from jaxconv.models import Flatten
from jaxconv.models.layers import Dense
from jaxconv.runs import history
from jaxconv.runtime import machine
from tests.commands import fails
from tools import evaluate, predict

SHORT = ["--epochs", "2", "--steps-per-epoch", "2", "--batch-size", "4"]


class OneLayer(nn.Module):
    """A net that compiles in no time."""

    @nn.compact
    def __call__(self, images, *, train):
        return Dense(1)(Flatten()(images))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, undrawn) -> None:
    """A small net on small pictures, and no figures."""
    monkeypatch.setattr(chapter, "net", lambda dropout, dtype, classes: OneLayer())
    monkeypatch.setattr(chapter, "IMAGE_SIZE", 46)


def config_of(workdir: Path) -> dict:
    return json.loads((workdir / "config.json").read_text())


def test_the_book_s_settings():
    def book(aug, dropout):
        return recipes.recipe("book", aug, dropout).training

    plain, augmented = book(False, False), book(True, True)
    assert (plain.batch_size, plain.steps_per_epoch, plain.epochs, plain.optimizer.learning_rate) == (20, 100, 30, 1e-4)
    assert (augmented.batch_size, augmented.steps_per_epoch, augmented.epochs) == (32, 100, 100)
    assert (plain.augmentation, augmented.augmentation) == (None, BOOK_AUGMENTATION)
    assert book(True, None) == augmented
    assert vars_but(book(False, True), "augmentation") == vars_but(augmented, "augmentation")


def vars_but(setting, name: str) -> dict:
    return {field: getattr(setting, field) for field in setting.__struct_fields__ if field != name}


@pytest.fixture
def launched(photos, monkeypatch: pytest.MonkeyPatch):
    """The settings that the flags launch a run with; nothing is trained."""
    splits, found = read_splits(photos, (46, 46)), {}
    monkeypatch.setattr(catsdogs, "read", lambda data: splits)
    monkeypatch.setattr(catsdogs, "launch", lambda arguments, experiment: found.update(vars(experiment)))

    def settings(*flags: str) -> dict:
        catsdogs.main([*flags])
        return found

    return settings


@pytest.mark.parametrize(
    "flags, variant",
    [
        ("", "plain"),
        ("--aug", "aug"),
        ("--dropout --data demo", "demo-dropout"),
        ("--aug --dropout --data demo", "demo-aug-dropout"),
        ("--data demo", "demo-plain"),
        ("--dtype bfloat16", "plain-bfloat16"),
        ("--data demo --dropout --dtype bfloat16", "demo-dropout-bfloat16"),
        ("--aug --dropout --learning-rate 1e-3", "aug-dropout-lr0.001"),
        ("--batch-size 64 --steps-per-epoch 0 --learning-rate 1e-5", "plain-batch64-whole-passes-lr1e-05"),
        (
            "--steps-per-epoch 50 --ema 0.999 --patience 5 --schedule plateau",
            "plain-steps50-plateau-ema0.999-patience5",
        ),
        ("--schedule cosine --epochs 10", "plain-cosine-epochs10"),
        ("--learning-rate 1e-4 --schedule constant --batch-size 20", "plain"),
        ("--aug --no-flip --rotation-deg 10 --zoom 0.2", "aug-rotation10-no-flip"),
        ("--class-weights balanced", "plain-balanced"),
        ("--recipe folders", "folders-aug-dropout"),
        ("--recipe folders --no-aug --no-dropout --epochs 3", "folders-plain-epochs3"),
    ],
)
def test_a_run_is_named_by_its_changes_from_the_book(flags, variant, launched):
    assert launched(*flags.split())["variant"] == variant


@pytest.mark.parametrize("flags", ["--epochs 3", "--checkpoint-every 7", "--seed 3"])
def test_what_may_change_later_is_no_part_of_the_name(flags, launched):
    assert launched(*flags.split())["variant"] == "plain"


def test_the_book_s_result_is_quoted_for_the_book_s_run_alone(launched):
    assert launched()["book"] == "the book's run has val_acc 0.731 at best and 0.713 over its last 10 epochs"
    assert "0.846" in launched("--aug", "--dropout", "--seed", "3")["book"]
    for other in (["--epochs", "2"], ["--aug"], ["--data", "demo"], ["--batch-size", "32"], ["--dtype", "bfloat16"]):
        assert launched(*other)["book"] is None


def test_a_run_of_everything(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["--aug", "--dropout", "--learning-rate", "1e-8", "--data", str(photos), *SHORT]
    catsdogs.main(command)
    workdir = Path("runs/catsdogs-aug-dropout-batch4-steps2-lr1e-08-seed0")
    found, lines = (lines := capsys.readouterr().out.splitlines())[:3], lines[3:]
    assert found == [
        "6 pictures of 2 classes in train: 3 cats, 3 dogs",
        "5 pictures of 2 classes in validation: 3 cats, 2 dogs",
        "3 pictures of 2 classes in test: 2 cats, 1 dogs",
    ]
    assert lines[0].startswith("epoch 1/2  loss ") and lines[1].startswith("epoch 2/2  loss ")
    assert lines[2].startswith("last epoch: epoch 2  val_acc ")
    assert "baseline (always 'cats'): test_acc 0.6667" in lines
    tools = [f"  python -m tools.{what}" for what in (f"predict {workdir} PICTURE", f"evaluate {workdir}")]
    assert lines[-4:] == [f"saved in {workdir}", *tools, f"  python -m tools.report {workdir}"]
    # Nearly nothing is learnt, so the loss is that of guessing: the logarithm of the number of classes.
    assert [row["val_loss"] for row in history.read_rows(workdir)] == 2 * [pytest.approx(math.log(2), abs=0.1)]
    drawn = {path.stem for path in (workdir / "figures").iterdir()}
    assert drawn == {"accuracy", "loss", "augmented", "confusion", "predictions"}
    config = config_of(workdir)
    assert (config["variant"], config["training"]["batch_size"]) == ("aug-dropout-batch4-steps2-lr1e-08", 4)
    assert config["model"] == {
        "name": "CatsDogsConvNet",
        "options": {"dropout": 0.5, "dtype": "float32", "classes": 2},
        "parameters": 3_453_121,
    }
    data = config["data"]
    assert (data["class_names"], data["image_shape"]) == (["cats", "dogs"], [150, 150, 3])
    assert (data["kind"], data["counts"]) == ("photos", {"train": 6, "validation": 5, "test": 3})
    assert f"--workdir {workdir} already contains this run: add --resume" in fails(catsdogs.main, capsys, *command)
    refused = fails(catsdogs.main, capsys, *command, "--workdir", workdir, "--resume", "--dtype", "bfloat16")
    assert "model.options.dtype=float32, but now it is bfloat16" in refused


def test_a_run_is_resumed_and_a_directory_that_is_not_free_is_refused(photos, tmp_path, capsys, small):
    """The message names the settings that differ, with --resume or without. The next commands can be pasted."""
    workdir = tmp_path / "my run"
    command = ["--data", str(photos), "--workdir", str(workdir), *SHORT]
    catsdogs.main(command)
    assert capsys.readouterr().out.splitlines()[-4:] == [
        f"saved in {workdir}",
        f"  python -m tools.predict '{workdir}' PICTURE",
        f"  python -m tools.evaluate '{workdir}'",
        f"  python -m tools.report '{workdir}'",
    ]
    refused = functools.partial(fails, catsdogs.main, capsys, *command)
    cure = "add --resume (in Python, resume=True) to continue it, or choose another --workdir"
    assert refused() == f"error: --workdir {workdir} already contains this run: {cure}\n"
    holds, rate = f"error: --workdir {workdir} holds a run with ", "learning_rate=0.0001, but now it is 0.01"
    error = refused("--learning-rate", 0.01)
    assert error.startswith(holds) and f"training.optimizer.{rate}" in error and error.endswith(": choose another\n")
    error = refused("--learning-rate", 0.01, "--seed", 1, "--resume")
    assert error.startswith(f"{holds}seed=0, but now it is 1; training.optimizer.{rate}")
    assert error.endswith(": resume with the old settings and pictures, or choose another --workdir\n")
    assert "training.epochs=2, but now it is 1, and a run is only made longer" in refused("--epochs", 1, "--resume")
    assert "holds a run of one seed: name another directory" in refused("--resume", "--seeds", 2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").touch()
    for more in ([], ["--seeds", 2]):
        assert "holds other files: name a new directory" in refused(*more, "--workdir", tmp_path / "mine")
    catsdogs.main([*command, "--resume"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[3] == "epoch 2 of 2 is already trained: give more --epochs to train longer"
    catsdogs.main([*command, "--resume", "--epochs", "3"])
    assert "\nresuming after step 4 (epoch 2 of 3)\nepoch 3/3  loss " in capsys.readouterr().out


def test_steps_per_epoch_0_takes_every_picture_once(photos, tmp_path, capsys, monkeypatch, small):
    """Six pictures make a batch of four and one of two."""
    monkeypatch.chdir(tmp_path)
    catsdogs.main(["--data", str(photos), "--epochs", "2", "--batch-size", "4", "--steps-per-epoch", "0"])
    workdir = Path("runs/catsdogs-plain-batch4-whole-passes-seed0")
    assert config_of(workdir)["training"]["steps_per_epoch"] is None
    rows = history.read_rows(workdir)
    assert [row["step"] for row in rows] == [2, 4]
    assert [6 * row["acc"] for row in rows] == [pytest.approx(round(6 * row["acc"])) for row in rows]


def scores(epoch: int, val_acc: float, test_acc: float) -> history.EpochResult:
    return history.EpochResult(epoch, 0.6, val_acc, 0.7, test_acc, [[1, 1], [2, 2]])


def test_the_closing_lines_name_what_is_not_yet_said(capsys):
    last, best = scores(9, 0.5, 0.4), scores(7, 0.5, 0.3)
    closing.print_results(
        [history.Result(0.45, last, best, history.Highest(8, 0.6))], ["cats", "dogs"], "the book's run has 0.7"
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "last epoch: epoch 9  val_acc 0.5000  test_acc 0.4000  mean recall 0.5000",
        "lowest val_loss: epoch 7  val_acc 0.5000  test_acc 0.3000  mean recall 0.5000",
        "val_acc, mean of the last 9 epochs: 0.4500",
        "highest val_acc: epoch 8  0.6000",
        "baseline (always 'dogs'): test_acc 0.6667",
        "for comparison: the book's run has 0.7",
    ]
    closing.print_results([history.Result(0.45, last, best, history.Highest(7, 0.5))], ["cats", "dogs"], None)
    fewer = [line for line in lines if not line.startswith("highest") and "book" not in line]
    assert capsys.readouterr().out.splitlines() == fewer


def test_the_closing_lines_of_several_seeds(capsys):
    """Mean, sample standard deviation and range; of MNIST there is no best epoch."""
    results = [history.Result(0.5, scores(2, 0.5, 0.4)), history.Result(0.7, scores(2, 0.7, 0.8))]
    closing.print_results(results, ["cats", "dogs"], None)
    assert capsys.readouterr().out.splitlines() == [
        "last epoch: epoch 2  val_acc 0.6000 ± 0.1414 (0.5000 to 0.7000)  test_acc 0.6000 ± 0.2828 (0.4000 to 0.8000)  "
        "mean recall 0.5000 ± 0.0000 (0.5000 to 0.5000)",
        "val_acc, mean of the last 2 epochs: 0.6000 ± 0.1414 (0.5000 to 0.7000)",
        "baseline (always 'dogs'): test_acc 0.6667",
    ]


def test_a_class_that_no_seed_predicts_is_named(capsys):
    """The dogs by the first, the wolves by none. The mean recall is left out if the classes are equal."""

    def result(*rows):
        return history.Result(0.5, history.EpochResult(1, 0.6, 0.5, val_confusion=[*rows]))

    seeds = [result([2, 0, 0], [2, 0, 0], [2, 0, 0]), result([0, 2, 0], [0, 2, 0], [2, 0, 0])]
    closing.print_results(seeds, ["cats", "dogs", "wolves"], None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "last epoch: epoch 1  val_acc 0.5000 ± 0.0000 (0.5000 to 0.5000)"
    assert lines[1:] == ["baseline (always 'cats'): val_acc 0.3333", "never predicted: wolves"]


def test_epochs_of_several_seeds_are_a_range(capsys):
    """The highest val_acc is printed if it is news of any seed."""
    seeds = [
        history.Result(0.4, scores(3, 0.4, 0.4), scores(1, 0.5, 0.3), history.Highest(1, 0.5)),
        history.Result(0.4, scores(2, 0.4, 0.4), scores(1, 0.4, 0.3), history.Highest(2, 0.4)),
        history.Result(0.4, scores(12, 0.4, 0.4), scores(1, 0.4, 0.3), history.Highest(2, 0.6)),
    ]
    for results in (seeds, seeds[::-1]):
        closing.print_results(results, ["cats", "dogs"], None)
        epochs = [line.partition("  ")[0] for line in capsys.readouterr().out.splitlines()]
        averaged = "val_acc, mean of the last 2 to 10 epochs: 0.4000 ± 0.0000 (0.4000 to 0.4000)"
        assert epochs[:3] == ["last epoch: epochs 2 to 12", "lowest val_loss: epoch 1", averaged]
        assert epochs[3:4] == ["highest val_acc: epochs 1 to 2"]
    closing.print_results(seeds[:2], ["cats", "dogs"], None)
    assert "highest" not in capsys.readouterr().out


def test_choices_of_training_are_recorded_and_stay(photos, tmp_path, capsys, small):
    workdir = tmp_path / "run"
    command = ["--data", str(photos), "--workdir", str(workdir), *SHORT, "--epochs", "5"]
    chosen = ["--patience", "1", "--ema", "0.5", "--schedule", "plateau", "--learning-rate", "1e-12"]
    catsdogs.main([*command, *chosen])
    lines = capsys.readouterr().out.splitlines()
    ended, said = sum(line.startswith("epoch ") for line in lines), "out of patience: val_loss has not fallen since"
    assert any(line.startswith(said) for line in lines)
    training = config_of(workdir)["training"]
    assert [training["patience"], training["ema"], training["optimizer"]["schedule"]] == [1, 0.5, "plateau"]
    assert history.read_result(workdir).last.epoch == ended < 5
    others = ["--patience", 2, "--ema", "0.6", "--schedule", "constant"]
    refused = fails(catsdogs.main, capsys, *command, *chosen, *others, "--resume")
    for change in ("patience=1, but now it is 2", "ema=0.5, but now it is 0.6", "schedule=plateau, but now it is"):
        assert f".{change}" in refused
    catsdogs.main([*command, *chosen, "--epochs", "9", "--resume"])
    output = capsys.readouterr().out
    assert said in output and "epoch 3/9" not in output


def test_demo_pictures_are_said_to_be_drawn(tmp_path, capsys, monkeypatch, small):
    monkeypatch.chdir(tmp_path)
    few = functools.partial(demo.write, counts={"train": 3, "validation": 2, "test": 2})
    monkeypatch.setattr(demo, "write", few)
    catsdogs.main(["--data", "demo", *SHORT])
    assert "the pictures are drawn, not photos; they are kept in data/demo" in capsys.readouterr().out
    config = config_of(tmp_path / "runs/catsdogs-demo-plain-batch4-steps2-seed0")
    assert (config["data"]["kind"], config["variant"]) == ("drawn", "demo-plain-batch4-steps2")


def test_the_summary_needs_no_data(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    catsdogs.main(["--summary", "--dropout"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split() == ["total", "3,453,121"]
    assert any(line.startswith("Dropout_0") for line in lines)
    assert not list(tmp_path.iterdir())


def test_missing_data_names_the_three_ways_on(capsys):
    error = fails(catsdogs.main, capsys, "--data", "nowhere")
    assert "--data nowhere does not exist" in error
    for way in ("split_catsdogs --source train.zip --dest nowhere", "--download --dest nowhere", "--data demo"):
        assert way in error


def test_an_archive_names_the_tool_that_reads_it(tmp_path, capsys):
    (tmp_path / "train.zip").touch()
    error = fails(catsdogs.main, capsys, "--data", tmp_path / "train.zip")
    cure = f"of an archive, make a folder (python -m tools.split_catsdogs --source {tmp_path / 'train.zip'} --dest DIR)"
    assert error == f"error: --data {tmp_path / 'train.zip'} is a file: {cure}\n"


def test_other_classes_than_two_are_refused(photos, tmp_path, capsys):
    copy = shutil.copytree(photos, tmp_path / "three")
    for split in copy.iterdir():
        shutil.copytree(split / "cats", split / "wolves")
    error = fails(catsdogs.main, capsys, "--data", copy)
    assert "has the classes cats, dogs, wolves, and this experiment takes two: " in error
    assert f"python -m experiments.folders --data {copy}" in error


def test_a_broken_picture_ends_the_command_before_it_leaves_anything(photos, tmp_path, capsys):
    copy = shutil.copytree(photos, tmp_path / "copy")
    (copy / "validation/dogs/dog.1.png").write_bytes(b"")
    error = fails(catsdogs.main, capsys, "--data", copy, "--workdir", tmp_path / "run")
    assert "dog.1.png is empty" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "flag, values",
    [
        ("--epochs", (0, -1, 10**7)),
        ("--batch-size", (0, -2)),
        ("--steps-per-epoch", (-1, 2**31)),
        ("--checkpoint-every", (0,)),
        ("--seed", (-1, 2**63)),
        ("--learning-rate", (0, -1e-3, "nan", 1e9)),
        ("--seeds", (1, 0)),
        ("--patience", (0,)),
        ("--ema", (1, 0, "nan")),
    ],
)
def test_wrong_numbers_are_named_as_flags(capsys, flag, values):
    for value in values:
        error = fails(catsdogs.main, capsys, f"{flag}={value}")
        named, _, cure = error.partition(": give ")
        assert float(named.removeprefix(f"error: {flag} is ")) == pytest.approx(float(value), nan_ok=True) and cure


@pytest.mark.parametrize("flag", ["--epochs", "--seed", "--learning-rate"])
def test_a_word_is_no_number(capsys, flag):
    error = fails(catsdogs.main, capsys, flag, "many")
    assert error.startswith(f"error: argument {flag}: invalid ") and error.endswith("--help lists the flags\n")


def test_several_seeds_change_together_or_not_at_all(photos, tmp_path, capsys, small):
    """One of them is in use, so none is made longer; the rest of an interrupted write is no foreign file."""
    command = ["--data", str(photos), "--workdir", str(tmp_path), "--seeds", "2", *SHORT]
    catsdogs.main(command)
    assert capsys.readouterr().out.splitlines()[3] == "seed 0"
    (tmp_path / ".result.json.0123456789abcdef.part").touch()
    before = (tmp_path / "seed0/config.json").read_text()
    with filelock.FileLock(tmp_path / "seed1/.lock"):
        error = fails(catsdogs.main, capsys, *command, "--resume", "--epochs", 3)
        assert "seed1 is in use by another process" in error
    assert (tmp_path / "seed0/config.json").read_text() == before
    catsdogs.main([*command, "--resume", "--epochs", "3"])
    assert capsys.readouterr().out.count("resuming after step 4 (epoch 2 of 3)\nepoch 3/3  loss ") == 2
    assert config_of(tmp_path / "seed1")["training"]["epochs"] == 3
    assert json.loads((tmp_path / "result.json").read_text())["mean"]["last"]["epoch"] == 3


def test_an_error_outside_of_the_run_directory_is_not_blamed_on_it(photos, tmp_path, monkeypatch, small):
    def fail(*arguments, **options):
        raise OSError(28, "No space left on device", "/dev/full")

    monkeypatch.setattr("jaxconv.loop.train", fail)
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
        assert "unrecognized" not in fails(main, capsys, *arguments, *flags)
    assert kept == [1]


@pytest.mark.parametrize("flags", ["--epoch-count 3", "--see 3", "--epoch 3", "--resum", "--tensorboard"])
def test_a_mistyped_or_shortened_flag_is_one_line(capsys, flags):
    error = fails(catsdogs.main, capsys, *flags.split())
    assert error == f"error: unrecognized arguments: {flags}: --help lists the flags\n"


def test_help_and_mistakes_need_no_jax():
    """That is what makes them quick."""
    code = "import sys, experiments.catsdogs; assert not {'jax', 'grain', 'numpy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
    shown = subprocess.run(
        [sys.executable, "-m", "experiments.catsdogs", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert shown.startswith("usage: python -m experiments.catsdogs ")
    assert "--aug" in shown and "python -m experiments.catsdogs --data demo" in shown
