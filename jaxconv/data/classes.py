"""Class folders and the pictures in them. Every command goes by these rules."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from jaxconv.data.folders import check_folder, is_named_as_picture, kind_of, subfolders, walk
from jaxconv.runtime.errors import InputError
from jaxconv.runtime.files import printable

NAMED = 6  # classes, or names of files, that a message lists


class Listing(NamedTuple):
    """The pictures of a folder of class folders.

    Attributes:
        folder: the folder.
        class_names: the sorted names of the classes, in Unicode's composed form (NFC).
        files: for each class its pictures, sorted by name; with links whose target is gone.
        passed_over: the number of files whose names are not those of pictures, by suffix.
        loose: the number of pictures that lie beside the class folders.
    """

    folder: Path
    class_names: list[str]
    files: list[list[Path]]
    passed_over: Counter[str]
    loose: int

    def describe(self, what: str) -> str:
        """What was found, in one line; `what` names the pictures, such as "in train"."""
        counts = [f"{len(paths):,} {name}" for name, paths in zip(self.class_names, self.files, strict=True)]
        total = sum(map(len, self.files))
        line = f"{total:,} pictures of {len(counts)} classes {what}: {shortened(counts)}"
        if self.loose:
            line += f"; {self.loose:,} beside the class folders left out"
        if self.passed_over:
            line += f"; passed over {describe_passed_over(self.passed_over)}"
        return printable(line)


def list_classes(folder: Path) -> Listing:
    """List the class folders of a folder, and the pictures of each class at any depth.

    Raises:
        InputError: the folder does not exist, has fewer than two class folders, or one without pictures or with a name
            that cannot be printed; or a folder in it cannot be listed.
    """
    check_folder(folder)
    folders = class_folders(folder)
    if len(folders) < 2:
        raise InputError(f"{folder} has {_too_few(folders)}: give it one folder of pictures a class")
    files: dict[str, list[Path]] = {
        composed(one.name): [] for one in sorted(folders, key=lambda one: composed(one.name))
    }
    passed_over, beside, loose = Counter[str](), Counter[str](), 0
    for path in walk(folder):
        name, *inside = path.relative_to(folder).parts
        if not is_named_as_picture(path):
            passed_over[kind_of(path)] += 1
            beside[composed(name)] += 1
        elif inside:
            files[composed(name)].append(path)
        else:
            loose += 1
    for name, paths in files.items():
        if not paths:
            named = f", but {beside[name]:,} files with other names" if beside[name] else ""
            raise InputError(f"{folder / name} holds no pictures{named}: put some in, or remove the class everywhere")
    return Listing(folder, [*files], [sorted(paths) for paths in files.values()], passed_over, loose)


def _too_few(folders: list[Path]) -> str:
    if not folders:
        return "no class folders"
    inside = len(class_folders(folders[0])) > 1  # as train/train/<class>, of archives that were unpacked twice
    name = folders[0].name
    return f"one folder, {name}" + (f" (if its classes are in {name}, move them one folder up)" if inside else "")


def class_folders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; each is taken for a class.

    Raises:
        InputError: the name of one cannot be printed.
    """
    folders = subfolders(folder)
    for entry in folders:
        if not entry.name.isprintable():  # neither figures nor tables could show it
            raise InputError(f"{folder} has a class folder {entry.name!a}: give it a name that can be printed")
    return folders


def class_difference(found: Sequence[str], wanted: Sequence[str], of: str) -> str | None:
    """How the classes found differ from those that are wanted, which `of` has; None if they are the same."""
    missing = [repr(name) for name in wanted if name not in found]
    extra = [repr(name) for name in found if name not in wanted]
    lacks = [f"lacks {shortened(missing)}, which {of} has"] if missing else []
    has = [f"has {shortened(extra)}, which {of} lacks"] if extra else []
    return " and ".join(lacks + has) or None


def describe_passed_over(counts: Counter[str]) -> str:
    """The number of files that are no pictures by their names, and their kinds, in words."""
    kinds = [f"{count:,} {kind}" for kind, count in counts.most_common()]
    return f"{counts.total():,} other file{'s' * (counts.total() != 1)} ({shortened(kinds)})"


def shortened(names: Sequence[str]) -> str:
    """The first of many names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join([*names[:NAMED], *([f"and {more:,} more"] if more > 0 else [])])


def class_of(name: str) -> str:
    """The class of a picture by its name relative to a folder of class folders: the top folder, as in `Listing`."""
    return composed(PurePosixPath(name).parts[0])


def composed(name: str) -> str:
    """The name in Unicode's composed form. Macs decompose names, so that equal names can have different characters."""
    return unicodedata.normalize("NFC", name)
