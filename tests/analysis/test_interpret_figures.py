"""Grids and heat maps, by the colours in them."""

import numpy as np
import pytest
from PIL import Image

from jaxconv.analysis import interpret_figures

PURPLE = (68, 1, 84)  # where viridis begins


def size_and_colours(path):
    with Image.open(path) as shown:
        assert shown.format == "PNG"
        return shown.size, {colour for _, colour in shown.convert("RGB").getcolors(10_000_000)}


def test_grids_of_coloured_and_of_grey_pictures(tmp_path):
    grey = np.linspace(-1, 1, 27, dtype=np.float32).reshape(3, 3, 3, 1)
    interpret_figures.write_kernels(grey, tmp_path / "grey.png", "a title")
    _, found = size_and_colours(tmp_path / "grey.png")
    assert {(0, 0, 0), (255, 255, 255)} <= found and all(max(colour) == min(colour) for colour in found)
    coloured = np.zeros((20, 3, 3, 3), np.float32)
    coloured[:, 0, 0, 0], coloured[:, 1, 1, 2] = 0.1, -0.1
    interpret_figures.write_kernels(coloured, tmp_path / "coloured.png", "a title")
    (_, height), found = size_and_colours(tmp_path / "coloured.png")
    assert {(255, 127, 127), (127, 127, 127), (127, 127, 0)} <= found
    interpret_figures.write_patterns(coloured + 7, tmp_path / "patterns.png", "a title")
    size, found = size_and_colours(tmp_path / "patterns.png")
    assert size[1] == height - 24 and len(found) > 3  # as many rows, and a line less above them


def test_silent_maps_look_unlike_dark_ones(tmp_path):
    maps = np.zeros((5, 5, 2), np.float32)
    maps[2, 2, 0] = 1e-9
    interpret_figures.write_activations(maps, tmp_path / "maps.png", "a title")
    assert {PURPLE, (204, 204, 204)} <= size_and_colours(tmp_path / "maps.png")[1]
    interpret_figures.write_activations(maps[..., :1], tmp_path / "maps.png", "a title")
    interpret_figures.write_activations(maps[..., 1:], tmp_path / "maps.png", "a title")
    assert PURPLE not in size_and_colours(tmp_path / "maps.png")[1]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, in place of the files."""
    found = []
    monkeypatch.setattr(interpret_figures, "save", lambda figure, path: found.append(figure))
    return found


def test_a_picture_says_what_its_colours_mean(drawn):
    maps = np.ones((5, 5, 2), np.float32)
    interpret_figures.write_activations(maps, "-", "a title")
    maps[..., 1] = 0
    interpret_figures.write_activations(maps, "-", "a title")
    interpret_figures.write_kernels(maps[None], "-", "a title")
    texts = [figure.axes[0].texts[0].get_text() for figure in drawn]
    scaled = "a title\nEach feature map is scaled to its own maximum"
    silent = f"{scaled}; those crossed out are silent: 0 everywhere"
    grey = "a title\nGrey is 0; the largest weight of each kernel has the full contrast"
    assert texts == [scaled, silent, grey]


def test_the_picture_stands_once_beside_the_evidence_of_each_class(drawn):
    heat = np.ones((4, 4), np.float32)
    interpret_figures.write_grad_cam(np.zeros((4, 4, 3), np.uint8), {"cats": heat, "dogs": 0 * heat}, "-", "a title")
    titles = [axes.get_title() for axes in drawn[0].axes]
    assert titles == ["picture", "evidence for cats", "overlay", "no evidence for dogs", "overlay", ""]
    assert drawn[0].axes[-1].get_ylabel() == "evidence, relative to this class's maximum"


def test_dollars_in_names_begin_no_formula(tmp_path):
    image, heat = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), np.float32)
    interpret_figures.write_grad_cam(image, {"$1": heat, "$2_": heat}, tmp_path / "gradcam.png", "$1 90%, $2_ 10%")
    assert len(size_and_colours(tmp_path / "gradcam.png")[1]) > 20


def test_heat_covers_the_more_the_hotter():
    image = np.full((2, 3, 1), 200, np.uint8)
    heat = np.array([[0, 0.5, 1], [0, 0, 0]], np.float32)
    found = interpret_figures.overlay(image, heat)
    assert (found.shape, found.dtype) == ((2, 3, 3), np.uint8)
    assert (found[1] == 200).all() and (found[0, 0] == 200).all()
    hottest = 0.25 * 200 + 0.75 * 255 * np.array([0.988362, 0.998364, 0.644924])  # where inferno ends
    np.testing.assert_allclose(found[0, 2], hottest, atol=1)
    assert found[0, 1, 0] > found[0, 1, 2]


def test_kernels_of_other_channels_are_grey(tmp_path):
    """As in the first convolution of a net whose pictures have two or four channels."""
    kernels = np.random.default_rng(0).normal(size=(4, 3, 3, 4)).astype(np.float32)
    interpret_figures.write_kernels(kernels, tmp_path / "four.png", "a title")
    _, found = size_and_colours(tmp_path / "four.png")
    assert len(found) > 20 and all(max(colour) - min(colour) <= 1 for colour in found)
