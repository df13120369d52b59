"""Division of a folder of pictures into splits, with pictures that look alike kept together in one split."""

import random
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxconv.data.checks import Finding, examine
from jaxconv.data.classes import Listing, class_of, list_classes, shortened
from jaxconv.data.folders import check_folder
from jaxconv.data.layout import is_split
from jaxconv.data.similarity import SAME_BYTES, Seen, likenesses
from jaxconv.runtime.errors import InputError
from jaxconv.runtime.files import printable


class Division(NamedTuple):
    """A folder of pictures, divided.

    Attributes:
        class_names: the sorted names of the classes.
        splits: the name of each split, train last, and the names of its pictures, relative to the folder.
        notes: lines that say what was found, left out, kept together or missed.
    """

    class_names: list[str]
    splits: dict[str, list[str]]
    notes: list[str]


def divide(
    source: Path,
    shares: Mapping[str, float],
    seed: int,
    *,
    grouping: bool = True,
    skip_bad: bool = False,
    keep_contradictions: bool = False,
) -> Division:
    """Check the pictures of a folder of class folders, and divide them as `split` does. No file is touched.

    Args:
        source: the folder.
        shares: the share of each split but train.
        seed: the seed of the random choice.
        grouping: keep pictures that look alike in one split.
        skip_bad: leave out pictures that cannot be used. They are errors otherwise.
        keep_contradictions: keep files with the same bytes in two classes. They are errors otherwise.

    Raises:
        InputError: the folder is split already, or an error of these two kinds, with the flag of tools.split_folders
            that allows it; or as `list_classes` and `split`.
    """
    check_folder(source)
    if is_split(source):
        cure = f"train on it with python -m experiments.folders --data {shlex.quote(str(source))}"
        raise InputError(f"{source} is split already: {cure}, which holds out a fifth if there is no validation folder")
    listing = list_classes(source)
    pictures, bad = _check(listing)
    if bad and not skip_bad:
        raise InputError(_refusal(source, bad))
    if not keep_contradictions and (pairs := contradictions(pictures)):
        raise InputError(_contradiction(source, pairs))
    groups = group_alike(pictures) if grouping else [[picture] for picture in pictures]
    splits = split(groups, shares, seed)
    notes = [listing.describe(f"in {source}"), _left_out(bad), _kept_together(groups), _missed(splits, shares)]
    names = {name: [picture.path for picture in chosen] for name, chosen in splits.items()}
    return Division(listing.class_names, names, [printable(note) for note in notes if note])


def split(groups: Sequence[Sequence[Seen]], shares: Mapping[str, float], seed: int) -> dict[str, list[Seen]]:
    """Divide pictures into splits at random, each group into one.

    Each split gets its share of every class, at least one picture, as far as the groups allow it. The same groups,
    shares and seed give the same splits.

    Args:
        groups: the pictures of all classes, as `group_alike` groups them.
        shares: the name of each split but train, and its share of the pictures, between 0 and 1. Train gets the rest.
        seed: the seed of the random choice.

    Returns:
        The name of each split, train last, and its pictures.

    Raises:
        InputError: a class has no picture in one of the splits, because it has too few or too many look alike.
    """
    classes = _count(chain(*groups))
    groups = list(groups)
    random.Random(seed).shuffle(groups)
    splits: dict[str, list[Seen]] = {}
    for name, share in shares.items():
        room = Counter({label: _room(share, count) for label, count in classes.items()})
        splits[name], left = [], []
        for group in groups:
            takes = _count(group)
            if takes <= room:
                room -= takes
                splits[name] += group
            else:
                left.append(group)
        groups = left
    splits["train"] = [*chain(*groups)]
    for name, chosen in splits.items():
        for label in classes.keys() - _count(chosen).keys():
            count = f"{classes[label]} picture{'s' * (classes[label] != 1)}"
            raise InputError(f"{label} has {count}, none of them for {name}: add some that differ, or --no-grouping")
    return splits


def group_alike(pictures: Sequence[Seen]) -> list[list[Seen]]:
    """Group the pictures that look alike and are of one class, or have the same bytes.

    Pictures of two classes that look alike mostly have the ground in common, and not what they show. The groups and
    their pictures are in the order of `pictures`.
    """
    group = np.arange(len(pictures))
    label = np.array([class_of(picture.path) for picture in pictures])
    for i, likeness in enumerate(likenesses(pictures)):
        alike = (likeness == SAME_BYTES) | ((likeness > 0) & (label[:i] == label[i]))
        for other in set(group[:i][alike].tolist()):
            group[group == other] = group[i]
    members: dict[int, list[Seen]] = {}
    for number, picture in zip(group.tolist(), pictures, strict=True):
        members.setdefault(number, []).append(picture)
    return list(members.values())


def contradictions(pictures: Iterable[Seen]) -> list[tuple[str, str]]:
    """The names of pictures whose bytes an earlier one of another class has: first the earlier name."""
    first: dict[bytes, str] = {}
    pairs = [(first.setdefault(picture.digest, picture.path), picture.path) for picture in pictures]
    return [(one, other) for one, other in pairs if class_of(one) != class_of(other)]


def _check(listing: Listing) -> tuple[list[Seen], list[Finding]]:
    """The pictures of all classes, and the faults of those that cannot be used."""
    examined = examine(listing.folder, [path for paths in listing.files for path in paths])
    pictures = [one for one in examined if isinstance(one, Seen)]
    for label in set(listing.class_names) - _count(pictures).keys():
        raise InputError(f"no picture in {listing.folder / label} can be used: put some in, or remove the folder")
    return pictures, [one for one in examined if isinstance(one, Finding)]


def _refusal(source: Path, bad: Sequence[Finding]) -> str:
    path, kind, detail, _ = bad[0]
    found = f"{source / path} is {kind} ({detail}), {_and_more(bad)}"
    move = f"python -m tools.check_images {shlex.quote(str(source))} --min-side 1 --quarantine DIR"
    return printable(f"{found}: leave them out with --skip-bad, or move them with {move}")


def _contradiction(source: Path, pairs: Sequence[tuple[str, str]]) -> str:
    (one, other), listed = pairs[0], f"python -m tools.check_images {shlex.quote(str(source))} lists"
    found = f"{source / one} and {source / other} are the same picture in two classes, {_and_more(pairs)}"
    return printable(f"{found}: remove those in the wrong class, which {listed}, or add --keep-contradictions")


def _and_more(found: Sequence[object]) -> str:
    return f"the first of {len(found):,} such" if len(found) > 1 else "the only such"


def _left_out(bad: Sequence[Finding]) -> str | None:
    names = shortened([f"{path} ({kind})" for path, kind, *_ in bad])
    return f"left out {len(bad):,} that cannot be used: {names}" if bad else None


def _kept_together(groups: Sequence[Sequence[Seen]]) -> str | None:
    sizes = [len(group) for group in groups if len(group) > 1]
    counted = f"{len(sizes):,} group{'s' * (len(sizes) != 1)}"
    return f"{sum(sizes):,} pictures look alike in {counted}, each kept in one split" if sizes else None


def _missed(splits: Mapping[str, Sequence[Seen]], shares: Mapping[str, float]) -> str | None:
    """The splits that miss their share of a class by more than one picture."""
    counts, classes = {name: _count(chosen) for name, chosen in splits.items()}, _count(chain(*splits.values()))
    missed = [
        f"{label} has {counts[name][label]:,} of {_room(share, count):,} for {name}"
        for label, count in classes.items()
        for name, share in shares.items()
        if counts[name][label] < _room(share, count) - 1
    ]
    return f"large groups that look alike leave fewer than asked for: {shortened(missed)}" if missed else None


def _room(share: float, count: int) -> int:
    return max(1, round(share * count))


def _count(pictures: Iterable[Seen]) -> Counter[str]:
    return Counter(class_of(picture.path) for picture in pictures)
