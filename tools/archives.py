"""Files in a folder or in a zip archive, which may be damaged or hostile."""

import contextlib
import io
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from jaxconv.data.folders import is_shown
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

    def folders(self, name: str = "") -> set[str]:
        """The names of the folders in it, or in a folder in it; none if that does not exist."""
        path = self.where / name
        if not os.path.isdir(path):
            return set()
        with readable(path, "cannot be listed", cure="give a folder that can be"), os.scandir(path) as entries:
            return {entry.name for entry in entries if is_shown(entry.name) and entry.is_dir()}

    def below(self, name: str) -> "Folder":
        """The files of a folder in it."""
        return Folder(self.where / name)


class Archive:
    """The members of a zip archive, or of a folder in it, looked up by exact names; nothing is ever extracted.

    A backslash in a name counts as a slash: some programs for Windows write it so.
    """

    def __init__(self, where: Path, zipped: zipfile.ZipFile, folder: str = "") -> None:
        self.where, self._zip, self._folder = where, zipped, folder
        self._members: dict[str, list[zipfile.ZipInfo]] = {}
        for info in zipped.infolist():
            name = info.filename.replace("\\", "/")
            if name.startswith(folder):
                self._members.setdefault(name.removeprefix(folder), []).append(info)

    def size(self, name: str) -> int | None:
        """The declared size of a member in bytes; None if it does not exist. No more bytes are ever unpacked."""
        return self._members[name][-1].file_size if name in self._members else None

    def open(self, name: str) -> IO[bytes]:
        """A member to read. A name that is there twice is refused, because either could be meant."""
        info, *others = self._members[name]
        if others:
            raise InputError(f"{self.where / name} is there {1 + len(others)} times: get it anew")
        if info.flag_bits & 1:
            raise InputError(f"{self.where / name} is encrypted: unpack it with its password, and give the folder")
        return self._zip.open(info)

    def folders(self, name: str = "") -> set[str]:
        """The names of the folders in it, or in a folder in it; none if that does not exist."""
        start = f"{name}/" if name else ""
        inside = (one.removeprefix(start) for one in self._members if one.startswith(start))
        return {one.split("/")[0] for one in inside if "/" in one and is_shown(one.split("/")[0])}

    def below(self, name: str) -> "Archive":
        """The members in a folder in it."""
        return Archive(self.where / name, self._zip, f"{self._folder}{name}/")


Files = Folder | Archive


@contextlib.contextmanager
def open_files(where: Path) -> Iterator[Files]:
    """The files of a folder or of an archive."""
    if where.is_dir():
        yield Folder(where)
    else:
        with where.open("rb") as stream:
            yield Archive(where, _unzip(where, stream))


@contextlib.contextmanager
def open_inner(files: Files, name: str, limit: int) -> Iterator[Archive]:
    """The archive that is one of the files, with at most `limit` bytes."""
    where = files.where / name
    with contextlib.ExitStack() as stack:
        with readable(where):
            stream = stack.enter_context(_open(files, name, limit))
        if isinstance(files, Archive):  # seeking back in a compressed member unpacks it again
            stream = stack.enter_context(_copy(where, stream))
        yield Archive(where, _unzip(where, stream))


def _unzip(where: Path, stream: IO[bytes]) -> zipfile.ZipFile:
    with readable(where, "is no zip archive, or is cut short"):
        return zipfile.ZipFile(stream)


@contextlib.contextmanager
def _copy(where: Path, stream: IO[bytes]) -> Iterator[IO[bytes]]:
    """The same bytes in a temporary file."""
    cure = "set TMPDIR to a folder with room for it"
    with readable(where, "cannot be unpacked", cure):
        folder = tempfile.gettempdir()  # raises if there is none
    with contextlib.ExitStack() as stack:
        with readable(where, f"cannot be unpacked in {folder}", cure):
            # A file with a buffer would write its rest when it is closed, and fail again.
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder, buffering=0))
            for chunk in _chunks(where, stream):
                while chunk:
                    chunk = chunk[file.write(chunk) :]
        yield io.BufferedReader(file)


def _chunks(where: Path, stream: IO[bytes]) -> Iterator[memoryview]:
    with readable(where):
        while chunk := stream.read(2**20):
            yield memoryview(chunk)


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
