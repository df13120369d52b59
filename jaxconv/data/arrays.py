"""Pictures in memory, as records."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32, UInt8

from jaxconv.data.records import Record


class ArraySource:
    """Pictures in memory: images uint8[n, h, w, c], labels int32[n] as indices of `class_names`.

    `fingerprint` is a SHA-256 of sizes, pixels and labels.

    Raises:
        ValueError: the arrays have other shapes or dtypes, or a label is not the index of a class.
    """

    def __init__(
        self, images: UInt8[np.ndarray, "n h w c"], labels: Int32[np.ndarray, " n"], class_names: Sequence[str]
    ) -> None:
        _check_arrays(images, labels, len(class_names))
        self.images, self.labels, self.class_names = images, labels, list(class_names)
        everything = hashlib.sha256(repr(images.shape).encode())
        for array in (images, labels):
            everything.update(np.ascontiguousarray(array).data)
        self.fingerprint = everything.hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Record:
        return {"image": self.images[index], "label": int(self.labels[index])}

    def name(self, index: int) -> str:
        """The index of the picture, as text."""
        return f"number {index}"


def _check_arrays(images: np.ndarray, labels: np.ndarray, classes: int) -> None:
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"images are {images.dtype}{list(images.shape)}, not uint8[n, h, w, c]")
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise ValueError(f"labels are {labels.dtype}{list(labels.shape)}, not int32[{len(images)}]")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise ValueError(f"label {wrong[0]} is the index of none of {classes} classes")
