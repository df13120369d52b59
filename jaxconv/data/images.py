"""Picture files to arrays of pixels."""

import contextlib
import importlib
import io
import struct
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFile, UnidentifiedImageError

from jaxconv.runtime.machine import available_memory, usable_cores

FILTERS = {name: Image.Resampling[name.upper()] for name in ("nearest", "bilinear", "bicubic")}

# Photos alone (MPO counts as JPEG): Pillow knows many more kinds, and for EPS it starts another program, Ghostscript.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # brands of photos as iPhones take them
LARGE = 89_478_485  # pixels from where on Pillow warns; JPEGs above this are decoded at a half, quarter or eighth
BYTES_A_PIXEL = 16  # of memory to decode and convert a picture: as it is stored, with alpha, and as RGB
MAX_PIXELS_A_BYTE = 10_000  # photos have under 100, plain drawings under 1,000; damaged headers have any
MAX_SIDE = 65_535  # the longest that JPEG can have; to resize a much longer one takes gigabytes

# What turns a picture as it is stored into a picture as it is meant to be seen, by its EXIF orientation.
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(
    data: bytes, image_size: tuple[int, int], interpolation: str = "nearest", channels: int = 3
) -> UInt8[np.ndarray, "h w c"]:
    """A picture file's bytes as RGB or grey, resized to (height, width) without keeping the aspect ratio.

    `nearest` is Keras's default filter. The picture is otherwise decoded as by `decode_rgb`.

    Raises:
        ValueError: a picture has 1 or 3 channels, not so many; and whatever `decode_rgb` raises.
    """
    if channels not in (1, 3):
        raise ValueError(f"a picture file is read with 1 or 3 channels, not {channels}")
    (height, width), picture = image_size, decode_rgb(data)
    picture = picture.convert("L") if channels == 1 else picture
    return np.asarray(picture.resize((width, height), FILTERS[interpolation])).reshape(height, width, channels)


def decode_rgb(data: bytes) -> Image.Image:
    """A picture file's bytes as RGB, as the picture is meant to be seen; of several pictures the first.

    The picture is turned by its EXIF orientation. Transparent pixels are laid on white. 16 bits are scaled to 8, and
    floats from 0 to 1. JPEGs with more than 89 million pixels are decoded at reduced size.

    Raises `DecompressionBombError`, before anything is decoded, on a size that no photo has, or that no photo has in
    so few bytes, or that does not fit the memory. Raises ValueError on pixels whose range is not known, and whatever
    else Pillow raises on a picture that it cannot decode.
    """
    with _open(data) as picture:
        _check_size(picture, len(data))
        picture.verify()  # of a PNG the checksums, without which zeros are decoded to a plain colour
    with _open(data) as picture:
        if picture.format in ("JPEG", "MPO"):
            _reduce(picture)
        picture.load()
        return _turned(picture, _to_rgb(picture))


def is_picture(data: bytes) -> bool:
    """Whether a file begins like a picture of `FORMATS`, or like a HEIC photo."""
    return _is_heic(data) or bool(_factories(data))


def reason(error: Exception) -> str:
    """Why a picture cannot be read or decoded, in one line."""
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow's warnings, mostly of broken EXIF data, from users and from `-W error`.

    The filters of warnings belong to the whole process: enter this once around all threads, not in each.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _open(data: bytes) -> ImageFile.ImageFile:
    """Open a picture as `Image.open` does, but without its limit of pixels, which knows nothing of `_reduce`."""
    if _is_heic(data):
        return _open_heic(data)
    for factory in _factories(data):
        with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):  # a header of another kind
            return factory(io.BytesIO(data), "")
    raise UnidentifiedImageError(f"no header of {', '.join(FORMATS)}")


def _factories(data: bytes) -> list[Callable[..., ImageFile.ImageFile]]:
    """What opens the kinds of pictures that a file begins like."""
    Image.init()  # else Image.OPEN lacks the less common formats
    known = [Image.OPEN[kind] for kind in FORMATS]
    # `accept` returns a text, not True, where this Pillow was built without the format.
    return [factory for factory, accept in known if accept and accept(data[:16]) in (True, 1)]


def _is_heic(data: bytes) -> bool:
    brands = data[8:64]  # AVIF shares the general brand mif1 with HEIC
    return data[4:8] == b"ftyp" and data[8:12] in HEIC and b"avif" not in brands


def _open_heic(data: bytes) -> ImageFile.ImageFile:
    try:
        return importlib.import_module("pillow_heif").HeifImageFile(io.BytesIO(data), "")
    except ImportError as error:
        raise UnidentifiedImageError("a HEIC photo, as iPhones take them: pip install pillow-heif") from error


def _check_size(picture: Image.Image, size: int) -> None:
    (width, height), pixels = picture.size, picture.width * picture.height
    if max(picture.size) > MAX_SIDE or pixels > MAX_PIXELS_A_BYTE * size:
        raise Image.DecompressionBombError(f"it claims {width:,} x {height:,} pixels in {size:,} bytes")
    needed = BYTES_A_PIXEL * pixels
    if picture.format in ("JPEG", "MPO"):  # which `_reduce` makes smaller, but not what a progressive one is made from
        coefficients = 2 * len(picture.getbands()) * pixels if "progressive" in picture.info else 0
        needed = BYTES_A_PIXEL * min(pixels, LARGE) + coefficients
    if needed <= BYTES_A_PIXEL * LARGE:  # which every machine that trains has room for
        return
    free = available_memory() // (2 * usable_cores())  # pictures are decoded in one thread a core
    if needed > free:
        raise Image.DecompressionBombError(
            f"its {width:,} x {height:,} pixels need {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} are free "
            "for one picture: make it smaller"
        )


def _reduce(picture: ImageFile.ImageFile) -> None:
    """Let a JPEG that is too large be decoded at a half, a quarter or an eighth of its size."""
    for scale in (1, 2, 4, 8):
        if picture.width * picture.height <= LARGE * scale**2:
            break
    if scale > 1:
        picture.draft(None, (picture.width // scale, picture.height // scale))


def _to_rgb(picture: Image.Image) -> Image.Image:
    # Pillow would clip all but the darkest of 16 bits to white.
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PPM"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        pixels = np.asarray(picture)
        if not (pixels.min() >= 0 and pixels.max() <= 1):  # nan is refused too
            raise ValueError("its pixels are floats outside of 0 to 1: save it with 8 or 16 bits")
        return Image.fromarray(np.round(pixels * 255).astype(np.uint8)).convert("RGB")
    if picture.mode == "I":
        raise ValueError("its pixels are signed or of 32 bits, and their range is not known: save it with 8 or 16 bits")
    if "transparency" in picture.info or picture.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        drawn = picture.convert("RGBA") if picture.mode != "La" else picture.convert("LA").convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")
    return picture.convert("RGB")


def _turned(picture: Image.Image, rgb: Image.Image) -> Image.Image:
    """The picture as RGB, turned as it is meant to be seen."""
    try:
        turn = TURNS.get(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # of broken EXIF data, whatever Pillow raises; the picture itself is sound
        return rgb
    return rgb if turn is None else rgb.transpose(turn)
