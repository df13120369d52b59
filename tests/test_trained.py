"""What a run directory gives to whoever uses its net."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from jaxconv import metrics, models, trained
from jaxconv.checkpoints import Checkpoints
from jaxconv.errors import InputError
from jaxconv.models import CatsDogsConvNet, MnistConvNet
from jaxconv.records import read_splits
from jaxconv.streaming import evaluate
from jaxconv.train_step import create_state, rmsprop

PRINTS = {"train": "a", "validation": "b", "test": "c"}


def write_run(workdir, model, image_shape, class_names, prints=PRINTS):
    """As of two epochs of three steps, the first of which was the better one."""
    workdir.mkdir(exist_ok=True)
    data = {"fingerprint": prints, "interpolation": "bilinear", "counts": {"train": 12}}
    config = {"model": models.describe(model), "image_shape": image_shape, "class_names": class_names, "data": data}
    (workdir / "config.json").write_text(json.dumps(config | {"steps_per_epoch": 3, "batch_size": 4}))
    states = [create_state(model, image_shape, rmsprop(1e-4), seed) for seed in (1, 2)]
    with Checkpoints(workdir / "checkpoints", states[0]) as checkpoints:
        for epoch, state in enumerate(states, 1):
            checkpoints.save(3 * epoch, state, {"val_loss": epoch / 10})
    return states


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    return workdir, write_run(workdir, CatsDogsConvNet(dropout=0.5), (46, 50, 3), ["cats", "dogs"])


def test_the_best_or_the_newest_weights_come_with_all_they_need(run):
    workdir, states = run
    for best, epoch in ((None, 1), (True, 1), (False, 2)):
        net = trained.load(workdir, best=best)
        assert (net.epoch, net.class_names, net.image_shape) == (epoch, ["cats", "dogs"], (46, 50, 3))
        assert models.describe(net.model) == models.describe(CatsDogsConvNet(dropout=0.5))
        np.testing.assert_array_equal(
            net.state.params["Dense_1"]["kernel"], states[epoch - 1].params["Dense_1"]["kernel"]
        )


def test_the_newest_is_taken_where_the_test_would_choose_the_best(tmp_path):
    write_run(tmp_path, CatsDogsConvNet(), (46, 46, 3), ["cats", "dogs"], PRINTS | {"validation": "c"})
    assert trained.load(tmp_path).epoch == 2


@pytest.mark.parametrize("count", [0, 1, 31, 33])
def test_any_number_of_pictures_has_probabilities(run, count):
    net = trained.load(run[0])
    images = np.random.default_rng(0).integers(0, 256, (count, 46, 50, 3), dtype=np.uint8)
    found = net.predict(images)
    assert (found.shape, found.dtype) == ((count, 2), np.float32)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
    for image, row in zip(images[-2:], found[-2:], strict=False):
        np.testing.assert_allclose(net.predict(image[None])[0], row, rtol=1e-5)


def test_probabilities_say_what_evaluation_says(photos, tmp_path):
    write_run(tmp_path, CatsDogsConvNet(), (46, 46, 3), ["cats", "dogs"])
    net, test = trained.load(tmp_path), read_splits(photos, (46, 46)).test
    expected = metrics.mean(metrics.total(evaluate(net.state, test, 2)))
    labels = np.array([test[i]["label"] for i in range(len(test))])
    found = net.predict(np.stack([test[i]["image"] for i in range(len(test))]))
    assert -np.log(found[np.arange(3), labels]).mean() == pytest.approx(expected["loss"], rel=1e-5)
    assert (found.argmax(1) == labels).mean() == expected["acc"]


def test_pictures_are_decoded_as_in_training(run, tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 80, 3), dtype=np.uint8))
    file = io.BytesIO()
    picture.save(file, "PNG")
    expected = np.asarray(picture.resize((50, 46), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(trained.load(run[0]).decode(file.getvalue()), expected)
    write_run(tmp_path, MnistConvNet(), (28, 28, 1), list("0123456789"))
    net = trained.load(tmp_path)
    grey = np.asarray(picture.convert("L").resize((28, 28), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(net.decode(file.getvalue())[:, :, 0], grey)
    assert net.predict(net.decode(file.getvalue())[None]).shape == (1, 10)


def test_what_is_no_run_is_named(run, tmp_path):
    with pytest.raises(InputError, match=r"config.json cannot be read \(.*No such file"):
        trained.load(tmp_path)
    config = json.loads((run[0] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model": {"name": "Other"}}))
    with pytest.raises(
        InputError, match=r"is of no run of a known net \(model 'Other' is none of .*\): name another run"
    ):
        trained.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="is of no run of a known net"):
        trained.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="holds no checkpoint: name a run that has trained an epoch"):
        trained.load(tmp_path)
