"""MNIST through tensorflow-datasets: its four files are prepared once, without TensorFlow, and read as records."""

import contextlib
import gzip
import hashlib
import io
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jaxconv.data.arrays import ArraySource
from jaxconv.data.downloads import fetch
from jaxconv.data.records import Splits
from jaxconv.runtime.errors import InputError

URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
VERSION = "3.0.1"  # of the data set in tensorflow-datasets
UNFINISHED = ".unfinished-"


class File(NamedTuple):
    """A published file: its number of bytes, its checksum, and the checksum of its unpacked content."""

    size: int
    sha256: str
    content_md5: str


FILES = {
    "train-images-idx3-ubyte.gz": File(
        9_912_422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "6bbc9ace898e44ae57da46a324031adb",
    ),
    "train-labels-idx1-ubyte.gz": File(
        28_881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "a25bea736e30d166cdddb491f175f624",
    ),
    "t10k-images-idx3-ubyte.gz": File(
        1_648_877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "2646ac647ad5339dbf082846283269ea",
    ),
    "t10k-labels-idx1-ubyte.gz": File(
        4_542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "27ae3e4e09519cfbb04c329615203637",
    ),
}


def read_mnist(data_dir: Path, files: Path | None = None) -> Splits:
    """Read MNIST: 60,000 training digits and 10,000 test digits, {"image": uint8[28, 28, 1], "label": 0 to 9}.

    They are read from `data_dir`/mnist/3.0.1, in the layout of tensorflow-datasets. If this folder does not exist, it
    is first made, completely or not at all, from the four original .gz files. These are in the folder `files`, or are
    downloaded (11.1 MiB). MNIST has no validation split and the book makes none, so `validation` is `test`.

    Raises:
        InputError: a file is missing, damaged or not from MNIST, or the download fails, or the prepared folder is not
            complete.
    """
    prepared = data_dir / "mnist" / VERSION
    if not os.path.exists(prepared):  # Path.exists raises in a closed folder
        _prepare(prepared, files)
    elif files is not None:
        print(f"{prepared} is there already: --files {files} is not read", flush=True)
    train, test = (_read(prepared, split) for split in ("train", "test"))
    return Splits(train, validation=test, test=test)


def _read(prepared: Path, split: str) -> ArraySource:
    import tensorflow_datasets as tfds

    try:
        source = tfds.data_source(f"mnist:{VERSION}", split=split, data_dir=prepared.parents[1])
        records = source.__getitems__(range(len(source)))
        images = np.stack([record["image"] for record in records])
        labels = np.array([record["label"] for record in records], np.int32)
        return ArraySource(images, labels, source.dataset_info.features["label"].names)
    except (ImportError, MemoryError):
        raise
    # A missing description, another format, and cut or flipped bytes raise different exceptions.
    except Exception as error:
        raise InputError(
            f"{prepared} is damaged or not complete ({type(error).__name__}): move it away, and MNIST is prepared anew"
        ) from error


def _prepare(prepared: Path, files: Path | None) -> None:
    contents = None if files is None else _unpack(files)  # before any folder is made
    print(f"preparing MNIST in {prepared}", flush=True)
    try:
        prepared.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(prepared.parent / ".lock"):
            if os.path.exists(prepared):  # another process was faster
                return
            for left_by_a_kill in prepared.parent.glob(f"{UNFINISHED}*"):
                shutil.rmtree(left_by_a_kill)
            with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=prepared.parent) as temp:
                folder = Path(temp)
                _build(contents or _unpack(_download(folder)), folder)
                (folder / "mnist" / VERSION).replace(prepared)
    except InputError:
        raise
    except (OSError, RuntimeError) as error:  # tensorflow-datasets raises RuntimeError if the disk is full
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(f"{prepared} cannot be written ({reason}): make room there, or run elsewhere") from error


def _download(folder: Path) -> Path:
    cure = "try again later, or name the folder of MNIST's four .gz files with --files"
    for name, known in FILES.items():
        fetch(URL + name, folder / name, size=known.size, sha256=known.sha256, cure=cure)
    return folder


def _unpack(folder: Path) -> dict[str, bytes]:
    """The content of the four files. Its checksum is checked, because packing again changes a packed file."""
    contents = {}
    for name, known in FILES.items():
        path, cure = folder / name, "--files takes the folder of MNIST's four original .gz files"
        if not os.path.isfile(path):
            raise InputError(f"{path} is missing: {cure}")
        try:
            contents[name] = gzip.decompress(path.read_bytes())
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path} cannot be unpacked ({error}): {cure}") from error
        if hashlib.md5(contents[name]).hexdigest() != known.content_md5:
            raise InputError(f"{path} does not hold what MNIST's file of that name holds: {cure}")
    return contents


def _build(contents: dict[str, bytes], data_dir: Path) -> None:
    """Write the data set as tensorflow-datasets does. Its own builder would need TensorFlow."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.image_classification import mnist

    class Builder(mnist.MNIST, skip_registration=True):  # type: ignore[call-arg]  # it has no types
        name = "mnist"

        def _split_generators(self, manager: Any) -> dict[str, Any]:
            return {"train": self._generate_examples("train"), "test": self._generate_examples("t10k")}

        def _generate_examples(self, part: str) -> Iterator[tuple[int, dict[str, Any]]]:
            digits = _images(contents[f"{part}-images-idx3-ubyte.gz"])
            labels = contents[f"{part}-labels-idx1-ubyte.gz"][8:]
            for index, (digit, label) in enumerate(zip(digits, labels, strict=True)):
                yield index, {"image": Image.fromarray(digit), "label": label}

    tfds.display_progress_bar(sys.stderr.isatty())
    with contextlib.redirect_stdout(io.StringIO()):  # it would name the temporary folder
        Builder(data_dir=data_dir, file_format="array_record").download_and_prepare()


def _images(content: bytes) -> UInt8[np.ndarray, "n h w"]:
    """The pictures of an IDX file: a magic number, three sizes, and the pixels."""
    sizes = np.frombuffer(content, ">i4", count=4)[1:]
    return np.frombuffer(content, np.uint8, offset=16).reshape(sizes)
