"""How a folder of pictures is cut into splits."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tools import split_folders
from tools.check_images import Seen
from tools.split_folders import alike, class_of, split


def seen(name: str, look: int | None, digest: bytes | None = None) -> Seen:
    return Seen(name, digest or name.encode().ljust(8), look)


def far_apart(count: int) -> list[int]:
    """Hashes that differ in some 32 bits."""
    return [int(look) for look in np.random.default_rng(0).integers(0, 2**63, count, np.uint64)]


def picture(seed: int, size: int = 120) -> Image.Image:
    rough = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((size, size), Image.Resampling.BICUBIC)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Ten of each of two classes, two of them near-duplicates, and a folder in a class."""
    root = tmp_path / "photos"
    for index, name in enumerate(("cats", "dogs")):
        (root / name / "more").mkdir(parents=True)
        for number in range(9):
            picture(100 * index + number).save(root / name / ("more" if number == 8 else "") / f"{number}.png")
        picture(100 * index, 70).save(root / name / "copy.jpg")
    return root


def run(capsys, *arguments) -> list[str]:
    split_folders.main([str(argument) for argument in arguments])
    return capsys.readouterr().out.splitlines()


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_each_split_has_its_share_of_every_class_and_each_file_is_in_one(source, tmp_path, capsys):
    dest = tmp_path / "data/mine"
    lines = run(capsys, "--source", source, "--dest", dest)
    assert lines == [
        f"{dest / 'train'}: 6 cats, 6 dogs",
        f"{dest / 'validation'}: 2 cats, 2 dogs",
        f"{dest / 'test'}: 2 cats, 2 dogs",
    ]
    copied = files(dest)
    assert {name.partition("/")[2]: data for name, data in copied.items()} == files(source)
    assert len(copied) == 20
    for name in ("cats", "dogs"):
        (first,) = [path.parents[1] for path in dest.rglob(f"{name}/0.png")]
        assert (first / name / "copy.jpg").exists()
    assert [path.name for path in dest.parent.iterdir()] == ["mine"]


def test_the_seed_decides(source, tmp_path, capsys):
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        run(capsys, "--source", source, "--dest", tmp_path / name, "--seed", seed)
    assert files(tmp_path / "one") == files(tmp_path / "same") != files(tmp_path / "other")


def test_shares_are_as_asked_for(source, tmp_path, capsys):
    lines = run(capsys, "--source", source, "--dest", tmp_path / "mine", "--validation", 0.1, "--test", 0.5)
    assert [line.split()[1] for line in lines] == ["4", "1", "5"]


def test_groups_are_of_what_looks_alike_or_has_the_same_bytes():
    one, other = far_apart(2)
    pictures = [
        seen("a/1", one),
        seen("a/2", other),
        seen("a/3", one ^ 0b111),
        seen("a/4", one ^ 0b111111111),  # near the third, and so with the first
        seen("a/5", None, b"same    "),
        seen("b/6", None),
        seen("b/7", None, b"same    "),
    ]
    groups = [[one.path for one in group] for group in alike(pictures)]
    assert sorted(groups) == [["a/1", "a/3", "a/4"], ["a/2"], ["a/5", "b/7"], ["b/6"]]


@settings(deadline=None, max_examples=40)
@given(counts=st.lists(st.integers(5, 40), min_size=2, max_size=4), seed=st.integers(0, 99))
def test_shares_hold_for_any_classes(counts, seed):
    looks = iter(far_apart(sum(counts)))
    pictures = [seen(f"{label}/{number}", next(looks)) for label, count in enumerate(counts) for number in range(count)]
    found = split(pictures, {"test": 0.2, "validation": 0.25}, seed)
    assert Counter(one.path for part in found.values() for one in part) == Counter(one.path for one in pictures)
    for label, count in enumerate(counts):
        of_class = {name: sum(class_of(one) == str(label) for one in part) for name, part in found.items()}
        assert of_class["test"] == max(1, round(0.2 * count))
        assert of_class["validation"] == max(1, round(0.25 * count))


def test_pictures_alike_are_never_on_two_sides():
    looks = far_apart(10)
    pictures = [seen(f"{label}/{number}", looks[number]) for label in "ab" for number in range(10)]
    found = split(pictures, {"test": 0.3, "validation": 0.3}, 0)
    sides = {one.look: name for name, part in found.items() for one in part}
    assert all(sides[one.look] == name for name, part in found.items() for one in part)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--test", "0"], "--test is 0.0: give shares above 0 that leave some for train"),
        (["--test", "0.6", "--validation", "0.4"], "is 0.6: give shares above 0 that leave some for train"),
        (["--dest", "{source}"], "photos exists: name a new folder"),
        (["--dest", "{source}/mine"], "photos/mine lies in --source"),
        (["--source", "nowhere"], "nowhere does not exist"),
    ],
)
def test_wrong_flags_are_named(flags, message, source, tmp_path, capsys):
    fails(capsys, message, "--source", source, "--dest", tmp_path / "mine", *(f.format(source=source) for f in flags))


def fails(capsys, message: str, *arguments) -> None:
    with pytest.raises(SystemExit) as stop:
        split_folders.main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1


def test_broken_pictures_are_named_and_nothing_is_made(source, tmp_path, capsys):
    (source / "cats/0.png").write_bytes(b"")
    fails(capsys, "photos/cats/0.png is empty (0 bytes), one of 1 such", "--source", source, "--dest", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_class_that_is_too_small_or_all_alike_is_named(source, tmp_path, capsys):
    for path in (source / "dogs").rglob("*.png"):
        path.write_bytes(png(picture(7)))
    fails(capsys, "dogs has 10 pictures, none of them for ", "--source", source, "--dest", tmp_path / "new")


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_a_place_that_cannot_be_written_is_named(source, tmp_path, capsys):
    (tmp_path / "file").touch()
    fails(capsys, "cannot be written (File exists)", "--source", source, "--dest", tmp_path / "file/new")
