"""The faults that an audit finds in files, and the pictures that it finds alike."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from jaxconv.analysis.image_audit import KINDS, Audit, check, find_duplicates, find_places
from jaxconv.data.checks import Finding
from jaxconv.data.similarity import NEAR, Seen
from jaxconv.runtime.errors import InputError
from tests.scenes import BAD, GOOD, close_folder, encode, fill, scene, seen


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fill(tmp_path / "data", GOOD)


def duplicates(pictures: list[Seen], root: Path) -> list[Finding]:
    """The findings among pictures of a data set that is split."""
    for name in ("train/cats", "test/cats"):
        (root / name).mkdir(parents=True, exist_ok=True)
    return find_duplicates(pictures, find_places(root, pictures))


def test_nothing_is_found_among_good_pictures(root):
    assert check(root) == Audit(12, [], {}, [])


def test_each_kind_is_found_and_sorted_by_name(root):
    audit = check(fill(root, BAD))
    assert audit.pictures == 19
    assert [(found.path, found.kind) for found in audit.findings] == [
        ("train/cats/broken.jpg", "broken"),
        ("train/cats/empty.jpg", "empty"),
        ("train/cats/large.png", "too large"),
        ("train/cats/page.jpg", "not an image"),
        ("train/cats/same.jpg", "duplicate"),
        ("train/cats/small.png", "small"),
        ("train/cats/white.png", "blank"),
    ]
    assert {found.kind for found in audit.findings} == {*KINDS} - {"near-duplicate", "contradiction", "look-alike"}
    assert {found.path: found.of for found in audit.findings if found.of} == {"train/cats/same.jpg": "test/cats/1.jpg"}


def test_files_with_other_names_are_passed_over_and_counted(root):
    fill(root, {"train/cats/Thumbs.db": b"x", "notes.txt": b"x", "train/a.TXT": b"x", "README": b"x"})
    assert check(root) == Audit(12, [], {".db": 1, ".txt": 2, "without suffix": 1}, [])


def test_the_smallest_side_can_be_chosen(root):
    fill(root, {"train/cats/small.png": BAD["train/cats/small.png"]})
    assert [found.path for found in check(root).findings] == ["train/cats/small.png"]
    assert check(root, 31) == Audit(13, [], {}, [])
    assert [found.kind for found in check(root, 181).findings] == ["small"] * 13


def test_nothing_is_small_in_a_set_of_small_pictures(root, tmp_path):
    fill(root, {f"train/cats/{number}.png": encode(scene(900 + number, 28, 28), "PNG") for number in range(12)})
    assert len(check(root).findings) == 12  # the median of 12 small and 12 large sides lies between them
    fill(root, {"train/cats/12.png": encode(scene(912, 28, 28), "PNG")})
    assert check(root).findings == []
    assert len(check(root, 32).findings) == 13


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
        original, copy = f"validation/cats/{number}.jpg", f"train/cats/copy{number}.jpg"
        fill(root, {original: encode(scene(number), quality=95), copy: COPIES[change](scene(number))})
    audit = check(root)
    assert audit.pictures == 12 + 5 + 5 - 2
    assert [(found.path, found.kind, found.of) for found in audit.findings] == [
        (f"train/cats/copy{number}.jpg", "near-duplicate", f"validation/cats/{number}.jpg") for number in range(5)
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
    assert check(root).findings == []


def test_plain_pictures_are_not_near_duplicates(root):
    rng = np.random.default_rng(0)
    for number, folder in enumerate(("train/cats", "validation/cats", "test/cats", "test/wolfs")):
        nearly = (60 * number + rng.integers(0, 3, (80, 80, 3))).astype(np.uint8)
        plain = Image.new("RGB", (80, 80), (60 * number, 9, 99))
        fill(root, {f"{folder}/nearly.png": encode(Image.fromarray(nearly), "PNG")})
        fill(root, {f"{folder}/plain.jpg": encode(plain, quality=90 - number)})
    assert {(found.kind, Path(found.path).name) for found in check(root).findings} == {("blank", "plain.jpg")}
    fill(root, {"train/cats/again.png": (root / "test/cats/nearly.png").read_bytes()})  # its bytes tell
    assert ("train/cats/again.png", "duplicate") in {(found.path, found.kind) for found in check(root).findings}


def test_pictures_held_out_stay_and_one_in_the_same_split_is_no_matter(tmp_path):
    paths = ["validation/a/1", "train/a/1", "test/a/1", "test/a/2", "test/a/more/3", "train/a/2", "train/a/more/3"]
    found = duplicates([seen(path, 12345) for path in paths], tmp_path)
    assert {finding.path: finding.of for finding in found} == {
        path: "test/a/1" for path in ("validation/a/1", "train/a/1", "train/a/2", "train/a/more/3")
    }


def test_the_nearest_is_named_and_the_same_bytes_are_nearer(tmp_path):
    noise = np.random.default_rng(0).integers(-20, 21, 1024)
    looks = {
        name: np.clip(np.arange(1024) % 256 + k * noise, 0, 255) for name, k in (("far", 3), ("near", 1), ("x", 0))
    }
    kept = [seen(f"test/a/{name}", 0, thumbnail=looks[name]) for name in ("far", "near")]
    (found,) = duplicates([*kept, seen("train/a/x", 0, thumbnail=looks["x"])], tmp_path)
    assert (found.kind, found.of) == ("near-duplicate", "test/a/near")
    correlation = np.corrcoef(looks["x"], looks["near"])[0, 1]
    assert found.detail == f"looks like test/a/near, correlation {correlation:.3f}" and 0.98 < correlation < 0.99
    (found,) = duplicates([*kept, seen("train/a/x", 0, b"test/a/far", looks["x"])], tmp_path)
    assert found == Finding("train/a/x", "duplicate", "the bytes of test/a/far", "test/a/far")


def test_the_distance_ends_at_near(tmp_path):
    for bits in (NEAR, NEAR + 1):
        found = duplicates([seen("test/a/1", 2**64 - 1), seen("train/a/1", 2**64 - 2**bits)], tmp_path)
        assert len(found) == (bits == NEAR)
    plain = [seen("test/a/1", None), seen("train/a/1", None), seen("train/a/2", 0)]
    assert duplicates(plain, tmp_path) == duplicates([], tmp_path) == []


def test_a_picture_that_looks_like_one_that_goes_may_stay(tmp_path):
    pictures = [seen("test/a/1", 0), seen("validation/a/1", 0b111111), seen("train/a/1", 0b111111111111)]
    assert [found.path for found in duplicates(pictures, tmp_path)] == ["validation/a/1"]


def test_pictures_of_two_classes_are_listed_and_none_is_given_up(tmp_path):
    pictures = [
        seen("test/cats/1", 1),
        seen("train/dogs/1", 1),  # looks like the first
        seen("train/dogs/2", None, b"same"),
        seen("train/dogs/3", None, b"same"),  # within a class
        seen("train/eels/1", None, b"same"),
        seen("validation/dogs/1", 1),  # looks like the first too, and the one in train like it
    ]
    assert duplicates(pictures, tmp_path) == [
        Finding(
            "validation/dogs/1",
            "look-alike",
            "looks like test/cats/1 of another class, correlation 1.000",
            "test/cats/1",
        ),
        Finding(
            "train/dogs/1", "near-duplicate", "looks like validation/dogs/1, correlation 1.000", "validation/dogs/1"
        ),
        Finding(
            "train/eels/1",
            "contradiction",
            "the bytes of train/dogs/2, which is of another class: remove one",
            "train/dogs/2",
        ),
    ]


@pytest.mark.parametrize(
    "files, places",
    [
        (
            ["Train/cats/1", "VAL/cats/1"],
            [(".", "train", "cats", "Train/cats"), (".", "validation", "cats", "VAL/cats")],
        ),
        (["train/cafe\u0301/x/1"], [(".", "train", "caf\u00e9", "train/cafe\u0301")]),
        (["bus/1", "train/1", "train/steam/1"], [(".", "", "bus", "bus"), *[(".", "", "train", "train")] * 2]),
        (["a/train/x/1", "b/train/x/1"], [("a", "train", "x", "a/train/x"), ("b", "train", "x", "b/train/x")]),
        (["1", "x/1"], [(".", "", "", "."), (".", "", "x", "x")]),
        (["test/1", "test/x/1"], [(".", "test", "", "test"), (".", "test", "x", "test/x")]),
    ],
)
def test_splits_and_classes_are_told_by_the_folders(files, places, tmp_path):
    fill(tmp_path, dict.fromkeys(files, b""))
    found = find_places(tmp_path, [seen(name, None) for name in files])
    assert [(str(place.data), place.split, place.label, str(place.folder)) for place in found.values()] == places


def test_two_data_sets_and_pictures_outside_of_classes_are_no_contradictions(root, tmp_path):
    fill(root, {"train/loose.jpg": GOOD["train/cats/0.jpg"]})
    root.rename(tmp_path / "one")
    fill(
        tmp_path / "two", {"train/wolfs/a.jpg": GOOD["train/cats/0.jpg"], "train/cats/a.jpg": GOOD["test/wolfs/0.jpg"]}
    )
    assert check(tmp_path).findings == []


def test_many_pictures_are_compared_as_one_by_one(tmp_path):
    rng = np.random.default_rng(0)
    looks = rng.integers(0, 2**64, 300, np.uint64)
    looks[150:] = looks[:150] ^ (np.uint64(1) << rng.integers(0, 64, 150, np.uint64))
    order = rng.permutation(300)
    pictures = [seen(f"{'train' if n % 4 else 'test'}/{rng.integers(2)}/{n}", int(looks[n])) for n in order]
    kept, given_up = [], []
    for one in sorted(pictures, key=lambda one: (one.path.startswith("train"), one.path)):
        near = [
            other
            for other in kept
            if (one.phash ^ other.phash).bit_count() <= 6
            and one.path.split("/")[0] != other.path.split("/")[0]
            and one.path.split("/")[1] == other.path.split("/")[1]
        ]
        (given_up if near else kept).append(one)
    found = duplicates(pictures, tmp_path)
    assert {one.path for one in found if one.kind == "near-duplicate"} == {one.path for one in given_up}
    assert 20 < len(given_up) < 150


def test_hidden_files_and_folders_are_passed_over(root):
    fill(root, {"train/cats/.DS_Store": b"x", ".git/HEAD": b"x", "train/.cache/a.jpg": b"x"})
    assert check(root) == Audit(12, [], {}, [])


def test_a_folder_without_pictures_is_refused(tmp_path):
    fill(tmp_path, {".hidden.jpg": b"", "notes.txt": b""})
    with pytest.raises(InputError, match=f"^{tmp_path} holds no pictures: name a folder of pictures$"):
        check(tmp_path)


def test_linked_folders_are_read_but_not_in_circles(root, tmp_path):
    (root / "train/cats").rename(tmp_path / "cats")
    (root / "train/cats").symlink_to(tmp_path / "cats")
    (root / "train/wolfs/circle").symlink_to(root)
    assert check(root) == Audit(12, [], {}, [])


def test_a_link_whose_target_is_gone_is_a_finding(root, tmp_path):
    (root / "train/wolfs/dangling.jpg").symlink_to(tmp_path / "nowhere")
    (root / "train/wolfs/dangling.txt").symlink_to(tmp_path / "nowhere")
    found = Finding("train/wolfs/dangling.jpg", "broken", "a link to a file that does not exist")
    assert check(root) == Audit(13, [found], {".txt": 1}, [])


def test_files_that_cannot_be_read_are_findings(root, monkeypatch):
    read = Path.read_bytes

    def read_or_fail(path: Path) -> bytes:
        if path.name == "0.jpg" and path.parent.name == "wolfs":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_or_fail)
    audit = check(root)
    assert (audit.pictures, [found.kind for found in audit.findings]) == (12, ["broken"] * 3)
    assert audit.findings[0] == Finding("test/wolfs/0.jpg", "broken", "Permission denied")


def test_a_folder_that_cannot_be_listed_is_named(root, monkeypatch):
    close_folder("wolfs", monkeypatch)
    with pytest.raises(InputError, match=r"wolfs cannot be listed \(Permission denied\): name a folder that can be$"):
        check(root)


def encoded(pixels: np.ndarray) -> bytes:
    return encode(Image.fromarray(pixels), "PNG")


def test_folders_that_are_all_but_black_or_white_are_named(root):
    rng = np.random.default_rng(0)
    for number in range(10):
        twelve_bits = rng.integers(0, 4096, (40, 40), np.uint16)
        pale = np.full((40, 40), 255, np.uint8) - rng.integers(0, 9, (40, 40), np.uint8)
        fill(root, {f"train/owls/{number}.png": encoded(twelve_bits), f"train/swans/{number}.png": encoded(pale)})
    fill(root, {"train/owls/bright.png": encoded(rng.integers(0, 2**16, (40, 40), np.uint16))})  # one of 11
    black = "black, as 12 bits stored in 16 are: store them in 8, or scale them to 16"
    white = "white, as light drawings on a transparent ground are: lay them on a dark one"
    assert check(root).notes == [
        f"train/owls: nearly all pictures are all but {black}",
        f"train/swans: nearly all pictures are all but {white}",
    ]
    for number in range(2):
        fill(root, {f"train/owls/bright{number}.png": encoded(rng.integers(0, 2**16, (40, 40), np.uint16))})
    assert [note.partition(":")[0] for note in check(root).notes] == ["train/swans"]


def test_a_whole_folder_that_is_dark_is_named_once(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(20):
        fill(tmp_path, {f"{number % 2}/{number}.png": encoded(rng.integers(0, 4096, (40, 40), np.uint16))})
    (note,) = check(tmp_path).notes
    assert note.startswith(f"{tmp_path}: nearly all pictures are all but black, ")
