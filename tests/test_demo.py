from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import RidgeClassifier

from jaxconv import demo
from jaxconv.errors import InputError

FEW = {"train": 3, "validation": 1, "test": 2}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, np.ndarray]:
    """Of each class 300 pictures at 32x32, cats and dogs in turn."""
    labels = np.arange(600) % 2
    pictures = [demo.draw(label, np.random.default_rng([7, number])) for number, label in enumerate(labels.tolist())]
    return np.stack([cv2.resize(p, (32, 32), interpolation=cv2.INTER_AREA) for p in pictures]), labels


@pytest.mark.parametrize("label", [0, 1])
def test_pictures_are_rgb_bytes_of_many_sizes(label: int) -> None:
    pictures = [demo.draw(label, np.random.default_rng(number)) for number in range(50)]
    assert all(p.dtype == np.uint8 and p.ndim == 3 and p.shape[2] == 3 for p in pictures)
    sides = np.array([p.shape[:2] for p in pictures])
    assert sides.min() >= 120 and sides.max() <= 260
    assert np.ptp(sides, axis=0).min() > 60
    aspects = sides[:, 0] / sides[:, 1]
    assert aspects.min() < 0.85 and aspects.max() > 1.2


def test_a_picture_depends_on_label_and_generator_alone() -> None:
    first, other = (demo.draw(0, np.random.default_rng(seed)) for seed in (1, 2))
    np.random.default_rng(0).random()
    np.testing.assert_array_equal(demo.draw(0, np.random.default_rng(1)), first)
    assert first.shape != other.shape or (first != other).any()


def test_cat_and_dog_of_one_generator_differ_in_the_animal_alone() -> None:
    for seed in range(10):
        cat, dog = (demo.draw(label, np.random.default_rng(seed)).astype(int) for label in (0, 1))
        assert cat.shape == dog.shape
        changed = (np.abs(cat - dog).max(axis=2) > 8).mean()
        assert 0.02 < changed < 0.6


def test_mean_colour_does_not_tell_the_classes_apart(sample: tuple[np.ndarray, np.ndarray]) -> None:
    pictures, labels = sample
    colours = pictures.mean(axis=(1, 2))
    gap = colours[labels == 0].mean(axis=0) - colours[labels == 1].mean(axis=0)
    assert np.all(np.abs(gap) < 0.3 * colours.std(axis=0))


@pytest.mark.parametrize("alpha", [10.0, 100.0, 1000.0])
def test_a_linear_model_is_not_enough(sample: tuple[np.ndarray, np.ndarray], alpha: float) -> None:
    pictures, labels = sample
    pixels = pictures.reshape(len(labels), -1) / 255
    accuracy = RidgeClassifier(alpha=alpha).fit(pixels[:420], labels[:420]).score(pixels[420:], labels[420:])
    assert accuracy < 0.75


def test_written_files_are_jpegs_of_what_is_drawn(tmp_path: Path) -> None:
    folder = demo.write(tmp_path / "new" / "demo", FEW)
    assert folder == tmp_path / "new" / "demo"
    assert [path.name for path in folder.parent.iterdir()] == ["demo"]
    for split, count in FEW.items():
        for name in ("cat", "dog"):
            names = {path.name for path in (folder / split / f"{name}s").iterdir()}
            assert names == {f"{name}.{number}.jpg" for number in range(count)}
    with Image.open(folder / "test" / "dogs" / "dog.1.jpg") as image:
        assert image.format == "JPEG" and image.mode == "RGB"
        drawn = demo.draw(1, np.random.default_rng([2, 1, 1]))
        assert np.abs(np.asarray(image).astype(int) - drawn).mean() < 6


def test_pictures_do_not_depend_on_how_many_there_are_and_all_differ(tmp_path: Path) -> None:
    few, more = (contents(demo.write(tmp_path / str(train), {"train": train, "test": 1})) for train in (2, 4))
    few.pop(demo.NOTE)
    assert few.items() <= more.items()
    assert len(set(more.values())) == len(more)


def test_a_complete_folder_is_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = demo.write(tmp_path / "demo", FEW)
    before = contents(folder)
    monkeypatch.delattr(demo, "draw")
    assert demo.write(folder, FEW) == folder
    assert contents(folder) == before


def test_the_usual_counts() -> None:
    assert demo.COUNTS == {"train": 1000, "validation": 250, "test": 250}
    assert len(demo._pictures(demo.COUNTS)) == 3000


def test_another_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "README.txt").write_bytes(b"\xffholidays")
    with pytest.raises(InputError, match=r"photos: .*does not hold these drawn pictures; remove it or name another"):
        demo.write(photos, FEW)
    assert contents(photos) == {"README.txt": b"\xffholidays"}


def test_a_file_of_that_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("mine")
    with pytest.raises(InputError, match="does not hold these drawn pictures"):
        demo.write(tmp_path / "demo", FEW)
    assert (tmp_path / "demo").read_text() == "mine"


def test_other_counts_are_refused(tmp_path: Path) -> None:
    folder = demo.write(tmp_path / "demo", FEW)
    with pytest.raises(InputError, match="does not hold these drawn pictures"):
        demo.write(folder, FEW | {"train": 2})


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    folder = demo.write(tmp_path / "demo", FEW)
    (folder / "train" / "dogs" / "dog.1.jpg").unlink()
    before = contents(folder)
    with pytest.raises(InputError, match=r"demo: train/dogs/dog\.1\.jpg is missing; remove the folder"):
        demo.write(folder, FEW)
    assert contents(folder) == before


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"demo: cannot write the drawn pictures there \(.+\)"):
        demo.write(tmp_path / "file" / "demo", FEW)


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([demo.draw(0, np.random.default_rng(0))] * 3)

    def interrupted(label: int, rng: np.random.Generator) -> np.ndarray:
        for picture in drawn:
            return picture
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.write(tmp_path / "demo", FEW)
    assert not list(tmp_path.iterdir())


def test_another_process_may_be_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_all = demo._write_all

    def after_another(folder: Path, counts: dict[str, int]) -> None:
        write_all(tmp_path / "demo", counts)
        write_all(folder, counts)

    monkeypatch.setattr(demo, "_write_all", after_another)
    assert demo.write(tmp_path / "demo", FEW) == tmp_path / "demo"
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
