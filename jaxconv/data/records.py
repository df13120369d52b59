"""Labelled pictures on disk as random-access records: {"image": uint8[h, w, c], "label": int}."""

import hashlib
import operator
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol, TypedDict, runtime_checkable

import numpy as np
from jaxtyping import Int32, UInt8
from tqdm import tqdm

from jaxconv.data.classes import Listing, class_difference
from jaxconv.data.folders import is_broken_link
from jaxconv.data.images import FILTERS, decode, quiet_pillow, reason
from jaxconv.data.layout import find_splits, list_split
from jaxconv.runtime.errors import InputError
from jaxconv.runtime.machine import available_memory, usable_cores

DECODING = b"turned by EXIF, laid on white"  # a part of fingerprints, to change when `decode` gives other pixels


class Record(TypedDict):
    """One picture and the index of its class in `class_names`."""

    image: UInt8[np.ndarray, "h w c"]
    label: int


@runtime_checkable
class Source(Protocol):
    """What the batches are made from: records by position, their labels, and the names of the labels."""

    class_names: list[str]
    labels: Int32[np.ndarray, " n"]
    fingerprint: str

    def __len__(self) -> int:
        """The number of records."""

    def __getitem__(self, index: int) -> Record:
        """The record at a position in [0, len)."""

    def name(self, index: int) -> str:
        """What people know a record by."""


class SplitDirectory:
    """One split of a folder of pictures: classes and files sorted by name.

    The files are those of `listing` or, without it, those that `layout.list_split` finds.

    Reading everything once at construction is what makes a bad file fail before training starts. The decoded
    pictures stay in memory as one uint8 store when that takes at most half of what is free (2,000 at 150x150 are
    135 MB); a larger set is decoded again at each access.

    Attributes: `class_names` in label order; `paths` and `labels`, int32[n], in record order; `listing`, the classes
    and files that were found; `fingerprint`, a SHA-256 over names and bytes.

    Raises:
        InputError: the split or its classes are missing or empty, or a file is not a picture that can be decoded.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        image_size: tuple[int, int] = (150, 150),
        *,
        interpolation: str = "nearest",
        listing: Listing | None = None,
    ) -> None:
        if interpolation not in FILTERS:
            raise ValueError(f"interpolation {interpolation!r} is none of {', '.join(FILTERS)}")
        self.root, self.image_size, self.interpolation = Path(root), image_size, interpolation
        self.listing = list_split(root, split) if listing is None else listing
        self._folder, self.class_names = self.listing.folder, self.listing.class_names
        self.paths = [path for paths in self.listing.files for path in paths]
        self.labels = np.repeat(np.arange(len(self.class_names), dtype=np.int32), [*map(len, self.listing.files)])
        shape = (len(self.paths), *image_size, 3)
        self._store = np.empty(shape, np.uint8) if int(np.prod(shape)) <= available_memory() // 2 else None
        if self._store is None:
            print(f"{self._folder} does not fit the memory: its pictures are decoded at every access", flush=True)
        self._digests: list[bytes] = []  # of the files, in record order
        self.fingerprint = self._read_all()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Record:
        index = range(len(self))[operator.index(index)]
        if self._store is not None:
            return {"image": self._store[index], "label": int(self.labels[index])}
        image, digest = self._read(index)
        if digest != self._digests[index]:
            raise InputError(f"{self.paths[index]} was changed after it was first read: bring it back, or train anew")
        return {"image": image, "label": int(self.labels[index])}

    def name(self, index: int) -> str:
        """The path of its file in the split's folder."""
        return self.paths[index].relative_to(self._folder).as_posix()

    @property
    def decoded_bytes(self) -> int:
        """What the decoded pictures take in memory; 0 if each is decoded at its access."""
        return 0 if self._store is None else self._store.nbytes

    def _read(self, index: int) -> tuple[UInt8[np.ndarray, "h w 3"], bytes]:
        """A record's picture, and the digest of its file."""
        path, data = self.paths[index], None
        try:
            data = path.read_bytes()
            return decode(data, self.image_size, self.interpolation), hashlib.sha256(data).digest()
        except MemoryError:
            raise
        # Pillow's plugins raise OSError, ValueError, SyntaxError, struct.error and more on damaged files.
        except Exception as error:
            what = "is empty" if data == b"" else f"is not a picture that can be decoded ({reason(error)})"
            what = "is a link to a file that does not exist" if is_broken_link(path) else what
            raise InputError(f"{path} {what}: replace it or move it out of the folder") from error

    def _read_all(self) -> str:
        def read(index: int) -> bytes:
            image, digest = self._read(index)
            if self._store is not None:
                self._store[index] = image
            return digest

        everything = hashlib.sha256(DECODING)
        # Pillow decodes outside the interpreter lock.
        with quiet_pillow(), ThreadPoolExecutor(usable_cores()) as pool:
            found = pool.map(read, range(len(self)))
            bar = tqdm(found, f"reading {self._folder}", len(self), unit="picture", leave=False, disable=None, delay=2)
            try:
                for index, digest in enumerate(bar):
                    self._digests.append(digest)
                    everything.update(os.fsencode(self.name(index)) + digest)
            except InputError:
                pool.shutdown(cancel_futures=True)
                raise
        return everything.hexdigest()


class Splits(NamedTuple):
    """The splits of a data set. A set without test pictures has None for `test`."""

    train: Source
    validation: Source
    test: Source | None = None

    @property
    def class_names(self) -> list[str]:
        """In label order."""
        return self.train.class_names

    def named(self) -> dict[str, Source]:
        """The splits that are there, by name."""
        return {name: split for name, split in self._asdict().items() if split is not None}


def read_splits(
    root: str | os.PathLike[str], image_size: int | tuple[int, int] = 150, *, interpolation: str = "nearest"
) -> Splits:
    """Read the train, validation and test folders under `root`, and print how many pictures were found.

    Without a validation folder, a fifth of the training pictures is held out; without a test folder, `test` is None.
    `image_size` is the side, or (height, width), in pixels. See `jaxconv.data.layout` for the names of the folders.

    Raises:
        InputError: as `SplitDirectory`, or the splits do not hold the same classes.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    layout = find_splits(root)
    for line in layout.describe():
        print(f"{root}: {line}", flush=True)
    listings = {name: list_split(root, name) for name in layout.splits}
    for listing in listings.values():
        if different := class_difference(listing.class_names, listings["train"].class_names, "train"):
            raise InputError(f"{listing.folder} {different}: every split needs the same class folders")
    for name, listing in listings.items():
        print(listing.describe(f"in {name}"), flush=True)
    return read_listings(root, listings, size, interpolation=interpolation)


def read_listings(
    root: str | os.PathLike[str], listings: Mapping[str, Listing], image_size: tuple[int, int], *, interpolation: str
) -> Splits:
    """Read the pictures of listings by the names of their splits, such as those of a division of a folder.

    Raises:
        InputError: a file is not a picture that can be decoded.
    """
    return Splits(
        **{
            name: SplitDirectory(root, name, image_size, interpolation=interpolation, listing=listing)
            for name, listing in listings.items()
        }
    )
