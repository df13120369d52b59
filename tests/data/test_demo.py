from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxconv.data import demo
from jaxconv.data.demo_drawing import draw
from jaxconv.runtime.errors import InputError

FEW = {"train": 3, "validation": 1, "test": 2}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
        drawn = draw(1, np.random.default_rng([2, 1, 1]))
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


def test_a_folder_of_an_earlier_version_is_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its note had other words, and its pictures are the same."""
    folder = demo.write(tmp_path / "demo", FEW)
    counts = b"Pictures of each: train 3, validation 1, test 2.\n"
    note = folder / "README.txt"
    assert note.read_bytes() == b"Cats and dogs drawn by jaxconv.data.demo, drawing version 1. " + counts
    note.write_bytes(b"Cats and dogs drawn by jaxconv.demo, first edition. " + counts)
    before = contents(folder)
    monkeypatch.delattr(demo, "draw")
    assert demo.write(folder, FEW) == folder
    assert contents(folder) == before
    note.write_bytes(b"Cats and dogs drawn by jaxconv.demo, second edition. " + counts)
    with pytest.raises(InputError, match="does not hold these drawn pictures"):
        demo.write(folder, FEW)


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
    drawn = iter([draw(0, np.random.default_rng(0))] * 3)

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
