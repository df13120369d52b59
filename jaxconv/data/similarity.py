"""Similarity of pictures: digests of their files, perceptual hashes of their pixels, and distances between hashes."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import imagehash
import numpy as np
from jaxtyping import Int8
from PIL import Image

# Two pictures are near-duplicates if their hashes differ in at most this many of 64 bits. Among the book's 4,000
# photos, two pairs differ in 0 bits, and each pair shows the same photo. No pair differs in 1 to 9 bits. The pairs that
# differ in 10 or 12 bits all show different photos.
NEAR = 6
# The smallest contrast of a picture with a hash: the standard deviation of its brightness, on a scale of 0 to 255.
# Noise would decide the hash of a plainer picture. Photos have a contrast of more than 14.
MIN_CONTRAST = 4

SAME_BYTES = -1  # the distance between identical files, less than that between any two different files
INCOMPARABLE = 65  # the distance to a picture without a hash, more than that between any two hashes


class Seen(NamedTuple):
    """A decoded picture, reduced to the values by which it is compared with others.

    Attributes:
        path: the name of its file, relative to the folder of pictures.
        digest: the SHA-256 digest of the file's bytes.
        phash: the perceptual hash, 64 bits; None if the picture is too plain to have one.
    """

    path: str
    digest: bytes
    phash: int | None


def see(path: str, data: bytes, picture: Image.Image) -> Seen:
    """Reduce a picture to the values by which it is compared with others.

    Args:
        path: the name of its file.
        data: the file's bytes.
        picture: the same bytes, decoded, so that nothing is decoded twice.
    """
    return Seen(path, hashlib.sha256(data).digest(), perceptual_hash(picture))


def perceptual_hash(picture: Image.Image) -> int | None:
    """Compute the 64-bit perceptual hash of a picture; None if its contrast is below `MIN_CONTRAST`."""
    grey = picture.convert("L").resize((64, 64), reducing_gap=2)
    if np.asarray(grey).std() < MIN_CONTRAST:
        return None
    return int(str(imagehash.phash(grey)), 16)


def distances(pictures: Sequence[Seen]) -> Iterator[Int8[np.ndarray, " earlier"]]:
    """Compare each picture with all pictures before it.

    Two pictures look alike if their distance is `NEAR` or less.

    Yields:
        For picture i, an array int8[i] of its distances to the pictures 0 to i - 1: `SAME_BYTES` to a picture of the
        same digest, else `INCOMPARABLE` if one of the two has no hash, else the number of bits that differ, 0 to 64.
    """
    numbers: dict[bytes, int] = {}
    digest = np.array([numbers.setdefault(seen.digest, len(numbers)) for seen in pictures])
    phash = np.array([seen.phash or 0 for seen in pictures], np.uint64)
    plain = np.array([seen.phash is None for seen in pictures])
    for i in range(len(pictures)):
        distance = np.bitwise_count(phash[:i] ^ phash[i]).astype(np.int8)
        distance[plain[:i] | plain[i]] = INCOMPARABLE
        distance[digest[:i] == digest[i]] = SAME_BYTES
        yield distance
