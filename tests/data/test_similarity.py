"""The digests and hashes by which pictures are compared, and the distances between them."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from jaxconv.data.similarity import INCOMPARABLE, MIN_CONTRAST, NEAR, SAME_BYTES, Seen, distances, perceptual_hash, see
from tests.scenes import encode, scene, seen


def test_a_picture_is_reduced_to_the_digest_of_its_bytes_and_the_hash_of_its_pixels():
    picture = scene(0)
    data = encode(picture)
    assert see("cats/a.jpg", data, picture) == Seen(
        "cats/a.jpg", hashlib.sha256(data).digest(), perceptual_hash(picture)
    )
    assert see("b", b"other", picture).digest == hashlib.sha256(b"other").digest()


def test_hashes_have_64_bits_and_differ_in_about_half_of_them():
    hashes = [perceptual_hash(scene(seed)) for seed in range(8)]
    assert all(0 <= one < 2**64 for one in hashes)
    apart = [(one ^ other).bit_count() for i, one in enumerate(hashes) for other in hashes[:i]]
    assert min(apart) > NEAR and 24 < np.mean(apart) < 40
    assert (hashes[0] ^ perceptual_hash(scene(0).resize((80, 60)))).bit_count() <= NEAR


@pytest.mark.parametrize("spread, has_hash", [(MIN_CONTRAST - 1, False), (MIN_CONTRAST + 1, True)])
def test_a_picture_without_contrast_has_no_hash(spread, has_hash):
    halves = np.full((64, 64, 3), 100 - spread, np.uint8)
    halves[:, 32:] = 100 + spread  # the standard deviation of this brightness is the spread
    assert (perceptual_hash(Image.fromarray(halves)) is not None) == has_hash


def test_distances_are_those_to_all_pictures_before():
    pictures = [
        seen("a", 0b0),
        seen("b", 0b111),
        seen("c", None),
        seen("d", 2**64 - 1),
        seen("e", 0b110, b"a"),  # of the bytes of the first, whatever its hash
        seen("f", None, b"c"),
    ]
    assert [distance.tolist() for distance in distances(pictures)] == [
        [],
        [3],
        [INCOMPARABLE, INCOMPARABLE],
        [64, 61, INCOMPARABLE],
        [SAME_BYTES, 1, INCOMPARABLE, 62],
        [INCOMPARABLE, INCOMPARABLE, SAME_BYTES, INCOMPARABLE, INCOMPARABLE],
    ]
    assert SAME_BYTES < 0 <= NEAR < 64 < INCOMPARABLE
    assert list(distances([])) == []


def test_distances_are_those_of_python_s_own_bits():
    hashes = [int(one) for one in np.random.default_rng(0).integers(0, 2**64, 50, np.uint64)]
    pictures = [seen(str(number), one) for number, one in enumerate(hashes)]
    for i, distance in enumerate(distances(pictures)):
        assert distance.tolist() == [(one ^ hashes[i]).bit_count() for one in hashes[:i]]


def test_digests_are_compared_whole():
    one, other = bytes(31) + b"1", bytes(31) + b"2"
    first, second, third = distances([seen("a", 1, one), seen("b", 1, other), seen("c", 1, one)])
    assert (first.tolist(), second.tolist(), third.tolist()) == ([], [0], [SAME_BYTES, 0])
