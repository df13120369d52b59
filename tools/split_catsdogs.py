"""Copy the book's 2,000 + 1,000 + 1,000 photos out of Kaggle's cats and dogs (section 5.2.2, code 5-4).

    python -m tools.split_catsdogs --source train.zip --dest data/cats_and_dogs_small
    python -m tools.split_catsdogs --download --dest data/cats_and_dogs_small

Photos are chosen by the number in their file name, so that everyone gets the same split. There are two sources of the
photos: train.zip of Kaggle's competition "Dogs vs. Cats" (kaggle.com/c/dogs-vs-cats/data, with an account), or
--download, which takes them from Microsoft (787 MiB, without an account).
"""

import argparse
import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jaxconv.runtime.cli import bare_parser, one_line_errors
from jaxconv.runtime.errors import InputError
from tools.archives import Files, Folder, open_files, open_inner, read, readable

SPLITS = {"train": range(1000), "validation": range(1000, 1500), "test": range(1500, 2000)}
KINDS = ("cat", "dog")

# The name of a photo in Kaggle's train.zip, in its folder, in Microsoft's archive, and in its folder.
LAYOUTS = ("train/{kind}.{number}.jpg", "{kind}.{number}.jpg", "PetImages/{Kind}/{number}.jpg", "{Kind}/{number}.jpg")
EMPTY_CAT, SPARE_CAT = 666, 2500  # Microsoft's archive has no bytes in cat 666

MAX_PHOTO = 50_000_000  # bytes; the real photos have 33 kB on average
MAX_INNER = 2_000_000_000  # bytes; Microsoft's archive of 25,000 photos has 825 million

URL = "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/kagglecatsanddogs_5340.zip"
SHA256 = "b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9"
SIZE = 824_887_076  # bytes


def split(source: Path, dest: Path) -> None:
    """Copy the book's photos to `dest/{train,validation,test}/{cats,dogs}/`: 1000, 500 and 500 of each class.

    `source` is Kaggle's train.zip or dogs-vs-cats.zip, or Microsoft's kagglecatsanddogs_5340.zip, packed or unpacked,
    also with one more folder around. Every photo is decoded once, as a check. `dest` appears whole or not at all.

    Raises:
        InputError: `source` lacks photos or has broken photos, or `dest` exists or cannot be written.
    """
    dest, origin = _check_dest(dest), Path(os.path.realpath(source))
    if dest.is_relative_to(origin) or origin.is_relative_to(dest):
        raise InputError(f"--dest {dest} and --source {source} lie one inside the other: name another --dest")
    with contextlib.ExitStack() as stack:
        files = _open_source(source, stack)
        members = _choose(files)
        try:
            dest.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{dest.name}-", dir=dest.parent) as temp:
                new = Path(temp, "new")  # one level down, as the temporary folder itself is closed to other users
                _copy(files, members, new)
                new.rename(dest)
        except OSError as error:
            raise InputError(f"--dest {dest} cannot be written ({error.strerror}): name another folder") from error
    for folder in (f"{part}/{kind}s" for part in SPLITS for kind in KINDS):
        print(f"{dest / folder}: {sum(1 for _ in (dest / folder).iterdir())} photos")


def _download(folder: Path) -> Path:
    """Microsoft's archive, kept in `folder`."""
    from jaxconv.data.downloads import fetch

    archive = folder / Path(URL).name
    cure = f"try again later, or fetch it in another way and put it at {archive}"
    try:
        return fetch(URL, archive, size=SIZE, sha256=SHA256, cure=cure)
    except OSError as error:
        raise InputError(f"{archive} cannot be kept ({error.strerror}): name another --dest") from error


def _check_dest(dest: Path) -> Path:
    """The folder to make, absolute and with links followed."""
    dest = Path(os.path.realpath(dest))
    try:
        if dest.exists():
            raise InputError(f"--dest {dest} exists: remove it, or name another folder")
    except OSError as error:
        raise InputError(f"--dest {dest} cannot be used ({error.strerror}): name another folder") from error
    return dest


def _open_source(source: Path, stack: contextlib.ExitStack) -> Files:
    """The files of a folder or an archive, or of the train.zip in it. They are open as long as `stack`."""
    with readable(source, cure="give --source an archive or a folder"):
        files = _enter(stack.enter_context(open_files(source)))
    if _layout(files) is None and files.size("train.zip") is not None:
        files = _enter(stack.enter_context(open_inner(files, "train.zip", MAX_INNER)))
    return files


def _enter(files: Files) -> Files:
    """The files in the only folder, unless photos or a train.zip lie beside it."""
    if _layout(files) is None and files.size("train.zip") is None and len(folders := files.folders()) == 1:
        return files.below(*folders)
    return files


def _photos() -> list[tuple[str, str, int]]:
    """The split, the kind and the number of every photo, in the order of the splits."""
    return [(part, kind, number) for part, numbers in SPLITS.items() for kind in KINDS for number in numbers]


def _layout(files: Files) -> str | None:
    """The first layout that a photo follows; None if no photo follows any."""
    names = ((layout, _name(layout, kind, number)) for layout in LAYOUTS for _, kind, number in _photos())
    return next((layout for layout, name in names if files.size(name) is not None), None)


def _name(layout: str, kind: str, number: int) -> str:
    return layout.format(kind=kind, Kind=kind.title(), number=number)


def _unknown(files: Files) -> InputError:
    """What is wrong with a source that follows no layout."""
    if len(files.folders("train")) > 1 and len(files.folders("validation")) > 1:
        train = "train on it with python -m experiments.folders --data"
        how = f"{train} {files.where}" if isinstance(files, Folder) else f"unpack it, and {train} DIR"
        return InputError(f"{files.where} holds only a part of the photos, split into train and validation: {how}")
    return InputError(
        f"{files.where} holds neither Kaggle's photos (train/cat.0.jpg) nor Microsoft's (PetImages/Cat/0.jpg): "
        "give --source train.zip, dogs-vs-cats.zip, kagglecatsanddogs_5340.zip, or one of them unpacked"
    )


def _choose(files: Files) -> dict[str, str]:
    """The name in the source of each file to write."""
    layout = _layout(files)
    if layout is None:
        raise _unknown(files)
    members = {}
    for part, kind, number in _photos():
        name = _name(layout, kind, number)
        if "{Kind}" in layout and (kind, number) == ("cat", EMPTY_CAT) and files.size(name) == 0:
            print(f"{files.where / name} is empty, as Microsoft ships it: cat {SPARE_CAT} takes its place")
            number, name = SPARE_CAT, _name(layout, kind, SPARE_CAT)
        members[f"{part}/{kind}s/{kind}.{number}.jpg"] = name
    missing = [name for name in members.values() if files.size(name) is None]
    if missing:
        what = f"lacks {len(missing)} of {len(members)} photos, first {missing[0]}"
        raise InputError(f"{files.where} {what}: get it anew")
    return members


def _copy(files: Files, members: dict[str, str], folder: Path) -> None:
    from tqdm import tqdm

    from jaxconv.data.images import quiet_pillow

    with quiet_pillow():
        for target, name in tqdm(members.items(), "copying", unit="photo", leave=False, disable=None):
            data = _photo(files, name)
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            (folder / target).write_bytes(data)


def _photo(files: Files, name: str) -> bytes:
    """The bytes of a file, after a check that it is a picture."""
    from jaxconv.data.images import decode_rgb

    data = read(files, name, MAX_PHOTO)
    with readable(files.where / name, f"({len(data)} bytes) is no picture that can be decoded"):
        decode_rgb(data)
    return data


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__
    parser = bare_parser("tools.split_catsdogs", __doc__)
    origin = parser.add_mutually_exclusive_group(required=True)
    known = "train.zip, dogs-vs-cats.zip or kagglecatsanddogs_5340.zip"
    origin.add_argument("--source", type=Path, help=f"{known}, or the folder of an unpacked archive")
    origin.add_argument(
        "--download",
        action="store_true",
        help="get kagglecatsanddogs_5340.zip; it is kept in the folder above DEST, and used again if it is there",
    )
    parser.add_argument("--dest", type=Path, required=True, help="the folder to make, with train, validation and test")
    return parser.parse_args(argv)


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, download if asked to, and split."""
    arguments = _parse(argv)
    from jaxconv.runtime.signals import interruptible

    with interruptible():
        dest = _check_dest(arguments.dest)  # before the long download
        split(arguments.source or _download(dest.parent), dest)


if __name__ == "__main__":
    main()
