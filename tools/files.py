"""The files that a command looks at, and their names in its lines."""

import os
from collections.abc import Iterator
from pathlib import Path

from jaxconv.errors import InputError


def below(root: Path) -> Iterator[Path]:
    """The files below a folder, those of linked folders too, folder by folder in sorted order.

    Hidden ones are passed over, as in training.

    Raises:
        InputError: a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be listed ({error.strerror}): name a folder that can be") from error

    above = {os.fspath(root): {os.path.realpath(root)}}  # a link to a folder that it lies in would never end
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        real = {name: os.path.realpath(Path(folder, name)) for name in sorted(folders) if not name.startswith(".")}
        folders[:] = [name for name in real if real[name] not in above[folder]]
        above |= {os.path.join(folder, name): above[folder] | {real[name]} for name in folders}
        for name in sorted(files):
            if not name.startswith(".") and os.path.isfile(path := Path(folder, name)):
                yield path


def printable(line: str) -> str:
    """Names of files may hold line ends, and bytes that are no text."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
