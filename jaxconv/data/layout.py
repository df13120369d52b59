"""The folders train, validation and test of a data set: their usual names, and what is done without one of them."""

import hashlib
import os
import random
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxconv.config import SPLITS
from jaxconv.data.classes import Listing, class_folders, class_of, list_classes, shortened
from jaxconv.data.folders import check_folder, subfolders
from jaxconv.runtime.errors import InputError

# The names that data sets have for their splits, in any case.
SPLIT_NAMES = {
    "train": ("train", "training", "train_set", "training_set"),
    "validation": ("validation", "valid", "val", "dev", "validation_set"),
    "test": ("test", "testing", "test_set"),
}
HELD_OUT = 5  # one of so many training pictures is held out if there is no validation folder


class Layout(NamedTuple):
    """The folders of a data set. `validation` and `test` are None if there is no such folder; `others` are not used."""

    train: Path
    validation: Path | None
    test: Path | None
    others: list[Path]

    @property
    def splits(self) -> list[str]:
        """The names of the splits that a run has: always train and validation."""
        return [name for name in SPLITS if name == "validation" or getattr(self, name)]

    def describe(self) -> list[str]:
        """What was taken for what, one line each; nothing about folders with the names in `SPLITS`."""
        folders = {name: getattr(self, name) for name in SPLITS}
        renamed = [
            f"{folder.name} is taken for {name}" for name, folder in folders.items() if folder and folder.name != name
        ]
        lines = ["; ".join(renamed)] if renamed else []
        if self.others:
            lines.append(f"not used: {shortened([folder.name for folder in self.others])}")
        if self.validation is None:
            held_out = f"one of {HELD_OUT} pictures of each class in train is held out"
            together = "tools.split_folders would keep pictures that look alike together"
            lines.append(f"no folder validation: {held_out}; {together}")
        if self.test is None:
            lines.append("no folder test: the results are those of the validation pictures")
        return lines


def find_splits(root: str | os.PathLike[str]) -> Layout:
    """Find the folders of the splits by their usual names.

    Raises:
        InputError: there is no folder for train, or two folders for one split.
    """
    root = Path(root)
    check_folder(root)
    found = {name: _find(root, name) for name in SPLITS}
    if found["train"] is None:
        raise InputError(f"{root} has no folder train: {_cure(root)}")
    others = [folder for folder in class_folders(root) if folder not in found.values()]
    return Layout(found["train"], found["validation"], found["test"], others)


def is_split(root: Path) -> bool:
    """Whether a folder holds splits, and not classes: a class may be named train too."""
    found = [[folder for folder in _candidates(root, name) if class_folders(folder)] for name in SPLITS]
    folders = [folder for of_split in found for folder in of_split]
    return sum(map(bool, found)) > 1 or (bool(folders) and class_folders(root) == folders)


def list_split(root: str | os.PathLike[str], split: str) -> Listing:
    """List the classes and pictures of a split.

    Without a validation folder, a fifth of each class in train is held out for it, at random but always the same.

    Raises:
        InputError: there is no folder for the split, or as `find_splits` and `list_classes`.
    """
    check_folder(Path(root))
    folder, validation = _find(Path(root), split), _find(Path(root), "validation")
    if folder and (split != "train" or validation):
        return list_classes(folder)
    train = find_splits(root).train
    if split == "test":
        raise InputError(f"{root} has no folder test: choose another split")
    listing = list_classes(train)
    files = [_part(of_class, split, train) for of_class in listing.files]
    return (
        listing._replace(files=files) if split == "train" else Listing(train, listing.class_names, files, Counter(), 0)
    )


def list_part(root: str | os.PathLike[str], class_names: Sequence[str], names: Sequence[str]) -> Listing:
    """The listing of some pictures of a folder of class folders, by their names relative to the folder.

    Raises:
        InputError: a picture is of none of the classes.
    """
    paths: dict[str, list[Path]] = {name: [] for name in class_names}
    for name in names:
        if class_of(name) not in paths:
            raise InputError(f"{Path(root, name)} is in none of the class folders {shortened(class_names)}")
        paths[class_of(name)].append(Path(root, name))
    return Listing(Path(root), [*class_names], [sorted(found) for found in paths.values()], Counter(), 0)


def _part(files: list[Path], split: str, folder: Path) -> list[Path]:
    """The pictures of a class that are held out, or all others. Files with the same bytes stay together."""
    # By the names in the folder, so that a data set that was moved is divided in the same way.
    groups = _same_bytes(sorted(files, key=lambda path: path.relative_to(folder).as_posix()))
    if len(groups) < 2:
        raise InputError(f"{files[0]} is the only picture of its class: add some that differ, because one is held out")
    random.Random("validation").shuffle(groups)
    held_out: set[Path] = set()
    for group in groups[1:]:
        if not held_out or len(held_out) + len(group) <= len(files) // HELD_OUT:
            held_out.update(group)
    return [path for path in files if (path in held_out) == (split == "validation")]


def _same_bytes(files: list[Path]) -> list[list[Path]]:
    """The files in groups of the same content. Only files of the same size are read."""
    sizes = Counter(map(_size, files))
    groups: dict[object, list[Path]] = {}
    for path in files:
        content = _digest(path) if sizes[_size(path)] > 1 else path
        groups.setdefault(content, []).append(path)
    return list(groups.values())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1  # of a link whose target is gone


def _digest(path: Path) -> object:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:  # training names the file when it reads it
        return path


def _candidates(root: Path, split: str) -> list[Path]:
    """The folders whose names are usual for a split."""
    return [folder for folder in subfolders(root) if folder.name.lower() in SPLIT_NAMES[split]]


def _find(root: Path, split: str) -> Path | None:
    """The folder of a split.

    Raises:
        InputError: there are two.
    """
    found = _candidates(root, split)
    if len(found) > 1:
        names = " and ".join(folder.name for folder in found)
        raise InputError(f"{root} has the folders {names}, and each could be {split}: rename one of them")
    return found[0] if found else None


def _cure(root: Path) -> str:
    """What to do with a folder that has no folder train."""
    folders, around = class_folders(root), root.resolve().parent
    if inside := [folder for folder in folders if _candidates(folder, "train")]:
        return f"name {inside[0]}, which has one"
    if root.resolve() in _candidates(around, "train"):
        return f"name {around}, the folder that it lies in"
    if is_split(root):
        return "rename the folder of its training pictures to train"
    if len(folders) < 2:
        return "name a folder of train|validation|test/<class>/* pictures"
    source, dest = (shlex.quote(str(path)) for path in (root, around / f"{root.resolve().name}-split"))
    return f"split its classes with python -m tools.split_folders --source {source} --dest {dest}"
