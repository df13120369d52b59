"""A trained net as its run directory gives it to its users."""

import io
import json

import jax
import msgspec
import numpy as np
import pytest
from PIL import Image

import jaxconv as jc
from jaxconv.analysis import predictor
from jaxconv.analysis.predictor import Predictor
from jaxconv.config import Model
from jaxconv.data.records import read_splits
from jaxconv.models import CatsDogsConvNet, MnistConvNet, registry
from jaxconv.runs.directory import read_config, write_config
from jaxconv.runtime.errors import InputError
from jaxconv.training.feed import evaluate
from tests.made_runs import PRINTS, fit_own, write_run
from tests.nets import BatchNormNet, SizedNet, SmallNet


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    return workdir, write_run(workdir, CatsDogsConvNet(dropout=0.5), (46, 50, 3), ["cats", "dogs"])


@pytest.fixture(scope="module")
def own(photos, tmp_path_factory):
    return fit_own(photos, tmp_path_factory.mktemp("own") / "run")


@pytest.fixture
def pictures(tmp_path):
    """Files of three pictures, the second in grey."""
    rng = np.random.default_rng(0)
    for number in range(3):
        image = Image.fromarray(rng.integers(0, 256, (60, 70, 3), dtype=np.uint8))
        (image.convert("L") if number == 1 else image).save(tmp_path / f"{number}.png")
    return [tmp_path / f"{number}.png" for number in range(3)]


def test_the_best_or_the_newest_weights_come_with_all_they_need(run):
    workdir, states = run
    for best, epoch in ((None, 1), (True, 1), (False, 2)):
        net = Predictor(workdir, best=best)
        assert (net.epoch, net.class_names, net.image_shape) == (epoch, ["cats", "dogs"], (46, 50, 3))
        expected = registry.describe(CatsDogsConvNet(dropout=0.5), (46, 50, 3))
        assert registry.describe(net.model, net.image_shape) == expected == net.config.model
        jax.tree.map(np.testing.assert_array_equal, net.state.params, states[epoch - 1].params)


def test_the_newest_is_taken_where_the_test_would_choose_the_best(tmp_path):
    same = PRINTS | {"validation": PRINTS["test"]}
    write_run(tmp_path, CatsDogsConvNet(), (46, 46, 3), ["cats", "dogs"], fingerprint=same)
    assert Predictor(tmp_path).epoch == 2


@pytest.mark.parametrize("count", [0, 1, 31, 33])
def test_any_number_of_pictures_has_probabilities(run, count):
    net = Predictor(run[0])
    images = np.random.default_rng(0).integers(0, 256, (count, 46, 50, 3), dtype=np.uint8)
    found = net.probabilities(images)
    assert (found.shape, found.dtype) == ((count, 2), np.float32)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
    for image, row in zip(images[-2:], found[-2:], strict=False):
        np.testing.assert_allclose(net.probabilities(image[None])[0], row, rtol=1e-5)
    assert np.ptp(found[:, 0]) > 1e-4 if count > 1 else True  # not the same for every picture


def test_probabilities_of_several_views_are_their_mean(run):
    net = Predictor(run[0])
    images = np.random.default_rng(0).integers(0, 256, (33, 46, 50, 3), dtype=np.uint8)
    plain, mirrored = net.probabilities(images), net.probabilities(images[:, :, ::-1])
    assert np.abs(plain - mirrored).max() > 1e-4
    np.testing.assert_allclose(net.probabilities(images, ["mirrored"]), mirrored, rtol=1e-5)
    both = net.probabilities(images, ["plain", "mirrored"])
    assert both.dtype == np.float32
    np.testing.assert_allclose(both, (plain + mirrored) / 2, rtol=1e-5)


def test_probabilities_say_what_evaluation_says(photos, tmp_path):
    write_run(tmp_path, CatsDogsConvNet(), (46, 46, 3), ["cats", "dogs"])
    net, test = Predictor(tmp_path), read_splits(photos, (46, 46)).test
    expected = evaluate(net.state, test, 2)
    labels = np.array([test[i]["label"] for i in range(len(test))])
    found = net.probabilities(np.stack([test[i]["image"] for i in range(len(test))]))
    assert -np.log(found[np.arange(3), labels]).mean() == pytest.approx(expected["loss"], rel=1e-5)
    assert (found.argmax(1) == labels).mean() == expected["acc"]


def test_pictures_are_decoded_as_in_training(run, tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 80, 3), dtype=np.uint8))
    file = io.BytesIO()
    picture.save(file, "PNG")
    expected = np.asarray(picture.resize((50, 46), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(Predictor(run[0]).decode(file.getvalue()), expected)
    write_run(tmp_path, MnistConvNet(), (28, 28, 1), list("0123456789"), interpolation="nearest")
    net = Predictor(tmp_path)
    grey = np.asarray(picture.convert("L").resize((28, 28), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(net.decode(file.getvalue())[:, :, 0], grey)
    assert net.probabilities(net.decode(file.getvalue())[None]).shape == (1, 10)


@pytest.mark.parametrize("change", [lambda image: image / 255, lambda image: image[..., :1], lambda image: image[:4]])
def test_images_of_another_dtype_or_shape_are_refused(run, change):
    """Scaled ones would be black, and grey ones would be repeated."""
    net = Predictor(run[0])
    image = np.full(net.image_shape, 200, np.uint8)
    with pytest.raises(ValueError, match=r"an image is .*, not uint8\[46, 50, 3\]"):
        list(net.batches.__wrapped__(net, [change(image)]))


@pytest.mark.parametrize("options", [{"dtype": "float33"}, {"dtype": "float32", "classes": "x"}])
def test_a_config_of_no_possible_net_is_named(run, tmp_path, options):
    config = read_config(run[0])
    write_config(tmp_path, msgspec.structs.replace(config, model=Model(name="CatsDogsConvNet", options=options)))
    with pytest.raises(InputError, match=r"config\.json does not describe a net \("):
        Predictor(tmp_path)


def test_files_are_predicted_as_their_pictures(run, pictures):
    net = Predictor(run[0])
    found = net.predict([str(pictures[0]), *pictures])
    rows = net.probabilities([net.read_picture(path) for path in (pictures[0], *pictures)])
    assert [prediction.path for prediction in found] == [str(path) for path in (pictures[0], *pictures)]
    for prediction, row in zip(found, rows, strict=True):
        assert prediction.class_name == ["cats", "dogs"][row.argmax()]
        assert prediction.probability == pytest.approx(row.max(), rel=1e-6)
    assert jc.Predictor(run[0]).predict([]) == []


def test_more_files_than_are_decoded_ahead_stay_with_their_names(run, pictures, monkeypatch):
    monkeypatch.setattr("jaxconv.analysis.predictor.AHEAD", 2)
    net, ordered = Predictor(run[0]), [pictures[i] for i in np.random.default_rng(0).integers(0, 3, 70)]
    alone = {path: net.probabilities(net.read_picture(path)[None])[0] for path in pictures}
    found = list(net.predict_files(ordered, pytest.fail))
    assert [path for path, _ in found] == ordered
    for path, row in found:
        np.testing.assert_allclose(row, alone[path], rtol=1e-5)


def test_files_that_cannot_be_decoded_are_given_to_skip_or_refused(run, pictures, tmp_path):
    net, skipped = Predictor(run[0]), []
    pictures[1].write_bytes(b"no picture")
    none = tmp_path / "none.png"
    found = list(net.predict_files([*pictures, none], lambda path, error: skipped.append((path, type(error)))))
    assert [path for path, _ in found] == [pictures[0], pictures[2]]
    assert [path for path, _ in skipped] == [pictures[1], none] and skipped[1][1] is FileNotFoundError
    for path, why in ((pictures[1], "no header of AVIF, BMP, GIF,"), (none, "No such file or directory")):
        for look in (net.read_picture, lambda path: net.predict([path])):
            with pytest.raises(InputError, match=rf"{path} is no picture that can be decoded \({why}.*: name another"):
                look(path)


def test_a_broken_exif_block_is_no_matter(run, tmp_path):
    """Pillow warns of it, and warnings are errors here."""
    image, exif = Image.new("RGB", (60, 60)), b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x1a\0\x05"
    image.save(tmp_path / "broken.jpg", exif=exif)
    with pytest.raises(UserWarning, match="EXIF"):
        Image.open(tmp_path / "broken.jpg").getexif()
    net = Predictor(run[0])
    assert net.predict([tmp_path / "broken.jpg"])[0].class_name in ("cats", "dogs")
    assert net.read_picture(tmp_path / "broken.jpg").shape == (46, 50, 3)


@pytest.mark.parametrize("model", [BatchNormNet, BatchNormNet()], ids=["class", "net"])
def test_a_net_of_ones_own_is_given_by_its_class_or_itself(own, photos, model):
    net = Predictor(own, model=model, best=False)
    assert net.epoch == 2 and net.config.model.name == "tests.nets:BatchNormNet"
    assert {*net.state.variables} == {"params", "batch_stats"}
    assert np.abs(net.state.variables["batch_stats"]["Block_0"]["BatchNorm_0"]["mean"]).min() > 0  # as trained
    result, test = json.loads((own / "result.json").read_text()), read_splits(photos, (20, 22)).test
    scores = evaluate(net.state, test, 3)
    assert scores["loss"] == pytest.approx(result["last"]["test_loss"], rel=1e-6)
    found = net.probabilities(np.stack([test[i]["image"] for i in range(len(test))]))
    labels = np.array([test[i]["label"] for i in range(len(test))])
    assert -np.log(found[np.arange(3), labels]).mean() == pytest.approx(scores["loss"], rel=1e-5)


def test_a_net_of_ones_own_is_asked_for(own):
    asked = r"names the net 'tests.nets:BatchNormNet', .*: give its class with --model MODULE:CLASS \(in Python, model"
    with pytest.raises(InputError, match=asked):
        Predictor(own)


def test_another_net_than_the_run_has_is_refused(own):
    with pytest.raises(InputError, match="is of another net or optimizer: "):
        Predictor(own, model=SmallNet())
    with pytest.raises(
        InputError, match=r"SmallNet does not take the options in config.json \(.*'classes'\): give the"
    ):
        Predictor(own, model=SmallNet)


def test_a_class_gets_the_fields_in_config_json(tmp_path):
    write_run(tmp_path, SizedNet(5), (20, 22, 3), ["cats", "dogs"])
    assert Predictor(tmp_path, model=SizedNet).model == SizedNet(5)
    with pytest.raises(InputError, match="is of another net or optimizer: collections/"):
        Predictor(tmp_path, model=SizedNet(4))


def test_an_epoch_is_a_whole_number_unless_it_is_cut(run, monkeypatch):
    """As JSON and users should see it."""
    restored = Predictor(run[0]).state.variables
    for step, epoch in ((3, 1), (6, 2), (4, 4 / 3)):
        monkeypatch.setattr(predictor, "restore_variables", lambda *_, step=step, **named: (restored, step))
        found = Predictor(run[0]).epoch
        assert (found, type(found)) == (epoch, type(epoch))


def test_what_is_no_run_is_named(run, tmp_path):
    with pytest.raises(InputError, match=rf"{tmp_path} is not a run directory \(no config.json\)"):
        Predictor(tmp_path)
    config = json.loads((run[0] / "config.json").read_text())

    def refused(message, **changes):
        (tmp_path / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(InputError, match=message):
            Predictor(tmp_path)

    refused(r"names the net 'Other', which is not one of jaxconv's: give", model=config["model"] | {"name": "Other"})
    options = {"options": config["model"]["options"] | {"layers": 3}}
    refused("does not describe a net .*layers.*: name another run", model=config["model"] | options)
    refused("holds no checkpoint: name a run that has trained an epoch")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="is of a run directory of format 1"):
        Predictor(tmp_path)
