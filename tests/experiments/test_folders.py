"""The command for one's own pictures, end to end with three classes, and every message that it can end with."""

import json
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest
from PIL import Image

from experiments import folders, photos, recipes
from jaxconv.analysis.predictor import Predictor
from jaxconv.models import CatsDogsConvNet, Flatten, registry
from jaxconv.models.layers import Dense
from jaxconv.runs.history import read_rows
from tests.commands import fails
from tests.nets import PretrainedNet
from tools import evaluate, report


class Softmax(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, images, *, train):
        return Dense(self.classes)(Flatten()(images))


SHORT = ["--epochs", "2", "--steps-per-epoch", "2", "--batch-size", "6", "--image-size", "46"]


@pytest.fixture(scope="module")
def shades(tmp_path_factory) -> Path:
    """Noise in three shades, a class each."""
    root, rng = tmp_path_factory.mktemp("data") / "shades", np.random.default_rng(0)
    for split, count in {"train": 8, "validation": 3, "test": 2}.items():
        for shade, name in enumerate(("black", "grey", "white")):
            for number in range(count):
                image = rng.integers(0, 60, (50, 50, 3), dtype=np.uint8) + np.uint8(95 * shade)
                (root / split / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(root / split / name / f"{number}.png")
    return root


def test_the_net_has_the_dropout_and_the_classes_of_the_run():
    assert photos.net(True, "float32", 3) == CatsDogsConvNet(dropout=0.5, dtype="float32", classes=3)
    assert photos.net(False, "bfloat16", 2) == CatsDogsConvNet(dropout=0.0, dtype="bfloat16", classes=2)


def test_three_classes_have_a_logit_each(shades, tmp_path, capsys, monkeypatch):
    """A net of one layer compiles in no time."""
    nets = []
    monkeypatch.setattr(photos, "net", lambda dropout, dtype, classes: nets.append(classes) or Softmax(classes))
    monkeypatch.chdir(tmp_path)
    command = ["--data", str(shades), "--recipe", "book", "--aug", "--dropout", "--learning-rate", "1e-9", *SHORT]
    folders.main(command)
    assert "epoch 2/2  loss " in capsys.readouterr().out
    workdir = Path("runs/folders-shades-book-aug-dropout-46px-batch6-steps2-lr1e-09-seed0")
    config, result = (json.loads((workdir / f"{name}.json").read_text()) for name in ("config", "result"))
    data = config["data"]
    assert (data["class_names"], data["image_shape"]) == (["black", "grey", "white"], [46, 46, 3])
    assert (nets[0], data["counts"]["train"], data["kind"]) == (3, 24, "photos")
    assert config["experiment"] == "folders-shades"
    assert np.sum(result["last"]["test_confusion"], axis=1).tolist() == [2, 2, 2]
    assert {"accuracy.png", "loss.png", "augmented.png"} <= {path.name for path in (workdir / "figures").iterdir()}
    # Nearly nothing is learnt, so the loss is nearly that of guessing: the logarithm of the number of classes.
    assert [row["val_loss"] for row in read_rows(workdir)] == 2 * [pytest.approx(np.log(3), abs=0.2)]
    error = fails(folders.main, capsys, *command)
    assert "already contains this run: add --resume" in error


@pytest.mark.parametrize(
    "flags, variant",
    [
        ("", "aug-dropout"),
        ("--no-aug", "dropout"),
        ("--no-dropout --image-size 96", "aug-96px"),
        ("--dtype bfloat16 --flip --class-weights balanced", "aug-dropout-bfloat16-flip-balanced"),
        ("--image-size 96 --learning-rate 0.01 --epochs 3", "aug-dropout-96px-lr0.01-epochs3"),
        ("--recipe book --aug", "book-aug"),
        ("--recipe book --image-size 96 --learning-rate 0.01 --epochs 3", "book-plain-96px-lr0.01"),
    ],
)
def test_variants_have_names(flags, variant):
    parser = photos.parser("experiments.folders", "", recipe="folders")
    parser.add_argument("--image-size", type=int, default=150)
    arguments = parser.parse_args(flags.split())
    assert photos.choose(arguments, arguments.image_size).variant == variant


def test_the_summary_counts_the_classes(shades, capsys):
    folders.main(["--data", str(shades), "--summary"])
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()[-3::2]] == ["1,539", "3,454,147"]


def test_the_recipe_for_folders_mirrors_nothing():
    """A mirrored hand or digit can be another one."""
    training, dropout = recipes.recipe("folders")
    assert (training.optimizer.schedule, training.steps_per_epoch, dropout) == ("cosine", None, True)
    assert training.augmentation and not training.augmentation.flip
    training, dropout = recipes.recipe("folders", aug=False, dropout=False)
    assert (training.augmentation, dropout) == (None, False)


@pytest.fixture
def quick(monkeypatch, undrawn):
    """A net of one layer, and no curves."""
    monkeypatch.setattr(photos, "net", lambda dropout, dtype, classes: Softmax(classes))


def test_a_set_of_other_names_without_test_pictures_is_trained_validated_and_used(
    shades, tmp_path, capsys, monkeypatch, quick
):
    """Nothing speaks of test pictures: neither the log, nor the result, nor the tools."""
    monkeypatch.chdir(tmp_path)
    for split, name in {"train": "Train", "validation": "val"}.items():
        shutil.copytree(shades / split, tmp_path / "set" / name)
    (tmp_path / "set/Train/Thumbs.db").touch()
    command = ["--data", "set", "--workdir", "run", "--no-dropout", "--class-weights", "balanced", *SHORT]
    folders.main(command)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "set: Train is taken for train; val is taken for validation",
        "set: no folder test: the results are those of the validation pictures",
        "24 pictures of 3 classes in train: 8 black, 8 grey, 8 white; passed over 1 other file (1 .db)",
        "9 pictures of 3 classes in validation: 3 black, 3 grey, 3 white",
    ]
    assert lines[4].startswith("for photos, python -m experiments.transfer --data set is better")
    assert lines[7].startswith("last epoch: epoch 2  val_acc ") and not any("test_acc" in line for line in lines)
    assert "baseline (always 'black'): val_acc 0.3333" in lines
    result = json.loads(Path("run/result.json").read_text())
    assert not any(name.startswith("test") for name in result["last"]) and np.sum(result["last"]["val_confusion"]) == 9
    config = json.loads(Path("run/config.json").read_text())
    assert config["training"]["class_weights"] == "balanced" and [*config["data"]["counts"]] == ["train", "validation"]
    evaluate.main(["run", "--model", "tests.experiments.test_folders:Softmax"])
    assert capsys.readouterr().out.startswith("run, epoch 2: 9 validation pictures of set")
    report.main(["run", "--model", "tests.experiments.test_folders:Softmax"])
    assert "of 9 validation pictures" in Path("run/report.html").read_text()
    (tmp_path / "set").rename("renamed")
    folders.main(["--data", "renamed", *command[2:], "--resume", "--epochs", "2"])
    assert "epoch 2 of 2 is already trained" in capsys.readouterr().out


def test_a_run_begins_with_the_weights_of_another(shades, tmp_path, capsys, monkeypatch, undrawn):
    """With a learning rate of next to nothing, it ends with them too."""
    monkeypatch.setattr(photos, "net", lambda dropout, dtype, classes: PretrainedNet(classes))
    monkeypatch.setattr(registry, "MODELS", registry.MODELS | {"PretrainedNet": PretrainedNet})
    monkeypatch.chdir(tmp_path)
    folders.main(["--data", str(shades), "--workdir", "first", *SHORT])
    flags = ["--data", str(shades), "--init-from", "first", "--learning-rate", "1e-9"]
    folders.main([*flags, "--workdir", "second", *SHORT])
    first, second = (Predictor(run, best=run == "first").state.params for run in ("first", "second"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), first, second)
    config = json.loads(Path("second/config.json").read_text())
    assert config["transfer"]["weights"] == "first" and config["variant"].endswith("-from-first")
    assert "none is not a run directory" in fails(folders.main, capsys, "--data", shades, "--init-from", "none")


def test_a_set_without_validation_pictures_holds_some_out(shades, tmp_path, capsys, quick):
    for split in ("train", "test"):
        shutil.copytree(shades / split, tmp_path / "set" / split)
    folders.main(["--data", str(tmp_path / "set"), "--workdir", str(tmp_path / "run"), *SHORT])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        f"{tmp_path / 'set'}: no folder validation: one of 5 pictures of each class in train is held out; "
        "tools.split_folders would keep pictures that look alike together",
        "21 pictures of 3 classes in train: 7 black, 7 grey, 7 white",
        "3 pictures of 3 classes in validation: 1 black, 1 grey, 1 white",
        "6 pictures of 3 classes in test: 2 black, 2 grey, 2 white",
    ]


def test_what_is_wrong_is_named(shades, tmp_path, capsys):
    error = fails(folders.main, capsys, "--data", shades / "train")
    assert error.endswith(f"has no folder train: name {shades}, the folder that it lies in\n")
    data = shutil.copytree(shades / "train", tmp_path / "flat")
    error = fails(folders.main, capsys, "--data", data)
    assert f"python -m tools.split_folders --source {data} --dest {data}-split" in error
    assert "nowhere does not exist: name a" in fails(folders.main, capsys, "--data", "nowhere")
    error = fails(folders.main, capsys, "--data", shades, "--recipe", "book", "--no-flip")
    assert error == "error: --no-flip changes the augmentation: give --aug too\n"
    error = fails(folders.main, capsys, "--data", shades, "--rotation-deg", 200)
    assert error == "error: --rotation-deg is 200.0: give degrees from 0 to 180\n"
    for pixels, cure in ((45, "this net needs 46 pixels or more"), (4730, "give at most 4729 pixels")):
        error = fails(folders.main, capsys, "--data", shades, "--image-size", pixels)
        assert error == f"error: --image-size is {pixels}: {cure}\n"
    assert "the following arguments are required: --data" in fails(folders.main, capsys)
