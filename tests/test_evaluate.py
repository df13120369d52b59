"""The command on small runs, against what training logged, and every message it can end with."""

import dataclasses
import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import commands
import digits
import numpy as np
import pytest
from sklearn.metrics import log_loss
from test_trained import write_run

from experiments import catsdogs, folders, mnist
from jaxconv import demo, trained
from jaxconv.models import CatsDogsConvNet
from jaxconv.records import read_splits
from tools import evaluate


@pytest.fixture(scope="module")
def root(photos, tmp_path_factory):
    """A folder with the pictures in `photos` and a run of them in `run`, of small pictures."""
    root = tmp_path_factory.mktemp("root")
    shutil.copytree(photos, root / "photos")
    short = ["--epochs", "2", "--steps-per-epoch", "2", "--batch-size", "4", "--learning-rate", "1e-3"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(folders, "IMAGE_SIZE", 46)
        catsdogs.main(["--data", "photos", "--workdir", "run", *short])
    return root


@pytest.fixture
def here(root, monkeypatch):
    monkeypatch.chdir(root)


def scores(path, *arguments, flipped=False):
    """What a command writes to its --json."""
    evaluate.main([*map(str, arguments), "--json", str(path)])
    return json.loads(path.read_text())["scores_flipped" if flipped else "scores"]


fails = functools.partial(commands.fails, evaluate.main)


@pytest.mark.parametrize("epoch", ["best", "last"])
def test_the_figures_are_those_that_training_logged(here, tmp_path, epoch):
    logged = json.loads(Path("run/result.json").read_text())[epoch]
    for split, prefix in (("test", "test"), ("validation", "val")):
        found = scores(tmp_path / "scores.json", "run", "--epoch", epoch, "--split", split)
        assert found["accuracy"] == logged[f"{prefix}_acc"]
        assert found["loss"] == pytest.approx(logged[f"{prefix}_loss"], rel=1e-6)
    assert scores(tmp_path / "scores.json", "run", "--epoch", epoch)["confusion"] == logged["test_confusion"]


def test_digits_are_those_that_training_logged(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    files = digits.write(tmp_path / "files", monkeypatch)
    flags = ["--files", str(files), "--model", "dense", "--learning-rate", "1e-4", "--epochs", "1", "--workdir", "run"]
    mnist.main(flags)
    logged = json.loads(Path("run/result.json").read_text())["last"]
    assert 0.2 < logged["test_acc"] < 1
    found = scores(tmp_path / "scores.json", "run")
    assert (found["accuracy"], found["confusion"]) == (logged["test_acc"], logged["test_confusion"])
    assert found["loss"] == pytest.approx(logged["test_loss"], rel=1e-6)
    capsys.readouterr()
    evaluate.main(["run", "--worst", "0"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "run, epoch 1: 40 test pictures of data/mnist"
    assert lines[8].split() == ["label", "\\", "predicted", *"0123456789", "recall"]
    assert lines[-1].startswith("precision ")
    for other in ("data", "files"):
        assert f"{other} is not MNIST as experiments.mnist prepares it" in fails(capsys, "run", "--data", other)


def test_mirror_images_are_averaged_and_said_apart(here, photos, tmp_path, capsys):
    found = scores(tmp_path / "scores.json", "run", "--flip", flipped=True)
    plain = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert plain == scores(tmp_path / "scores.json", "run")
    test = read_splits(photos, (46, 46)).test
    images = np.stack([test[i]["image"] for i in range(3)])
    net = trained.load(Path("run"))
    averaged = (net.predict(images) + net.predict(images[:, :, ::-1])) / 2
    assert found["loss"] == pytest.approx(log_loss([0, 0, 1], averaged), rel=1e-6)
    assert found["loss"] != pytest.approx(plain["loss"], rel=1e-6)
    capsys.readouterr()
    evaluate.main(["run", "--flip"])
    lines = capsys.readouterr().out.splitlines()
    assert lines.index("as they are:") < lines.index("averaged with their mirror images:")
    assert sum(line.startswith("accuracy ") for line in lines) == 2


def test_the_worst_mistakes_are_named_and_a_share_of_nothing_is_none(photos, tmp_path):
    """A net of two classes that finds everything a dog, by its last bias."""
    write_run(tmp_path / "run", CatsDogsConvNet(), (46, 46, 3), ["cats", "dogs"])
    net = trained.load(tmp_path / "run")
    layer = net.state.params["Dense_1"]
    params = net.state.params | {"Dense_1": {"kernel": layer["kernel"] * 0, "bias": layer["bias"] * 0 + 2}}
    net = dataclasses.replace(net, state=net.state.replace(params=params))
    source, folder = evaluate.read(net, photos, "test")
    assert folder == photos
    found = evaluate.evaluate(net, source, flip=False, worst=1)[evaluate.PLAIN]
    assert found["confusion"] == [[0, 2], [0, 1]]
    confidence = pytest.approx(1 / (1 + np.exp(-2)))
    mistake = {"file": "cats/cat.0.png", "label": "cats", "prediction": "dogs", "confidence": confidence}
    assert found["worst"] == [mistake]
    lines = list(evaluate.describe(found, net.class_names))
    assert lines[-1] == "cats/cat.0.png  0.8808  cats taken for dogs"
    assert lines[0] == "accuracy           0.3333  (95% interval 0.0615 to 0.7923)"
    assert lines[6:10] == [
        "label \\ predicted  cats    dogs  recall",
        "cats                  0       2  0.0000",
        "dogs                  0       1  1.0000",
        "precision             -  0.3333",
    ]
    assert evaluate._for_json(found)["precision"] == [None, pytest.approx(1 / 3)]


def test_pictures_that_moved_or_changed_are_not_taken_for_the_run_s(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert (
        "run/config.json has its pictures in photos, which does not exist here: name their folder with --data"
        in fails(capsys, root / "run")
    )
    shutil.copytree(root / "photos", "photos")
    Path("photos/test/cats/cat.2.png").unlink()
    assert "photos no longer holds the test pictures that" in fails(capsys, root / "run")
    evaluate.main([str(root / "run"), "--data", "photos"])
    assert ": 2 test pictures of photos\n" in capsys.readouterr().out
    evaluate.main([str(root / "run"), "--split", "validation"])
    assert ": 5 validation pictures of photos\n" in capsys.readouterr().out


def test_a_run_that_does_not_say_where_its_pictures_are(tmp_path, capsys):
    write_run(tmp_path / "run", CatsDogsConvNet(), (46, 46, 3), ["cats", "dogs"])
    assert "config.json has its pictures nowhere: name their folder with --data" in fails(capsys, tmp_path / "run")


def test_drawn_pictures_are_found_where_they_were_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "write", functools.partial(demo.write, counts={"train": 3, "validation": 2, "test": 2}))
    monkeypatch.setattr(folders, "IMAGE_SIZE", 46)
    flags = ["--epochs", "1", "--steps-per-epoch", "1", "--batch-size", "4", "--workdir", "run"]
    catsdogs.main(["--data", "demo", *flags])
    evaluate.main(["run"])
    assert "run, epoch 1: 4 test pictures of data/demo\n" in capsys.readouterr().out


def test_other_classes_are_refused_with_both_lists(here, photos, tmp_path, capsys):
    other = shutil.copytree(photos, tmp_path / "other")
    (other / "test/dogs").rename(other / "test/wolves")
    error = fails(capsys, "run", "--data", other)
    assert "holds the classes cats, wolves, but run was trained with cats, dogs: name a folder of the same" in error


def test_pictures_of_other_channels_are_refused(here, photos, tmp_path, capsys):
    """As of a net that Keras trained on grey ones."""
    grey = tmp_path / "grey"
    write_run(grey, CatsDogsConvNet(), (46, 46, 1), ["cats", "dogs"])
    error = fails(capsys, grey, "--data", photos)
    assert f"{photos} has pictures of 46x46x3, but {grey} takes 46x46x1" in error


def test_flags_that_make_no_sense_are_named(here, tmp_path, capsys):
    assert "--worst is -1: give a whole number from 0 on" in fails(capsys, "run", "--worst", -1)
    error = fails(capsys, "run", "--json", tmp_path / "nowhere/scores.json")
    assert "nowhere/scores.json cannot be written (No such file or directory): name another file" in error
    assert "does not exist: a data set has the folders" in fails(capsys, "run", "--data", tmp_path)


def test_help_and_mistakes_need_no_jax():
    code = "import sys, tools.evaluate; assert not {'jax', 'numpy', 'scipy', 'PIL'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
