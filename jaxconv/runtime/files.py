"""Files: complete writes, and printable names."""

import contextlib
import errno
import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file completely or not at all."""
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file completely or not at all, through a hidden file with a random name beside it.

    Raises:
        OSError: with the name of `path`; an existing file is unchanged.
    """
    if path.is_dir():  # "." has no name for a hidden file
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    with named_oserror(path):
        try:
            with part.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def remove_parts(folder: Path) -> None:
    """Remove the hidden files that kills during `write_whole` have left in a folder."""
    for path in folder.glob(".*.part"):
        if re.fullmatch(r"\..+\.[0-9a-f]{16}\.part", path.name):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def named_oserror(path: Path) -> Iterator[None]:
    """Add the name of the file to an OSError in this context, because errors of writing do not have it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def errno_of(error: BaseException) -> int | None:
    """The error number of the operating system behind an exception. TensorStore has it in its text."""
    number = re.search(r"os_error_code='(\d+)'", str(error))
    return int(number[1]) if number else getattr(error, "errno", None)


def printable(line: str) -> str:
    """The line with unprintable characters escaped. File names may have line ends and undecodable bytes."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
