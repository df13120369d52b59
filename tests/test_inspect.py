"""The command that shows what a net sees, on tiny nets."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_insight_figures import size_and_colours
from test_trained import write_run

from jaxconv import trained
from jaxconv.models import DenseNet, MnistConvNet
from tools import inspect


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a cat.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    run = tmp_path_factory.mktemp("digits")
    write_run(run, MnistConvNet(), (28, 28, 1), list("0123456789"))
    return run


def test_a_run_and_a_picture_become_all_figures(digits, picture, capsys):
    inspect.main([str(digits), str(picture)])
    net = trained.load(digits)
    likely = net.predict(net.decode(picture.read_bytes())[None])[0]
    first, second = sorted(range(10), key=lambda i: -likely[i])[:2]
    folder = digits / "figures/a cat"
    said = f"{first} {likely[first]:.1%}, {second} {likely[second]:.1%} (epoch 1). The figures are in {folder}"
    assert capsys.readouterr().out == f"{picture}: {said}\n"
    layers = [f"activations_{name}.png" for name in ("Conv_0", "Conv_1", "Conv_2", "MaxPool_0", "MaxPool_1")]
    names = [*layers, "filter_patterns_Conv_2.png", "filters.png", "gradcam.png"]
    assert [path.name for path in sorted(folder.iterdir())] == names
    for name in names:
        (width, height), found = size_and_colours(folder / name)
        assert 900 < width < 1500 and 300 < height < 1500 and len(found) > 20, name


def test_the_layer_and_the_weights_can_be_chosen(digits, picture, tmp_path, capsys):
    out = tmp_path / "out"
    inspect.main([*map(str, (digits, picture, "--out", out)), "--layer", "Conv_0", "--epoch", "last"])
    assert "(epoch 2)" in capsys.readouterr().out
    assert sorted(path.name for path in out.glob("f*")) == ["filter_patterns_Conv_0.png", "filters.png"]


def check_refused(capsys, message, *arguments):
    with pytest.raises(SystemExit) as stop:
        inspect.main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_mistakes_are_named(digits, picture, tmp_path, capsys):
    run = tmp_path / "run"
    write_run(run, DenseNet(), (28, 28, 1), list("0123456789"))
    message = f"{run} holds a DenseNet, which has no convolutions to look into: name another run"
    check_refused(capsys, message, run, picture)
    none = tmp_path / "none.jpg"
    message = f"{none} is no picture that can be decoded (No such file or directory): name another file"
    check_refused(capsys, message, run, none)
    none.write_bytes(b"")
    formats = "BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP"
    message = f"{none} is no picture that can be decoded (no header of {formats}): name another file"
    check_refused(capsys, message, run, none)
    message = "--layer MaxPool_0 is no convolution of this net: give one of Conv_0, Conv_1, Conv_2"
    check_refused(capsys, message, digits, picture, "--layer", "MaxPool_0")
    message = f"--out {picture} cannot be written (File exists): name another folder"
    check_refused(capsys, message, digits, picture, "--out", picture)


def test_help_answers_at_once():
    code = "import sys; from tools import inspect; print({'numpy', 'PIL', 'jax', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
