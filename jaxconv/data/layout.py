"""The folders train, validation and test of a data set: their usual names, and what is done without one of them."""

import os
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxconv.config import SPLITS
from jaxconv.data.folders import Listing, check_folder, class_folders, class_of, list_classes
from jaxconv.runtime.errors import InputError

# The names that data sets have for their splits, in any case.
SPLIT_NAMES = {
    "train": ("train", "training", "train_set", "training_set"),
    "validation": ("validation", "valid", "val", "dev", "validation_set"),
    "test": ("test", "testing", "test_set"),
}
HELD_OUT = 5  # one of so many training pictures is held out if there is no validation folder


class Layout(NamedTuple):
    """The folders of a data set. `validation` and `test` are None if there is no such folder."""

    train: Path
    validation: Path | None
    test: Path | None

    @property
    def splits(self) -> list[str]:
        """The names of the splits that a run has: always train and validation."""
        return [name for name in SPLITS if name == "validation" or getattr(self, name)]

    def describe(self) -> list[str]:
        """What was taken for what, one line each; nothing about folders with the names in `SPLITS`."""
        renamed = [
            f"{folder.name} is taken for {name}"
            for name, folder in self._asdict().items()
            if folder and folder.name != name
        ]
        lines = ["; ".join(renamed)] if renamed else []
        if self.validation is None:
            lines.append(f"no folder validation: one of {HELD_OUT} pictures of each class in train is held out")
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
    return Layout(found["train"], found["validation"], found["test"])


def is_split(root: Path) -> bool:
    """Whether a folder holds splits, and not classes: a class may be named train too."""
    found = [folder for name in SPLITS if (folder := _find(root, name)) and class_folders(folder)]
    return len(found) > 1 or (len(found) == 1 and class_folders(root) == found)


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
    layout = find_splits(root)
    if split == "test":
        raise InputError(f"{root} has no folder test: choose another split")
    listing = list_classes(layout.train)
    return listing._replace(files=[_part(files, split, layout.train) for files in listing.files])


def list_part(root: str | os.PathLike[str], class_names: Sequence[str], names: Sequence[str]) -> Listing:
    """The listing of some pictures of a folder of class folders, by their names relative to the folder."""
    paths: dict[str, list[Path]] = {name: [] for name in class_names}
    for name in names:
        paths[class_of(name)].append(Path(root, name))
    return Listing(Path(root), [*class_names], [sorted(found) for found in paths.values()], Counter(), 0)


def _part(files: list[Path], split: str, folder: Path) -> list[Path]:
    """The pictures of a class that are held out, or all others."""
    if len(files) < 2:
        raise InputError(f"{files[0]} is the only picture of its class: add some, because one is held out")
    # By the names in the folder, so that a data set that was moved is divided in the same way.
    names = sorted(path.relative_to(folder).as_posix() for path in files)
    held_out = set(random.Random("validation").sample(names, max(1, len(names) // HELD_OUT)))
    return [path for path in files if (path.relative_to(folder).as_posix() in held_out) == (split == "validation")]


def _find(root: Path, split: str) -> Path | None:
    """The folder of a split. The exact name comes before the other names."""
    if (root / split).is_dir():
        return root / split
    found = [entry for entry in sorted(root.iterdir()) if entry.name.lower() in SPLIT_NAMES[split] and entry.is_dir()]
    if len(found) > 1:
        names = " and ".join(entry.name for entry in found)
        raise InputError(f"{root} has the folders {names}, and each could be {split}: rename one of them")
    return found[0] if found else None


def _cure(root: Path) -> str:
    """What to do with a folder that has no folder train."""
    folders = class_folders(root)
    inside = [folder for folder in folders if _find(folder, "train")]
    if inside:
        return f"name {inside[0]}, which has one"
    if is_split(root):
        return "rename the folder of its training pictures to train"
    return (
        "split a folder of <class>/* pictures with "
        f"python -m tools.split_folders --source {root} --dest {root.with_name(f'{root.resolve().name}-split')}"
    )
