"""What tools.check_images finds, names, writes down and moves."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mutated import originals, with_size
from PIL import Image, ImageEnhance

from tools import check_images
from tools.check_images import Finding, Seen, alike, check


def encode(picture: Image.Image, kind: str = "JPEG", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def scene(seed: int, width: int = 240, height: int = 180) -> Image.Image:
    """A picture of large soft shapes, as photos are, that differs from that of every other seed."""
    rough = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)


def fill(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


GOOD = {
    f"{split}/{kind}s/{number}.jpg": encode(scene(100 * number + 10 * len(split) + len(kind)), quality=90)
    for split in ("train", "validation", "test")
    for kind in ("wolf", "cat")
    for number in range(2)
}
BAD = {
    "train/cats/broken.jpg": GOOD["train/cats/0.jpg"][:900],
    "train/cats/empty.jpg": b"",
    "train/cats/page.jpg": b"<html>log in</html>",
    "train/cats/small.png": encode(scene(7, 31, 200), "PNG"),
    "train/cats/white.png": encode(Image.new("RGB", (50, 50), "white"), "PNG"),
    "train/cats/large.png": with_size("PNG RGB", originals()["PNG RGB"], 60_000, 60_000),
    "train/cats/same.jpg": GOOD["test/cats/1.jpg"],
}


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
    assert run(capsys, root) == (0, ["12 files: nothing found"])


def test_each_kind_is_found_and_sorted_by_name(root, capsys):
    fill(root, BAD)
    code, lines = run(capsys, root)
    assert code == 1
    formats = "BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP"
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
    assert lines[2].startswith("train/cats/large.png: too large (Image size (3600000000 pixels) exceeds limit")
    assert lines[3] == f"train/cats/page.jpg: not an image (begins like none of {formats})"
    assert lines[4] == "train/cats/same.jpg: duplicate (the bytes of test/cats/1.jpg)"
    assert lines[5] == "train/cats/small.png: small (31 x 200 pixels, a side under 32)"
    assert lines[7] == "19 files: 1 broken, 1 empty, 1 not an image, 1 too large, 1 small, 1 blank, 1 duplicate"


def test_the_smallest_side_can_be_chosen(root, capsys):
    fill(root, {"train/cats/small.png": BAD["train/cats/small.png"]})
    assert run(capsys, root, "--min-side", 31) == (0, ["13 files: nothing found"])
    assert run(capsys, root, "--min-side", 181)[1][-1] == "13 files: 13 small"


def trimmed(picture: Image.Image, share: float) -> Image.Image:
    width, height = picture.size
    x, y = int(share * width), int(share * height)
    return picture.crop((x, y, width - x, height - y))


COPIES = {
    "stored anew": lambda picture: encode(picture, quality=30),
    "as PNG": lambda picture: encode(picture, "PNG"),
    "half as large": lambda picture: encode(picture.resize((picture.width // 2, picture.height // 2))),
    "twice as large": lambda picture: encode(picture.resize((picture.width * 2, picture.height * 2))),
    "squashed": lambda picture: encode(picture.resize((150, 150))),
    "brighter": lambda picture: encode(ImageEnhance.Brightness(picture).enhance(1.2)),
    "darker": lambda picture: encode(ImageEnhance.Brightness(picture).enhance(0.6)),
    "grey": lambda picture: encode(picture.convert("L")),
    "trimmed by 1% a side": lambda picture: encode(trimmed(picture, 0.01)),
}


@pytest.mark.parametrize("change", COPIES)
def test_copies_are_found_however_they_were_stored(change, root):
    for number in range(5):
        original, copy = f"validation/cats/{number}.jpg", f"train/wolfs/copy{number}.jpg"
        fill(root, {original: encode(scene(number), quality=95), copy: COPIES[change](scene(number))})
    files, findings = check(root)
    assert files == 12 + 5 + 5 - 2
    assert [(found.path, found.kind, found.of) for found in findings] == [
        (f"train/wolfs/copy{number}.jpg", "near-duplicate", f"validation/cats/{number}.jpg") for number in range(5)
    ]


@pytest.mark.parametrize("change", ["mirrored", "turned", "trimmed by 15% a side"])
def test_what_the_help_says_is_not_found(change, root):
    picture = scene(3)
    changed = {
        "mirrored": picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "turned": picture.transpose(Image.Transpose.ROTATE_90),
        "trimmed by 15% a side": trimmed(picture, 0.15),
    }[change]
    fill(root, {"test/cats/a.jpg": encode(picture), "train/cats/a.jpg": encode(changed)})
    assert check(root)[1] == []


def test_plain_pictures_are_not_near_duplicates(root):
    rng = np.random.default_rng(0)
    for number, folder in enumerate(("train/cats", "validation/cats", "test/cats", "train/wolfs")):
        nearly = (60 * number + rng.integers(0, 3, (80, 80, 3))).astype(np.uint8)
        plain = Image.new("RGB", (80, 80), (60 * number, 9, 99))
        fill(root, {f"{folder}/nearly.png": encode(Image.fromarray(nearly), "PNG")})
        fill(root, {f"{folder}/plain.jpg": encode(plain, quality=90 - number)})
    assert {(found.kind, Path(found.path).name) for found in check(root)[1]} == {("blank", "plain.jpg")}
    fill(root, {"train/cats/again.png": (root / "test/cats/nearly.png").read_bytes()})  # its bytes tell
    assert ("train/cats/again.png", "duplicate") in {(found.path, found.kind) for found in check(root)[1]}


def seen(path: str, look: int | None, digest: bytes | None = None) -> Seen:
    return Seen(path, digest or path.encode(), look)


def test_pictures_held_out_stay_and_one_in_the_same_folder_is_no_matter():
    paths = ["validation/a/1", "train/a/1", "test/b/1", "test/b/2", "other/1", "train/a/2"]
    found = alike([seen(path, 12345) for path in paths])
    assert {finding.path: finding.of for finding in found} == {
        path: "test/b/1" for path in ("validation/a/1", "train/a/1", "other/1", "train/a/2")
    }


def test_the_nearest_is_named_and_the_same_bytes_are_nearer():
    apart = [0, 0b11, 0b111111, 0b1111111]
    kept = [seen(f"test/a/{bits}", bits) for bits in apart]
    (found,) = alike([*kept, seen("train/a/x", 0b111)])
    assert (found.kind, found.of) == ("near-duplicate", "test/a/3")
    assert found.detail == "looks like test/a/3, 1 of 64 bits apart"
    (found,) = alike([*kept, seen("train/a/x", 0b11, b"test/a/127")])
    assert (found.kind, found.of) == ("duplicate", "test/a/127")


def test_the_distance_ends_at_near():
    for bits in (check_images.NEAR, check_images.NEAR + 1):
        found = alike([seen("test/a/1", 2**64 - 1), seen("train/a/1", 2**64 - 2**bits)])
        assert len(found) == (bits == check_images.NEAR)
    assert alike([seen("test/a/1", None), seen("train/a/1", None), seen("train/b/1", 0)]) == []
    assert alike([]) == []


def test_many_pictures_are_compared_as_one_by_one():
    rng = np.random.default_rng(0)
    looks = rng.integers(0, 2**64, 300, np.uint64)
    looks[150:] = looks[:150] ^ (np.uint64(1) << rng.integers(0, 64, 150, np.uint64))
    order = rng.permutation(300)
    pictures = [seen(f"{'train' if n % 3 else 'test'}/{rng.integers(2)}/{n}", int(looks[n])) for n in order]
    kept, given_up = [], []
    for one in sorted(pictures, key=lambda one: (one.path.startswith("train"), one.path)):
        near = [
            other
            for other in kept
            if (one.look ^ other.look).bit_count() <= 6 and os.path.dirname(one.path) != os.path.dirname(other.path)
        ]
        (given_up if near else kept).append(one)
    assert {found.path for found in alike(pictures)} == {one.path for one in given_up}
    assert 50 < len(given_up) < 150


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
    assert tree(root) == GOOD
    assert tree(tmp_path / "doubtful") == BAD
    assert run(capsys, root, "--quarantine", tmp_path / "doubtful") == (0, ["12 files: nothing found"])


def test_quarantine_on_another_file_system(root, tmp_path, capsys, monkeypatch):
    fill(root, BAD)

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "rename", refuse)
    run(capsys, root, "--quarantine", tmp_path / "doubtful")
    assert (tree(root), tree(tmp_path / "doubtful")) == (GOOD, BAD)


def check_refused(capsys: pytest.CaptureFixture, message: str, *arguments: object) -> None:
    with pytest.raises(SystemExit) as stop:
        check_images.main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {message}\n"


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
    check_refused(capsys, f"{none} does not exist or is no folder: name a folder of pictures", none)
    none.mkdir()
    (none / ".hidden.jpg").write_bytes(b"")
    check_refused(capsys, f"{none} holds no files: name a folder of pictures", none)
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


def test_hidden_files_and_folders_are_passed_over(root, capsys):
    fill(root, {"train/cats/.DS_Store": b"x", ".git/HEAD": b"x", "train/.cache/a.jpg": b"x"})
    assert run(capsys, root) == (0, ["12 files: nothing found"])


def test_linked_folders_are_read_but_not_in_circles(root, tmp_path, capsys):
    (root / "train/cats").rename(tmp_path / "cats")
    (root / "train/cats").symlink_to(tmp_path / "cats")
    (root / "train/wolfs/circle").symlink_to(root)
    (root / "train/wolfs/dangling.jpg").symlink_to(tmp_path / "nowhere")
    assert run(capsys, root) == (0, ["12 files: nothing found"])


def test_one_file_under_two_names_is_found_but_not_moved(root, tmp_path, capsys):
    (root / "validation/cats/link.jpg").symlink_to(root / "train/cats/1.jpg")
    code, lines = run(capsys, root)
    assert (code, lines[0]) == (1, "train/cats/1.jpg: duplicate (the bytes of validation/cats/link.jpg)")
    first, second = root / "train/cats/1.jpg", root / "validation/cats/link.jpg"
    message = f"{first} and {second} are one file, by a link: remove the link"
    check_refused(capsys, message, root, "--quarantine", tmp_path / "q")
    assert tree(tmp_path / "q") == {}


def test_files_that_cannot_be_read_are_findings(root, capsys, monkeypatch):
    read = Path.read_bytes

    def read_or_fail(path: Path) -> bytes:
        if path.name == "0.jpg" and path.parent.name == "wolfs":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_or_fail)
    code, lines = run(capsys, root)
    assert (code, len(lines), lines[-1]) == (1, 4, "12 files: 3 broken")
    assert lines[0] == "test/wolfs/0.jpg: broken (Permission denied)"


def test_a_folder_that_cannot_be_listed_is_named(root, capsys, monkeypatch):
    scan = os.scandir

    def scan_or_fail(path: str) -> object:
        if str(path).endswith("wolfs"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scan_or_fail)
    with pytest.raises(SystemExit) as stop:
        check_images.main([str(root)])
    assert stop.value.code == 2
    assert capsys.readouterr().err.endswith("wolfs cannot be listed (Permission denied): name a folder that can be\n")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are text")
def test_names_that_are_no_text_are_one_line_each(root, tmp_path):
    odd = os.fsencode(root / "train/cats") + b"/a\n\xff.jpg"
    with open(odd, "wb"):
        pass
    command = [sys.executable, "-m", "tools.check_images", str(root), "--json", str(tmp_path / "a.json")]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    folder = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "train/cats/a\\n\\udcff.jpg: empty (0 bytes)\n13 files: 1 empty\n"
    assert json.loads((tmp_path / "a.json").read_text())["findings"][0]["path"] == "train/cats/a\n\udcff.jpg"


def test_a_finding_is_a_file_s_whatever_it_holds(tmp_path):
    for name, data in {"a": b"\xff\xd8\xff", "b.jpg": b"P", "c.png": b"\x89PNG\r\n\x1a\n", "d": bytes(100)}.items():
        (tmp_path / name).write_bytes(data)
        found = check_images.check_file(tmp_path, name)
        assert isinstance(found, Finding) and found.kind == ("broken" if name in ("a", "c.png") else "not an image")
        assert found.detail and "0x" not in found.detail
    assert check_images.check_file(tmp_path, "gone") == Finding("gone", "broken", "No such file or directory")


def test_help_answers_at_once():
    code = "import sys; from tools import check_images; print({'numpy', 'PIL', 'jax'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


INTERRUPTED = """
import itertools, os, signal, sys, threading
from tools import check_images

def check_file(*_):
    if next(calls) == 0:
        os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait()

calls, check_images.check_file = itertools.count(), check_file
signal.signal(signal.SIGINT, signal.default_int_handler)
check_images.main(sys.argv[1:])
"""


def test_an_interrupt_ends_it_at_once(root):
    command = [sys.executable, "-c", INTERRUPTED, str(root)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
