"""Division of a folder of pictures into splits, with pictures that look alike kept together in one split."""

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from jaxconv.data.similarity import NEAR, Seen, distances
from jaxconv.runtime.errors import InputError


def split(pictures: Sequence[Seen], shares: Mapping[str, float], seed: int) -> dict[str, list[Seen]]:
    """Divide pictures into splits at random.

    Each split gets its share of every class, at least one picture. Pictures that look alike go to the same split. The
    same pictures, shares and seed give the same splits.

    Args:
        pictures: the pictures of all classes; the class of a picture is its top folder.
        shares: the name of each split but train, and its share of the pictures, between 0 and 1. Train gets the rest.
        seed: the seed of the random choice.

    Returns:
        The name of each split, train last, and its pictures.

    Raises:
        InputError: a class has no picture in one of the splits, because it has too few or too many look alike.
    """
    groups, classes = group_alike(pictures), Counter(map(class_of, pictures))
    random.Random(seed).shuffle(groups)
    splits: dict[str, list[Seen]] = {}
    for name, share in shares.items():
        room = Counter({label: max(1, round(share * count)) for label, count in classes.items()})
        splits[name], left = [], []
        for group in groups:
            takes = Counter(map(class_of, group))
            if takes <= room:
                room -= takes
                splits[name] += group
            else:
                left.append(group)
        groups = left
    splits["train"] = [picture for group in groups for picture in group]
    for name, chosen in splits.items():
        for label in classes.keys() - set(map(class_of, chosen)):
            raise InputError(f"{label} has {classes[label]} pictures, none of them for {name}: add some that differ")
    return splits


def class_of(picture: Seen) -> str:
    """Return the class of a picture: the name of its top folder."""
    return PurePosixPath(picture.path).parts[0]


def group_alike(pictures: Sequence[Seen]) -> list[list[Seen]]:
    """Group pictures, so that no picture looks like a picture of another group.

    Within a group of several pictures, each looks like at least one other picture. The groups, and the pictures of each
    group, are in the order of `pictures`.
    """
    group = np.arange(len(pictures))
    for i, distance in enumerate(distances(pictures)):
        for other in set(group[:i][distance <= NEAR].tolist()):
            group[group == other] = group[i]
    members: dict[int, list[Seen]] = {}
    for number, picture in zip(group.tolist(), pictures, strict=True):
        members.setdefault(number, []).append(picture)
    return list(members.values())


def copy_splits(source: Path, splits: Mapping[str, Sequence[Seen]], dest: Path) -> None:
    """Copy the pictures of each split to `dest/<split>/`, under the names that they have in `source`.

    Raises:
        OSError: a file cannot be copied; `dest` does not exist then.
    """
    dest.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{dest.name}-", dir=dest.parent) as temp:
        new = Path(temp, "new")  # one level down, because other users cannot enter the temporary folder itself
        for name, pictures in splits.items():
            for picture in pictures:
                (new / name / picture.path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / picture.path, new / name / picture.path)
        new.rename(dest)
