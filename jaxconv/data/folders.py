"""Folders of pictures: which files are pictures, and which folders are classes. Every command goes by these rules."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from jaxconv.runtime.errors import InputError
from jaxconv.runtime.files import printable

# Files of other names are no pictures: Thumbs.db, notes.txt.
SUFFIXES = {
    *(".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
}
# Folders of thumbnails and deleted files, which network drives, Windows and Macs leave beside pictures.
SYSTEM_FOLDERS = frozenset(["@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__MACOSX"])
NAMED = 6  # classes, or names of files, that a message lists


class Listing(NamedTuple):
    """The pictures of a folder of class folders.

    Attributes:
        folder: the folder.
        class_names: the sorted names of the classes, in Unicode's composed form (NFC).
        files: for each class its pictures, sorted by name; with links whose target is gone.
        passed_over: the number of files whose names are not those of pictures, by suffix or, without one, by name.
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


def describe_passed_over(counts: Counter[str]) -> str:
    """The number of files that are no pictures by their names, and their kinds, in words."""
    kinds = [f"{count:,} {kind}" for kind, count in counts.most_common()]
    return f"{counts.total():,} other file{'s' * (counts.total() != 1)} ({shortened(kinds)})"


def shortened(names: Sequence[str]) -> str:
    """The first of many names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join([*names[:NAMED], *([f"and {more:,} more"] if more > 0 else [])])


def walk(root: Path) -> Iterator[Path]:
    """List the files below a folder, folder by folder in sorted order, with links whose target is gone.

    Hidden files and folders, and the folders of `SYSTEM_FOLDERS`, are passed over. Linked folders are included, except
    links to a folder that contains the link.

    Raises:
        InputError: a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be listed ({error.strerror}): name a folder that can be") from error

    # A link to a folder that contains the link would never end. The folders above the root count too: so a walk of one
    # split skips the same links as a walk of the whole data set.
    here = root.absolute()
    above = {os.fspath(root): {os.path.realpath(folder) for folder in (here, *here.parents)}}
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        real = {name: os.path.realpath(Path(folder, name)) for name in sorted(folders) if is_shown(name)}
        folders[:] = [name for name in real if real[name] not in above[folder]]
        above |= {os.path.join(folder, name): above[folder] | {real[name]} for name in folders}
        for name in sorted(files):
            path = Path(folder, name)
            if is_shown(name) and (path.is_file() or is_broken_link(path)):
                yield path


def is_shown(name: str) -> bool:
    """Whether a file or folder is neither hidden nor one that a system leaves behind."""
    return not name.startswith(".") and name not in SYSTEM_FOLDERS


def is_named_as_picture(path: Path) -> bool:
    """Whether the name of a file ends like that of a picture, in small letters or capitals."""
    return path.suffix.lower() in SUFFIXES


def is_broken_link(path: Path) -> bool:
    """Whether a file is a link whose target is gone."""
    return path.is_symlink() and not path.exists()


def find_pictures(root: Path) -> Iterator[Path]:
    """The files of `walk` whose names are those of pictures."""
    return filter(is_named_as_picture, walk(root))


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
    files: dict[str, list[Path]] = {_composed(one.name): [] for one in sorted(folders, key=_key)}
    passed_over, loose = Counter[str](), 0
    for path in walk(folder):
        name, *inside = path.relative_to(folder).parts
        if not is_named_as_picture(path):
            passed_over[path.suffix.lower() or path.name] += 1
        elif inside:
            files[_composed(name)].append(path)
        else:
            loose += 1
    for name, paths in files.items():
        if not paths:
            raise InputError(f"{folder / name} holds no pictures: put some in, or remove the class from every split")
    return Listing(folder, [*files], [sorted(paths) for paths in files.values()], passed_over, loose)


def _too_few(folders: list[Path]) -> str:
    if not folders:
        return "no class folders"
    inside = len(class_folders(folders[0])) > 1  # as train/train/<class>, of archives that were unpacked twice
    return f"one folder, {folders[0].name}" + (", with folders in it that may be its classes" if inside else "")


def class_folders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; each is taken for a class.

    Raises:
        InputError: the name of one cannot be printed.
    """
    folders = sorted(entry for entry in folder.iterdir() if is_shown(entry.name) and entry.is_dir())
    for entry in folders:
        if not entry.name.isprintable():  # neither figures nor tables could show it
            raise InputError(f"{folder} has a class folder {entry.name!a}: give it a name that can be printed")
    return folders


def check_folder(folder: Path) -> None:
    """Raise an `InputError` unless a folder of pictures is there; of a zip file, it says what to do."""
    if folder.is_file() and folder.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"):
        raise InputError(f"{folder} is an archive: unpack it, and name its folder")
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist or is no folder: name a folder of pictures")


def class_difference(found: Sequence[str], wanted: Sequence[str], of: str) -> str | None:
    """How the classes found differ from those that are wanted, which `of` has; None if they are the same."""
    missing = [repr(name) for name in wanted if name not in found]
    extra = [repr(name) for name in found if name not in wanted]
    lacks = [f"lacks {shortened(missing)}, which {of} has"] if missing else []
    has = [f"has {shortened(extra)}, which {of} lacks"] if extra else []
    return " and ".join(lacks + has) or None


def class_of(name: str) -> str:
    """The class of a picture by its name relative to a folder of class folders: the top folder, as in `Listing`."""
    return _composed(PurePosixPath(name).parts[0])


def _composed(name: str) -> str:
    """The name in Unicode's composed form. Macs decompose names, so that equal names can have different characters."""
    return unicodedata.normalize("NFC", name)


def _key(folder: Path) -> str:
    return _composed(folder.name)
