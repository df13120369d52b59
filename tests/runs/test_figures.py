import numpy as np
import pytest
from PIL import Image

from jaxconv.data.arrays import ArraySource
from jaxconv.data.augment import RandomAffine
from jaxconv.data.records import SplitDirectory
from jaxconv.runs import figures
from jaxconv.runs.figures import (
    shorten,
    spread_positions,
    whole_ticks,
    write_augmented,
    write_bands,
    write_confusion,
    write_curves,
    write_predictions,
    write_seeds,
)

BLUE, ORANGE = (31, 119, 180), (255, 127, 14)  # training and validation


@pytest.fixture
def drawn(monkeypatch):
    """The axes of each figure that is drawn, in place of the files."""
    found = []
    monkeypatch.setattr(figures, "save", lambda figure, path: found.append(figure.axes))
    return found


def colours(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return {colour for _, colour in picture.convert("RGB").getcolors(1_000_000)}, picture.size


def test_curves_are_two_pictures_that_grow_with_the_rows(tmp_path):
    rows = [{"epoch": e, "acc": 0.1 * e, "val_acc": 0.08 * e, "loss": 1 / e, "val_loss": 1.1 / e} for e in range(1, 9)]
    write_curves(rows[:1], tmp_path / "figures", "a title")
    first = (tmp_path / "figures/accuracy.png").read_bytes()
    write_curves(rows, tmp_path / "figures", "a title")
    assert (tmp_path / "figures/accuracy.png").read_bytes() != first
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["accuracy.png", "loss.png"]
    for name in ("accuracy", "loss"):
        found, size = colours(tmp_path / f"figures/{name}.png")
        assert {BLUE, ORANGE} <= found
        assert size == (768, 528)


def test_a_few_epochs_are_dots_with_whole_ticks(tmp_path, drawn):
    """The line of one epoch would be invisible."""
    rows = [{"epoch": e, "acc": 0.5, "val_acc": 0.6, "loss": 0.2, "val_loss": 0.1} for e in range(1, 31)]
    for count, marker, ticks in ((1, "o", [1]), (3, "o", [1, 2, 3]), (30, "None", [1, 5, 10, 15, 20, 25, 30])):
        write_curves(rows[:count], tmp_path, "a title")
        write_seeds([rows[:count]] * 2, tmp_path, "a title")
        for (axes,) in drawn:
            assert axes.lines[1].get_marker() == marker and axes.get_xticks().tolist() == ticks
        assert len(drawn) == 4
        drawn.clear()


def test_ticks_are_whole_numbers_from_the_first_to_the_last():
    assert whole_ticks(range(7)) == [*range(7)]
    assert whole_ticks(range(1, 14)) == [*range(1, 14)]
    assert whole_ticks(range(1, 34)) == [1, 5, 10, 15, 20, 25, 30, 33]
    assert whole_ticks(range(1, 101)) == [1, *range(10, 101, 10)]
    assert whole_ticks(range(1, 1_000_001)) == [1, *range(100_000, 1_000_001, 100_000)]


def test_bands_have_a_line_and_their_range_around_it(tmp_path):
    series = {"one": [[0.9, 0.5, 0.3], [0.8, 0.6, 0.1]], "other": [[0.2, 0.2, 0.2]]}
    write_bands(tmp_path / "bands.png", [0, 1, 2], series, labels=("x", "y"), title="a title")
    found, size = colours(tmp_path / "bands.png")
    assert {BLUE, ORANGE} <= found
    assert any(np.abs(np.subtract(colour, (210, 228, 240))).max() <= 1 for colour in found)  # the first one's band
    assert size == (768, 528)


def test_seeds_are_bands_over_the_epochs_that_all_have(tmp_path):
    def rows(epochs, more):
        return [
            {"epoch": e, "acc": 0.1 * e + more, "val_acc": 0.08 * e, "loss": 1 / e, "val_loss": 1.1 / e}
            for e in range(1, epochs + 1)
        ]

    write_seeds([rows(8, 0), rows(8, 0.1)], tmp_path / "whole", "a title")
    write_seeds([rows(8, 0), rows(9, 0.1)], tmp_path / "longer", "a title")
    for name in ("accuracy", "loss"):
        found, size = colours(tmp_path / f"whole/{name}.png")
        assert {BLUE, ORANGE} <= found and size == (768, 528)
        assert (tmp_path / f"whole/{name}.png").read_bytes() == (tmp_path / f"longer/{name}.png").read_bytes()


def test_augmented_pictures_stand_beside_their_originals(photos, tmp_path):
    source = SplitDirectory(photos, "train")
    write_augmented(source, RandomAffine(), tmp_path / "augmented.png", "a title")
    found, (width, height) = colours(tmp_path / "augmented.png")
    assert width > height > 500
    assert len(found) > 1000
    again = (tmp_path / "augmented.png").read_bytes()
    write_augmented(source, RandomAffine(), tmp_path / "augmented.png", "a title")
    assert (tmp_path / "augmented.png").read_bytes() == again
    assert np.ptp([record["label"] for record in source]) == 1


def test_augmented_pictures_say_what_they_are(photos, drawn):
    write_augmented(SplitDirectory(photos, "train"), RandomAffine(), "-", "a title")
    assert drawn[0][0].figure.get_suptitle() == "Training pictures and their augmented versions\na title"


@pytest.mark.parametrize("classes", [3, 5, 10])
def test_a_confusion_matrix_is_coloured_by_shares_of_rows(tmp_path, classes):
    """All right but for a class without pictures: whatever the counts, so many cells are dark, and the others light."""
    confusion = np.diag([10**row % 9_999 for row in range(classes - 1)] + [0])
    names = ["$1_ and $2 of a long name", *map(str, range(classes - 2)), "\u732b"]  # no formula; no such letter
    write_confusion(confusion.tolist(), names, tmp_path / "confusion.png", "a $x title$")
    with Image.open(tmp_path / "confusion.png") as picture:
        count = {colour: number for number, colour in picture.convert("RGB").getcolors(1_000_000)}
        assert picture.width > picture.height > 250
    dark, light = (8, 48, 107), (247, 251, 255)  # the ends of Matplotlib's Blues
    assert count[dark] / count[light] == pytest.approx((classes - 1) / (classes**2 - classes + 1), rel=0.2)


def test_a_confusion_matrix_of_many_classes_keeps_its_size(tmp_path):
    names = [f"class {number}" for number in range(100)]
    write_confusion(np.diag(range(100)).tolist(), names, tmp_path / "confusion.png", "a title")
    with Image.open(tmp_path / "confusion.png") as picture:
        assert max(picture.size) < 2_900


@pytest.mark.parametrize("shape", [(20, 20, 3), (28, 28, 1)])
@pytest.mark.parametrize("count", [1, 3, 25])
def test_predictions_mark_mistakes_in_red(tmp_path, shape, count):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2, (count, *shape), dtype=np.uint8) * 255
    source = ArraySource(images // 3 * 2, np.arange(count, dtype=np.int32) % 2, ["cats", "dogs"])
    right = np.eye(2)[source.labels] * 0.8 + 0.1
    firebrick = (178, 34, 34)
    for name, probabilities in (("right", right), ("wrong", 1 - right)):
        records = [source[index] for index in range(count)]
        write_predictions(records, probabilities, source.class_names, tmp_path / f"{name}.png", "a title")
        found, (width, _) = colours(tmp_path / f"{name}.png")
        assert (firebrick in found) == (name == "wrong")
        assert width == 120 * 1.7 * max(3, min(5, count))


def test_above_a_picture_stand_its_true_and_its_predicted_class(drawn):
    source = ArraySource(np.zeros((2, 20, 20, 3), np.uint8), np.array([0, 1], np.int32), ["cats", "a very long name"])
    write_predictions([source[0], source[1]], np.array([[0.9, 0.1], [0.6, 0.4]]), source.class_names, "-", "a title")
    titles = [axes.get_title() for axes in drawn[0]]
    assert titles == ["true: cats\npredicted: cats 90.0%", "true: a very long n\u2026\npredicted: cats 60.0%"]
    assert drawn[0][0].figure.get_suptitle().endswith("mistakes in red\na title")


def test_the_pictures_shown_are_spread_over_all():
    def source(count):
        return ArraySource(np.zeros((count, 1, 1, 1), np.uint8), np.zeros(count, np.int32), ["a", "b"])

    assert spread_positions(source(3)) == [0, 1, 2]
    assert spread_positions(source(25)) == [*range(25)]
    assert spread_positions(source(1000))[::12] == [0, 499, 999] and len(spread_positions(source(1000))) == 25


def test_names_are_shortened():
    assert [shorten(name) for name in ("cats", "fourteen chars", "fifteen letters")] == [
        "cats",
        "fourteen chars",
        "fifteen lette\u2026",
    ]
