"""Files in a folder or in a zip archive, which may be damaged or hostile."""

import contextlib
import os
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from jaxconv.runtime.errors import InputError


class Folder:
    """The files below a folder, by their relative names."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def size(self, name: str) -> int | None:
        """The size of a file in bytes; None if it does not exist."""
        path = self.where / name
        return path.stat().st_size if os.path.isfile(path) else None  # Path.is_file raises in a closed folder

    def open(self, name: str) -> IO[bytes]:
        """A file to read."""
        return (self.where / name).open("rb")


class Archive:
    """The members of a zip archive, looked up by their exact names; nothing is ever extracted."""

    def __init__(self, where: Path, stream: IO[bytes]) -> None:
        with readable(where, "is no zip archive, or is cut short"):
            self._zip = zipfile.ZipFile(stream)
        self.where = where
        self._count = Counter(self._zip.namelist())

    def size(self, name: str) -> int | None:
        """The declared size of a member in bytes; None if it does not exist. No more bytes are ever unpacked."""
        return self._zip.getinfo(name).file_size if name in self._count else None

    def open(self, name: str) -> IO[bytes]:
        """A member to read. A name that is there twice is refused, because either could be meant."""
        if self._count[name] > 1:
            raise InputError(f"{self.where / name} is there {self._count[name]} times: get it anew")
        if self._zip.getinfo(name).flag_bits & 1:
            raise InputError(f"{self.where / name} is encrypted: unpack it with its password, and give the folder")
        return self._zip.open(name)


Files = Folder | Archive


@contextlib.contextmanager
def open_files(where: Path) -> Iterator[Files]:
    """The files of a folder or of an archive."""
    if where.is_dir():
        yield Folder(where)
    else:
        with where.open("rb") as stream:
            yield Archive(where, stream)


@contextlib.contextmanager
def open_inner(files: Files, name: str, limit: int) -> Iterator[Archive]:
    """The archive that is one of the files, with at most `limit` bytes."""
    where = files.where / name
    with contextlib.ExitStack() as stack:
        with readable(where):
            stream = stack.enter_context(_open(files, name, limit))
            if isinstance(files, Archive):  # seeking back in a compressed member unpacks it again
                member, stream = stream, stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(member, stream)
        yield Archive(where, stream)


def read(files: Files, name: str, limit: int) -> bytes:
    """The content of a file with at most `limit` bytes."""
    with readable(files.where / name), _open(files, name, limit) as file:
        # Without a number, zipfile unpacks everything before it checks the declared size.
        return file.read((files.size(name) or 0) + 1)


def _open(files: Files, name: str, limit: int) -> IO[bytes]:
    if (files.size(name) or 0) > limit:
        raise InputError(f"{files.where / name} claims {files.size(name)} bytes, over {limit}: get it anew")
    return files.open(name)


@contextlib.contextmanager
def readable(where: Path, what: str = "cannot be read", cure: str = "get it anew") -> Iterator[None]:
    """Turn any error into an `InputError` with the path `where`."""
    try:
        yield
    except InputError:
        raise
    # zipfile, zlib and Pillow raise OSError, ValueError, RuntimeError, SyntaxError and more on damaged files.
    except Exception as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise InputError(f"{where} {what} ({reason}): {cure}") from error
