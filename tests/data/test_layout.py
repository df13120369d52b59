"""The folders of a data set by their usual names, and what is held out without one of them."""

from pathlib import Path

import pytest

from jaxconv.data.layout import find_splits, is_split, list_part, list_split
from jaxconv.runtime.errors import InputError


def data_set(root: Path, *splits: str, count: int = 2) -> Path:
    """Empty files with the names of pictures, `count` of two classes in each split."""
    for split in splits:
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                (root / split / name / f"{number:02}.jpg").write_text(f"{split} {name} {number}")
    return root


@pytest.mark.parametrize(
    "names, said",
    [
        (("train", "validation", "test"), []),
        (("train", "val", "test"), ["val is taken for validation"]),
        (
            ("Train", "Valid", "Test"),
            ["Train is taken for train; Valid is taken for validation; Test is taken for test"],
        ),
        (("training_set", "validation", "test_set"), ["training_set is taken for train; test_set is taken for test"]),
        (("TRAIN", "dev", "test"), ["TRAIN is taken for train; dev is taken for validation"]),
    ],
)
def test_splits_have_their_usual_names_in_any_case(names, said, tmp_path):
    layout = find_splits(data_set(tmp_path, *names))
    assert [folder.name for folder in layout[:3]] == [*names] and layout.others == []
    assert layout.describe() == said
    assert [list_split(tmp_path, split).folder.name for split in ("train", "validation", "test")] == [*names]


def test_without_a_validation_folder_a_fifth_of_each_class_is_held_out(tmp_path):
    root = data_set(tmp_path / "here", "train", "test", count=11)
    assert find_splits(root).describe() == [
        "no folder validation: one of 5 pictures of each class in train is held out; "
        "tools.split_folders would keep pictures that look alike together"
    ]
    train, held_out = list_split(root, "train"), list_split(root, "validation")
    assert [len(paths) for paths in (*train.files, *held_out.files)] == [9, 9, 2, 2]
    assert {*train.files[0], *held_out.files[0]} == {*(root / "train/a").iterdir()}
    moved = root.rename(tmp_path / "elsewhere")
    assert [path.name for path in list_split(moved, "validation").files[1]] == [path.name for path in held_out.files[1]]


def test_files_with_the_same_bytes_are_held_out_together_or_not_at_all(tmp_path):
    """Of 20 files of ten contents, two or four are held out, in pairs."""
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(20):
            (tmp_path / "train" / name / f"{number:02}.jpg").write_bytes(bytes([number // 2]) * 9)
        (tmp_path / "train" / name / "20.jpg").symlink_to("gone")
    held_out = list_split(tmp_path, "validation")
    numbers = [[int(path.stem) for path in paths] for paths in held_out.files]
    assert all(len(found) in (2, 4) and found[0] + 1 == found[1] and found[0] % 2 == 0 for found in numbers)
    train = list_split(tmp_path, "train").files[0]
    assert {*train, *held_out.files[0]} == {*(tmp_path / "train/a").iterdir()}


def test_folders_that_are_no_split_are_said_to_be_left_out(tmp_path):
    layout = find_splits(data_set(tmp_path, "train", "val", "test", "Validate", "extra"))
    assert layout.describe() == ["val is taken for validation", "not used: Validate, extra"]


def test_without_a_test_folder_there_are_two_splits(tmp_path):
    layout = find_splits(data_set(tmp_path, "train", "val"))
    assert layout.splits == ["train", "validation"]
    assert layout.describe()[1:] == ["no folder test: the results are those of the validation pictures"]
    with pytest.raises(InputError, match="has no folder test: choose another split"):
        list_split(tmp_path, "test")


def test_a_test_folder_needs_no_other(tmp_path):
    assert len(list_split(data_set(tmp_path, "Test"), "test").files) == 2


def test_a_part_of_a_folder_of_classes_is_listed_by_the_names_of_its_pictures(tmp_path):
    listing = list_part(tmp_path, ["a", "b"], ["b/2.jpg", "a/more/1.jpg", "b/1.jpg"])
    assert (listing.folder, listing.class_names) == (tmp_path, ["a", "b"])
    assert listing.files == [[tmp_path / "a/more/1.jpg"], [tmp_path / "b/1.jpg", tmp_path / "b/2.jpg"]]


@pytest.mark.parametrize(
    "folders, found",
    [
        (("train/a", "test/a"), True),
        (("train/a", "train/b"), True),
        (("Train/a", "val/a", "notes"), True),
        (("train/2023", "bus/2023"), False),  # photos of trains
        (("train", "bus"), False),
        (("cats", "dogs"), False),
        (("dev", "val"), False),  # classes of these names
    ],
)
def test_splits_are_told_from_classes(folders, found, tmp_path):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    assert is_split(tmp_path) == found


def refused(root: Path, message: str, split: str = "train") -> None:
    with pytest.raises(InputError, match=message):
        list_split(root, split)


def test_what_is_wrong_is_named_with_its_cure(tmp_path, monkeypatch):
    refused(
        data_set(tmp_path / "both", "train", "val", "valid"), "has the folders val and valid, and each could be val"
    )
    refused(data_set(tmp_path / "no-train", "val", "test"), "has no folder train: rename the folder of its training")
    data_set(tmp_path / "around/data", "train", "validation")
    refused(tmp_path / "around", r"has no folder train: name .*/around/data, which has one")
    data_set(tmp_path / "photos", ".")
    cure = r"python -m tools\.split_folders --source .*/photos --dest .*/photos-split$"
    refused(tmp_path / "photos", rf"has no folder train: split its classes with {cure}")
    monkeypatch.chdir(tmp_path / "photos")
    refused(Path("."), r"pictures? with|python -m tools\.split_folders --source \. --dest .*/photos-split$")
    refused(tmp_path / "around/data/train", r"has no folder train: name .*/around/data, the folder that it lies in$")
    (tmp_path / "loose").mkdir()
    refused(tmp_path / "loose", r"loose has no folder train: name a folder of train\|validation\|test/")
    data_set(tmp_path / "my photos", ".")
    refused(tmp_path / "my photos", r"--source '.*/my photos' --dest '.*/my photos-split'$")
    refused(
        data_set(tmp_path / "few", "train", count=1), r"00\.jpg is the only picture of its class: add some that differ"
    )
    (tmp_path / "photos.zip").touch()
    refused(tmp_path / "photos.zip", r"photos\.zip is a file: name a folder of pictures, and unpack an archive first")
