"""The 2,000 + 1,000 + 1,000 photos of the book (section 5.2.2, code 5-4), copied from the cats and dogs of Kaggle.

    python -m tools.split_catsdogs --source train.zip --dest data/cats_and_dogs_small
    python -m tools.split_catsdogs --download --dest data/cats_and_dogs_small

Photos are chosen by the number in their file's name, so that everyone gets the same split.
"""

import argparse
import contextlib
import io
import os
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from PIL import Image
from tqdm import tqdm

from jaxconv.errors import InputError, one_line_errors

SPLITS = {"train": range(1000), "validation": range(1000, 1500), "test": range(1500, 2000)}
KINDS = ("cat", "dog")

# Where a photo lies: Kaggle's train.zip or its folder; Microsoft's archive or its folder.
LAYOUTS = ("train/{kind}.{number}.jpg", "{kind}.{number}.jpg", "PetImages/{Kind}/{number}.jpg", "{Kind}/{number}.jpg")
EMPTY_CAT, SPARE_CAT = 666, 2500  # Microsoft's archive ships cat 666 with no bytes in it

MAX_PHOTO = 50_000_000  # bytes; the real ones have 33 kB on average
MAX_INNER = 2_000_000_000  # bytes; Microsoft's archive of 25,000 photos has 825 million

URL = "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/kagglecatsanddogs_5340.zip"
SHA256 = "b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9"
SIZE = 824_887_076  # bytes

# To a type checker at run time, an archive's open member is no IO[bytes].
Stream = IO[bytes] | zipfile.ZipExtFile


class _Folder:
    """The files below a folder, by their relative names."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def size(self, name: str) -> int | None:
        """A file's bytes; None where there is no such file."""
        path = self.where / name
        return path.stat().st_size if os.path.isfile(path) else None  # Path.is_file raises in a closed folder

    def open(self, name: str) -> Stream:
        return (self.where / name).open("rb")


class _Archive:
    """The members of a zip archive, looked up by their exact names; nothing is ever extracted."""

    def __init__(self, where: Path, stream: Stream) -> None:
        with _readable(where, "is no zip archive, or is cut short"):
            self._zip = zipfile.ZipFile(stream)
        self.where = where
        self._count = Counter(self._zip.namelist())

    def size(self, name: str) -> int | None:
        """A member's declared bytes, more than which are never unpacked; None where there is no such member."""
        return self._zip.getinfo(name).file_size if name in self._count else None

    def open(self, name: str) -> Stream:
        """A member to read. One that is there twice is refused: nobody can know which of the two is meant."""
        if self._count[name] > 1:
            raise InputError(f"{self.where / name} is there {self._count[name]} times: get it anew")
        if self._zip.getinfo(name).flag_bits & 1:
            raise InputError(f"{self.where / name} is encrypted: unpack it with its password, and give the folder")
        return self._zip.open(name)


def split(source: Path, dest: Path, *, force: bool = False) -> None:
    """Copy the book's photos to `dest/{train,validation,test}/{cats,dogs}/`: 1000, 500 and 500 of each class.

    `source` is Kaggle's train.zip, its dogs-vs-cats.zip, Microsoft's kagglecatsanddogs_5340.zip, or one of them
    unpacked. Every photo is decoded once. `dest` appears whole or not at all; `force` replaces an earlier split.

    Raises:
        InputError: `source` lacks photos or holds broken ones, or `dest` cannot be written or is there already.
    """
    dest, origin = _check_dest(dest, force), Path(os.path.realpath(source))
    if dest.is_relative_to(origin) or origin.is_relative_to(dest):
        raise InputError(f"--dest {dest} and --source {source} lie one inside the other: name another --dest")
    with _open_source(source) as files:
        members = _choose(files)
        try:
            dest.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{dest.name}-", dir=dest.parent) as temp:
                new = Path(temp, "new")  # one level down, as the temporary folder itself is closed to other users
                _copy(files, members, new)
                _swap(new, dest, Path(temp, "old"))
        except OSError as error:
            raise InputError(f"--dest {dest} cannot be written ({error.strerror}): name another folder") from error
    for folder in (f"{part}/{kind}s" for part in SPLITS for kind in KINDS):
        print(f"{dest / folder}: {sum(1 for _ in (dest / folder).iterdir())} photos")


def download(folder: Path) -> Path:
    """Microsoft's archive in `folder`: downloaded by tensorflow-datasets unless it is there, and checked either way.

    Raises:
        InputError: the archive cannot be had or kept, or is not the known one.
    """
    import requests  # what tensorflow-datasets downloads with: the same proxies and certificates
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    archive = folder / Path(URL).name
    cure = f"try again later, or fetch it in another way and put it at {archive}"
    known = tfds.download.checksums.UrlInfo(SIZE, SHA256, archive.name)
    tfds.display_progress_bar(sys.stderr.isatty())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not archive.exists():
            # tensorflow-datasets asks a host that does not answer for minutes: ask it once before.
            with requests.get(URL, stream=True, timeout=4) as answer:
                if not answer.ok:
                    raise InputError(f"{URL} answers {answer.status_code} {answer.reason}: {cure}")
        # The thread that tensorflow-datasets writes with may outlive an interrupt, hence ignore_cleanup_errors.
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder, ignore_cleanup_errors=True) as temp:
            manager = tfds.download.DownloadManager(download_dir=temp, manual_dir=folder, url_infos={URL: known})
            Path(manager.download(URL)).replace(archive)
    except NonMatchingChecksumError as error:
        if archive.exists():
            raise InputError(
                f"{archive} is not the known archive, or not all of it: delete it, and run again"
            ) from error
        raise InputError(f"{URL} sent something other than the known archive: {cure}") from error
    except (requests.RequestException, tfds.download.DownloadError) as error:
        raise InputError(f"{URL} cannot be downloaded ({type(error).__name__}): {cure}") from error
    except OSError as error:
        raise InputError(f"{archive} cannot be kept ({error.strerror}): name another --dest") from error
    return archive


def _check_dest(dest: Path, force: bool) -> Path:
    """The folder to make, absolute and with links followed."""
    dest = Path(os.path.realpath(dest))
    try:
        if dest.exists() and not force:
            raise InputError(f"--dest {dest} exists: replace it with --force, or name another folder")
        strangers = sorted(entry.name for entry in dest.iterdir() if entry.name not in SPLITS) if dest.exists() else []
    except OSError as error:
        raise InputError(f"--dest {dest} cannot be used ({error.strerror}): name another folder") from error
    if strangers:  # a mistyped --dest must not cost anyone a home folder
        raise InputError(f"--force: {dest} holds {strangers[0]}, which is no part of a split: name another --dest")
    return dest


@contextlib.contextmanager
def _readable(where: Path, what: str = "cannot be read", cure: str = "get it anew") -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    # zipfile, zlib and Pillow raise OSError, ValueError, RuntimeError, SyntaxError and more on damaged files.
    except Exception as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise InputError(f"{where} {what} ({reason}): {cure}") from error


@contextlib.contextmanager
def _open_source(source: Path) -> Iterator[_Folder | _Archive]:
    """The files of a folder or archive, or of the train.zip in it."""
    with contextlib.ExitStack() as stack:
        with _readable(source, cure="give --source an archive or a folder"):
            files = _Folder(source) if source.is_dir() else _Archive(source, stack.enter_context(source.open("rb")))
        if _layout(files) is None and files.size("train.zip") is not None:
            where = source / "train.zip"
            with _readable(where):
                stream = _open(files, "train.zip", MAX_INNER)
                stack.callback(stream.close)
                if isinstance(files, _Archive):  # to go back in a compressed member is to unpack it from its start
                    member, stream = stream, stack.enter_context(tempfile.TemporaryFile())
                    shutil.copyfileobj(member, stream)
            files = _Archive(where, stream)
        yield files


def _open(files: _Folder | _Archive, name: str, limit: int) -> Stream:
    if (files.size(name) or 0) > limit:
        raise InputError(f"{files.where / name} claims {files.size(name)} bytes, over {limit}: get it anew")
    return files.open(name)


def _photos() -> list[tuple[str, str, int]]:
    """The split, kind and number of every photo, in the order of the splits."""
    return [(part, kind, number) for part, numbers in SPLITS.items() for kind in KINDS for number in numbers]


def _layout(files: _Folder | _Archive) -> str | None:
    """The first layout that any of the photos follows."""
    for layout in LAYOUTS:
        if any(files.size(_name(layout, kind, number)) is not None for _, kind, number in _photos()):
            return layout
    return None


def _name(layout: str, kind: str, number: int) -> str:
    return layout.format(kind=kind, Kind=kind.title(), number=number)


def _choose(files: _Folder | _Archive) -> dict[str, str]:
    """The file to copy for each file to write."""
    layout = _layout(files)
    if layout is None:
        raise InputError(
            f"{files.where} holds neither Kaggle's photos (train/cat.0.jpg) nor Microsoft's (PetImages/Cat/0.jpg): "
            "give --source train.zip, dogs-vs-cats.zip, kagglecatsanddogs_5340.zip, or one of them unpacked"
        )
    members = {}
    for part, kind, number in _photos():
        name = _name(layout, kind, number)
        if "{Kind}" in layout and (kind, number) == ("cat", EMPTY_CAT) and files.size(name) == 0:
            print(f"{files.where / name} is empty, as Microsoft ships it: cat {SPARE_CAT} takes its place")
            number, name = SPARE_CAT, _name(layout, kind, SPARE_CAT)
        members[f"{part}/{kind}s/{kind}.{number}.jpg"] = name
    missing = [name for name in members.values() if files.size(name) is None]
    if missing:
        raise InputError(
            f"{files.where} lacks {len(missing)} of {len(members)} photos, first {missing[0]}: get it anew"
        )
    return members


def _copy(files: _Folder | _Archive, members: dict[str, str], folder: Path) -> None:
    for target, name in tqdm(members.items(), "copying", unit="photo", leave=False, disable=None):
        data = _photo(files, name)
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).write_bytes(data)


def _photo(files: _Folder | _Archive, name: str) -> bytes:
    """The bytes of a file that decodes as a picture."""
    where = files.where / name
    with _readable(where), _open(files, name, MAX_PHOTO) as file:
        data = file.read()
    with _readable(where, f"({len(data)} bytes) is no picture that can be decoded"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of broken EXIF data, which nothing here reads
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        Image.open(io.BytesIO(data)).load()
    return data


def _swap(new: Path, dest: Path, old: Path) -> None:
    """Put `new` in the place of `dest`, which goes to `old` if it exists."""
    try:
        if dest.exists():
            dest.rename(old)
        new.rename(dest)
    except BaseException:  # an interrupt between the two included: the earlier split must stay
        if old.exists() and not dest.exists():
            old.rename(dest)
        raise


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, download if asked to, and split."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.split_catsdogs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="The photos: train.zip of Kaggle's competition 'Dogs vs. Cats' (kaggle.com/c/dogs-vs-cats/data, with an "
        "account),\nor --download, from Microsoft (787 MiB, no account).",
    )
    origin = parser.add_mutually_exclusive_group(required=True)
    origin.add_argument(
        "--source", type=Path, help="train.zip, dogs-vs-cats.zip, kagglecatsanddogs_5340.zip, or unpacked"
    )
    origin.add_argument(
        "--download",
        action="store_true",
        help="get kagglecatsanddogs_5340.zip, kept in the folder that holds DEST and used again if there",
    )
    parser.add_argument("--dest", type=Path, required=True, help="the folder to make, with train, validation and test")
    parser.add_argument("--force", action="store_true", help="replace DEST if it holds an earlier split")
    args = parser.parse_args(argv)
    try:
        dest = _check_dest(args.dest, args.force)  # before the long download
        split(args.source or download(dest.parent), dest, force=args.force)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.stdout.flush()
        os._exit(130)  # the download's thread cannot be stopped, and a plain exit would wait for all 787 MiB


if __name__ == "__main__":
    main()
