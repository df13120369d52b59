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
                (root / split / name / f"{number:02}.jpg").touch()
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
    assert [folder.name for folder in layout] == [*names]
    assert layout.describe() == said
    assert [list_split(tmp_path, split).folder.name for split in ("train", "validation", "test")] == [*names]


def test_without_a_validation_folder_a_fifth_of_each_class_is_held_out(tmp_path):
    root = data_set(tmp_path / "here", "train", "test", count=11)
    assert find_splits(root).describe() == [
        "no folder validation: one of 5 pictures of each class in train is held out"
    ]
    train, held_out = list_split(root, "train"), list_split(root, "validation")
    assert [len(paths) for paths in (*train.files, *held_out.files)] == [9, 9, 2, 2]
    assert {*train.files[0], *held_out.files[0]} == {*(root / "train/a").iterdir()}
    moved = root.rename(tmp_path / "elsewhere")
    assert [path.name for path in list_split(moved, "validation").files[1]] == [path.name for path in held_out.files[1]]


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
    ],
)
def test_splits_are_told_from_classes(folders, found, tmp_path):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    assert is_split(tmp_path) == found


def refused(root: Path, message: str, split: str = "train") -> None:
    with pytest.raises(InputError, match=message):
        list_split(root, split)


def test_what_is_wrong_is_named_with_its_cure(tmp_path):
    refused(
        data_set(tmp_path / "both", "train", "val", "valid"), "has the folders val and valid, and each could be val"
    )
    refused(data_set(tmp_path / "no-train", "val", "test"), "has no folder train: rename the folder of its training")
    data_set(tmp_path / "around/data", "train", "validation")
    refused(tmp_path / "around", r"has no folder train: name .*/around/data, which has one")
    data_set(tmp_path / "photos", ".")
    cure = r"python -m tools\.split_folders --source .*/photos --dest .*/photos-split$"
    refused(tmp_path / "photos", rf"has no folder train: split a folder of <class>/\* pictures with {cure}")
    refused(data_set(tmp_path / "few", "train", count=1), r"00\.jpg is the only picture of its class: add some")
    (tmp_path / "photos.zip").touch()
    refused(tmp_path / "photos.zip", r"photos\.zip is an archive: unpack it")
