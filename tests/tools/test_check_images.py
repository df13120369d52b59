"""The command tools.check_images: the lines and the JSON that it writes, the files that it moves, its mistakes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands import fails
from tests.scenes import BAD, GOOD, close_folder, digit, encode, fill, scene, tree
from tools import check_images

FOLDER = Path(check_images.__file__).parents[1]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fill(tmp_path / "data", GOOD)


def run(capsys: pytest.CaptureFixture, *arguments: object) -> tuple[int, list[str]]:
    """The exit code, and the lines on standard output; nothing else is printed."""
    code = 0
    try:
        check_images.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    assert err == ""
    return code, out.splitlines()


def test_nothing_is_found_among_good_pictures(root, capsys):
    assert run(capsys, root) == (0, ["12 pictures: nothing found"])


def test_each_kind_is_printed_and_counted(root, capsys):
    fill(root, BAD)
    code, lines = run(capsys, root)
    assert code == 1
    formats = "AVIF, BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP"
    assert [line.partition(" (")[0] for line in lines[:-1]] == [
        "train/cats/broken.jpg: broken",
        "train/cats/empty.jpg: empty",
        "train/cats/large.png: too large",
        "train/cats/page.jpg: not an image",
        "train/cats/same.jpg: duplicate",
        "train/cats/small.png: small",
        "train/cats/white.png: blank",
    ]
    assert lines[0].startswith("train/cats/broken.jpg: broken (image file is truncated")
    assert lines[2].startswith("train/cats/large.png: too large (it claims 60,000 x 60,000 pixels in ")
    assert lines[3] == f"train/cats/page.jpg: not an image (begins like none of {formats})"
    assert lines[4] == "train/cats/same.jpg: duplicate (the bytes of test/cats/1.jpg)"
    assert lines[5] == "train/cats/small.png: small (31 x 200 pixels, a side under 32)"
    assert lines[7] == "19 pictures: 1 broken, 1 empty, 1 not an image, 1 too large, 1 small, 1 blank, 1 duplicate"


def test_the_smallest_side_can_be_chosen(root, capsys):
    fill(root, {"train/cats/small.png": BAD["train/cats/small.png"]})
    assert run(capsys, root, "--min-side", 31) == (0, ["13 pictures: nothing found"])
    assert run(capsys, root, "--min-side", 181)[1][-1] == "13 pictures: 13 small"


def test_json_says_the_same(root, tmp_path, capsys):
    fill(root, {"train/cats/same.jpg": BAD["train/cats/same.jpg"], "train/cats/empty.jpg": b""})
    assert run(capsys, root, "--json", tmp_path / "found.json")[0] == 1
    assert json.loads((tmp_path / "found.json").read_text()) == {
        "files": 14,
        "findings": [
            {"path": "train/cats/empty.jpg", "kind": "empty", "detail": "0 bytes"},
            {
                "path": "train/cats/same.jpg",
                "kind": "duplicate",
                "detail": "the bytes of test/cats/1.jpg",
                "of": "test/cats/1.jpg",
            },
        ],
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "found.json"]


def test_nothing_is_moved_unless_asked_for(root, tmp_path, capsys):
    fill(root, BAD)
    before = tree(root)
    run(capsys, root)
    assert tree(root) == before
    code, lines = run(capsys, root, "--quarantine", tmp_path / "doubtful")
    assert (code, len(lines)) == (1, 8)
    assert lines[-1].endswith(f", 1 duplicate; 7 moved to {tmp_path / 'doubtful'}")
    assert tree(root) == GOOD
    assert tree(tmp_path / "doubtful") == BAD
    assert run(capsys, root, "--quarantine", tmp_path / "doubtful") == (0, ["12 pictures: nothing found"])


def test_pictures_of_two_classes_are_listed_but_not_moved(root, tmp_path, capsys):
    copy = encode(scene(0), quality=95)
    fill(root, {"train/cats/a.jpg": copy, "train/wolfs/b.jpg": encode(scene(0), quality=50)})
    code, lines = run(capsys, root, "--quarantine", tmp_path / "doubtful")
    assert code == 0  # no command can tell what is to be done
    assert lines[0].startswith(
        "train/wolfs/b.jpg: look-alike (looks like train/cats/a.jpg of another class, correlation "
    )
    assert lines[1:] == ["14 pictures: 1 look-alike"]
    fill(root, {"train/wolfs/c.jpg": copy})
    code, lines = run(capsys, root, "--quarantine", tmp_path / "doubtful")
    assert (code, lines[-1]) == (1, "15 pictures: 1 contradiction, 1 look-alike")
    detail = "the bytes of train/cats/a.jpg, which is of another class: remove one"
    assert lines[1] == f"train/wolfs/c.jpg: contradiction ({detail})"
    assert len(tree(root)) == 15 and tree(tmp_path / "doubtful") == {}


def test_files_passed_over_and_notes_are_printed(tmp_path, capsys):
    rng = np.random.default_rng(0)
    dark = {f"owls/{number}.png": Image.fromarray(rng.integers(0, 4096, (40, 40), np.uint16)) for number in range(3)}
    fill(tmp_path, {name: encode(picture, "PNG") for name, picture in dark.items()})
    fill(tmp_path, {"owls/Thumbs.db": b"x", "notes.txt": b"x", "list.txt": b"x", "tail\n": b"x"})
    code, (note, summary) = run(capsys, tmp_path)
    assert code == 0
    assert note.startswith(f"{tmp_path}: nearly all pictures are all but black, as 12 bits stored in 16 are: ")
    assert summary == "3 pictures: nothing found; passed over 4 other files (2 .txt, 1 without suffix, 1 .db)"


def test_a_set_of_small_pictures_is_not_emptied(tmp_path, capsys):
    digits = fill(tmp_path / "digits", {f"{n % 2}/{n}.png": encode(digit(n), "PNG") for n in range(20)})
    assert run(capsys, digits, "--quarantine", tmp_path / "q") == (0, ["20 pictures: nothing found"])
    code, lines = run(capsys, digits, "--quarantine", tmp_path / "q", "--min-side", 29)
    assert (code, lines[-1]) == (1, f"20 pictures: 20 small; 20 moved to {tmp_path / 'q'}")


def test_quarantine_on_another_file_system(root, tmp_path, capsys, monkeypatch):
    fill(root, BAD)

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "rename", refuse)
    run(capsys, root, "--quarantine", tmp_path / "doubtful")
    assert (tree(root), tree(tmp_path / "doubtful")) == (GOOD, BAD)


def check_refused(capsys: pytest.CaptureFixture, message: str, *arguments: object) -> None:
    assert fails(check_images.main, capsys, *arguments) == f"error: {message}\n"


def test_quarantine_overwrites_nothing(root, tmp_path, capsys):
    fill(root, BAD)
    there = fill(tmp_path / "doubtful", {"train/cats/white.png": b"kept"})
    message = f"--quarantine {there}/train/cats/white.png exists: name another folder"
    check_refused(capsys, message, root, "--quarantine", there)
    assert (tree(root), tree(there)) == (GOOD | BAD, {"train/cats/white.png": b"kept"})


def test_quarantine_that_fails_halfway_loses_nothing(root, tmp_path, capsys, monkeypatch):
    fill(root, BAD)
    move, moved = check_images.shutil.move, []

    def move_or_fail(source: Path, target: Path) -> None:
        if len(moved) == 3:
            raise OSError(28, "No space left on device")
        moved.append(move(source, target))

    monkeypatch.setattr(check_images.shutil, "move", move_or_fail)
    message = f"{root}/train/cats/page.jpg cannot be moved to {tmp_path / 'q'} (No space left on device): "
    check_refused(capsys, f"{message}name another folder", root, "--quarantine", tmp_path / "q")
    assert tree(root) | tree(tmp_path / "q") == GOOD | BAD
    assert len(tree(tmp_path / "q")) == 3


def test_mistakes_are_named(root, tmp_path, capsys):
    none = tmp_path / "none"
    check_refused(capsys, f"{none} does not exist: name a folder of pictures", none)
    none.mkdir()
    (none / ".hidden.jpg").write_bytes(b"")
    check_refused(capsys, f"{none} holds no pictures: name a folder of pictures", none)
    (tmp_path / "link").symlink_to(root)
    for inside in (root, root / "new", tmp_path, tmp_path / "link" / "new"):
        message = f"--quarantine {inside} and {root} lie one inside the other: name another place"
        check_refused(capsys, message, root, "--quarantine", inside)
    message = f"--json {root / 'a.json'} and {root} lie one inside the other: name another place"
    check_refused(capsys, message, root, "--json", root / "a.json")
    message = f"--json {tmp_path / 'no/a.json'} cannot be written (No such file or directory): name another file"
    check_refused(capsys, message, root, "--json", tmp_path / "no/a.json")
    (tmp_path / "file").write_bytes(b"")
    message = f"--quarantine {tmp_path / 'file'} cannot be written (File exists): name another folder"
    check_refused(capsys, message, root, "--quarantine", tmp_path / "file")
    assert tree(root) == GOOD


def test_one_file_under_two_names_is_found_but_not_moved(root, tmp_path, capsys):
    (root / "validation/cats/link.jpg").symlink_to(root / "train/cats/1.jpg")
    code, lines = run(capsys, root)
    assert (code, lines[0]) == (1, "train/cats/1.jpg: duplicate (the bytes of validation/cats/link.jpg)")
    first, second = root / "train/cats/1.jpg", root / "validation/cats/link.jpg"
    message = f"{first} and {second} are one file, by a link: remove the link"
    check_refused(capsys, message, root, "--quarantine", tmp_path / "q")
    assert tree(tmp_path / "q") == {}


def test_a_folder_that_cannot_be_listed_is_named(root, capsys, monkeypatch):
    close_folder("wolfs", monkeypatch)
    error = fails(check_images.main, capsys, root)
    assert error.endswith("wolfs cannot be listed (Permission denied): name a folder that can be\n")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are text")
def test_names_that_are_no_text_are_one_line_each(root, tmp_path):
    odd = os.fsencode(root / "train/cats") + b"/a\n\xff.jpg"
    with open(odd, "wb"):
        pass
    command = [sys.executable, "-m", "tools.check_images", str(root), "--json", str(tmp_path / "a.json")]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=FOLDER, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "train/cats/a\\n\\udcff.jpg: empty (0 bytes)\n13 pictures: 1 empty\n"
    assert json.loads((tmp_path / "a.json").read_text())["findings"][0]["path"] == "train/cats/a\n\udcff.jpg"


def test_help_answers_at_once():
    code = "import sys; from tools import check_images; print({'numpy', 'PIL', 'jax'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


INTERRUPTED = """
import itertools, os, signal, sys, threading
from jaxconv.data import checks
from tools import check_images

def check_file(*_):
    if next(calls) == 0:
        os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait()

calls, checks.check_file = itertools.count(), check_file
signal.signal(signal.SIGINT, signal.default_int_handler)
check_images.main(sys.argv[1:])
"""


def test_an_interrupt_ends_it_at_once(root):
    command = [sys.executable, "-c", INTERRUPTED, str(root)]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
