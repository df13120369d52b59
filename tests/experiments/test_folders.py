"""The command for one's own pictures, end to end with three classes, and every message that it can end with."""

import json
from pathlib import Path

import flax.linen as nn
import numpy as np
import pytest
from PIL import Image

from experiments import folders, photos
from jaxconv.models import CatsDogsConvNet, Flatten
from jaxconv.models.layers import Dense
from jaxconv.runs.history import read_rows
from tests.commands import fails


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
    arguments = photos.parser("experiments.folders", "").parse_args(["--dropout"])
    assert photos.net(arguments, 3) == CatsDogsConvNet(dropout=0.5, dtype="float32", classes=3)
    arguments = photos.parser("experiments.folders", "").parse_args(["--aug", "--dtype", "bfloat16"])
    assert photos.net(arguments, 2) == CatsDogsConvNet(dropout=0.0, dtype="bfloat16", classes=2)


def test_three_classes_have_a_logit_each(shades, tmp_path, capsys, monkeypatch):
    """A net of one layer compiles in no time."""
    nets = []
    monkeypatch.setattr(photos, "net", lambda arguments, classes: nets.append(classes) or Softmax(classes))
    monkeypatch.chdir(tmp_path)
    command = ["--data", str(shades), "--aug", "--dropout", "--learning-rate", "1e-9", *SHORT]
    folders.main(command)
    assert "epoch 2/2  loss " in capsys.readouterr().out
    workdir = Path("runs/folders-shades-aug-dropout-46px-batch6-steps2-lr1e-09-seed0")
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
        ("--aug", "aug"),
        ("--dropout --image-size 96", "dropout-96px"),
        ("--dtype bfloat16", "plain-bfloat16"),
        ("--image-size 96 --learning-rate 0.01 --epochs 3", "plain-96px-lr0.01"),
    ],
)
def test_variants_have_names(flags, variant):
    parser = photos.parser("experiments.folders", "")
    parser.add_argument("--image-size", type=int, default=150)
    arguments = parser.parse_args(flags.split())
    assert photos.settings(arguments, arguments.image_size)[1] == variant


def test_the_summary_counts_the_classes(shades, capsys):
    folders.main(["--data", str(shades), "--summary"])
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()[-3::2]] == ["1,539", "3,454,147"]


def test_what_is_wrong_is_named(shades, capsys):
    data = shades / "train"
    error = fails(folders.main, capsys, "--data", data)
    assert f"python -m tools.split_folders --source {data} --dest {data}-split" in error
    assert "--data nowhere has no folder train" in fails(folders.main, capsys, "--data", "nowhere")
    for pixels, cure in ((45, "this net needs 46 pixels or more"), (4730, "give at most 4729 pixels")):
        error = fails(folders.main, capsys, "--data", shades, "--image-size", pixels)
        assert error == f"error: --image-size is {pixels}: {cure}\n"
    assert "the following arguments are required: --data" in fails(folders.main, capsys)
