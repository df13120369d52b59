import io
import struct
import sys
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps

from jaxconv.data import images
from jaxconv.data.images import decode, decode_rgb, is_picture, quiet_pillow


def png(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


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


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparent_pixels_are_laid_on_white(mode):
    """Ink that is in the alpha channel alone stays ink: all of it is black, and the ground is transparent."""
    ink = np.zeros((8, 8), bool)
    ink[2:6, 3:5] = True
    if mode == "P":
        picture = Image.fromarray(ink.astype(np.uint8)).convert("P")
        picture.putpalette([0, 0, 0, 0, 0, 0])
        data = png(picture, transparency=0)
    elif mode == "RGB":  # one colour is transparent
        data = png(Image.fromarray(np.where(ink[..., None], 0, [1, 2, 3]).astype(np.uint8)), transparency=(1, 2, 3))
    else:
        rgba = np.zeros((8, 8, 4), np.uint8)
        rgba[..., 3] = 255 * ink
        data = png(Image.fromarray(rgba).convert(mode))
    np.testing.assert_array_equal(decode(data, (8, 8)), np.where(ink[..., None], 0, 255).repeat(3, 2))


def test_half_transparent_pixels_are_mixed_with_white_and_opaque_ones_stay():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 4)).astype(np.uint8)
    image = decode(png(Image.fromarray(pixels)), (8, 8))
    share = pixels[..., 3:] / 255
    assert np.abs(image - (share * pixels[..., :3] + (1 - share) * 255)).max() <= 1
    pixels[..., 3] = 255
    np.testing.assert_array_equal(decode(png(Image.fromarray(pixels)), (8, 8)), pixels[..., :3])


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG", "WEBP", "AVIF"])
def test_pictures_are_turned_by_their_exif_orientation(kind):
    """Pillow's own `exif_transpose` is the oracle."""
    pixels = np.full((8, 16, 3), 50, np.uint8)
    pixels[:4, :8] = 200
    for orientation in range(1, 10):  # 9 has no meaning
        picture = Image.fromarray(pixels)
        exif = picture.getexif()
        exif[0x0112] = orientation
        data = encoded(picture, kind, exif=exif)
        expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
        found = np.asarray(decode_rgb(data))
        assert found.shape == ((16, 8, 3) if 5 <= orientation <= 8 else (8, 16, 3))
        np.testing.assert_array_equal(found, expected)


def test_floats_from_0_to_1_are_scaled():
    pixels = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    image = decode(encoded(Image.fromarray(pixels), "TIFF"), (8, 8), channels=1)
    np.testing.assert_array_equal(image[..., 0], np.round(255 * pixels))


@pytest.mark.parametrize(
    "pixels, reason",
    [
        (np.full((8, 8), 1.5, np.float32), "its pixels are floats outside of 0 to 1: save it with 8 or 16 bits"),
        (np.full((8, 8), -0.1, np.float32), "its pixels are floats outside of 0 to 1"),
        (np.full((8, 8), np.nan, np.float32), "its pixels are floats outside of 0 to 1"),
        (np.full((8, 8), 70_000, np.int32), "its pixels are signed or of 32 bits, and their range is not known: save"),
    ],
)
def test_pixels_of_an_unknown_range_are_refused(pixels, reason):
    with pytest.raises(ValueError, match=f"^{reason}"):
        decode(encoded(Image.fromarray(pixels), "TIFF"), (8, 8))


def test_a_jpeg_that_is_too_large_is_decoded_at_reduced_size(monkeypatch):
    """Up to the limit, its pixels stay as they are."""
    data = encoded(Image.new("RGB", (640, 480), (100, 150, 200)), "JPEG")
    for limit, size in ((640 * 480, (640, 480)), (640 * 480 - 1, (320, 240)), (5_000, (80, 60)), (1_000, (80, 60))):
        monkeypatch.setattr(images, "LARGE", limit)
        picture = decode_rgb(data)
        assert picture.size == size and np.abs(np.asarray(picture) - [100, 150, 200]).max() <= 2


def test_a_large_picture_of_another_kind_needs_the_memory(monkeypatch):
    data = png(Image.new("RGB", (640, 480)))
    monkeypatch.setattr(images, "LARGE", 1000)
    monkeypatch.setattr(images, "MAX_PIXELS_A_BYTE", 10**6)
    monkeypatch.setattr(images, "usable_cores", lambda: 2)
    monkeypatch.setattr(images, "available_memory", lambda: 4 * 16 * 640 * 480)
    assert decode_rgb(data).size == (640, 480)
    monkeypatch.setattr(images, "available_memory", lambda: 4 * 16 * 640 * 480 - 1)
    with pytest.raises(Image.DecompressionBombError, match=r"its 640 x 480 pixels need 0\.0 GB of memory"):
        decode_rgb(data)


@pytest.mark.parametrize("progressive, decoded", [(False, True), (True, False)])
def test_a_large_progressive_jpeg_needs_memory_for_all_its_pixels(progressive, decoded, monkeypatch):
    """Its decoder keeps two bytes for each value, whatever the reduction."""
    data = encoded(Image.new("RGB", (640, 480)), "JPEG", progressive=progressive)
    monkeypatch.setattr(images, "LARGE", 20_000)
    monkeypatch.setattr(images, "available_memory", lambda: 0)
    if decoded:
        assert decode_rgb(data).size == (160, 120)
    else:
        with pytest.raises(Image.DecompressionBombError, match="its 640 x 480 pixels need"):
            decode_rgb(data)


def test_broken_exif_data_leave_the_picture_as_it_is_stored(monkeypatch):
    def fail(self):
        raise SyntaxError("not a TIFF file")

    data = encoded(Image.new("RGB", (16, 8)), "JPEG")
    monkeypatch.setattr(Image.Image, "getexif", fail)
    assert decode_rgb(data).size == (16, 8)


def test_a_heic_photo_is_read_where_pillow_heif_is_installed():
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 32), (100, 150, 200))).save(file)
    picture = decode_rgb(file.getvalue())
    assert picture.size == (64, 32) and np.abs(np.asarray(picture) - [100, 150, 200]).max() <= 3


def test_a_heic_photo_names_the_package_that_reads_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + bytes(400)
    assert is_picture(data)
    with pytest.raises(OSError, match=r"^a HEIC photo, as iPhones take them: pip install pillow-heif$"):
        decode_rgb(data)


def test_what_begins_like_a_picture():
    kinds = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
    assert all(is_picture(encoded(Image.new("RGB", (8, 8)), kind)) for kind in kinds)
    others = (b"", b"<svg/>", b"8BPS", b"\0\0\0\x18ftypmp42" + bytes(99), b"version https://git-lfs.github.com/spec/v1")
    assert not any(map(is_picture, others))


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
        with pytest.raises(OSError, match=r"^no header of AVIF, BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP$"):
            decode(file.getvalue(), (10, 20))


def test_a_png_with_zeros_in_its_data_is_refused():
    data = png(Image.effect_noise((50, 50), 50).convert("RGB"))
    assert decode(data, (50, 50)).shape == (50, 50, 3)
    with pytest.raises(SyntaxError, match="broken PNG file"):  # without a look at its checksum it is half black
        decode(data[:3000] + bytes(len(data) - 3000 - 12) + data[-12:], (50, 50))


def test_other_warnings_stay():
    with quiet_pillow(), pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)
