import numpy as np
from PIL import Image

from jaxconv.augment import RandomAffine
from jaxconv.figures import write_augmented, write_bands, write_curves, write_seeds
from jaxconv.records import SplitDirectory


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
        assert (31, 119, 180) in found  # the curves' blue
        assert size == (768, 528)


def test_bands_have_a_line_and_their_range_around_it(tmp_path):
    series = {"one": [[0.9, 0.5, 0.3], [0.8, 0.6, 0.1]], "other": [[0.2, 0.2, 0.2]]}
    write_bands(tmp_path / "bands.png", [0, 1, 2], series, labels=("x", "y"), title="a title")
    found, size = colours(tmp_path / "bands.png")
    assert {(31, 119, 180), (255, 127, 14)} <= found  # both lines
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
        assert {(31, 119, 180), (255, 127, 14)} <= found and size == (768, 528)
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
