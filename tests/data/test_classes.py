"""Class folders, and the pictures in them."""

import os
import unicodedata
from pathlib import Path

import pytest

from jaxconv.data.classes import class_difference, list_classes, shortened
from jaxconv.data.folders import SYSTEM_FOLDERS, check_folder, find_pictures, walk
from jaxconv.runtime.errors import InputError
from tests.scenes import close_folder


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(root: Path, paths) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_pictures_are_sorted_folder_by_folder(tmp_path):
    touch(tmp_path, "a/b/1.jpg", "a/b.png", "a/b-c/2.PNG", "a/b c.gif", "a/B.tif", "a/b/0/3.webp", "c/d.heic")
    listing = list_classes(tmp_path)
    assert listing.class_names == ["a", "c"]
    assert [names(tmp_path, paths) for paths in listing.files] == [
        ["a/B.tif", "a/b/0/3.webp", "a/b/1.jpg", "a/b c.gif", "a/b-c/2.PNG", "a/b.png"],
        ["c/d.heic"],
    ]


def test_what_is_no_picture_by_its_name_is_passed_over_and_counted(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/2.jpg", "a/Thumbs.db", "b/1.png", "b/notes.txt", "b/more.txt", "b/LICENSE", "3.jpg")
    touch(tmp_path, "a/._1.jpg", ".DS_Store", "a/.ipynb_checkpoints/1.jpg", "a/@eaDir/1.jpg/THUMB.jpg")
    touch(tmp_path, "__MACOSX/a/1.jpg")
    listing = list_classes(tmp_path)
    assert names(tmp_path, listing.files[0]) == ["a/1.jpg", "a/2.jpg"]
    assert (listing.passed_over, listing.loose) == ({".db": 1, ".txt": 2, "without suffix": 1}, 1)
    assert listing.describe("in train") == (
        "3 pictures of 2 classes in train: 2 a, 1 b; 1 beside the class folders left out; "
        "passed over 4 other files (2 .txt, 1 .db, 1 without suffix)"
    )


def test_links_are_followed_and_broken_ones_are_pictures_by_their_name(tmp_path):
    """A broken link of the name of a picture is found, so that reading it can name it."""
    touch(tmp_path, "photos/a/1.jpg", "elsewhere/2.jpg", "photos/b/1.jpg")
    (tmp_path / "photos/a/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/b/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "photos/b/again.jpg").symlink_to(tmp_path / "elsewhere/2.jpg")
    (tmp_path / "photos/b/up").symlink_to(tmp_path / "photos")
    listing = list_classes(tmp_path / "photos")
    assert [names(tmp_path / "photos", paths) for paths in listing.files] == [
        ["a/1.jpg", "a/more/2.jpg"],
        ["b/1.jpg", "b/again.jpg", "b/gone.jpg"],
    ]
    assert [*find_pictures(tmp_path / "photos")] == [*walk(tmp_path / "photos")]


def test_names_of_classes_are_composed(tmp_path):
    """Macs decompose them: both forms are one class, in any split."""
    composed, decomposed = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    touch(tmp_path, f"one/{composed}/1.jpg", "one/tea/1.jpg", f"other/{decomposed}/1.jpg", "other/tea/1.jpg")
    assert list_classes(tmp_path / "one").class_names == list_classes(tmp_path / "other").class_names
    touch(tmp_path, f"one/{decomposed}/2.jpg")
    assert [len(paths) for paths in list_classes(tmp_path / "one").files] == [2, 1]


def test_classes_that_differ_are_named():
    wanted = [f"class{number:03}" for number in range(150)]
    assert class_difference(wanted, wanted, "train") is None
    assert class_difference([*wanted[:77], *wanted[78:]], wanted, "train") == "lacks 'class077', which train has"
    assert class_difference(["a", "B", "c"], ["a", "b"], "train") == (
        "lacks 'b', which train has and has 'B', 'c', which train lacks"
    )
    assert class_difference(["b "], ["b"], "run") == "lacks 'b', which run has and has 'b ', which run lacks"
    assert shortened(wanted[:8]) == "class000, class001, class002, class003, class004, class005, and 2 more"


def test_what_is_wrong_is_named(tmp_path, monkeypatch):
    def refused(message: str, check=list_classes, path: Path = tmp_path / "photos") -> None:
        with pytest.raises(InputError, match=message):
            check(path)

    refused("photos does not exist: name a folder of pictures")
    touch(tmp_path, "photos/a/1.jpg", "photos/1.jpg", "photos.zip")
    refused(
        r"photos\.zip is a file: name a folder of pictures, and unpack an archive first",
        check_folder,
        tmp_path / "photos.zip",
    )
    refused("photos has one folder, a: give it one folder of pictures a class")
    touch(tmp_path, "twice/train/a/1.jpg", "twice/train/b/1.jpg", "none/1.jpg")
    refused(
        r"twice has one folder, train \(if its classes are in train, move them one folder up\): give it",
        path=tmp_path / "twice",
    )
    refused("none has no class folders: give it one folder", path=tmp_path / "none")
    touch(tmp_path, "photos/b/notes.txt")
    refused("photos/b holds no pictures, but 1 files with other names: put some in, or remove")
    touch(tmp_path, "photos/b/1.jpg")
    close_folder("b", monkeypatch)
    refused(r"photos/b cannot be listed \(Permission denied\): name a folder that can be")


def test_a_link_to_a_folder_that_is_gone_is_named(tmp_path):
    """It may have been a class."""
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "c").symlink_to("nowhere")
    with pytest.raises(InputError, match="c is a link to a folder that does not exist: bring it back, or"):
        list_classes(tmp_path)


@pytest.mark.parametrize("name", sorted(SYSTEM_FOLDERS))
def test_folders_that_systems_leave_behind_are_no_classes(name, tmp_path):
    touch(tmp_path, "a/1.jpg", "b/1.jpg", f"{name}/1.jpg", f"a/{name}/2.jpg")
    listing = list_classes(tmp_path)
    assert (listing.class_names, [len(paths) for paths in listing.files]) == (["a", "b"], [1, 1])


def test_a_class_whose_name_cannot_be_printed_is_refused(tmp_path):
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    os.rename(tmp_path / "a", os.fsencode(tmp_path) + b"/caf\xe9")
    with pytest.raises(InputError, match=r"has a class folder 'caf\\udce9': give it a name that can be printed"):
        list_classes(tmp_path)
