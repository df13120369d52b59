"""The pictures and the scores of an evaluation, against what training logged, and every error in the pictures."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss

from jaxconv.analysis.evaluation import evaluate_source, predict_source, read_split
from jaxconv.analysis.predictor import Predictor
from jaxconv.config import Optimizer, Training
from jaxconv.data import mnist
from jaxconv.data.records import read_splits
from jaxconv.loop import fit, train
from jaxconv.models import CatsDogsConvNet, DenseNet
from jaxconv.runs.directory import claim, write_config, write_division
from jaxconv.runs.settings import Own, configure, describe_data
from jaxconv.runtime.errors import InputError
from tests import digits
from tests.made_runs import write_run
from tests.nets import SmallNet

SHORT = Training(epochs=2, steps_per_epoch=2, batch_size=4, optimizer=Optimizer(learning_rate=1e-3))


@pytest.fixture(scope="module")
def root(photos, tmp_path_factory):
    """A folder with the pictures in `photos` and a run of them in `run`, at 46x46."""
    root = tmp_path_factory.mktemp("root")
    shutil.copytree(photos, root / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr("jaxconv.runs.writer.RunWriter.draw_curves", lambda *_: None)
        patch.setattr("jaxconv.runs.writer.RunWriter.write_final_figures", lambda *_: None)
        fit(CatsDogsConvNet(), read_splits("photos", (46, 46)), SHORT, "run")
    return root


@pytest.fixture
def here(root, monkeypatch):
    monkeypatch.chdir(root)


@pytest.mark.parametrize("epoch", ["best", "last"])
def test_scores_equal_those_that_training_logged(here, epoch):
    logged, net = json.loads(Path("run/result.json").read_text())[epoch], Predictor("run", best=epoch == "best")
    for split, prefix in (("test", "test"), ("validation", "val")):
        source, folder = read_split(net, None, split)
        found = evaluate_source(net, source)
        assert folder == Path("photos")
        assert found["accuracy"] == logged[f"{prefix}_acc"]
        assert found["loss"] == pytest.approx(logged[f"{prefix}_loss"], rel=1e-6)
        assert split == "validation" or found["confusion"] == logged["test_confusion"]


def test_scores_of_digits_equal_those_that_training_logged(tmp_path, monkeypatch, undrawn):
    """The run says that its pictures are MNIST, in data/mnist."""
    monkeypatch.chdir(tmp_path)
    splits = mnist.read_mnist(Path("data"), digits.write(tmp_path / "files", monkeypatch))
    training = Training(epochs=1, steps_per_epoch=None, batch_size=64)
    data, run = describe_data(splits, kind="MNIST", path="data/mnist"), Path("run")
    config = configure(DenseNet(), data, training, 0, Own(), experiment="mnist", variant="dense")
    with claim(run, config, resume=False):
        write_config(run, config)
        logged = train(DenseNet(), splits, config, run, title="a test").last
    assert 0.2 < logged.test_acc < 1
    net = Predictor(run)
    source, folder = read_split(net, None, "test")
    found = evaluate_source(net, source)
    assert (len(source), folder) == (40, Path("data/mnist"))
    assert (found["accuracy"], found["confusion"]) == (logged.test_acc, logged.test_confusion)
    assert found["loss"] == pytest.approx(logged.test_loss, rel=1e-6)
    for other in ("data", "files"):
        with pytest.raises(InputError, match=f"{other} is not MNIST as experiments.mnist prepares it: name its"):
            read_split(net, Path(other), "test")


def test_views_are_averaged(here, photos):
    net, test = Predictor("run"), read_splits(photos, (46, 46)).test
    images = np.stack([test[i]["image"] for i in range(3)])
    averaged = (net.probabilities(images) + net.probabilities(images[:, :, ::-1])) / 2
    found, plain = evaluate_source(net, test, ("plain", "mirrored")), evaluate_source(net, test)
    assert found["loss"] == pytest.approx(log_loss([0, 0, 1], averaged), rel=1e-6)
    assert found["loss"] != pytest.approx(plain["loss"], rel=1e-6)


def test_every_picture_is_predicted_in_its_order(here):
    net = Predictor("run")
    source, _ = read_split(net, None, "train")
    probabilities, labels = predict_source(net, source)
    assert labels.tolist() == [source[i]["label"] for i in range(6)]
    for i in range(6):
        np.testing.assert_allclose(probabilities[i], net.probabilities(source[i]["image"][None])[0], rtol=1e-5)


def test_the_worst_mistakes_are_named(photos, tmp_path):
    """Of a net of two classes that finds everything a dog, by its last bias."""
    write_run(tmp_path / "run", CatsDogsConvNet(), (46, 46, 3), ["cats", "dogs"])
    net = Predictor(tmp_path / "run")
    layer = net.state.params["Dense_1"]
    params = net.state.params | {"Dense_1": {"kernel": layer["kernel"] * 0, "bias": layer["bias"] * 0 + 2}}
    net.state = net.state.replace(params=params)
    source, folder = read_split(net, photos, "test")
    assert folder == photos
    confidence = pytest.approx(1 / (1 + np.exp(-2)))
    mistake = {"file": "cats/cat.0.png", "label": "cats", "prediction": "dogs", "confidence": confidence}
    found = evaluate_source(net, source, worst=1)
    assert found["confusion"] == [[0, 2], [0, 1]]
    assert found["worst"] == [mistake]
    assert evaluate_source(net, source, worst=9)["worst"] == [mistake, mistake | {"file": "cats/cat.2.png"}]
    assert evaluate_source(net, source)["worst"] == []


def test_pictures_are_resized_as_in_training(photos, tmp_path):
    for interpolation in ("nearest", "bilinear"):
        run = tmp_path / interpolation
        write_run(run, SmallNet(), (20, 30, 3), ["cats", "dogs"], interpolation=interpolation)
        net = Predictor(run, model=SmallNet)
        source, _ = read_split(net, photos, "test")
        expected = net.decode((photos / "test" / source.name(0)).read_bytes())
        np.testing.assert_array_equal(source[0]["image"], expected)


def test_pictures_that_moved_or_changed_are_not_taken_for_those_of_the_run(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = Predictor(root / "run")
    gone = "run/config.json has its pictures in photos, which does not exist here: name their folder with --data"
    with pytest.raises(InputError, match=gone):
        read_split(net, None, "test")
    shutil.copytree(root / "photos", "photos")
    Path("photos/test/cats/cat.2.png").unlink()
    with pytest.raises(InputError, match=r"photos no longer holds the test pictures that .*/run was made with: give"):
        read_split(net, None, "test")
    assert len(read_split(net, Path("photos"), "test")[0]) == 2  # as they are now
    assert len(read_split(net, None, "validation")[0]) == 5


def test_a_run_that_does_not_say_where_its_pictures_are_asks_for_them(tmp_path):
    write_run(tmp_path / "run", CatsDogsConvNet(), (46, 46, 3), ["cats", "dogs"])
    with pytest.raises(InputError, match=r"config.json has its pictures nowhere: name their folder with --data"):
        read_split(Predictor(tmp_path / "run"), None, "test")


def test_other_classes_are_refused_with_both_lists(here, photos, tmp_path):
    other = shutil.copytree(photos, tmp_path / "other")
    (other / "test/dogs").rename(other / "test/wolves")
    refused = "lacks 'dogs', which run has and has 'wolves', which run lacks: name a folder of the same classes"
    with pytest.raises(InputError, match=refused):
        read_split(Predictor("run"), other, "test")


def test_pictures_of_other_channels_are_refused(photos, tmp_path):
    """As of a net that Keras trained on grey pictures."""
    grey = tmp_path / "grey"
    write_run(grey, CatsDogsConvNet(), (46, 46, 1), ["cats", "dogs"])
    with pytest.raises(InputError, match=f"{photos} has pictures of 46x46x3, but {grey} takes 46x46x1: name others"):
        read_split(Predictor(grey), photos, "test")


def test_a_folder_without_the_split_is_refused(here, tmp_path):
    with pytest.raises(InputError, match="has no folder train: name a folder of"):
        read_split(Predictor("run"), tmp_path, "test")


def test_a_folder_that_the_run_divided_by_itself_is_read_by_its_division(photos, tmp_path):
    """Also from elsewhere; and a folder that is split needs no division."""
    shutil.copytree(photos / "train", tmp_path / "flat")
    names = sorted(path.relative_to(tmp_path / "flat").as_posix() for path in (tmp_path / "flat").rglob("*.png"))
    write_run(tmp_path / "run", CatsDogsConvNet(), (46, 46, 3), ["cats", "dogs"], path=str(tmp_path / "flat"))
    write_division(tmp_path / "run", {"train": names[2:], "validation": names[:1], "test": [names[1], names[4]]})
    net = Predictor(tmp_path / "run")
    source, _ = read_split(net, (tmp_path / "flat").rename(tmp_path / "moved"), "test")
    assert [source.name(index) for index in range(len(source))] == [names[1], names[4]]
    assert len(read_split(net, photos, "test")[0]) == 3
