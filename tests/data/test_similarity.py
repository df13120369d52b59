"""The check of single pictures, the values by which they are compared, and their likenesses."""

import hashlib

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from jaxconv.data.images import decode_rgb
from jaxconv.data.similarity import (
    MIN_CONTRAST,
    NEAR,
    SAME_BYTES,
    likenesses,
    perceptual_hash,
    see,
)
from tests.scenes import digit, encode, scene, seen


def test_a_picture_is_reduced_to_its_digest_its_hash_its_thumbnail_and_its_size():
    picture = scene(0)
    data = encode(picture)
    found = see("cats/a.jpg", data, picture)
    assert found[:3] == ("cats/a.jpg", hashlib.sha256(data).digest(), perceptual_hash(picture))
    assert (len(found.thumbnail), found.size) == (32 * 32, (240, 180))
    thumbnail = np.frombuffer(found.thumbnail, np.uint8).reshape(32, 32).astype(int)
    exact = np.asarray(picture.convert("L").resize((32, 32), Image.Resampling.BOX)).astype(int)
    assert np.abs(thumbnail - exact).max() <= 12
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


def test_likenesses_are_those_to_all_pictures_before():
    other = np.arange(1024)[::-1] % 256  # correlates by -1
    pictures = [
        seen("a", 0b0),
        seen("b", 0b111),
        seen("c", None),
        seen("d", 2**64 - 1),
        seen("e", 0b110, b"a", other),  # of the bytes of the first, whatever its hash and its pixels
        seen("f", None, b"c"),
        seen("g", 0b11111),
    ]
    found = [likeness.round(5).tolist() for likeness in likenesses(pictures)]
    assert found == [[], [1], [0, 0], [0, 0, 0], [SAME_BYTES, 0, 0, 0], [0, 0, SAME_BYTES, 0, 0], [1, 1, 0, 0, 0, 0]]
    assert list(likenesses([])) == []


def test_the_hash_only_chooses_and_the_pixels_decide():
    rng = np.random.default_rng(0)
    noise = rng.integers(-60, 61, (40, 1024)) * np.linspace(0, 1, 40)[:, None]
    looks = np.clip(rng.integers(0, 256, 1024) + noise, 0, 255).astype(np.uint8)
    looks = np.concatenate(
        [looks, np.full((1, 1024), 99, np.uint8)]
    )  # of one brightness, which correlates with nothing
    hashes = [int(one) for one in rng.choice([0, 2**NEAR - 1, 2 ** (NEAR + 1) - 1], 41)]
    pictures = [seen(f"{i}", hashes[i], thumbnail=look) for i, look in enumerate(looks)]
    near = alike = 0
    for i, likeness in enumerate(likenesses(pictures)):
        for j, found in enumerate(likeness.tolist()):
            correlation = np.corrcoef(looks[i].astype(float), looks[j].astype(float))[0, 1] if 40 not in (i, j) else 0
            is_near = (hashes[i] ^ hashes[j]).bit_count() <= NEAR
            is_alike = is_near and correlation >= 0.93
            assert found == pytest.approx(correlation if is_alike else 0, abs=1e-4)
            near, alike = near + is_near, alike + is_alike
    assert 0 < alike < near < 41 * 20


@pytest.mark.parametrize(
    "ground, other_ground, limit",
    [(194, 194, 0.93), (195, 195, 0.993), (195, 194, 0.93), (194, 195, 0.93)],  # 195 are 0.19 of the 1,024 pixels
)
def test_the_pixels_of_two_drawings_must_agree_more(ground, other_ground, limit):
    rng = np.random.default_rng(0)
    shades = np.arange(1024) % 254 + 1
    found = []
    for noise in range(1, 80, 2):
        noisy = np.clip(shades + rng.integers(-noise, noise + 1, 1024), 1, 255)
        one, other = (np.where(np.arange(1024) < n, 0, look) for n, look in ((ground, shades), (other_ground, noisy)))
        correlation = np.corrcoef(one, other)[0, 1]
        likeness = [*likenesses([seen("a", 0, thumbnail=one), seen("b", 0, thumbnail=other)])][1].item()
        assert (likeness > 0) == (round(correlation, 4) >= limit)
        found.append(likeness > 0)
    assert 0 < sum(found) < len(found)


@pytest.mark.parametrize("size", [28, 64, 128])
def test_different_digits_are_not_alike_though_their_hashes_are(size):
    digits = [digit(seed, size) for seed in range(20)]
    pictures = [see(f"0/{seed}", b"%d" % seed, picture) for seed, picture in enumerate(digits)]
    pairs = [(one, other) for i, one in enumerate(pictures) for other in pictures[:i]]
    assert sum((one.phash ^ other.phash).bit_count() <= NEAR for one, other in pairs) == 45
    assert not any(likeness.any() for likeness in likenesses(pictures))
    for copy in (encode(digits[3], quality=85), encode(ImageEnhance.Brightness(digits[3]).enhance(0.8), "PNG")):
        again = see("0/copy", copy, decode_rgb(copy))
        assert [*likenesses([*pictures, again])][-1].nonzero()[0].tolist() == [3]


def test_digests_are_compared_whole():
    one, other = bytes(31) + b"1", bytes(31) + b"2"
    first, second, third = likenesses([seen("a", 1, one), seen("b", 9**9, other), seen("c", 1, one)])
    assert (first.tolist(), second.tolist(), third.tolist()) == ([], [0], [SAME_BYTES, 0])
