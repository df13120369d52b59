"""The command tools.split_folders: the folders that it makes, the counts that it prints, its mistakes."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import fails
from tests.scenes import digit, encode, fill, scene, tree
from tools import check_images, split_folders


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Ten of each of two classes, two of them near-duplicates, and a folder in a class."""
    root = tmp_path / "photos"
    for index, name in enumerate(("cats", "dogs")):
        (root / name / "more").mkdir(parents=True)
        for number in range(9):
            picture = scene(100 * index + number, 120, 120)
            picture.save(root / name / ("more" if number == 8 else "") / f"{number}.png")
        scene(100 * index, 70, 70).save(root / name / "copy.jpg")
    return root


def run(capsys, *arguments) -> list[str]:
    split_folders.main([str(argument) for argument in arguments])
    return capsys.readouterr().out.splitlines()


def test_each_split_has_its_share_of_every_class_and_each_file_is_in_one(source, tmp_path, capsys):
    dest = tmp_path / "data/mine"
    lines = run(capsys, "--source", source, "--dest", dest)
    assert lines == [
        f"20 pictures of 2 classes in {source}: 10 cats, 10 dogs",
        "4 pictures look alike in 2 groups, each kept in one split",
        f"{dest / 'train'}: 6 cats, 6 dogs",
        f"{dest / 'validation'}: 2 cats, 2 dogs",
        f"{dest / 'test'}: 2 cats, 2 dogs",
    ]
    copied = tree(dest)
    assert {name.partition("/")[2]: data for name, data in copied.items()} == tree(source)
    assert len(copied) == 20
    for name in ("cats", "dogs"):
        (first,) = [path.parents[1] for path in dest.rglob(f"{name}/0.png")]
        assert (first / name / "copy.jpg").exists()
    assert [path.name for path in dest.parent.iterdir()] == ["mine"]


def test_linked_folders_are_divided_as_the_others_are(source, tmp_path, capsys):
    (source / "dogs").rename(tmp_path / "dogs")
    (source / "dogs").symlink_to(tmp_path / "dogs")
    (source / "cats/more").rename(tmp_path / "more")
    (source / "cats/more").symlink_to(tmp_path / "more")
    lines = run(capsys, "--source", source, "--dest", tmp_path / "mine")
    assert [line.partition(": ")[2] for line in lines[2:]] == ["6 cats, 6 dogs", "2 cats, 2 dogs", "2 cats, 2 dogs"]
    assert len(list((tmp_path / "mine").rglob("cats/more/8.png"))) == 1


def test_the_seed_decides(source, tmp_path, capsys):
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        run(capsys, "--source", source, "--dest", tmp_path / name, "--seed", seed)
    assert tree(tmp_path / "one") == tree(tmp_path / "same") != tree(tmp_path / "other")


def test_shares_are_as_asked_for(source, tmp_path, capsys):
    lines = run(capsys, "--source", source, "--dest", tmp_path / "mine", "--validation", 0.1, "--test", 0.5)
    assert [line.split()[1] for line in lines[2:]] == ["4", "1", "5"]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--test", "0"], "--test is 0.0: give shares above 0 that leave some for train"),
        (["--test", "0.6", "--validation", "0.4"], "is 0.6: give shares above 0 that leave some for train"),
        (["--dest", "{source}"], "photos exists: name a new folder"),
        (["--dest", "{source}/mine"], "photos/mine lies in --source"),
        (["--source", "nowhere"], "nowhere does not exist"),
    ],
)
def test_wrong_flags_are_named(flags, message, source, tmp_path, capsys):
    given = [flag.format(source=source) for flag in flags]
    assert message in refused(capsys, source, tmp_path / "mine", *given)


def refused(capsys: pytest.CaptureFixture, source: Path, dest: Path, *flags: str) -> str:
    return fails(split_folders.main, capsys, "--source", source, "--dest", dest, *flags)


def test_broken_pictures_are_named_and_nothing_is_made(source, tmp_path, capsys):
    (source / "cats/0.png").write_bytes(b"")
    message = refused(capsys, source, tmp_path / "new")
    assert (
        "photos/cats/0.png is empty (0 bytes), the only such: leave them out with --skip-bad, or move them " in message
    )
    assert not (tmp_path / "new").exists()


def test_bad_pictures_are_left_out_on_demand(source, tmp_path, capsys):
    (source / "cats/0.png").write_bytes(b"")
    lines = run(capsys, "--source", source, "--dest", tmp_path / "mine", "--skip-bad")
    assert lines[1] == "left out 1 that cannot be used: cats/0.png (empty)"
    assert len(tree(tmp_path / "mine")) == 19


def test_the_cure_that_is_named_moves_the_bad_pictures_alone(tmp_path, capsys):
    """A set of photos, where digits of 28 pixels count as small."""
    files = {f"{label}/{n}.png": encode(digit(10 * label + n), "PNG") for label in range(2) for n in range(8)}
    large = {f"{label}/{n}.png": encode(scene(10 * label + n), "PNG") for label in range(2) for n in range(8, 18)}
    source = fill(tmp_path / "my digits", files | large | {"1/broken.png": files["1/0.png"][:60]})
    message = refused(capsys, source, tmp_path / "mine")
    _, _, *arguments = shlex.split(message.partition("move them with ")[2])
    assert arguments.pop(0) == "tools.check_images"
    with pytest.raises(SystemExit):
        check_images.main([str(tmp_path / "bad") if argument == "DIR" else argument for argument in arguments])
    assert [*tree(tmp_path / "bad")] == ["1/broken.png"]
    capsys.readouterr()
    assert run(capsys, "--source", source, "--dest", tmp_path / "mine")[0].startswith("36 pictures of 2 classes in ")
    assert len(tree(tmp_path / "mine")) == 36


def test_the_same_bytes_in_two_classes_are_refused_or_kept(source, tmp_path, capsys):
    shutil.copy(source / "cats/1.png", source / "dogs/x.png")
    message = refused(capsys, source, tmp_path / "mine")
    assert f"{source}/cats/1.png and {source}/dogs/x.png are the same picture in two classes" in message
    run(capsys, "--source", source, "--dest", tmp_path / "mine", "--keep-contradictions")
    (first,), (second,) = (tmp_path / "mine").rglob("cats/1.png"), (tmp_path / "mine").rglob("dogs/x.png")
    assert first.parents[1] == second.parents[1]


def test_what_looks_alike_may_go_apart_on_demand(source, tmp_path, capsys):
    lines = run(capsys, "--source", source, "--dest", tmp_path / "mine", "--no-grouping")
    assert [line.partition(": ")[2] for line in lines[1:]] == ["6 cats, 6 dogs", "2 cats, 2 dogs", "2 cats, 2 dogs"]


def test_a_folder_that_is_split_already_is_not_split_again(source, tmp_path, capsys):
    run(capsys, "--source", source, "--dest", tmp_path / "mine")
    message = refused(capsys, tmp_path / "mine", tmp_path / "again")
    assert f"{tmp_path / 'mine'} is split already: train on it with python -m experiments.folders --data " in message


def test_an_archive_is_to_be_unpacked(source, tmp_path, capsys):
    archive = fill(tmp_path, {"photos.zip": b"PK"}) / "photos.zip"
    assert refused(capsys, archive, tmp_path / "new").endswith(
        "is a file: name a folder of pictures, and unpack an archive first\n"
    )


def test_a_copy_that_fails_leaves_nothing(tmp_path):
    source = fill(tmp_path / "photos", {"cats/1.png": b"1"})
    with pytest.raises(FileNotFoundError):
        split_folders.copy_splits(source, {"train": ["cats/1.png", "cats/gone.png"]}, tmp_path / "data/mine")
    assert list((tmp_path / "data").iterdir()) == []


def test_a_class_that_is_too_small_or_all_alike_is_named(source, tmp_path, capsys):
    for path in (source / "dogs").rglob("*.png"):
        path.write_bytes(encode(scene(700, 120, 120), "PNG"))
    assert "dogs has 10 pictures, none of them for " in refused(capsys, source, tmp_path / "new")


def test_a_place_that_cannot_be_written_is_named(source, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert "cannot be written (File exists)" in refused(capsys, source, tmp_path / "file/new")


def test_help_answers_at_once():
    code = "import sys; from tools import split_folders; print({'numpy', 'PIL', 'jax'} & set(sys.modules))"
    folder = Path(split_folders.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
