"""MNIST in small: four files of the same form, of digits that are easy to tell apart."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from jaxconv.data import mnist

COUNTS = {"train": 320, "t10k": 40}  # the first in whole batches of 20 and of 64: another size is compiled again


def pictures(part: str) -> tuple[np.ndarray, np.ndarray]:
    """A bright block whose place is the label, and noise; uint8[n, 28, 28] and uint8[n]."""
    rng = np.random.default_rng(len(part))
    labels = np.arange(COUNTS[part], dtype=np.uint8) % 10
    images = rng.integers(0, 60, (len(labels), 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4 + 5 * (label // 3) : 8 + 5 * (label // 3), 6 + 6 * (label % 3) : 11 + 6 * (label % 3)] = 255
    return images, labels


def write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the four files, and let jaxconv.data.mnist take them for MNIST's."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {}
    for part in COUNTS:
        images, labels = pictures(part)
        contents = {
            f"{part}-images-idx3-ubyte.gz": np.array([2051, *images.shape], ">i4").tobytes() + images.tobytes(),
            f"{part}-labels-idx1-ubyte.gz": np.array([2049, len(labels)], ">i4").tobytes() + labels.tobytes(),
        }
        for name, content in contents.items():
            packed = gzip.compress(content)
            (folder / name).write_bytes(packed)
            md5 = hashlib.md5(content).hexdigest()
            known[name] = mnist.File(len(packed), hashlib.sha256(packed).hexdigest(), md5)
    monkeypatch.setattr(mnist, "FILES", known)
    return folder
