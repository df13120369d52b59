"""The division of pictures into splits."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxconv.data.splits import class_of, copy_splits, group_alike, split
from jaxconv.runtime.errors import InputError
from tests.scenes import fill, seen, tree


def far_apart(count: int) -> list[int]:
    """Hashes that differ in some 32 bits."""
    return [int(look) for look in np.random.default_rng(0).integers(0, 2**63, count, np.uint64)]


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
    ]
    groups = [[one.path for one in group] for group in group_alike(pictures)]
    assert groups == [["a/1", "a/3", "a/4"], ["a/2"], ["a/5", "b/7"], ["b/6"]]
    assert group_alike([]) == []


def test_a_picture_can_join_two_groups():
    one = 0b111111111111
    groups = group_alike([seen("a/1", 0), seen("a/2", one), seen("a/3", 0b111111)])
    assert [[one.path for one in group] for group in groups] == [["a/1", "a/2", "a/3"]]


@settings(deadline=None, max_examples=40)
@given(counts=st.lists(st.integers(5, 40), min_size=2, max_size=4), seed=st.integers(0, 99))
def test_shares_hold_for_any_classes(counts, seed):
    looks = iter(far_apart(sum(counts)))
    pictures = [seen(f"{label}/{number}", next(looks)) for label, count in enumerate(counts) for number in range(count)]
    found = split(pictures, {"test": 0.2, "validation": 0.25}, seed)
    assert list(found) == ["test", "validation", "train"]
    assert Counter(one.path for part in found.values() for one in part) == Counter(one.path for one in pictures)
    for label, count in enumerate(counts):
        of_class = {name: sum(class_of(one) == str(label) for one in part) for name, part in found.items()}
        assert of_class["test"] == max(1, round(0.2 * count))
        assert of_class["validation"] == max(1, round(0.25 * count))


def test_pictures_alike_are_never_on_two_sides():
    looks = far_apart(10)
    pictures = [seen(f"{label}/{number}", looks[number]) for label in "ab" for number in range(10)]
    found = split(pictures, {"test": 0.3, "validation": 0.3}, 0)
    sides = {one.phash: name for name, part in found.items() for one in part}
    assert all(sides[one.phash] == name for name, part in found.items() for one in part)


def test_the_seed_decides():
    pictures = [seen(f"{label}/{number}", None) for label in "ab" for number in range(10)]
    first, same, other = (split(pictures, {"test": 0.2, "validation": 0.2}, seed) for seed in (3, 3, 4))
    assert first == same != other


def test_a_class_that_is_all_alike_is_named():
    pictures = [seen(f"cats/{number}", None) for number in range(10)]
    pictures += [seen(f"dogs/{number}", 1) for number in range(10)]
    with pytest.raises(InputError, match=r"^dogs has 10 pictures, none of them for test: add some that differ$"):
        split(pictures, {"test": 0.2}, 0)


def test_the_class_is_the_top_folder():
    assert class_of(seen("cats/more/1.png", None)) == "cats"


def test_copies_keep_their_names(tmp_path):
    source = fill(tmp_path / "photos", {"cats/1.png": b"1", "cats/more/2.png": b"2", "dogs/3.png": b"3"})
    one, two, _ = (seen(path, None) for path in tree(source))
    copy_splits(source, {"test": [one], "train": [two]}, tmp_path / "data/mine")
    assert tree(tmp_path / "data") == {
        f"mine/{name}/{one.path}": (source / one.path).read_bytes() for name, one in (("test", one), ("train", two))
    }


def test_a_copy_that_fails_leaves_nothing(tmp_path):
    source = fill(tmp_path / "photos", {"cats/1.png": b"1"})
    with pytest.raises(FileNotFoundError):
        copy_splits(source, {"train": [seen("cats/1.png", None), seen("cats/gone.png", None)]}, tmp_path / "data/mine")
    assert list((tmp_path / "data").iterdir()) == []
