"""The division of pictures into splits."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxconv.data.classes import class_of
from jaxconv.data.similarity import Seen
from jaxconv.data.splits import contradictions, divide, group_alike, split
from jaxconv.runtime.errors import InputError
from tests.scenes import digit, encode, fill, scene, seen, tree

SHARES = {"test": 0.2, "validation": 0.2}


def far_apart(count: int) -> list[int]:
    """Hashes that differ in some 32 bits."""
    return [int(look) for look in np.random.default_rng(0).integers(0, 2**63, count, np.uint64)]


def names(groups: list[list[Seen]]) -> list[list[str]]:
    return [[one.path for one in group] for group in groups]


def test_groups_are_of_what_looks_alike_or_has_the_same_bytes():
    one, other = far_apart(2)
    pictures = [
        seen("a/1", one),
        seen("a/2", other),
        seen("a/3", one ^ 0b111),
        seen("a/4", one ^ 0b111111111),  # near the third, and so with the first
        seen("a/5", None, b"same"),
        seen("b/6", None),
        seen("b/7", None, b"same"),
        seen("b/8", one),  # like the first, but of another class
        seen("b/9", one ^ 1),
        seen("a/10", one, thumbnail=np.arange(1024) % 17),  # near, but of other pixels
    ]
    groups = [["a/1", "a/3", "a/4"], ["a/2"], ["a/5", "b/7"], ["b/6"], ["b/8", "b/9"], ["a/10"]]
    assert names(group_alike(pictures)) == groups
    assert group_alike([]) == []


def test_a_picture_can_join_two_groups():
    one = 0b111111111111
    groups = group_alike([seen("a/1", 0), seen("a/2", one), seen("a/3", 0b111111)])
    assert names(groups) == [["a/1", "a/2", "a/3"]]


@settings(deadline=None, max_examples=40)
@given(counts=st.lists(st.integers(5, 40), min_size=2, max_size=4), seed=st.integers(0, 99))
def test_shares_hold_for_any_classes(counts, seed):
    looks = iter(far_apart(sum(counts)))
    pictures = [seen(f"{label}/{number}", next(looks)) for label, count in enumerate(counts) for number in range(count)]
    found = split(group_alike(pictures), {"test": 0.2, "validation": 0.25}, seed)
    assert list(found) == ["test", "validation", "train"]
    assert Counter(one.path for part in found.values() for one in part) == Counter(one.path for one in pictures)
    for label, count in enumerate(counts):
        of_class = {name: sum(class_of(one.path) == str(label) for one in part) for name, part in found.items()}
        assert of_class["test"] == max(1, round(0.2 * count))
        assert of_class["validation"] == max(1, round(0.25 * count))


def test_pictures_alike_are_never_on_two_sides():
    looks = far_apart(10)
    pictures = [seen(f"{label}/{number}", looks[number // 2]) for label in "ab" for number in range(20)]
    found = split(group_alike(pictures), {"test": 0.3, "validation": 0.3}, 0)
    sides = {(one.phash, one.path[0]): name for name, part in found.items() for one in part}
    assert all(sides[one.phash, one.path[0]] == name for name, part in found.items() for one in part)


def test_the_seed_decides():
    groups = [[seen(f"{label}/{number}", None)] for label in "ab" for number in range(10)]
    first, same, other = (split(groups, SHARES, seed) for seed in (3, 3, 4))
    assert first == same != other
    assert names(groups) == [[f"{label}/{number}"] for label in "ab" for number in range(10)]


def test_a_class_that_is_all_alike_is_named():
    pictures = [seen(f"cats/{number}", None) for number in range(10)]
    pictures += [seen(f"dogs/{number}", 1) for number in range(10)]
    with pytest.raises(
        InputError, match=r"^dogs has 10 pictures, none of them for test: add some that differ, or --no-grouping$"
    ):
        split(group_alike(pictures), {"test": 0.2}, 0)


def test_the_class_is_the_top_folder_in_its_composed_form():
    assert class_of("cats/more/1.png") == "cats"
    assert class_of("cafe\u0301/1.png") == "caf\u00e9"


def test_contradictions_are_the_same_bytes_in_two_classes():
    pictures = [seen(path, None, path[-1].encode()) for path in ("a/1", "a/x1", "b/2", "b/y1", "c/1", "c/3")]
    assert contradictions(pictures) == [("a/1", "b/y1"), ("a/1", "c/1")]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Ten different pictures of each of two classes."""
    files = {
        f"{name}/{n}.png": scene(100 * i + n, 60, 60) for i, name in enumerate(("cats", "dogs")) for n in range(10)
    }
    return fill(tmp_path / "photos", {name: encode(picture, "PNG") for name, picture in files.items()})


LISTED = "20 pictures of 2 classes in {}: 10 cats, 10 dogs"


def test_a_folder_is_divided_and_the_notes_say_what_was_found(source):
    found = divide(source, SHARES, 0)
    assert found.class_names == ["cats", "dogs"]
    assert found.notes == [LISTED.format(source)]
    counts = {name: Counter(map(class_of, part)) for name, part in found.splits.items()}
    assert counts == {
        "test": {"cats": 2, "dogs": 2},
        "validation": {"cats": 2, "dogs": 2},
        "train": {"cats": 6, "dogs": 6},
    }
    assert sorted(name for part in found.splits.values() for name in part) == sorted(tree(source))


def test_other_files_and_loose_pictures_are_passed_over_and_counted(source):
    fill(source, {"cats/Thumbs.db": b"x", "notes.txt": b"x", "dogs/desktop.ini": b"x", "loose.png": b"broken"})
    found = divide(source, SHARES, 0)
    assert found.notes[0].startswith(f"{LISTED.format(source)}; 1 beside the class folders left out; passed over 3")
    assert sum(map(len, found.splits.values())) == 20


def test_what_looks_alike_is_kept_together_and_said(source):
    for number in range(3):  # copies of three cats, and cats that are dogs in other sizes
        fill(source, {f"cats/copy{number}.jpg": encode(scene(number, 50, 50))})
        fill(source, {f"cats/dog{number}.png": encode(scene(100 + number, 90, 90), "PNG")})
    found = divide(source, SHARES, 0)
    assert found.notes[1:] == ["6 pictures look alike in 3 groups, each kept in one split"]
    for part in found.splits.values():
        assert all((f"cats/{number}.png" in part) == (f"cats/copy{number}.jpg" in part) for number in range(3))
    apart = [divide(source, SHARES, seed, grouping=False) for seed in range(4)]
    assert all(len(one.notes) == 1 for one in apart)
    assert any(("cats/0.png" in part) != ("cats/copy0.jpg" in part) for one in apart for part in one.splits.values())


def test_digits_are_divided_one_by_one(tmp_path):
    files = {f"{label}/{n}.png": encode(digit(10 * label + n), "PNG") for label in range(2) for n in range(10)}
    source = fill(tmp_path / "digits", files)
    assert divide(source, SHARES, 0).notes == [f"20 pictures of 2 classes in {source}: 10 0, 10 1"]


def test_a_share_that_is_missed_is_said(source):
    for number in range(10, 35):  # 26 of 35 dogs look alike, which is more than the 7 that a split has room for
        fill(source, {f"dogs/{number}.png": encode(scene(100, 50 + number, 60), "PNG")})
    found = divide(source, SHARES, 0)
    counts = [Counter(map(class_of, part))["dogs"] for part in found.splits.values()]
    assert counts == [7, 2, 26]
    assert found.notes[1:] == [
        "26 pictures look alike in 1 group, each kept in one split",
        "large groups that look alike leave fewer than asked for: dogs has 2 of 7 for validation",
    ]


def refused(source: Path, **options) -> str:
    with pytest.raises(InputError) as error:
        divide(source, SHARES, 0, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_that_is_split_already_is_not_divided(tmp_path):
    source = fill(tmp_path / "my data", {f"{part}/{label}/1.png": b"" for part in ("Train", "val") for label in "ab"})
    cure = f"train on it with python -m experiments.folders --data '{source}'"
    assert refused(source).startswith(f"{source} is split already: {cure}, which holds out a fifth if there is no ")


def test_a_source_that_cannot_be_divided_is_named(source, tmp_path):
    assert refused(fill(tmp_path, {"photos.zip": b"PK"}) / "photos.zip").endswith(
        "is a file: name a folder of pictures, and unpack an archive first"
    )
    assert "nowhere does not exist: name a folder" in refused(tmp_path / "nowhere")
    assert "class folders: give it one folder of pictures a class" in refused(source / "cats")
    (source / "birds").mkdir()
    assert "birds holds no pictures" in refused(source)


def test_bad_pictures_are_refused_with_two_cures_or_left_out(source):
    fill(source, {"cats/a.png": b"", "dogs/b.jpg": b"<html>", "dogs/line\nend.png": b""})
    cure = "leave them out with --skip-bad, or move them with python -m tools.check_images"
    assert refused(source) == (
        f"{source}/cats/a.png is empty (0 bytes), the first of 3 such: {cure} {source} --min-side 1 --quarantine DIR"
    )
    found = divide(source, SHARES, 0, skip_bad=True)
    left = "cats/a.png (empty), dogs/b.jpg (not an image), dogs/line\\nend.png (empty)"
    assert found.notes[1:] == [f"left out 3 that cannot be used: {left}"]
    assert sum(map(len, found.splits.values())) == 20


def test_a_class_of_bad_pictures_alone_is_named(source):
    fill(source, {"birds/a.png": b"", "birds/b.png": b"x"})
    message = f"no picture in {source / 'birds'} can be used: put some in, or remove the folder"
    assert refused(source, skip_bad=True) == message


def test_the_same_bytes_in_two_classes_are_refused_or_kept_in_one_split(source):
    fill(
        source,
        {
            "dogs/cat.png": (source / "cats/3.png").read_bytes(),
            "cats/3 again.png": (source / "cats/3.png").read_bytes(),
        },
    )
    message = refused(source)
    assert message.startswith(
        f"{source}/cats/3 again.png and {source}/dogs/cat.png are the same picture in two classes, "
    )
    assert "the only such: remove those in the wrong class, which python -m tools.check_images " in message
    assert message.endswith(" lists, or add --keep-contradictions")
    found = divide(source, SHARES, 0, keep_contradictions=True)
    same = {"cats/3.png", "cats/3 again.png", "dogs/cat.png"}
    assert [len(same & {*part}) for part in found.splits.values() if same & {*part}] == [3]
    (source / "dogs/cat.png").unlink()
    assert divide(source, SHARES, 0).notes[1] == "2 pictures look alike in 1 group, each kept in one split"


def test_classes_whose_names_are_stored_decomposed_are_divided_too(source):
    (source / "cats").rename(source / "cafe\u0301")
    found = divide(source, SHARES, 0)
    assert found.class_names == ["caf\u00e9", "dogs"]
    assert sorted(name for part in found.splits.values() for name in part) == sorted(tree(source))
