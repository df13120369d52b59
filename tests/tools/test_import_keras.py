"""Nets that Keras saved, imported as runs: from files that it wrote, with its own predictions, and from files alike."""

import functools
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from jaxconv.analysis.predictor import Predictor
from jaxconv.runs import history
from tests import commands
from tests.oracles import keras_files, keras_fixture
from tools import evaluate, import_keras, predict

FIXTURES = Path(keras_files.__file__).parent

fails = functools.partial(commands.fails, import_keras.main)


@pytest.fixture(scope="module", params=["keras3.zip", "keras2.zip", "live"])
def archive(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras")
    file, names = FIXTURES / request.param, ["dense"]
    if request.param == "live":
        if importlib.util.find_spec("keras") is None:
            pytest.skip("Keras is not installed (extra: bench)")
        file, names = folder / "live.zip", [*keras_files.SHAPES]
        command = [sys.executable, "-m", "tests.oracles.keras_files", str(file), *names]
        subprocess.run(command, check=True, env=os.environ | {"KERAS_BACKEND": "jax"})
    with zipfile.ZipFile(file) as opened:
        opened.extractall(folder)
    return folder, names


def test_the_run_predicts_as_keras_does(archive, tmp_path):
    folder, names = archive
    for name in names:
        expected = np.load(folder / f"{name}.npy")
        if expected.shape[1] == 1:
            expected = np.concatenate([1 - expected, expected], 1)
        files = [path for path in folder.iterdir() if path.name.startswith((f"{name}.", f"{name}-w"))]
        for file in [path for path in files if path.suffix != ".npy"]:
            shape = keras_files.SHAPES[name]
            says_its_size = name != "dense" and "weights" not in file.name
            size = [] if says_its_size else ["--image-size", str(shape[0]), str(shape[1])]
            import_keras.main([str(file), "--run", str(tmp_path / file.name), *size])
            net = Predictor(tmp_path / file.name)
            assert (net.image_shape, net.epoch) == (shape, 0)
            np.testing.assert_allclose(net.probabilities(keras_files.images(name)), expected, atol=1e-5)
            dropout = 0.5 if name == "catsdogs-dropout" and says_its_size else 0.0
            assert net.config.model.options.get("dropout", 0.0) == dropout
            assert (net.config.variant, net.config.training) == (f"keras-{file.name}", None)


NAMES = ["conv2d_8", "conv2d_9", "conv2d_10", "conv2d_11", "dense_3", "dense_4"]


def write_keras_3(file, weights):
    with h5py.File(file, "w") as opened:
        for name, (kernel, bias) in weights.items():
            opened[f"layers/{name}/vars/0"], opened[f"layers/{name}/vars/1"] = kernel, bias
        opened.create_group("layers/flatten_2/vars")
        opened["optimizer/vars/0"] = np.float32(1)


def write_keras_2(file, weights, described=None):
    with h5py.File(file, "w") as opened:
        root = opened.create_group("model_weights") if described else opened
        root.attrs["layer_names"] = [b"max_pooling2d_1", *(name.encode() for name in weights)]
        root.create_group("max_pooling2d_1").attrs["weight_names"] = np.zeros(0, "S1")
        for name, arrays in weights.items():
            keys = [f"{name}/{part}:0" for part in ("kernel", "bias")]
            for key, array in zip(keys, arrays, strict=True):
                root[f"{name}/{key}"] = array
            root[name].attrs["weight_names"] = [key.encode() for key in keys]
        if described:
            opened.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": described}).encode()


def described_layers(**changes):
    """As Keras 2.0 describes the book's net: a list, the first layer with the shape of the pictures."""
    side, described = keras_fixture.SIDE, []
    conv = {"strides": [1, 1], "padding": "valid", "dilation_rate": [1, 1], "activation": "relu"}
    for name in NAMES[:4]:
        described.append({"class_name": "Conv2D", "config": conv | {"name": name, "data_format": "channels_last"}})
        pool = {"name": f"max_{name}", "pool_size": [2, 2], "strides": [2, 2], "padding": "valid"}
        described.append({"class_name": "MaxPooling2D", "config": pool})
    described[0]["config"]["batch_input_shape"] = [None, side, side, 3]
    described.append({"class_name": "Flatten", "config": {"name": "flatten_2"}})
    for name, activation in zip(NAMES[4:], ("relu", "sigmoid"), strict=True):
        described.append({"class_name": "Dense", "config": {"name": name, "activation": activation}})
    for layer in described:
        if layer["config"]["name"] in changes:
            layer["config"] |= changes[layer["config"]["name"]]
    return described


def book_weights():
    weights = keras_fixture.initial_weights()
    return dict(zip(NAMES, zip(weights[::2], weights[1::2], strict=True), strict=True))


@pytest.mark.parametrize(
    "write, size",
    [
        (write_keras_3, ["--image-size", "62", "62"]),
        (write_keras_2, ["--image-size", "62", "62"]),
        (lambda file, weights: write_keras_2(file, weights, described_layers()), []),
    ],
)
def test_convolutions_come_in_the_order_of_their_numbers(write, size, tmp_path):
    """With the weights and the logits of the other oracle; names of a second net of the same session."""
    write(tmp_path / "net.h5", book_weights())
    import_keras.main([str(tmp_path / "net.h5"), "--run", str(tmp_path / "run"), "--class-names", "wolf,ox", *size])
    net = Predictor(tmp_path / "run")
    assert (net.class_names, net.image_shape) == (["wolf", "ox"], (62, 62, 3))
    images, _ = keras_fixture.batches()[0]
    logits = np.load(FIXTURES / "keras_parity.npz")["logits"][:, 0]
    np.testing.assert_allclose(net.probabilities(images)[:, 1], 1 / (1 + np.exp(-logits)), atol=1e-5)


def test_the_default_sizes_and_classes_are_the_books(tmp_path, capsys):
    """Of weights alone at 150x150: 7x7x128 features; zeros are as good as others."""
    weights = book_weights()
    weights["dense_3"] = (np.zeros((6272, 512), np.float32), np.zeros(512, np.float32))
    write_keras_3(tmp_path / "net.weights.h5", weights)
    import_keras.main([str(tmp_path / "net.weights.h5"), "--run", str(tmp_path / "run")])
    said = "CatsDogsConvNet of pictures 150x150x3, classes cats, dogs"
    assert capsys.readouterr().out == f"{tmp_path / 'run'}: {said}\n"


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"conv2d_9": {"padding": "same"}}, "its layer conv2d_9 has padding same, but the book's has valid"),
        ({"max_conv2d_8": {"strides": [3, 3]}}, "max_conv2d_8 has strides [3, 3], but the book's has [2, 2]"),
        ({"conv2d_8": {"data_format": "channels_first"}}, "has data_format channels_first, but the book's has"),
        ({"dense_4": {"activation": "linear"}}, "dense_4 has activation linear, but the book's has sigmoid"),
    ],
)
def test_another_net_of_the_same_shapes_is_refused(changes, said, tmp_path, capsys):
    write_keras_2(tmp_path / "net.h5", book_weights(), described_layers(**changes))
    error = fails(capsys, tmp_path / "net.h5", "--run", tmp_path / "run")
    assert f"{tmp_path / 'net.h5'} cannot be imported: " in error and said in error
    assert not (tmp_path / "run").exists()


def test_other_layers_are_refused(tmp_path, capsys):
    described = described_layers()
    described[1]["class_name"] = "AveragePooling2D"
    write_keras_2(tmp_path / "average.h5", book_weights(), described)
    said = "its layer max_conv2d_8 is AveragePooling2D, but the book's net has MaxPooling2D"
    assert said in fails(capsys, tmp_path / "average.h5", "--run", tmp_path / "run")
    write_keras_2(tmp_path / "fewer.h5", book_weights(), described_layers()[:-1])
    assert "it has 9 layers that compute, but" in fails(capsys, tmp_path / "fewer.h5", "--run", tmp_path / "run")
    weights = book_weights()
    del weights["conv2d_9"], weights["conv2d_10"]
    write_keras_3(tmp_path / "two.h5", weights)
    said = "it has 2 convolutions and 2 dense layers of 4 layers with weights: only nets of"
    assert said in fails(capsys, tmp_path / "two.h5", "--run", tmp_path / "run")


def test_other_shapes_are_named(tmp_path, capsys):
    file = tmp_path / "net.h5"
    write_keras_3(file, book_weights())
    error = fails(capsys, file, "--run", tmp_path / "run")
    said = "its layer dense_3 has a kernel of [512, 512], but CatsDogsConvNet of pictures 150x150x3 has [6272, 512]"
    assert said in error and "give their size by --image-size" in error
    error = fails(capsys, file, "--run", tmp_path / "run", "--image-size", 20, 20)
    assert "the picture is too small for this net" in error and "give their size by --image-size" in error
    error = fails(capsys, file, "--run", tmp_path / "run", "--image-size", 0, 20)
    assert "--image-size 0 20: give whole numbers above 0" in error


@pytest.mark.parametrize("names", ["cats", "cats,dogs,wolves", "cats,cats", "cats,"])
def test_there_is_one_name_for_each_class(names, tmp_path, capsys):
    write_keras_3(tmp_path / "net.h5", book_weights())
    options = ["--run", tmp_path / "run", "--image-size", 62, 62, "--class-names", names]
    assert f"--class-names {names}: give 2 names" in fails(capsys, tmp_path / "net.h5", *options)


def test_files_and_places_that_are_wrong_are_named(tmp_path, capsys, monkeypatch):
    file, run = tmp_path / "net.h5", tmp_path / "run"
    assert f"{file} is no file: name a .keras" in fails(capsys, file, "--run", run)
    file.write_bytes(b"text")
    assert f"{file} cannot be read as a model or weights of Keras (" in fails(capsys, file, "--run", run)
    with h5py.File(file, "w") as opened:
        opened["other"] = 1
    assert f"{file} cannot be read as a model or weights of Keras (" in fails(capsys, file, "--run", run)
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    assert "net.keras cannot be read as a model or weights" in fails(capsys, tmp_path / "net.keras", "--run", run)
    assert f"--run {tmp_path} exists: name a new directory" in fails(capsys, file, "--run", tmp_path)
    write_keras_3(file, book_weights())
    below = ["--run", file / "run", "--image-size", 62, 62]
    assert "net.h5/run cannot be written (Not a directory)" in fails(capsys, file, *below)
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "h5py is needed to read what Keras writes: pip install -e '.[keras]'" in fails(capsys, file, "--run", run)


def test_the_tools_take_an_imported_run(photos, tmp_path, capsys):
    """Its training is not known, and its pictures are named."""
    write_keras_2(tmp_path / "net.h5", book_weights(), described_layers())
    run = tmp_path / "run"
    import_keras.main([str(tmp_path / "net.h5"), "--run", str(run)])
    assert (history.read_rows(run), history.read_result(run)) == ([], None)
    capsys.readouterr()
    assert "has its pictures nowhere: name their folder with --data" in commands.fails(evaluate.main, capsys, run)
    evaluate.main([str(run), "--data", str(photos)])
    assert capsys.readouterr().out.startswith(f"{run}, epoch 0: 3 test pictures of {photos}\n")
    predict.main([str(run), str(photos / "test/cats/cat.0.png")])
    assert capsys.readouterr().out.split("\t")[1] in ("cats", "dogs")
