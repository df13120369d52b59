import io
import os
import shutil
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxconv.data import images, records
from jaxconv.data.arrays import ArraySource
from jaxconv.data.checks import examine
from jaxconv.data.images import decode, quiet_pillow
from jaxconv.data.records import SplitDirectory, read_splits
from jaxconv.runtime.errors import InputError


def png(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def test_records_are_sorted_and_labelled(photos):
    split = SplitDirectory(photos, "train", (40, 30))
    assert split.class_names == ["cats", "dogs"]
    assert [path.name for path in split.paths] == [f"cat.{n}.png" for n in (0, 2, 4)] + [
        f"dog.{n}.png" for n in (1, 3, 5)
    ]
    assert len(split) == 6
    assert [split[i]["label"] for i in range(6)] == [0, 0, 0, 1, 1, 1]
    assert split[5]["image"].shape == (40, 30, 3)
    assert split[5]["image"].dtype == np.uint8
    with pytest.raises(IndexError):
        split[6]


def test_pixels_are_those_of_pillow_s_nearest_filter_and_bilinear_on_request(photos):
    for interpolation, chosen in (("nearest", 0), ("bilinear", 2), ("bicubic", 3)):
        split = SplitDirectory(photos, "train", (150, 150), interpolation=interpolation)
        with Image.open(split.paths[3]) as picture:
            expected = np.asarray(picture.resize((150, 150), chosen))
        np.testing.assert_array_equal(split[3]["image"], expected)
    with pytest.raises(ValueError, match="interpolation 'cubic' is none of nearest, bilinear, bicubic"):
        SplitDirectory(photos, "train", interpolation="cubic")


def test_a_set_that_does_not_fit_the_memory_is_read_on_demand(photos, monkeypatch):
    stored = SplitDirectory(photos, "train")
    monkeypatch.setattr(records, "available_memory", lambda: 0)
    on_demand = SplitDirectory(photos, "train")
    assert (stored.decoded_bytes, on_demand.decoded_bytes) == (6 * 150 * 150 * 3, 0)
    assert stored.fingerprint == on_demand.fingerprint
    for index in range(6):
        np.testing.assert_array_equal(stored[index]["image"], on_demand[index]["image"])


def test_half_of_the_free_memory_may_be_used(photos, monkeypatch):
    for free, decoded in ((3600, 1800), (3599, 0)):
        monkeypatch.setattr(records, "available_memory", lambda free=free: free)
        assert SplitDirectory(photos, "train", (10, 10)).decoded_bytes == decoded


@pytest.fixture
def copy(photos, tmp_path) -> Path:
    return Path(shutil.copytree(photos, tmp_path / "copy"))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "broken.jpg is empty: replace it"),
        (b"not a picture", "broken.jpg is not a picture that can be decoded"),
        (png(Image.effect_noise((50, 50), 50))[:900], "broken.jpg is not a picture that can be decoded"),
    ],
)
def test_a_file_that_is_no_picture_is_named(copy, content, message):
    (copy / "train/cats/broken.jpg").write_bytes(content)
    with pytest.raises(InputError, match=message):
        SplitDirectory(copy, "train")


def claiming(width: int, height: int, extra: int = 0) -> bytes:
    """A small PNG whose header, with a right checksum, says that it has another size; some bytes longer."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = png(Image.new("RGB", (1, 1)))
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:] + bytes(extra)


@pytest.mark.parametrize(
    "width, height, extra",
    [
        (20_000, 20_000, 10**5),  # too much for the memory
        (10_000, 10_000, 10**5),
        (70_000, 1, 10**5),
        (9_000, 9_000, 0),  # too much for 69 bytes
    ],
)
def test_sizes_that_no_photo_has_are_refused_by_the_header(copy, width, height, extra, monkeypatch):
    data = claiming(width, height, extra)
    monkeypatch.setattr(images, "available_memory", lambda: 2**30)
    (copy / "train/cats/a.png").write_bytes(data)
    with pytest.raises(
        InputError, match=r"a\.png is not a picture that can be decoded \((it claims|its .* pixels need)"
    ):
        SplitDirectory(copy, "train")
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(Image.DecompressionBombError), quiet_pillow():
        decode(data, (10, 10))


def with_broken_exif() -> bytes:
    """A JPEG whose EXIF data are cut short, of which Pillow warns."""
    file = io.BytesIO()
    Image.effect_noise((20, 10), 50).save(file, "JPEG")
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x1a\0\x05"
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + file.getvalue()[2:]


def test_broken_exif_is_no_matter(copy, capfd):
    with pytest.warns(UserWarning, match="EXIF"):
        decode(with_broken_exif(), (10, 20))
    (copy / "train/cats/a.jpg").write_bytes(with_broken_exif())
    for action in ("error", "always"):
        with warnings.catch_warnings():
            warnings.simplefilter(action)
            assert SplitDirectory(copy, "train", (10, 20))[0]["image"].shape == (10, 20, 3)
    assert capfd.readouterr().err == ""


def test_a_file_that_cannot_be_read_is_named(copy, monkeypatch):
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    message = r"cat\.0\.png is not a picture that can be decoded \(Permission denied\): replace it"
    with pytest.raises(InputError, match=message):
        SplitDirectory(copy, "train")


def test_missing_splits_and_classes_are_named(copy):
    with pytest.raises(InputError, match="nowhere does not exist: name a folder of pictures"):
        SplitDirectory("nowhere", "train")
    (copy / "train/wolves").mkdir()
    with pytest.raises(InputError, match="wolves holds no pictures"):
        SplitDirectory(copy, "train")
    for name in ("wolves", "dogs"):
        shutil.rmtree(copy / "train" / name)
    with pytest.raises(InputError, match="train has one folder, cats: give it"):
        SplitDirectory(copy, "train")


def test_splits_must_hold_the_same_classes(copy):
    assert [len(split) for split in read_splits(copy)] == [6, 5, 3]
    (copy / "test/dogs").rename(copy / "test/wolves")
    with pytest.raises(InputError, match="test lacks 'dogs', which train has and has 'wolves', which train lacks: "):
        read_splits(copy)


def test_hidden_files_are_passed_over_and_the_fingerprint_covers_names_and_bytes(copy, photos):
    fingerprint = SplitDirectory(photos, "train").fingerprint
    (copy / "train/cats/.DS_Store").write_bytes(b"x")
    shutil.copytree(copy / "train/dogs", copy / "train/cats/.ipynb_checkpoints")
    assert SplitDirectory(copy, "train").fingerprint == fingerprint
    (copy / "train/cats/cat.0.png").rename(copy / "train/cats/cat.00.png")
    renamed = SplitDirectory(copy, "train").fingerprint
    shutil.copy(copy / "train/cats/cat.2.png", copy / "train/cats/cat.00.png")
    assert len({fingerprint, renamed, SplitDirectory(copy, "train").fingerprint}) == 3


def test_linked_folders_are_read_as_the_tools_read_them(copy, photos, tmp_path):
    fingerprint = SplitDirectory(photos, "train").fingerprint
    for name in ("cats", "dogs"):
        (copy / "train" / name).rename(tmp_path / name)
        (copy / "train" / name).symlink_to(tmp_path / name)
    assert SplitDirectory(copy, "train").fingerprint == fingerprint
    for name, target in {"circle": copy, "up": copy / "train", "self": copy / "train/cats"}.items():
        (copy / "train/cats" / name).symlink_to(target)  # each of these holds the link itself
    assert SplitDirectory(copy, "train").fingerprint == fingerprint
    (tmp_path / "more/deep").mkdir(parents=True)
    (copy / "train/dogs/dog.5.png").rename(tmp_path / "more/deep/dog.5.png")
    (copy / "train/dogs/more").symlink_to(tmp_path / "more")
    source = SplitDirectory(copy, "train")
    assert source.name(5) == "dogs/more/deep/dog.5.png"
    assert [one.path for one in examine(copy) if one.path.startswith("train/")] == [
        f"train/{source.name(index)}" for index in range(6)
    ]


def test_a_class_that_is_a_link_to_the_folders_above_it_holds_nothing(copy):
    (copy / "train/self").symlink_to(copy)
    with pytest.raises(InputError, match="train/self holds no pictures: put some in"):
        SplitDirectory(copy, "train")


def test_names_that_are_no_text_are_read(copy):
    picture = copy / "train/cats/cat.0.png"
    picture.rename(os.fsdecode(os.fsencode(picture.parent) + b"/caf\xe9.png"))
    source = SplitDirectory(copy, "train")
    assert len(source.fingerprint) == 64 and "cats/caf\udce9.png" in [source.name(index) for index in range(6)]


@pytest.mark.skipif("JAXCONV_DATA" not in os.environ, reason="JAXCONV_DATA does not point at the real photos")
def test_photos_as_users_have_them(tmp_path):
    import zipfile

    with zipfile.ZipFile(Path(os.environ["JAXCONV_DATA"], "dogs-vs-cats", "originals-sample.zip")) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
        for name in names:
            target = tmp_path / "train" / f"{Path(name).name[:3]}s" / Path(name).name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))
    (tmp_path / "validation").mkdir()  # without it, some of them would be held out
    split = SplitDirectory(tmp_path, "train")
    assert len(split) == 200
    with Image.open(split.paths[0]) as picture:
        expected = np.asarray(picture.convert("RGB").resize((150, 150), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(split[0]["image"], expected)


def test_records_have_names(photos):
    assert SplitDirectory(photos, "train", (4, 4)).name(5) == "dogs/dog.5.png"
    assert ArraySource(np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.int32), ["a"]).name(1) == "number 1"


def test_a_class_whose_name_cannot_be_printed_is_refused(copy):
    """Before training, not after it by the figures that cannot show it."""
    os.rename(copy / "train/cats", os.fsencode(copy / "train") + b"/caf\xe9")
    with pytest.raises(InputError, match=r"has a class folder 'caf\\udce9': give it a name that can be printed"):
        SplitDirectory(copy, "train")


def test_a_picture_that_is_changed_under_the_run_is_named(copy, monkeypatch, capsys):
    """A set that does not fit the memory is said to be decoded again and again, and each time proved."""
    monkeypatch.setattr(records, "available_memory", lambda: 0)
    split = SplitDirectory(copy, "train", (10, 10))
    assert capsys.readouterr().out == (
        f"{copy / 'train'} does not fit the memory: its pictures are decoded at every access\n"
    )
    before = split[0]["image"]
    np.testing.assert_array_equal(split[0]["image"], before)
    shutil.copyfile(split.paths[5], split.paths[0])
    with pytest.raises(InputError, match=r"cat\.0\.png was changed after it was first read: bring it back"):
        split[0]
