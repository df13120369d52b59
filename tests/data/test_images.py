import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from jaxconv.data.images import decode, quiet_pillow


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


def test_other_warnings_stay():
    with quiet_pillow(), pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)
