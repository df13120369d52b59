"""Similarity of pictures: perceptual hashes choose which pictures to compare, and their pixels decide."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import imagehash
import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

# Two pictures are compared if their hashes differ in at most this many of 64 bits. So do 97% of photos and their copies
# that were stored anew, halved, made a fifth brighter, or trimmed by 1% on each side. But so do many of MNIST's digits.
NEAR = 6
# The smallest contrast of a picture with a hash: the standard deviation of its brightness, on a scale of 0 to 255.
# Noise would decide the hash of a plainer picture. Photos have a contrast of more than 14.
MIN_CONTRAST = 4
SIDE = 32  # of a thumbnail, in pixels
# Two near pictures look alike if their thumbnails correlate by at least this. Photos and their copies correlate by 0.98
# (stored anew, halved) or 0.95 (a fifth brighter, trimmed by 1%). Among the 4,000 photos of cats and dogs, the two true
# pairs correlate by 0.997; no other pair is near. In TrashNet, different sheets of paper correlate by up to 0.996.
ALIKE = 0.93
# The same for two drawings, because their plain ground correlates too. Among MNIST's 60,000 digits, 124,153 near pairs
# correlate by 0.93, but 28 by 0.99 and 1 by 0.993. Digits stored anew or a fifth brighter correlate by 0.995.
ALIKE_DRAWN = 0.993
# A picture is a drawing if this share of its thumbnail has exactly one brightness. Digits of MNIST have 0.56 and more,
# at any size and as JPEGs too, and 8x8 digits have 0.19 and more. One photo in a hundred has 0.17 or more.
GROUND = 0.19

SAME_BYTES = 2.0  # the likeness of identical files, more than any correlation


class Seen(NamedTuple):
    """A decoded picture, reduced to the values by which it is compared with others.

    Attributes:
        path: the name of its file, relative to the folder of pictures.
        digest: the SHA-256 digest of the file's bytes.
        phash: the perceptual hash, 64 bits; None if the picture is too plain to have one.
        thumbnail: the picture in grey, as the bytes of a uint8[32, 32].
        size: the width and height in pixels.
    """

    path: str
    digest: bytes
    phash: int | None
    thumbnail: bytes
    size: tuple[int, int]


def see(path: str, data: bytes, picture: Image.Image) -> Seen:
    """Reduce a picture to the values by which it is compared with others.

    Args:
        path: the name of its file.
        data: the file's bytes.
        picture: the same bytes, decoded, so that nothing is decoded twice.
    """
    grey = picture.convert("L")
    thumbnail = grey.resize((SIDE, SIDE), reducing_gap=2).tobytes()
    return Seen(path, hashlib.sha256(data).digest(), perceptual_hash(grey), thumbnail, picture.size)


def perceptual_hash(picture: Image.Image) -> int | None:
    """Compute the 64-bit perceptual hash of a picture; None if its contrast is below `MIN_CONTRAST`."""
    grey = picture.convert("L").resize((64, 64), reducing_gap=2)
    if np.asarray(grey).std() < MIN_CONTRAST:
        return None
    return int(str(imagehash.phash(grey)), 16)


def thumbnails(pictures: Sequence[Seen]) -> UInt8[np.ndarray, "n pixels"]:
    """The thumbnails of pictures as rows of pixels."""
    return np.frombuffer(b"".join(seen.thumbnail for seen in pictures), np.uint8).reshape(len(pictures), SIDE**2)


def likenesses(pictures: Sequence[Seen]) -> Iterator[Float32[np.ndarray, " earlier"]]:
    """Compare each picture with all pictures before it.

    The hash only chooses the pictures whose pixels are compared.

    Yields:
        For picture i, an array float32[i] of its likeness to the pictures 0 to i - 1: `SAME_BYTES` for a picture of the
        same digest, the correlation of the thumbnails for one that looks alike, and 0 for any other.
    """
    numbers: dict[bytes, int] = {}
    digest = np.array([numbers.setdefault(seen.digest, len(numbers)) for seen in pictures])
    phash = np.array([seen.phash or 0 for seen in pictures], np.uint64)
    plain = np.array([seen.phash is None for seen in pictures])
    pixels = thumbnails(pictures)
    rows, limit = _standardized(pixels), np.where(_drawn(pixels), ALIKE_DRAWN, ALIKE).astype(np.float32)
    for i in range(len(pictures)):
        same = digest[:i] == digest[i]
        differs = np.bitwise_count(phash[:i] ^ phash[i]) > NEAR
        near = np.flatnonzero(~(differs | same | plain[:i] | plain[i]))
        correlation = (rows[near] @ rows[i]).round(4)  # else processors would choose differently among equals
        likeness = np.where(same, np.float32(SAME_BYTES), np.float32(0))
        likeness[near] = np.where(correlation >= np.minimum(limit[near], limit[i]), correlation, 0)
        yield likeness


def _standardized(pixels: UInt8[np.ndarray, "n pixels"]) -> Float32[np.ndarray, "n pixels"]:
    """The pixels, so that the product of two rows is their correlation; zeros for a row of one brightness."""
    rows = pixels - pixels.mean(1, np.float32, keepdims=True)
    rows /= np.maximum(np.sqrt(np.einsum("ij,ij->i", rows, rows)), np.float32(1))[:, None]
    return rows


def _drawn(pixels: UInt8[np.ndarray, "n pixels"]) -> Bool[np.ndarray, " n"]:
    """Whether each picture is a drawing: much of its thumbnail has exactly one brightness."""
    most = [np.bincount(row, minlength=1).max() for row in pixels]
    return np.array(most, np.int64) >= GROUND * SIDE**2
