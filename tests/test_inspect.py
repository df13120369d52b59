"""The command that shows what a net sees, on tiny nets."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_trained import write_run

from jaxconv import figures, trained
from jaxconv.models import DenseNet, MnistConvNet
from tools import inspect

PURPLE = (68, 1, 84)  # where viridis begins


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a cat.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)).save(path)
    return path


def size_and_colours(path):
    with Image.open(path) as shown:
        assert shown.format == "PNG"
        return shown.size, {colour for _, colour in shown.convert("RGB").getcolors(10_000_000)}


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


def test_grids_of_coloured_and_of_grey_pictures(tmp_path):
    grey = np.linspace(-1, 1, 27, dtype=np.float32).reshape(3, 3, 3, 1)
    figures.write_kernels(grey, tmp_path / "grey.png", "a title")
    _, found = size_and_colours(tmp_path / "grey.png")
    assert {(0, 0, 0), (255, 255, 255)} <= found and all(max(colour) == min(colour) for colour in found)
    coloured = np.zeros((20, 3, 3, 3), np.float32)
    coloured[:, 0, 0, 0], coloured[:, 1, 1, 2] = 0.1, -0.1
    figures.write_kernels(coloured, tmp_path / "coloured.png", "a title")
    (_, height), found = size_and_colours(tmp_path / "coloured.png")
    assert {(255, 127, 127), (127, 127, 127), (127, 127, 0)} <= found
    figures.write_patterns(coloured + 7, tmp_path / "patterns.png", "a title")
    size, found = size_and_colours(tmp_path / "patterns.png")
    assert size[1] == height and len(found) > 3  # as many rows


def test_silent_maps_look_unlike_dark_ones(tmp_path):
    maps = np.zeros((5, 5, 2), np.float32)
    maps[2, 2, 0] = 1e-9
    figures.write_responses(maps, tmp_path / "maps.png", "a title")
    assert {PURPLE, (204, 204, 204)} <= size_and_colours(tmp_path / "maps.png")[1]
    figures.write_responses(maps[..., :1], tmp_path / "maps.png", "a title")
    figures.write_responses(maps[..., 1:], tmp_path / "maps.png", "a title")
    assert PURPLE not in size_and_colours(tmp_path / "maps.png")[1]


def test_heat_covers_the_more_the_hotter():
    image = np.full((2, 3, 1), 200, np.uint8)
    heat = np.array([[0, 0.5, 1], [0, 0, 0]], np.float32)
    found = figures.overlay(image, heat)
    assert (found.shape, found.dtype) == ((2, 3, 3), np.uint8)
    assert (found[1] == 200).all() and (found[0, 0] == 200).all()
    hottest = 0.25 * 200 + 0.75 * 255 * np.array([0.988362, 0.998364, 0.644924])  # where inferno ends
    np.testing.assert_allclose(found[0, 2], hottest, atol=1)
    assert found[0, 1, 0] > found[0, 1, 2]


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
