"""Labelled pictures on disk as random-access records: {"image": uint8[h, w, c], "label": int}."""

import contextlib
import hashlib
import io
import operator
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol, TypedDict, runtime_checkable

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from jaxconv.errors import InputError
from jaxconv.machine import available_memory, usable_cores

FILTERS = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR}
SPLITS = ("train", "validation", "test")

# Photos alone (MPO counts as JPEG): Pillow knows many more kinds, and for EPS it starts another program, Ghostscript.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 89_478_485  # from where on Pillow warns; it refuses twice as many
MAX_PIXELS_A_BYTE = 10_000  # photos have under 100, plain drawings under 1,000; damaged headers have any
MAX_SIDE = 65_535  # the longest that JPEG can have; to resize a much longer one takes gigabytes


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


def decode(data: bytes, image_size: tuple[int, int], interpolation: str = "nearest") -> UInt8[np.ndarray, "h w 3"]:
    """A picture file's bytes as RGB, resized to (height, width) without keeping the aspect ratio, as Keras does.

    Grey, palette and CMYK pictures are converted; alpha is dropped and the EXIF orientation ignored, as in Keras.
    `nearest` is Keras's default filter. Raises what `decode_rgb` raises.
    """
    height, width = image_size
    return np.asarray(decode_rgb(data).resize((width, height), FILTERS[interpolation]))


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


class ArraySource:
    """Pictures that are in memory already: images uint8[n, h, w, c], labels int32[n] as indices of `class_names`.

    `fingerprint` is a SHA-256 over sizes, pixels and labels.

    Raises:
        ValueError: the arrays have other shapes or dtypes, or a label is the index of no class.
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
        """Its number, from 0 on."""
        return f"number {index}"


def _check_arrays(images: np.ndarray, labels: np.ndarray, classes: int) -> None:
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"images are {images.dtype}{list(images.shape)}, not uint8[n, h, w, c]")
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise ValueError(f"labels are {labels.dtype}{list(labels.shape)}, not int32[{len(images)}]")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise ValueError(f"label {wrong[0]} is the index of none of {classes} classes")


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
        self.image_size, self.interpolation = image_size, interpolation
        self._folder = Path(root) / split
        self.class_names, files = list_classes(self._folder)
        self.paths = [path for paths in files for path in paths]
        self._labels = [label for label, paths in enumerate(files) for _ in paths]
        shape = (len(self.paths), *image_size, 3)
        self._store = np.empty(shape, np.uint8) if int(np.prod(shape)) <= available_memory() // 2 else None
        self.fingerprint = self._read_all()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Record:
        index = range(len(self))[operator.index(index)]
        image = self._read(index)[0] if self._store is None else self._store[index]
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
            return os.fsencode(self.name(index)) + digest

        everything = hashlib.sha256()
        # Pillow decodes outside the interpreter lock.
        with quiet_pillow(), ThreadPoolExecutor(usable_cores()) as pool:
            parts = pool.map(read, range(len(self)))
            bar = tqdm(parts, f"reading {self._folder}", len(self), unit="picture", leave=False, disable=None, delay=2)
            try:
                for part in bar:
                    everything.update(part)
            except InputError:
                pool.shutdown(cancel_futures=True)
                raise
        return everything.hexdigest()


class Splits(NamedTuple):
    """The three splits of a data set."""

    train: Source
    validation: Source
    test: Source


def read_splits(root: str | os.PathLike[str], image_size: tuple[int, int] = (150, 150)) -> Splits:
    """The train, validation and test folders under `root`.

    Raises:
        InputError: as `SplitDirectory`, or the splits do not hold the same classes.
    """
    train, validation, test = (SplitDirectory(root, split, image_size) for split in SPLITS)
    splits = Splits(train, validation, test)
    for name, split in zip(SPLITS, splits, strict=True):
        if split.class_names != splits.train.class_names:
            raise InputError(
                f"{Path(root) / name} holds the classes {', '.join(split.class_names)}, but train holds "
                f"{', '.join(splits.train.class_names)}: every split needs the same class folders"
            )
    return splits


def list_classes(folder: Path) -> tuple[list[str], list[list[Path]]]:
    """Sorted class names, and the sorted files of each class; hidden files and folders are passed over."""
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist: a data set has the folders {', '.join(SPLITS)}")
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(classes) < 2:
        raise InputError(f"{folder} has {len(classes)} class folders: give it one folder of pictures a class")
    files = [sorted(path for path in c.rglob("*") if path.is_file() and not _hidden(path, c)) for c in classes]
    for class_folder, paths in zip(classes, files, strict=True):
        if not paths:
            raise InputError(f"{class_folder} holds no pictures: fill it or remove it")
    return [c.name for c in classes], files


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
