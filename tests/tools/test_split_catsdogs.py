"""Sources of every known form, and everything that can be wrong with them, with DEST and with the download."""

import functools
import hashlib
import io
import os
import re
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxconv.runtime.errors import InputError
from tests.commands import fails
from tests.data.test_downloads import Served, serving
from tests.faults.mutated import append, block, cut, flip
from tests.scenes import close_folder, fill, tree
from tools import split_catsdogs

ALL = split_catsdogs.SPLITS
FEW = {"train": range(665, 669), "validation": range(1000, 1002), "test": range(1500, 1502)}
DATA = os.environ.get("JAXCONV_DATA")


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((16, 16), 64).save(file, "JPEG")  # noise, so that a few bytes less are pixels less
    return file.getvalue()


JPEG = jpeg()


def photo(kind: str, number: int) -> bytes:
    """A picture of its own for each name: what follows a JPEG's end is not decoded."""
    return JPEG + f"{kind}.{number}".encode()


def photos(layout: str) -> dict[str, bytes]:
    """The files of a complete source."""
    numbers = [number for part in split_catsdogs.SPLITS.values() for number in part]
    return {
        layout.format(kind=kind, Kind=kind.title(), number=number): photo(kind, number)
        for kind in ("cat", "dog")
        for number in numbers
    }


KAGGLE, FLAT, MICROSOFT, PETS = split_catsdogs.LAYOUTS


def pack(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def train_zip(members: dict[str, bytes]) -> dict[str, bytes]:
    """A train.zip of these files."""
    with tempfile.TemporaryDirectory() as folder:
        return {"train.zip": pack(Path(folder, "train.zip"), members).read_bytes()}


def nested(path: Path, compression: int, members: dict[str, bytes] | None = None) -> Path:
    return pack(path, {"sampleSubmission.csv": b""} | train_zip(members or photos(KAGGLE)), compression)


def around(folder: str, members: dict[str, bytes]) -> dict[str, bytes]:
    """The files in one more folder, and what a Mac leaves beside it."""
    junk = {f"__MACOSX/{folder}/._cat.665.jpg": b"junk", "__MACOSX/._a": b"junk", ".DS_Store": b"", ".git/HEAD": b""}
    return {f"{folder}/{name}": data for name, data in members.items()} | junk


def windows(members: dict[str, bytes]) -> dict[str, bytes]:
    """The names as some programs for Windows write them."""
    return {name.replace("/", "\\"): data for name, data in members.items()}


def filtered(folder: str) -> dict[str, bytes]:
    """Photos in folders, as Google's course has them."""
    names = (f"{folder}{part}/{kind}s/{kind}.665.jpg" for part in ("train", "validation") for kind in ("cat", "dog"))
    return {f"{folder}vectorize.py": b""} | dict.fromkeys(names, JPEG)


def expected() -> dict[str, bytes]:
    return {
        f"{part}/{kind}s/{kind}.{number}.jpg": photo(kind, number)
        for part, numbers in split_catsdogs.SPLITS.items()
        for kind in ("cat", "dog")
        for number in numbers
    }


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight photos of a kind, cat 666 among them."""
    monkeypatch.setattr(split_catsdogs, "SPLITS", FEW)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return pack(tmp_path / "train.zip", photos(KAGGLE))


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "made" / "small"


def check_refused(source: Path, dest: Path, *words: str) -> str:
    """One line with these words, and nothing left where DEST would be."""
    before = tree(dest)
    with pytest.raises(InputError) as error:
        split_catsdogs.split(source, dest)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    assert tree(dest) == before
    assert (
        not dest.parent.is_dir() or [p.name for p in dest.parent.iterdir() if p.name.startswith(f".{dest.name}")] == []
    )
    return message


# --- What is made ---


def test_the_book_s_split_has_its_counts_and_its_numbers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dest: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(split_catsdogs, "SPLITS", ALL)
    members = photos(KAGGLE) | {
        f"train/{kind}.{n}.jpg": b"beyond the split" for kind in ("cat", "dog") for n in (2000, 12499)
    }
    split_catsdogs.main(["--source", str(pack(tmp_path / "train.zip", members)), "--dest", str(dest)])
    assert sorted(path.name for path in (dest / "train/cats").iterdir()) == sorted(f"cat.{n}.jpg" for n in range(1000))
    assert sorted(path.name for path in (dest / "validation/dogs").iterdir()) == sorted(
        f"dog.{n}.jpg" for n in range(1000, 1500)
    )
    assert sorted(path.name for path in (dest / "test/cats").iterdir()) == sorted(
        f"cat.{n}.jpg" for n in range(1500, 2000)
    )
    assert tree(dest) == expected()
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"{dest}/{part}/{kind}: {count} photos"
        for part, count in (("train", 1000), ("validation", 500), ("test", 500))
        for kind in ("cats", "dogs")
    ]
    assert err == ""  # no bar where there is no terminal


SOURCES: dict[str, Callable[[Path], Path]] = {
    "train.zip": lambda tmp: pack(tmp / "train.zip", photos(KAGGLE), zipfile.ZIP_DEFLATED),
    "train.zip without its folder": lambda tmp: pack(tmp / "any.zip", photos(FLAT)),
    "dogs-vs-cats.zip stored": lambda tmp: nested(tmp / "dogs-vs-cats.zip", zipfile.ZIP_STORED),
    "dogs-vs-cats.zip deflated": lambda tmp: nested(tmp / "dogs-vs-cats.zip", zipfile.ZIP_DEFLATED),
    "folder of photos": lambda tmp: fill(tmp / "photos", photos(FLAT)),
    "folder of train/": lambda tmp: fill(tmp / "photos", photos(KAGGLE)),
    "folder of train.zip": lambda tmp: (
        pack(tmp / "train.zip", photos(KAGGLE)).rename(fill(tmp / "k", {"a.csv": b""}) / "train.zip").parent
    ),
    "kagglecatsanddogs_5340.zip": lambda tmp: pack(tmp / "kagglecatsanddogs_5340.zip", photos(MICROSOFT)),
    "PetImages": lambda tmp: fill(tmp / "PetImages", photos(PETS)),
    "parent of PetImages": lambda tmp: fill(tmp / "pets", photos(MICROSOFT)),
    "backslashes": lambda tmp: pack(tmp / "train.zip", windows(photos(KAGGLE))),
    "backslashes here and there": lambda tmp: pack(
        tmp / "train.zip",
        {name.replace("/", "\\") if "cat" in name else name: data for name, data in photos(KAGGLE).items()},
    ),
    "backslashes in a folder more": lambda tmp: pack(tmp / "any.zip", windows(around("pets", photos(MICROSOFT)))),
    "backslashes in train.zip in dogs-vs-cats.zip": lambda tmp: nested(
        tmp / "dogs-vs-cats.zip", zipfile.ZIP_DEFLATED, windows(photos(KAGGLE))
    ),
    "train/train in train.zip in dogs-vs-cats.zip": lambda tmp: nested(
        tmp / "dogs-vs-cats.zip", zipfile.ZIP_DEFLATED, around("train", photos(KAGGLE))
    ),
    "dogs-vs-cats/train.zip": lambda tmp: pack(tmp / "any.zip", around("dogs-vs-cats", train_zip(photos(KAGGLE)))),
    "dogs-vs-cats/train.zip in a folder": lambda tmp: fill(
        tmp / "any", around("dogs-vs-cats", train_zip(photos(KAGGLE)))
    ),
}


@pytest.mark.parametrize("form", SOURCES)
def test_every_form_of_source_gives_the_same_split(form: str, tmp_path: Path, dest: Path) -> None:
    path = SOURCES[form](tmp_path)
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    split_catsdogs.split(path, dest)
    assert tree(dest) == expected()
    assert {p for p in tmp_path.rglob("*") if p.is_file()} - before == {dest / name for name in expected()}


@pytest.mark.parametrize("make", [pack, fill])
@pytest.mark.parametrize("layout", split_catsdogs.LAYOUTS)
@pytest.mark.parametrize("folder", ["train", "{kind} {0}"])
def test_a_folder_around_everything_is_entered(
    folder: str, layout: str, make: Callable, tmp_path: Path, dest: Path
) -> None:
    split_catsdogs.split(make(tmp_path / "any", around(folder, photos(layout))), dest)
    assert tree(dest) == expected()


@pytest.mark.parametrize("pack_or_unpack", [pack, fill])
def test_microsofts_empty_cat_is_replaced(
    pack_or_unpack: Callable, tmp_path: Path, dest: Path, capsys: pytest.CaptureFixture
) -> None:
    spare = {"PetImages/Cat/666.jpg": b"", "PetImages/Cat/2500.jpg": photo("cat", 2500)}
    split_catsdogs.split(pack_or_unpack(tmp_path / "pets", photos(MICROSOFT) | spare), dest)
    want = expected()
    del want["train/cats/cat.666.jpg"]
    assert tree(dest) == want | {"train/cats/cat.2500.jpg": photo("cat", 2500)}
    assert (
        "pets/PetImages/Cat/666.jpg is empty, as Microsoft ships it: cat 2500 takes its place"
        in capsys.readouterr().out
    )


def test_the_folder_is_as_open_as_any_other(source: Path, dest: Path) -> None:
    split_catsdogs.split(source, dest)
    (dest.parent / "other").mkdir()
    assert dest.stat().st_mode == (dest.parent / "other").stat().st_mode


def test_a_broken_exif_block_is_no_matter(tmp_path: Path, dest: Path) -> None:
    # Pillow reads the resolution out of EXIF, and warns where that is cut short; warnings are errors here.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x1a\0\x05"
    data = JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + JPEG[2:]
    with pytest.raises(UserWarning, match="EXIF"):
        Image.open(io.BytesIO(data)).getexif()
    split_catsdogs.split(pack(tmp_path / "train.zip", photos(KAGGLE) | {"train/cat.666.jpg": data}), dest)
    assert (dest / "train/cats/cat.666.jpg").read_bytes() == data


# --- Sources that are refused ---


def test_a_source_that_does_not_exist_is_refused(tmp_path: Path, dest: Path) -> None:
    check_refused(tmp_path / "none.zip", dest, "none.zip cannot be read (No such file or directory): give --source")
    assert not dest.parent.exists()


@pytest.mark.parametrize("data", [b"", b"<html>log in</html>"])
def test_a_source_that_is_no_zip_is_refused(data: bytes, tmp_path: Path, dest: Path) -> None:
    (tmp_path / "train.zip").write_bytes(data)
    check_refused(
        tmp_path / "train.zip", dest, "train.zip is no zip archive, or is cut short (BadZipFile): get it anew"
    )


def test_a_zip_that_is_cut_short_is_refused(source: Path, dest: Path) -> None:
    source.write_bytes(source.read_bytes()[:-100])
    check_refused(source, dest, "train.zip is no zip archive, or is cut short (BadZipFile)")


@pytest.mark.parametrize("outer", [pack, fill])
def test_an_inner_zip_that_is_none_is_refused(outer: Callable, tmp_path: Path, dest: Path) -> None:
    path = outer(tmp_path / "outer", {"train.zip": b"junk"})
    check_refused(path, dest, "outer/train.zip is no zip archive, or is cut short")


def test_a_damaged_inner_zip_is_refused(tmp_path: Path, dest: Path) -> None:
    path = nested(tmp_path / "outer.zip", zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"cat.667PK", b"cat.66!PK"))
    check_refused(path, dest, "outer.zip/train.zip cannot be read (BadZipFile): get it anew")


def test_a_huge_inner_zip_is_refused(tmp_path: Path, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_catsdogs, "MAX_INNER", 1000)
    path = nested(tmp_path / "outer.zip", zipfile.ZIP_STORED)
    check_refused(path, dest, "outer.zip/train.zip claims ", " bytes, over 1000: get it anew")


@pytest.mark.parametrize("missing", [1, 5000])
def test_too_little_room_for_an_inner_zip_is_named(
    missing: int, tmp_path: Path, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = train_zip(photos(KAGGLE))
    path = pack(tmp_path / "outer.zip", inner, zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As on a full disk, a part is written before the error.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(inner["train.zip"]) - missing, hard))
    try:
        message = check_refused(path, dest, f"{path}/train.zip cannot be unpacked in {tmp_path} (File too large)")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert message.endswith(": set TMPDIR to a folder with room for it")


def test_no_place_for_temporary_files_is_named(tmp_path: Path, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = nested(tmp_path / "outer.zip", zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "none")])
    what = f"cannot be unpacked (No usable temporary directory found in ['{tmp_path}/none'])"
    check_refused(path, dest, f"{path}/train.zip {what}: set TMPDIR to a folder with room for it")


def test_an_inner_zip_in_a_folder_takes_no_room(tmp_path: Path, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fill(tmp_path / "any", train_zip(photos(KAGGLE)))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    split_catsdogs.split(path, dest)
    assert tree(dest) == expected()


def test_an_inner_zip_in_an_inner_zip_is_not_followed(tmp_path: Path, dest: Path) -> None:
    middle = nested(tmp_path / "middle.zip", zipfile.ZIP_STORED)
    path = pack(tmp_path / "outer.zip", {"train.zip": middle.read_bytes()})
    check_refused(path, dest, "outer.zip/train.zip holds neither")


@pytest.mark.parametrize("make", [pack, fill])
def test_a_source_of_another_form_is_refused(make: Callable, tmp_path: Path, dest: Path) -> None:
    path = make(tmp_path / "other", {"test1/1.jpg": JPEG, "train/cats/cat.0.jpg": JPEG, "train/cat.666.jpgx": JPEG})
    message = check_refused(path, dest, "other holds neither Kaggle's photos (train/cat.0.jpg) nor Microsoft's")
    for form in ("PetImages/Cat/0.jpg", "train.zip", "dogs-vs-cats.zip", "kagglecatsanddogs_5340.zip"):
        assert form in message


@pytest.mark.parametrize("make", [pack, fill])
@pytest.mark.parametrize("folders", [("a", "b"), ("a/b",), ("__MACOSX",), (".hidden",), ("..",)])
def test_photos_in_other_folders_are_not_looked_for(
    folders: tuple[str, ...], make: Callable, tmp_path: Path, dest: Path
) -> None:
    members = {f"{folder}/{name}": data for folder in folders for name, data in photos(KAGGLE).items()}
    (tmp_path / "in").mkdir()
    check_refused(make(tmp_path / "in" / "any", members), dest, "in/any", "holds neither Kaggle's photos")


@pytest.mark.parametrize("folder", ["", "cats_and_dogs_filtered/"])
def test_photos_that_are_split_already_can_be_trained_on(folder: str, tmp_path: Path, dest: Path) -> None:
    what = "holds only a part of the photos, split into train and validation"
    cure = "train on it with python -m experiments.folders --data"
    where = fill(tmp_path / "any", filtered(folder)) / folder
    check_refused(tmp_path / "any", dest, f"{where} {what}: {cure} {where}")
    for name, members in (("any.zip", filtered(folder)), ("windows.zip", windows(filtered(folder)))):
        path = pack(tmp_path / name, members)
        check_refused(path, dest, f"{path / folder} {what}: unpack it, and {cure} DIR")


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fill(tmp_path / "closed", around("dogs-vs-cats", photos(KAGGLE)))
    close_folder("closed", monkeypatch)
    check_refused(path, dest, f"{path} cannot be listed (Permission denied): give a folder that can be")


@pytest.mark.parametrize("make", [pack, fill])
@pytest.mark.parametrize("layout", split_catsdogs.LAYOUTS)
def test_missing_photos_are_counted_and_the_first_is_named(
    layout: str, make: Callable, tmp_path: Path, dest: Path
) -> None:
    members = photos(layout)
    gone = [name for name in members if "1001" in name]
    for name in gone:
        del members[name]
    check_refused(make(tmp_path / "some", members), dest, f"some lacks 2 of 16 photos, first {gone[0]}: get it anew")


def test_a_folder_in_place_of_a_photo_is_a_missing_photo(tmp_path: Path, dest: Path) -> None:
    folder = fill(tmp_path / "photos", photos(FLAT))
    (folder / "cat.667.jpg").unlink()
    (folder / "cat.667.jpg").mkdir()
    check_refused(folder, dest, "photos lacks 1 of 16 photos, first cat.667.jpg")


def test_a_missing_spare_cat_is_named(tmp_path: Path, dest: Path) -> None:
    path = pack(tmp_path / "pets.zip", photos(MICROSOFT) | {"PetImages/Cat/666.jpg": b""})
    check_refused(path, dest, "pets.zip lacks 1 of 16 photos, first PetImages/Cat/2500.jpg")


@pytest.mark.parametrize("make", [pack, fill])
@pytest.mark.parametrize(
    ("layout", "name"),
    [(KAGGLE, "train/cat.666.jpg"), (MICROSOFT, "PetImages/Dog/666.jpg"), (PETS, "Cat/667.jpg")],
)
@pytest.mark.parametrize("data", [b"", b"no picture at all", JPEG[:-20]])
def test_a_photo_that_does_not_decode_is_named(
    data: bytes, layout: str, name: str, make: Callable, tmp_path: Path, dest: Path
) -> None:
    spare = {"PetImages/Cat/2500.jpg": JPEG, "Cat/2500.jpg": JPEG}
    path = make(tmp_path / "some", photos(layout) | spare | {name: data})
    check_refused(path, dest, f"some/{name} ({len(data)} bytes) is no picture that can be decoded", ": get it anew")


def test_broken_cat_666_of_microsoft_is_not_replaced(tmp_path: Path, dest: Path) -> None:
    spare = {"PetImages/Cat/666.jpg": JPEG[:-20], "PetImages/Cat/2500.jpg": JPEG}
    path = pack(tmp_path / "pets.zip", photos(MICROSOFT) | spare)
    check_refused(path, dest, "pets.zip/PetImages/Cat/666.jpg", "is no picture that can be decoded")


def claiming(side: int) -> bytes:
    """A small JPEG whose header says that it is large."""
    height = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:height] + struct.pack(">HH", side, side) + JPEG[height + 4 :]


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_a_photo_of_too_many_pixels_is_refused(side: int, tmp_path: Path, dest: Path) -> None:
    path = pack(tmp_path / "train.zip", photos(KAGGLE) | {"train/dog.1501.jpg": claiming(side)})
    check_refused(
        path,
        dest,
        f"train.zip/train/dog.1501.jpg ({len(JPEG)} bytes) is no picture that can be decoded (DecompressionBombError)",
    )


@pytest.mark.parametrize("make", [lambda path, members: pack(path, members, zipfile.ZIP_DEFLATED), fill])
def test_a_photo_of_too_many_bytes_is_refused(make: Callable, tmp_path: Path, dest: Path) -> None:
    path = make(tmp_path / "some", photos(KAGGLE) | {"train/dog.1501.jpg": bytes(50_000_001)})
    check_refused(path, dest, "some/train/dog.1501.jpg claims 50000001 bytes, over 50000000: get it anew")


def test_a_damaged_member_is_named(source: Path, dest: Path) -> None:
    source.write_bytes(source.read_bytes().replace(b"cat.667PK", b"cat.66!PK"))
    check_refused(source, dest, "train.zip/train/cat.667.jpg cannot be read (BadZipFile): get it anew")


def patch_directory(path: Path, offset: int, value: int) -> None:
    """Set a 16-bit field of every member in the archive's directory, and in its local headers."""
    data = bytearray(path.read_bytes())
    for signature, start in ((b"PK\x01\x02", offset), (b"PK\x03\x04", offset - 2)):
        position = data.find(signature)
        while position >= 0:
            struct.pack_into("<H", data, position + start, value)
            position = data.find(signature, position + 1)
    path.write_bytes(data)


def test_encrypted_members_are_refused(source: Path, dest: Path) -> None:
    patch_directory(source, 8, 1)
    check_refused(source, dest, "train.zip/train/cat.665.jpg is encrypted: unpack it with its password")


def test_an_unknown_compression_is_refused(source: Path, dest: Path) -> None:
    patch_directory(source, 10, 99)
    check_refused(source, dest, "train.zip/train/cat.665.jpg cannot be read (NotImplementedError): get it anew")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")  # zipfile's, when it writes one
@pytest.mark.parametrize("name", ["train/dog.667.jpg", "train\\dog.667.jpg"])
def test_a_member_that_is_there_twice_is_refused(name: str, source: Path, dest: Path) -> None:
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr(name, JPEG)
    check_refused(source, dest, "train.zip/train/dog.667.jpg is there 2 times: get it anew")


def test_names_that_lead_outside_do_nothing(tmp_path: Path, dest: Path) -> None:
    evil = {
        name: b"evil" for name in ("../evil.jpg", "train/../../evil.jpg", f"{tmp_path}/evil.jpg", "train\\..\\evil.jpg")
    }
    split_catsdogs.split(pack(tmp_path / "train.zip", evil | photos(KAGGLE)), dest)
    assert tree(dest) == expected()
    assert not [path for path in tmp_path.parent.rglob("*evil*")]


def test_a_link_in_an_archive_is_no_picture(tmp_path: Path, dest: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(JPEG)
    members = photos(KAGGLE)
    del members["train/cat.666.jpg"]
    link = zipfile.ZipInfo("train/cat.666.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(pack(tmp_path / "train.zip", members), "a") as archive:
        archive.writestr(link, str(secret))
    check_refused(tmp_path / "train.zip", dest, "train.zip/train/cat.666.jpg", "is no picture that can be decoded")


def entry(path: Path, name: str) -> int:
    """Where the directory of an archive has a member."""
    return path.read_bytes().rindex(name.encode()) - 46


def claim_size(path: Path, name: str, size: int) -> None:
    """Let the directory of an archive say that a member has another size unpacked."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, entry(path, name) + 24, size)
    path.write_bytes(data)


@pytest.mark.parametrize("size", [0, 1, len(photo("cat", 665)) - 1])
def test_a_member_that_is_larger_than_it_claims_is_refused(size: int, tmp_path: Path, dest: Path) -> None:
    path = pack(tmp_path / "train.zip", photos(KAGGLE), zipfile.ZIP_DEFLATED)
    claim_size(path, "train/cat.665.jpg", size)
    check_refused(path, dest, "train.zip/train/cat.665.jpg ", "): get it anew")


def test_a_member_that_is_smaller_than_it_claims_is_taken(tmp_path: Path, dest: Path) -> None:
    path = pack(tmp_path / "train.zip", photos(KAGGLE), zipfile.ZIP_DEFLATED)
    claim_size(path, "train/cat.665.jpg", 49_999_999)
    split_catsdogs.split(path, dest)
    assert tree(dest) == expected()


def test_a_bomb_that_claims_to_be_small_is_not_unpacked(tmp_path: Path, dest: Path) -> None:
    path = pack(tmp_path / "train.zip", photos(KAGGLE) | {"train/cat.665.jpg": bytes(10**8)}, zipfile.ZIP_DEFLATED)
    claim_size(path, "train/cat.665.jpg", 1000)
    tracemalloc.start()
    try:
        check_refused(path, dest, "train.zip/train/cat.665.jpg cannot be read (BadZipFile): get it anew")
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


def test_overlapping_members_are_refused(source: Path, dest: Path) -> None:
    data = bytearray(source.read_bytes())
    (offset,) = struct.unpack_from("<I", data, entry(source, "train/cat.665.jpg") + 42)
    struct.pack_into("<I", data, entry(source, "train/dog.665.jpg") + 42, offset)
    source.write_bytes(data)
    check_refused(source, dest, "train.zip/train/", ".665.jpg cannot be read (BadZipFile): get it anew")


def test_a_wrong_checksum_is_refused(source: Path, dest: Path) -> None:
    data = bytearray(source.read_bytes())
    data[entry(source, "train/dog.1500.jpg") + 16] ^= 1
    source.write_bytes(data)
    check_refused(source, dest, "train.zip/train/dog.1500.jpg cannot be read (BadZipFile): get it anew")


def test_a_zip_that_is_cut_short_anywhere_is_refused(source: Path, dest: Path) -> None:
    data = source.read_bytes()
    for length in [*range(0, len(data), 97), *range(len(data) - 30, len(data))]:
        source.write_bytes(data[:length])
        check_refused(source, dest, "train.zip is no zip archive, or is cut short (BadZipFile): get it anew")


def field(rng: np.random.Generator, kind: str, data: bytes) -> bytes:
    """Another value in a header of an archive, its directory or its end."""
    at = [match.start() for match in re.finditer(rb"PK[\1\3\5][\2\4\6]", data)]
    value = struct.pack("<I", int(rng.choice([0, 1, 8, 9, 99, 2**16 - 1, 2**31, 2**32 - 1])))[: rng.choice([2, 4])]
    place = int(rng.choice(at)) + int(rng.integers(4, 46))
    return data[:place] + value + data[place + len(value) :]


DAMAGES = [*(functools.partial(flip, share) for share in (1, 10, 0.01)), cut, append, field, field, field]
DAMAGES += [functools.partial(block, random) for random in (False, True)]


@pytest.mark.parametrize("seed, count", [(0, 20), pytest.param(1, 5_000, marks=pytest.mark.campaign)])
def test_damaged_archives_are_refused_or_complete(seed: int, count: int, tmp_path: Path) -> None:
    rng, outcomes = np.random.default_rng(seed), Counter[str]()
    compressions = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    archives = [pack(tmp_path / "train.zip", photos(KAGGLE), compression).read_bytes() for compression in compressions]
    archives += [nested(tmp_path / "outer.zip", compression).read_bytes() for compression in compressions]
    for number in range(count):
        data = archives[rng.integers(len(archives))]
        for _ in range(rng.integers(1, 3)):
            data = DAMAGES[rng.integers(len(DAMAGES))](rng, "", data) if b"PK" in data else data
        (tmp_path / "damaged.zip").write_bytes(data)
        dest = tmp_path / "made" / str(number)
        try:
            split_catsdogs.split(tmp_path / "damaged.zip", dest)
        except InputError as error:
            assert "\n" not in str(error)
            assert not dest.parent.exists() or list(dest.parent.iterdir()) == []
            outcomes["refused"] += 1
        else:
            assert tree(dest) == expected()
            shutil.rmtree(dest)
            outcomes["complete"] += 1
    assert outcomes["refused"] and outcomes["complete"], outcomes


# --- DEST ---


def test_a_dest_that_exists_is_refused(source: Path, dest: Path) -> None:
    fill(dest, {"train/cats/old.jpg": b"old"})
    check_refused(source, dest, f"--dest {dest} exists: remove it")


def test_a_dest_that_is_a_file_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    check_refused(source, tmp_path / "file", "file exists: remove it")
    assert (tmp_path / "file").read_bytes() == b"kept"


def test_a_dest_that_is_a_link_is_followed(source: Path, dest: Path, tmp_path: Path) -> None:
    """It is made where the link points to."""
    dest.parent.mkdir()
    (tmp_path / "link").symlink_to(dest)
    split_catsdogs.split(source, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert tree(dest) == expected()


def test_a_dest_below_a_file_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    check_refused(source, tmp_path / "file" / "small", "small cannot be written (", "): name another folder")


def test_a_dest_of_too_long_a_name_is_refused(source: Path, tmp_path: Path) -> None:
    check_refused_without_tree(
        source, tmp_path / ("x" * 300), "cannot be used (File name too long): name another folder"
    )


def check_refused_without_tree(source: Path, dest: Path, words: str) -> None:
    with pytest.raises(InputError) as error:
        split_catsdogs.split(source, dest)
    assert words in str(error.value)


def test_a_full_disk_is_named(source: Path, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, "dog.1000.jpg", OSError(28, "No space left on device"))
    check_refused(source, dest, f"--dest {dest} cannot be written (No space left on device)")


def fail_at(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException) -> None:
    write = Path.write_bytes

    def write_or_fail(path: Path, data: bytes) -> int:
        if path.name == name:
            raise error
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_or_fail)


def test_an_interrupt_leaves_nothing(source: Path, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, "dog.1000.jpg", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        split_catsdogs.split(source, dest)
    assert [*dest.parent.iterdir()] == []


def test_a_dest_and_a_source_that_lie_in_each_other_are_refused(source: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", photos(FLAT))
    before = tree(folder)
    for origin, dest in ((folder, folder / "small"), (folder, folder / "a" / ".." / "b"), (source, source / "small")):
        check_refused_without_tree(origin, dest, "lie one inside the other: name another --dest")
    assert tree(folder) == before


# --- The command ---


def test_the_command_reports_errors_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    error = fails(split_catsdogs.main, capsys, "--source", tmp_path / "none.zip", "--dest", tmp_path / "small")
    assert f"{tmp_path / 'none.zip'} cannot be read (No such file or directory)" in error


def test_help_says_where_the_photos_are(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        split_catsdogs.main(["--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    for word in ("python -m tools.split_catsdogs --source train.zip --dest", "kaggle.com/c/dogs-vs-cats", "--download"):
        assert word in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dest", "d"], "one of the arguments --source --download is required"),
        (["--dest", "d", "--source", "s", "--download"], "not allowed with argument --source"),
        (["--source", "s"], "the following arguments are required: --dest"),
    ],
)
def test_wrong_flags_are_named(flags: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert message in fails(split_catsdogs.main, capsys, *flags)


# --- The download ---


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Microsoft's server, but here."""
    with serving(monkeypatch) as served:
        monkeypatch.setattr(split_catsdogs, "URL", served.url)
        yield served


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A complete archive of Microsoft's form, whose size and checksum are the ones that are looked for."""
    data = pack(tmp_path / "pets.zip", photos(MICROSOFT)).read_bytes()
    monkeypatch.setattr(split_catsdogs, "SIZE", len(data))
    monkeypatch.setattr(split_catsdogs, "SHA256", hashlib.sha256(data).hexdigest())
    return data


def check_download_refused(
    dest: Path, capsys: pytest.CaptureFixture, words: str, left: list[str] | None = None
) -> None:
    assert words in fails(split_catsdogs.main, capsys, "--download", "--dest", dest)
    assert [path.name for path in dest.parent.iterdir()] == (left or [])


def test_the_known_archive_is_that_of_tensorflow_datasets() -> None:
    from tensorflow_datasets.core.download.checksums import get_all_url_infos

    known = get_all_url_infos()[split_catsdogs.URL]
    assert (known.size, known.checksum) == (split_catsdogs.SIZE, split_catsdogs.SHA256)


def test_the_download_is_kept_and_used_again(served: Served, archive: bytes, dest: Path) -> None:
    served.answer["data"] = archive
    split_catsdogs.main(["--download", "--dest", str(dest)])
    assert tree(dest) == expected()
    asked = len(served.requests)
    split_catsdogs.main(["--download", "--dest", str(dest.with_name("again"))])
    assert tree(dest.with_name("again")) == expected()
    assert len(served.requests) == asked
    assert sorted(path.name for path in dest.parent.iterdir()) == ["again", "kagglecatsanddogs_5340.zip", "small"]


def test_nothing_is_downloaded_for_a_dest_that_exists(
    served: Served, archive: bytes, dest: Path, capsys: pytest.CaptureFixture
) -> None:
    served.answer["data"] = archive
    dest.mkdir(parents=True)
    check_download_refused(dest, capsys, "exists: remove it", ["small"])
    assert served.requests == []


def test_another_file_than_the_known_one_is_refused(
    served: Served, archive: bytes, dest: Path, capsys: pytest.CaptureFixture
) -> None:
    served.answer["data"] = archive[:-1] + b"?"
    cure = f"try again later, or fetch it in another way and put it at {dest.parent}/kagglecatsanddogs_5340.zip"
    check_download_refused(dest, capsys, f"{served.url} sent something other than the known file: {cure}\n")


def test_a_download_that_cannot_be_kept_is_named(
    served: Served, archive: bytes, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    served.answer["data"] = archive
    (tmp_path / "file").write_bytes(b"")
    err = fails(split_catsdogs.main, capsys, "--download", "--dest", tmp_path / "file" / "small")
    assert "file/kagglecatsanddogs_5340.zip cannot be kept (" in err and err.endswith("): name another --dest\n")


def test_an_interrupt_ends_the_download(served: Served, archive: bytes, dest: Path) -> None:
    # The rest of the archive never comes: only an end that does not wait for the download's thread is one.
    sent = threading.Event()
    served.answer.update({"data": archive[:500], "length": len(archive), "sent": sent})
    flags = ["--download", "--dest", str(dest)]
    # A shell's background jobs ignore interrupts, and so would what they start.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += f"from tools import split_catsdogs as module; module.URL = {split_catsdogs.URL!r}; module.main({flags})"
    command = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert sent.wait(60)
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=60)
    finally:
        command.kill()
    assert (command.returncode, out, err.splitlines()[-1:]) == (130, "", ["interrupted"])
    assert "Traceback" not in err
    assert list(dest.parent.iterdir()) == []


# --- The photos themselves ---


@pytest.mark.skipif(DATA is None, reason="JAXCONV_DATA does not name a folder with dogs-vs-cats/train.zip")
def test_the_real_photos_are_split(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_catsdogs, "SPLITS", ALL)
    split_catsdogs.split(Path(str(DATA), "dogs-vs-cats", "train.zip"), dest)
    counts = {folder: len(list((dest / folder).iterdir())) for folder in ("train/dogs", "validation/cats", "test/dogs")}
    assert counts == {"train/dogs": 1000, "validation/cats": 500, "test/dogs": 500}
    assert {path.name for path in (dest / "train/cats").iterdir()} == {f"cat.{n}.jpg" for n in range(1000)}
