"""The faults that an audit finds in files, and the pictures that it finds alike."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from jaxconv.analysis.image_audit import KINDS, Finding, check, check_file, examine, find_duplicates
from jaxconv.data.similarity import NEAR, Seen
from jaxconv.runtime.errors import InputError
from tests.scenes import BAD, GOOD, close_folder, encode, fill, scene, seen


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fill(tmp_path / "data", GOOD)


def test_nothing_is_found_among_good_pictures(root):
    assert check(root) == (12, [])


def test_each_kind_is_found_and_sorted_by_name(root):
    files, findings = check(fill(root, BAD))
    assert files == 19
    assert [(found.path, found.kind) for found in findings] == [
        ("train/cats/broken.jpg", "broken"),
        ("train/cats/empty.jpg", "empty"),
        ("train/cats/large.png", "too large"),
        ("train/cats/page.jpg", "not an image"),
        ("train/cats/same.jpg", "duplicate"),
        ("train/cats/small.png", "small"),
        ("train/cats/white.png", "blank"),
    ]
    assert {found.kind for found in findings} == set(KINDS) - {"near-duplicate"}
    assert {found.path: found.of for found in findings if found.of} == {"train/cats/same.jpg": "test/cats/1.jpg"}


def test_files_are_examined_one_by_one_and_sorted_by_name(root):
    examined = examine(fill(root, BAD))
    assert [one.path for one in examined] == sorted(GOOD | BAD)
    assert Counter(type(one) for one in examined) == {Seen: 13, Finding: 6}  # a duplicate is sound by itself


def test_the_smallest_side_can_be_chosen(root):
    fill(root, {"train/cats/small.png": BAD["train/cats/small.png"]})
    assert check(root, 31) == (13, [])
    assert [found.kind for found in check(root, 181)[1]] == ["small"] * 13


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


def test_pictures_held_out_stay_and_one_in_the_same_folder_is_no_matter():
    paths = ["validation/a/1", "train/a/1", "test/b/1", "test/b/2", "other/1", "train/a/2"]
    found = find_duplicates([seen(path, 12345) for path in paths])
    assert {finding.path: finding.of for finding in found} == {
        path: "test/b/1" for path in ("validation/a/1", "train/a/1", "other/1", "train/a/2")
    }


def test_the_nearest_is_named_and_the_same_bytes_are_nearer():
    apart = [0, 0b11, 0b111111, 0b1111111]
    kept = [seen(f"test/a/{bits}", bits) for bits in apart]
    (found,) = find_duplicates([*kept, seen("train/a/x", 0b111)])
    assert (found.kind, found.of) == ("near-duplicate", "test/a/3")
    assert found.detail == "looks like test/a/3, 1 of 64 bits apart"
    (found,) = find_duplicates([*kept, seen("train/a/x", 0b11, b"test/a/127")])
    assert (found.kind, found.of) == ("duplicate", "test/a/127")


def test_the_distance_ends_at_near():
    for bits in (NEAR, NEAR + 1):
        found = find_duplicates([seen("test/a/1", 2**64 - 1), seen("train/a/1", 2**64 - 2**bits)])
        assert len(found) == (bits == NEAR)
    assert find_duplicates([seen("test/a/1", None), seen("train/a/1", None), seen("train/b/1", 0)]) == []
    assert find_duplicates([]) == []


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
            if (one.phash ^ other.phash).bit_count() <= 6 and os.path.dirname(one.path) != os.path.dirname(other.path)
        ]
        (given_up if near else kept).append(one)
    assert {found.path for found in find_duplicates(pictures)} == {one.path for one in given_up}
    assert 50 < len(given_up) < 150


def test_hidden_files_and_folders_are_passed_over(root):
    fill(root, {"train/cats/.DS_Store": b"x", ".git/HEAD": b"x", "train/.cache/a.jpg": b"x"})
    assert check(root) == (12, [])


def test_a_folder_without_files_is_refused(tmp_path):
    (tmp_path / ".hidden.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=f"^{tmp_path} holds no files: name a folder of pictures$"):
        check(tmp_path)


def test_linked_folders_are_read_but_not_in_circles(root, tmp_path):
    (root / "train/cats").rename(tmp_path / "cats")
    (root / "train/cats").symlink_to(tmp_path / "cats")
    (root / "train/wolfs/circle").symlink_to(root)
    (root / "train/wolfs/dangling.jpg").symlink_to(tmp_path / "nowhere")
    assert check(root) == (12, [])


def test_files_that_cannot_be_read_are_findings(root, monkeypatch):
    read = Path.read_bytes

    def read_or_fail(path: Path) -> bytes:
        if path.name == "0.jpg" and path.parent.name == "wolfs":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_or_fail)
    files, findings = check(root)
    assert (files, [found.kind for found in findings]) == (12, ["broken"] * 3)
    assert findings[0] == Finding("test/wolfs/0.jpg", "broken", "Permission denied")


def test_a_folder_that_cannot_be_listed_is_named(root, monkeypatch):
    close_folder("wolfs", monkeypatch)
    with pytest.raises(InputError, match=r"wolfs cannot be listed \(Permission denied\): name a folder that can be$"):
        check(root)


def test_a_finding_is_a_file_s_whatever_it_holds(tmp_path):
    for name, data in {"a": b"\xff\xd8\xff", "b.jpg": b"P", "c.png": b"\x89PNG\r\n\x1a\n", "d": bytes(100)}.items():
        (tmp_path / name).write_bytes(data)
        found = check_file(tmp_path, name)
        assert isinstance(found, Finding) and found.kind == ("broken" if name in ("a", "c.png") else "not an image")
        assert found.detail and "0x" not in found.detail
    assert check_file(tmp_path, "gone") == Finding("gone", "broken", "No such file or directory")


def test_memory_that_runs_out_is_no_fault_of_the_file(root, monkeypatch):
    def run_out(_: Path) -> bytes:
        raise MemoryError

    monkeypatch.setattr(Path, "read_bytes", run_out)
    with pytest.raises(MemoryError):
        check_file(root, "train/cats/0.jpg")
