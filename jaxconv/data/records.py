"""Labelled pictures on disk as random-access records: {"image": uint8[h, w, c], "label": int}."""

import hashlib
import operator
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol, TypedDict, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from jaxconv.config import SPLITS
from jaxconv.data.images import FILTERS, decode, quiet_pillow, reason
from jaxconv.runtime.errors import InputError
from jaxconv.runtime.files import below
from jaxconv.runtime.machine import available_memory, usable_cores


class Record(TypedDict):
    """One picture and the index of its class in `class_names`."""

    image: UInt8[np.ndarray, "h w c"]
    label: int


@runtime_checkable
class Source(Protocol):
    """What the batches are made from: records by position, and the names of their labels."""

    class_names: list[str]
    fingerprint: str

    def __len__(self) -> int:
        """The number of records."""

    def __getitem__(self, index: int) -> Record:
        """The record at a position in [0, len)."""

    def name(self, index: int) -> str:
        """What people know a record by."""


class SplitDirectory:
    """One split of a folder of pictures: every file of `root/split/<class>/`, classes and files sorted by name.

    Reading everything once at construction is what makes a bad file fail before training starts. The decoded
    pictures stay in memory as one uint8 store when that takes at most half of what is free (2,000 at 150x150 are
    135 MB); a larger set is decoded again at each access.

    Attributes: `class_names` in label order; `paths` in record order; `fingerprint`, a SHA-256 over names and bytes.

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
    ) -> None:
        if interpolation not in FILTERS:
            raise ValueError(f"interpolation {interpolation!r} is none of {', '.join(FILTERS)}")
        self.root, self.image_size, self.interpolation = Path(root), image_size, interpolation
        self._folder = Path(root) / split
        self.class_names, files = list_classes(self._folder)
        self.paths = [path for paths in files for path in paths]
        self._labels = [label for label, paths in enumerate(files) for _ in paths]
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
            return {"image": self._store[index], "label": self._labels[index]}
        image, digest = self._read(index)
        if digest != self._digests[index]:
            raise InputError(f"{self.paths[index]} was changed after it was first read: bring it back, or train anew")
        return {"image": image, "label": self._labels[index]}

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
            raise InputError(f"{path} {what}: replace it or move it out of the folder") from error

    def _read_all(self) -> str:
        def read(index: int) -> bytes:
            image, digest = self._read(index)
            if self._store is not None:
                self._store[index] = image
            return digest

        everything = hashlib.sha256()
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
    """The three splits of a data set."""

    train: Source
    validation: Source
    test: Source

    @property
    def class_names(self) -> list[str]:
        """In label order."""
        return self.train.class_names


def read_splits(root: str | os.PathLike[str], image_size: int | tuple[int, int] = 150) -> Splits:
    """The train, validation and test folders under `root`; `image_size` is the side, or (height, width), in pixels.

    Raises:
        InputError: as `SplitDirectory`, or the splits do not hold the same classes.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    train, validation, test = (SplitDirectory(root, split, size) for split in SPLITS)
    splits = Splits(train, validation, test)
    for name, split in zip(SPLITS, splits, strict=True):
        if split.class_names != splits.train.class_names:
            raise InputError(
                f"{Path(root) / name} holds the classes {', '.join(split.class_names)}, but train holds "
                f"{', '.join(splits.train.class_names)}: every split needs the same class folders"
            )
    return splits


def list_classes(folder: Path) -> tuple[list[str], list[list[Path]]]:
    """List the class folders of a folder, and the files of each class at any depth.

    Hidden files and folders are passed over. Linked folders are included, except links to a folder that they lie in.

    Returns:
        The sorted names of the classes, and for each class its sorted files.

    Raises:
        InputError: the folder does not exist, has fewer than two classes, or a class without files; or a folder in it
            cannot be listed.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist: a data set has the folders {', '.join(SPLITS)}")
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(classes) < 2:
        raise InputError(f"{folder} has {len(classes)} class folders: give it one folder of pictures a class")
    for entry in classes:
        if not entry.name.isprintable():  # neither figures nor tables could show it
            raise InputError(f"{folder} has a class folder {entry.name!a}: give it a name that can be printed")
    files: dict[str, list[Path]] = {class_folder.name: [] for class_folder in classes}
    for path in sorted(below(folder)):
        name, *inside = path.relative_to(folder).parts
        if inside:
            files[name].append(path)
    for class_folder in classes:
        if not files[class_folder.name]:
            raise InputError(f"{class_folder} holds no pictures: fill it or remove it")
    return list(files), list(files.values())
