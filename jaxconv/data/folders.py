"""Folders of pictures: which files are pictures, and which folders count. Every command goes by these rules."""

import os
from collections.abc import Iterator
from pathlib import Path

from jaxconv.runtime.errors import InputError

# Files of other names are no pictures: Thumbs.db, notes.txt.
SUFFIXES = {
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
}
# Folders of thumbnails and deleted files, which network drives, Windows and Macs leave beside pictures.
SYSTEM_FOLDERS = frozenset(["@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__MACOSX"])


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
            if is_shown(name) and (os.path.isfile(path) or is_broken_link(path)):
                yield path


def is_shown(name: str) -> bool:
    """Whether a file or folder is neither hidden nor one that a system leaves behind."""
    return not name.startswith(".") and name not in SYSTEM_FOLDERS


def is_named_as_picture(path: Path) -> bool:
    """Whether the name of a file ends like that of a picture, in small letters or capitals."""
    return path.suffix.lower() in SUFFIXES


def kind_of(path: Path) -> str:
    """How a file that is no picture is counted: by its suffix."""
    return path.suffix.lower() or "without suffix"


def is_broken_link(path: Path) -> bool:
    """Whether a file is a link whose target is gone."""
    return os.path.islink(path) and not os.path.exists(path)


def find_pictures(root: Path) -> Iterator[Path]:
    """The files of `walk` whose names are those of pictures."""
    return filter(is_named_as_picture, walk(root))


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without those that `is_shown` passes over.

    Raises:
        InputError: the folder cannot be listed, or a link in it may have been a folder, but its target is gone.
    """
    try:
        entries = sorted(entry for entry in folder.iterdir() if is_shown(entry.name))
    except OSError as error:
        raise InputError(f"{folder} cannot be listed ({error.strerror}): name a folder that can be") from error
    for entry in entries:
        if not entry.suffix and is_broken_link(entry):
            raise InputError(f"{entry} is a link to a folder that does not exist: bring it back, or remove the link")
    return [entry for entry in entries if os.path.isdir(entry)]


def check_folder(folder: Path) -> None:
    """Raise an `InputError` unless a folder of pictures is there; of an archive, it says what to do."""
    if os.path.isfile(folder):
        raise InputError(f"{folder} is a file: name a folder of pictures, and unpack an archive first")
    if not os.path.isdir(folder):
        raise InputError(f"{folder} does not exist: name a folder of pictures")
