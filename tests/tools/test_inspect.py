"""The figures of a net and a picture, on tiny nets, and every message that the command can end with."""

import functools
import re

import numpy as np
import pytest
from PIL import Image

from jaxconv.analysis import interpret, interpret_figures
from jaxconv.analysis.predictor import Predictor
from jaxconv.data.images import FORMATS
from jaxconv.models import DenseNet, MnistConvNet
from tests import commands
from tests.analysis.test_interpret_figures import size_and_colours
from tests.made_runs import write_run
from tools import inspect

fails = functools.partial(commands.fails, inspect.main)


def draw(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (60, 50, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def picture(tmp_path):
    return draw(tmp_path / "a cat.png")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    run = tmp_path_factory.mktemp("digits")
    write_run(run, MnistConvNet(), (28, 28, 1), list("0123456789"))
    return run


def test_a_run_and_a_picture_become_all_figures(digits, picture, capsys, monkeypatch):
    short = functools.partial(interpret.maximize_activation, steps=2)  # the whole ascent takes a minute
    monkeypatch.setattr(interpret, "maximize_activation", short)
    inspect.main([str(digits), str(picture)])
    net = Predictor(digits)
    likely = net.probabilities(net.decode(picture.read_bytes())[None])[0]
    first, second = sorted(range(10), key=lambda i: -likely[i])[:2]
    folder = inspect.default_folder(digits, picture)
    assert folder.parent == digits / "figures" and re.fullmatch("a cat-[0-9a-f]{8}", folder.name)
    said = f"{first} {likely[first]:.1%}, {second} {likely[second]:.1%} (epoch 1). The figures are in {folder}"
    assert capsys.readouterr().out == f"{picture}: {said}\n"
    layers = [f"activations_{name}.png" for name in ("Conv_0", "Conv_1", "Conv_2", "MaxPool_0", "MaxPool_1")]
    names = [*layers, "filter_patterns_Conv_2.png", "filters.png", "gradcam.png"]
    assert [path.name for path in sorted(folder.iterdir())] == names
    for name in names:
        (width, height), found = size_and_colours(folder / name)
        assert 900 < width < 1500 and 300 < height < 1500 and len(found) > 20, name


def test_the_layer_and_the_weights_can_be_chosen(digits, picture, tmp_path, capsys, monkeypatch):
    """The figures that do not depend on the layer are not drawn."""
    for name in ("write_activations", "write_grad_cam"):
        monkeypatch.setattr(interpret_figures, name, lambda *_: None)
    out = tmp_path / "out"
    inspect.main([*map(str, (digits, picture, "--out", out)), "--layer", "Conv_0", "--epoch", "last"])
    assert "(epoch 2)" in capsys.readouterr().out
    assert sorted(path.name for path in out.glob("f*")) == ["filter_patterns_Conv_0.png", "filters.png"]


def test_pictures_of_one_name_have_figures_of_their_own(digits, tmp_path, monkeypatch, capsys):
    """The folder is the same for the same picture, however it is named, and it is printed."""
    first, second = draw(tmp_path / "a/cat.png"), draw(tmp_path / "b/cat.png", seed=1)
    (tmp_path / "link.png").symlink_to(first)
    monkeypatch.setattr(inspect, "inspect", lambda predictor, image, layer, folder: f"{image.sum()}")
    monkeypatch.chdir(tmp_path / "a")
    folders = []
    for named in (first, second, "cat.png", "../b/cat.png"):
        inspect.main([str(digits), str(named)])
        folders.append(capsys.readouterr().out.strip().partition("The figures are in ")[2])
    assert folders[0] == folders[2] != folders[1] == folders[3]
    for folder in folders:
        assert folder.startswith(f"{digits}/figures/cat-")
    assert inspect.default_folder(digits, tmp_path / "link.png").name.startswith("link-")


def test_a_picture_named_as_a_figure_of_the_run_is_no_matter(digits, tmp_path, monkeypatch):
    (digits / "figures").mkdir(exist_ok=True)
    (digits / "figures/loss.png").touch()
    monkeypatch.setattr(inspect, "inspect", lambda predictor, image, layer, folder: folder.mkdir())
    picture = draw(tmp_path / "loss.png.png")
    inspect.main([str(digits), str(picture)])
    assert inspect.default_folder(digits, picture).is_dir()


def test_what_is_wrong_is_named(digits, picture, tmp_path, capsys):
    run, none, formats = tmp_path / "run", tmp_path / "none.jpg", ", ".join(FORMATS)
    write_run(run, DenseNet(), (28, 28, 1), list("0123456789"))
    refused = f"error: {run} holds a DenseNet, which has no convolutions to look into: name another run\n"
    assert fails(capsys, run, picture) == refused
    refused = f"error: {none} is no picture that can be decoded ({{}}): name another file\n"
    assert fails(capsys, run, none) == refused.format("No such file or directory")
    none.write_bytes(b"")
    assert fails(capsys, run, none) == refused.format(f"no header of {formats}")
    refused = "error: --layer MaxPool_0 is no convolution of this net: give one of Conv_0, Conv_1, Conv_2\n"
    assert fails(capsys, digits, picture, "--layer", "MaxPool_0") == refused
    refused = f"error: --out {picture} cannot be written (File exists): name another folder\n"
    assert fails(capsys, digits, picture, "--out", picture) == refused


@pytest.mark.parametrize("layers, places", [(1, [0]), (12, [*range(12)]), (23, [*range(0, 23, 2)]), (51, None)])
def test_the_maps_of_a_deep_net_are_those_of_layers_from_the_first_to_the_last(layers, places):
    found = inspect.spread(layers)
    assert found == places or (places is None and len({*found}) == 12 and (found[0], found[-1]) == (0, 50))
