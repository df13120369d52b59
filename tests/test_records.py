import io
import os
import shutil
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from PIL import Image

from jaxconv import records
from jaxconv.errors import InputError
from jaxconv.records import ArraySource, SplitDirectory, decode, quiet_pillow, read_splits


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
    for interpolation, chosen in (("nearest", 0), ("bilinear", 2)):
        split = SplitDirectory(photos, "train", (150, 150), interpolation=interpolation)
        with Image.open(split.paths[3]) as picture:
            expected = np.asarray(picture.resize((150, 150), chosen))
        np.testing.assert_array_equal(split[3]["image"], expected)
    with pytest.raises(ValueError, match="interpolation 'cubic' is none of nearest, bilinear"):
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


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "RGBA", "LA", "I;16", "I"])
def test_every_mode_becomes_rgb(mode):
    if mode == "I;16":
        picture = Image.fromarray(np.full((20, 10), 40_000, np.uint16))
        file = io.BytesIO(png(picture))
    elif mode == "I":
        file = io.BytesIO(b"P5 10 20 65535\n" + struct.pack(">H", 40_000) * 200)
    else:
        picture = Image.new("RGB", (10, 20), (204, 204, 204)).convert(mode)
        file = io.BytesIO()
        picture.save(file, "TIFF" if mode == "CMYK" else "PNG")
    image = decode(file.getvalue(), (20, 10))
    assert image.shape == (20, 10, 3)
    expected = {"1": None, "I;16": 40_000 // 256, "I": 40_000 // 256}.get(mode, 204)
    if expected is not None:
        assert np.abs(image.astype(int) - expected).max() <= 1


def test_a_palette_with_transparency_keeps_its_colours():
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([0, 0, 0, 10, 20, 30])
    image = decode(png(picture, transparency=b"\x00\x80"), (4, 4))
    assert (image == [10, 20, 30]).all()


def test_the_exif_orientation_is_ignored_as_keras_does(tmp_path):
    picture = Image.new("RGB", (20, 10))
    exif = picture.getexif()
    exif[0x0112] = 6
    file = io.BytesIO()
    picture.save(file, "JPEG", exif=exif)
    assert decode(file.getvalue(), (10, 20)).shape == (10, 20, 3)


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
        (20_000, 20_000, 10**5),  # Pillow refuses it
        (10_000, 10_000, 10**5),  # Pillow only warns
        (70_000, 1, 10**5),
        (9_000, 9_000, 0),  # too much for 69 bytes
    ],
)
def test_sizes_that_no_photo_has_are_refused_by_the_header(copy, width, height, extra, monkeypatch):
    data = claiming(width, height, extra)
    (copy / "train/cats/a.png").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.png is not a picture that can be decoded \((it claims|Image size)"):
        SplitDirectory(copy, "train")
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(Image.DecompressionBombError), quiet_pillow():
        decode(data, (10, 10))


def test_the_largest_sides_are_read():
    image = decode(png(Image.effect_noise((65_535, 16), 50)), (4, 4))
    assert image.shape == (4, 4, 3) and np.ptp(image) > 0


@pytest.mark.parametrize("kind, opens", [("BMP", 1), ("EPS", 0), ("ICO", 0), ("TGA", 0), ("PCX", 0), ("MPO", 1)])
def test_only_formats_of_photos_are_opened(kind, opens):
    file = io.BytesIO()
    Image.effect_noise((20, 10), 50).convert("RGB").save(file, kind)
    if opens:
        assert decode(file.getvalue(), (10, 20)).shape == (10, 20, 3)
    else:
        with pytest.raises(OSError, match=r"^no header of BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP$"):
            decode(file.getvalue(), (10, 20))


def test_a_png_with_zeros_in_its_data_is_refused():
    data = png(Image.effect_noise((50, 50), 50).convert("RGB"))
    assert decode(data, (50, 50)).shape == (50, 50, 3)
    with pytest.raises(SyntaxError, match="broken PNG file"):  # without a look at its checksum it is half black
        decode(data[:3000] + bytes(len(data) - 3000 - 12) + data[-12:], (50, 50))


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


def test_other_warnings_stay():
    with quiet_pillow(), pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)


def test_a_file_that_cannot_be_read_is_named(copy, monkeypatch):
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    message = r"cat\.0\.png is not a picture that can be decoded \(Permission denied\): replace it"
    with pytest.raises(InputError, match=message):
        SplitDirectory(copy, "train")


def test_missing_splits_and_classes_are_named(copy):
    with pytest.raises(InputError, match="nowhere/train does not exist: a data set has the folders train, validation"):
        SplitDirectory("nowhere", "train")
    (copy / "train/wolves").mkdir()
    with pytest.raises(InputError, match="wolves holds no pictures"):
        SplitDirectory(copy, "train")
    for name in ("wolves", "dogs"):
        shutil.rmtree(copy / "train" / name)
    with pytest.raises(InputError, match="train has 1 class folders"):
        SplitDirectory(copy, "train")


def test_splits_must_hold_the_same_classes(copy):
    assert [len(split) for split in read_splits(copy)] == [6, 5, 3]
    (copy / "test/dogs").rename(copy / "test/wolves")
    with pytest.raises(InputError, match="test holds the classes cats, wolves, but train holds cats, dogs"):
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


def test_names_that_are_no_text_are_read(copy):
    picture = copy / "train/cats/cat.0.png"
    picture.rename(os.fsdecode(os.fsencode(picture.parent) + b"/caf\xe9.png"))
    source = SplitDirectory(copy, "train")
    assert len(source.fingerprint) == 64 and "cats/caf\udce9.png" in [source.name(index) for index in range(6)]


def test_pictures_in_memory_are_a_source_too():
    images, labels = np.arange(24, dtype=np.uint8).reshape(3, 2, 4, 1), np.array([1, 0, 1], np.int32)
    source = ArraySource(images, labels, ["no", "yes"])
    assert isinstance(source, records.Source)
    assert len(source) == 3
    np.testing.assert_array_equal(source[2]["image"], images[2])
    assert (source[2]["label"], type(source[2]["label"]), source.class_names) == (1, int, ["no", "yes"])
    changed = images.copy()
    changed[1, 1, 1] += 1
    others = [ArraySource(changed, labels, ["no", "yes"]), ArraySource(images, np.roll(labels, 1), ["no", "yes"])]
    others.append(ArraySource(images.reshape(3, 4, 2, 1), labels, ["no", "yes"]))
    assert len({other.fingerprint for other in [source, *others]}) == 4


@pytest.mark.skipif("JAXCONV_DATA" not in os.environ, reason="JAXCONV_DATA does not point at the real photos")
def test_photos_as_users_have_them(tmp_path):
    import zipfile

    with zipfile.ZipFile(Path(os.environ["JAXCONV_DATA"], "dogs-vs-cats", "originals-sample.zip")) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
        for name in names:
            target = tmp_path / "train" / f"{Path(name).name[:3]}s" / Path(name).name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))
    split = SplitDirectory(tmp_path, "train")
    assert len(split) == 200
    with Image.open(split.paths[0]) as picture:
        expected = np.asarray(picture.convert("RGB").resize((150, 150), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(split[0]["image"], expected)


@pytest.mark.parametrize(
    "images, labels, message",
    [
        (np.zeros((2, 4, 4, 1), np.float32), np.zeros(2, np.int32), r"images are float32\[2, 4, 4, 1\], not uint8"),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.int32), r"images are uint8\[2, 4, 4\], not uint8\[n, h, w, c\]"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros((2, 1), np.int32), r"labels are int32\[2, 1\], not int32\[2\]"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros(3, np.int32), r"labels are int32\[3\], not int32\[2\]"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.float32), r"labels are float32\[2\], not int32\[2\]"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 2], np.int32), "label 2 is the index of none of 2 classes"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.array([-1, 0], np.int32), "label -1 is the index of none of 2 classes"),
    ],
)
def test_arrays_that_are_no_labelled_pictures_are_refused(images, labels, message):
    """In the tests the annotations are checked too, and before; users have the arrays' own check."""
    with pytest.raises(ValueError, match=message):
        records._check_arrays(images, labels, 2)
    with pytest.raises((ValueError, TypeCheckError)):
        ArraySource(images, labels, ["a", "b"])


def test_records_have_names(photos):
    assert SplitDirectory(photos, "train", (4, 4)).name(5) == "dogs/dog.5.png"
    assert ArraySource(np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.int32), ["a"]).name(1) == "number 1"
