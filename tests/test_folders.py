"""The command for one's own pictures, end to end with three classes and with two, and what it can end with."""

import functools
import json
from pathlib import Path

import commands
import numpy as np
import pytest
from PIL import Image

from experiments import folders

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


fails = functools.partial(commands.fails, folders.main)


def test_three_classes_have_a_logit_each(shades, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders.main(["--data", str(shades), "--aug", "--dropout", *SHORT])
    assert "epoch 2/2  loss " in capsys.readouterr().out
    workdir = Path("runs/folders-shades-aug-dropout-46-seed0")
    config, result = (json.loads((workdir / f"{name}.json").read_text()) for name in ("config", "result"))
    assert (config["class_names"], config["image_shape"]) == (["black", "grey", "white"], [46, 46, 3])
    assert (config["model"]["classes"], config["data"]["counts"]["train"]) == (3, 24)
    assert np.sum(result["last"]["test_confusion"], axis=1).tolist() == [2, 2, 2]
    assert {"accuracy.png", "loss.png", "augmented.png"} <= {path.name for path in (workdir / "figures").iterdir()}
    assert "holds a run: continue it with --resume" in fails(capsys, "--data", shades, "--aug", "--dropout", *SHORT)


@pytest.mark.usefixtures("undrawn")
def test_the_loss_of_the_first_steps_is_that_of_guessing(shades, tmp_path, monkeypatch):
    """The logarithm of the number of classes."""
    monkeypatch.chdir(tmp_path)
    folders.main(["--data", str(shades), *SHORT, "--learning-rate", "1e-9", "--epochs", "1"])
    (line,) = (tmp_path / "runs/folders-shades-plain-46-seed0/metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["val_loss"] == pytest.approx(np.log(3), abs=0.1)


@pytest.mark.parametrize(
    "config, variant",
    [
        (folders.Config(True, False, "a", folders.book(True, False), 150), "aug"),
        (folders.Config(False, True, "a", folders.book(True, False), 96), "dropout-96"),
        (folders.Config(False, False, "a", folders.book(False, False), 150, "bfloat16"), "plain-bfloat16"),
    ],
)
def test_variants_have_names(config, variant):
    assert config.variant == variant


def test_the_summary_counts_the_classes(shades, capsys):
    folders.main(["--data", str(shades), "--summary"])
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()[-3::2]] == ["1,539", "3,454,147"]


def test_what_is_wrong_is_named(shades, tmp_path, capsys):
    assert f"python -m tools.split_folders --source {shades / 'train'} --dest {shades / 'train'}-split" in fails(
        capsys, "--data", shades / "train"
    )
    assert "--data nowhere has no folder train" in fails(capsys, "--data", "nowhere")
    assert "--image-size is 45: this net needs 46 pixels or more" in fails(capsys, "--data", shades, "--image-size", 45)
