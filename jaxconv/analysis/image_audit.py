"""Audit of a folder of pictures: files that cannot be decoded, useless pictures, and pictures that look alike."""

import functools
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from jaxconv.data.checks import Finding, examine
from jaxconv.data.classes import composed, shortened
from jaxconv.data.folders import is_named_as_picture, kind_of, walk
from jaxconv.data.layout import SPLIT_NAMES, is_split
from jaxconv.data.similarity import SAME_BYTES, Seen, likenesses, thumbnails

KINDS = (
    *("broken", "empty", "not an image", "too large", "small", "blank"),
    *("duplicate", "near-duplicate", "contradiction", "look-alike"),
)
MIN_SIDE = 32  # a side of fewer pixels makes a picture small
# Brightest and darkest pixels of thumbnails, on a scale of 0 to 255. 12 bits stored in 16 have at most 15.
BLACK, WHITE = 25, 230
NEARLY_ALL = 0.9
SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}
STAYS = {"test": 0, "validation": 1, "train": 2, "": 2}  # of two pictures alike, the one of the lower rank stays


class Audit(NamedTuple):
    """What was found in a folder of pictures.

    Attributes:
        pictures: the number of files whose names are those of pictures.
        findings: the findings, sorted by name.
        passed_over: the number of other files by suffix.
        notes: lines about whole folders.
    """

    pictures: int
    findings: list[Finding]
    passed_over: Counter[str]
    notes: list[str]


class Place(NamedTuple):
    """Where a picture lies.

    Attributes:
        data: the folder of the data set, relative to the audited folder.
        split: train, validation or test; empty in a data set that is not split.
        label: the class; empty if the picture lies in no class folder.
        folder: the folder of the class.
    """

    data: PurePosixPath
    split: str
    label: str
    folder: PurePosixPath


def check(root: Path, min_side: int | None = None) -> Audit:
    """Audit all files below a folder.

    Args:
        root: the folder.
        min_side: the length in pixels below which a side makes a picture small; by default `MIN_SIDE`, but 0 if half of
            the pictures would be small, as digits are.

    Raises:
        InputError: `root` holds no pictures, a folder cannot be listed, or two folders could be the same split.
    """
    paths = list(walk(root))
    named = [path for path in paths if is_named_as_picture(path)]
    passed_over = Counter(kind_of(path) for path in paths if not is_named_as_picture(path))
    examined = examine(root, named)
    findings = [one for one in examined if isinstance(one, Finding)]
    pictures = [one for one in examined if isinstance(one, Seen)]
    places = find_places(root, pictures)
    findings += (small := find_small(pictures, min_side))
    names = {found.path for found in small}
    findings += find_duplicates([one for one in pictures if one.path not in names], places)
    return Audit(len(named), sorted(findings), passed_over, list(describe_brightness(root, pictures, places)))


def find_places(root: Path, pictures: Sequence[Seen]) -> dict[str, Place]:
    """Where each picture lies, by its name. Splits are known by the names in `SPLIT_NAMES`."""

    @functools.cache
    def holds_splits(folder: PurePosixPath) -> bool:
        return is_split(root / folder)

    return {picture.path: _place(PurePosixPath(picture.path), holds_splits) for picture in pictures}


def _place(path: PurePosixPath, holds_splits: Callable[[PurePosixPath], bool]) -> Place:
    for folder in reversed(path.parents):  # from the audited folder down
        split = SPLIT_OF.get(folder.name.lower(), "")
        if split and holds_splits(folder.parent):
            break
    else:
        folder, split = PurePosixPath(), ""
    label = path.relative_to(folder).parts[:-1][:1]
    return Place(folder.parent, split, composed("".join(label)), folder.joinpath(*label))


def find_small(pictures: Sequence[Seen], min_side: int | None) -> list[Finding]:
    """The pictures with a side under `min_side`, as `check` takes it."""
    if min_side is None and pictures:
        min_side = MIN_SIDE if statistics.median(min(seen.size) for seen in pictures) >= MIN_SIDE else 0
    return [
        Finding(seen.path, "small", f"{seen.size[0]} x {seen.size[1]} pixels, a side under {min_side}")
        for seen in pictures
        if min(seen.size) < (min_side or 0)
    ]


def find_duplicates(pictures: Sequence[Seen], places: dict[str, Place]) -> list[Finding]:
    """Choose the pictures to remove, so that no two remaining pictures of a class in different splits look alike.

    Of two such pictures, the one in train is removed rather than the one in validation, and the one in validation
    rather than the one in test. Pictures of two classes that look alike are found too, but none is chosen: which label
    is right is not known, and most differ in what they show.

    Returns:
        A finding for each picture to remove; it names the most similar picture that remains. And a finding for each
        remaining picture that looks like an earlier one of another class.
    """
    pictures = sorted(pictures, key=lambda seen: (STAYS[places[seen.path].split], seen.path))
    data, split, label = (_numbers([str(places[seen.path][field]) for seen in pictures]) for field in range(3))
    kept = np.ones(len(pictures), bool)
    labelled = np.array([places[seen.path].label != "" for seen in pictures], bool)
    findings = []
    for i, likeness in enumerate(likenesses(pictures)):
        likeness[~kept[:i] | (data[:i] != data[i])] = 0
        same_class, same_split = label[:i] == label[i], split[:i] == split[i]
        copies = np.where(same_class & ~same_split, likeness, 0)
        others = np.where(labelled[:i] & labelled[i] & ~same_class, likeness, 0)
        for alike, describe in ((copies, _copy), (others, _of_another_class)):
            if alike.any():
                findings.append(describe(pictures[i].path, pictures[alike.argmax()].path, alike.max().item()))
                kept[i] = describe is not _copy
                break
    return findings


def _copy(path: str, of: str, likeness: float) -> Finding:
    if likeness == SAME_BYTES:
        return Finding(path, "duplicate", f"the bytes of {of}", of)
    return Finding(path, "near-duplicate", f"looks like {of}, correlation {likeness:.3f}", of)


def _of_another_class(path: str, of: str, likeness: float) -> Finding:
    if likeness == SAME_BYTES:
        return Finding(path, "contradiction", f"the bytes of {of}, which is of another class: remove one", of)
    return Finding(path, "look-alike", f"looks like {of} of another class, correlation {likeness:.3f}", of)


def describe_brightness(root: Path, pictures: Sequence[Seen], places: dict[str, Place]) -> Iterator[str]:
    """A line if nearly all pictures of the folder, or of some classes, are all but black, and one if all but white."""
    pixels, folders = thumbnails(pictures), [places[seen.path].folder.as_posix() for seen in pictures]
    counts = Counter(folders)
    for what, extreme, cause in (
        ("black", pixels.max(1) < BLACK, "as 12 bits stored in 16 are: store them in 8, or scale them to 16"),
        ("white", pixels.min(1) > WHITE, "as light drawings on a transparent ground are: lay them on a dark one"),
    ):
        hits = Counter(folder for folder, hit in zip(folders, extreme, strict=True) if hit)
        found = [folder for folder in sorted(hits) if hits[folder] >= NEARLY_ALL * counts[folder]]
        if found:
            everywhere = hits.total() >= NEARLY_ALL * counts.total()
            where = str(root) if everywhere else shortened(found)
            yield f"{where}: nearly all pictures are all but {what}, {cause}"


def _numbers(values: Sequence[str]) -> Int[np.ndarray, " n"]:
    """A number for each value, the same for equal values."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], int)
