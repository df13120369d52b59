"""Picture files to arrays of pixels."""

import contextlib
import io
import warnings
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

FILTERS = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR}

# Photos alone (MPO counts as JPEG): Pillow knows many more kinds, and for EPS it starts another program, Ghostscript.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 89_478_485  # from where on Pillow warns; it refuses twice as many
MAX_PIXELS_A_BYTE = 10_000  # photos have under 100, plain drawings under 1,000; damaged headers have any
MAX_SIDE = 65_535  # the longest that JPEG can have; to resize a much longer one takes gigabytes


def decode(
    data: bytes, image_size: tuple[int, int], interpolation: str = "nearest", channels: int = 3
) -> UInt8[np.ndarray, "h w c"]:
    """A picture file's bytes as RGB or grey, resized to (height, width) without keeping the aspect ratio.

    Grey, palette and CMYK pictures are converted; alpha is dropped and the EXIF orientation ignored, as in Keras.
    `nearest` is Keras's default filter.

    Raises:
        ValueError: a picture has 1 or 3 channels, not so many; and whatever `decode_rgb` raises.
    """
    if channels not in (1, 3):
        raise ValueError(f"a picture file is read with 1 or 3 channels, not {channels}")
    (height, width), picture = image_size, decode_rgb(data)
    picture = picture.convert("L") if channels == 1 else picture
    return np.asarray(picture.resize((width, height), FILTERS[interpolation])).reshape(height, width, channels)


def decode_rgb(data: bytes) -> Image.Image:
    """A picture file's bytes as RGB in its own size; of several pictures the first.

    Raises `DecompressionBombError`, before anything is decoded, on a size that no photo has, or that no photo has in
    so few bytes, and whatever else Pillow raises on a picture that it cannot decode.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
            if max(picture.size) > MAX_SIDE or width * height > min(MAX_PIXELS, MAX_PIXELS_A_BYTE * len(data)):
                raise Image.DecompressionBombError(f"it claims {width:,} x {height:,} pixels in {len(data):,} bytes")
            picture.verify()  # of a PNG the checksums, without which zeros are decoded to a plain colour
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            return _to_rgb(picture)
    except UnidentifiedImageError as error:  # its message is an address in memory
        raise UnidentifiedImageError(f"no header of {', '.join(FORMATS)}") from error


def reason(error: Exception) -> str:
    """Why a picture cannot be read or decoded, in one line."""
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow's warnings, mostly of broken EXIF data, which nothing here reads, from users and from `-W error`.

    The filters of warnings belong to the whole process: enter this once around all threads, not in each.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _to_rgb(picture: Image.Image) -> Image.Image:
    # Pillow would clip all but the darkest of 16 bits to white.
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PPM"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if "transparency" in picture.info:  # Pillow warns when a palette with transparency goes straight to RGB
        return picture.convert("RGBA").convert("RGB")
    return picture.convert("RGB")
