"""The command's text and its JSON, and every message that it can end with."""

import functools
import json
import shutil
from pathlib import Path

import pytest

from jaxconv.analysis.evaluation import evaluate_source, read_split
from jaxconv.analysis.predictor import Predictor
from jaxconv.data import demo, mnist
from jaxconv.data.records import Splits, read_splits
from jaxconv.models import CatsDogsConvNet, DenseNet
from tests import commands, digits
from tests.made_runs import write_run
from tools import evaluate

fails = functools.partial(commands.fails, evaluate.main)


def prints(splits: Splits) -> dict[str, str]:
    return {name: split.fingerprint for name, split in splits._asdict().items()}


@pytest.fixture(scope="module")
def root(photos, tmp_path_factory):
    """A folder with the pictures in `photos` and a run of them in `run`, at 46x46."""
    root = tmp_path_factory.mktemp("root")
    shutil.copytree(photos, root / "photos")
    fingerprint = prints(read_splits(photos, (46, 46)))
    known = {"fingerprint": fingerprint, "path": "photos", "interpolation": "nearest"}
    write_run(root / "run", CatsDogsConvNet(), (46, 46, 3), ["cats", "dogs"], **known)
    return root


@pytest.fixture
def here(root, monkeypatch):
    monkeypatch.chdir(root)


def said(capsys, *arguments) -> list[str]:
    """The lines that the command prints."""
    capsys.readouterr()
    evaluate.main([*map(str, arguments)])
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("epoch", [1, 2])
def test_the_json_file_has_the_scores_of_the_split_and_the_epoch(here, tmp_path, epoch, capsys):
    path, which = tmp_path / "scores.json", {1: "best", 2: "last"}[epoch]
    net = Predictor("run", best=epoch == 1)
    for split, count in (("train", 6), ("validation", 5), ("test", 3)):
        lines = said(capsys, "run", "--epoch", which, "--split", split, "--json", path)
        assert lines[0] == f"run, epoch {epoch}: {count} {split} pictures of photos"
        scores = evaluate_source(net, read_split(net, None, split)[0], worst=5)
        assert json.loads(path.read_text()) == {
            "run": "run",
            "epoch": epoch,
            "data": "photos",
            "split": split,
            "pictures": count,
            "class_names": ["cats", "dogs"],
            "scores": evaluate._for_json(scores),
        }


def test_mirror_images_are_averaged_and_shown_apart(here, tmp_path, capsys):
    lines = said(capsys, "run", "--flip", "--json", tmp_path / "scores.json")
    assert lines.index("as they are:") < lines.index("averaged with their mirror images:")
    assert sum(line.startswith("accuracy ") for line in lines) == 2
    found, net = json.loads((tmp_path / "scores.json").read_text()), Predictor("run")
    test, _ = read_split(net, None, "test")
    assert found["scores"] == evaluate._for_json(evaluate_source(net, test, worst=5))
    assert found["scores_flipped"] == evaluate._for_json(evaluate_source(net, test, ("plain", "mirrored"), worst=5))
    assert found["scores"]["loss"] != found["scores_flipped"]["loss"]


def test_scores_are_lines_of_text_and_the_share_of_an_empty_set_is_none():
    """Of a net that finds everything a dog."""
    mistake = {"file": "cats/cat\n0.png", "label": "cats", "prediction": "dogs", "confidence": 0.88079}
    found = {
        "accuracy": 1 / 3,
        "accuracy_interval": (0.0615, 0.7923),
        "mean_recall": 0.5,
        "loss": 1.46,
        "auc": 0.5,
        "brier_score": 0.25,
    }
    found |= {"calibration_error": 0.125, "confusion": [[0, 2], [0, 1]], "recall": [0.0, 1.0]}
    found |= {"precision": [float("nan"), 1 / 3], "never_predicted": [0], "worst": [mistake]}
    assert list(evaluate.describe(found, ["cats", "dogs"])) == [
        "accuracy           0.3333  (95% interval 0.0615 to 0.7923)",
        "mean recall        0.5000",
        "loss               1.4600",
        "AUC                0.5000",
        "calibration error  0.1250",
        "Brier score        0.2500",
        "",
        "label \\ predicted  cats    dogs  recall",
        "cats                  0       2  0.0000",
        "dogs                  0       1  1.0000",
        "precision             -  0.3333",
        "never predicted: cats",
        "",
        "the most confident mistakes:",
        "cats/cat\\n0.png  0.8808  cats taken for dogs",
    ]
    assert evaluate._for_json(found)["precision"] == [None, pytest.approx(1 / 3)]


def test_digits_are_found_where_they_were_prepared(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    splits = mnist.read_mnist(Path("data"), digits.write(tmp_path / "files", monkeypatch))
    known = {"kind": "MNIST", "path": "data/mnist", "fingerprint": prints(splits)}
    write_run(Path("run"), DenseNet(), (28, 28, 1), list("0123456789"), **known)
    lines = said(capsys, "run", "--worst", 0)
    assert lines[0] == "run, epoch 2: 40 test pictures of data/mnist"  # the last, because the test would choose
    assert lines[9].split() == ["label", "\\", "predicted", *"0123456789", "recall"]
    assert lines[-2].startswith("precision ") and lines[-1].startswith("never predicted: ")
    for other in ("data", "files"):
        assert f"{other} is not MNIST as experiments.mnist prepares it" in fails(capsys, "run", "--data", other)


def test_drawn_pictures_are_found_where_they_were_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = demo.write(Path("data/demo"), counts={"train": 3, "validation": 2, "test": 2})
    known = {"kind": "drawn", "path": str(folder), "interpolation": "nearest"}
    known["fingerprint"] = prints(read_splits(folder, (46, 46)))
    write_run(Path("run"), CatsDogsConvNet(), (46, 46, 3), ["cats", "dogs"], **known)
    assert said(capsys, "run")[0] == "run, epoch 1: 4 test pictures of data/demo"


def test_pictures_that_moved_or_changed_are_not_taken_for_those_of_the_run(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    gone = "run/config.json has its pictures in photos, which does not exist here: name their folder with --data"
    assert gone in fails(capsys, root / "run")
    shutil.copytree(root / "photos", "photos")
    Path("photos/test/cats/cat.2.png").unlink()
    assert "photos no longer holds the test pictures that" in fails(capsys, root / "run")
    assert said(capsys, root / "run", "--data", "photos")[0].endswith(": 2 test pictures of photos")
    assert said(capsys, root / "run", "--split", "validation")[0].endswith(": 5 validation pictures of photos")


def test_other_classes_are_refused(here, photos, tmp_path, capsys):
    other = shutil.copytree(photos, tmp_path / "other")
    (other / "test/dogs").rename(other / "test/wolves")
    error = fails(capsys, "run", "--data", other)
    assert "test lacks 'dogs', which run has and has 'wolves', which run lacks: name a folder of the same" in error


def test_flags_that_make_no_sense_are_named(here, tmp_path, capsys):
    assert "--worst is -1: give a whole number from 0 on" in fails(capsys, "run", "--worst", -1)
    error = fails(capsys, "run", "--json", tmp_path / "nowhere/scores.json")
    assert "nowhere/scores.json cannot be written (No such file or directory): name another file" in error
    assert "has no folder train: name a folder of" in fails(capsys, "run", "--data", tmp_path)
