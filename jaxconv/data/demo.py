"""A folder of drawn cats and dogs, so that everything runs without a download."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from jaxconv.data.demo_drawing import draw
from jaxconv.runtime.errors import InputError

CLASSES = ("cat", "dog")  # in label order
COUNTS = {"train": 1000, "validation": 250, "test": 250}  # pictures of each class
NOTE = "README.txt"  # written last: it marks a complete folder of these pictures
DRAWN_BY = "jaxconv.data.demo, drawing version 1"
DRAWN_BY_BEFORE = "jaxconv.demo, first edition"  # the same pictures, in folders of earlier versions of jaxconv


def write(folder: Path, counts: Mapping[str, int] = COUNTS) -> Path:
    """Draw `counts[split]` pictures of each class as folder/split/cats/cat.0.jpg and so on, once; returns the folder.

    A complete folder of these pictures is used as it is.

    Raises:
        InputError: the folder has other content, or cannot be written; its content is unchanged.
    """
    if not folder.exists():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as unfinished:
                _write_all(Path(unfinished, "demo"), counts)
                Path(unfinished, "demo").rename(folder)
        except OSError as error:
            if not folder.exists():  # else another process was faster
                raise InputError(f"{folder}: cannot write the drawn pictures there ({error.strerror})") from error
    _check(folder, counts)
    return folder


def _write_all(folder: Path, counts: Mapping[str, int]) -> None:
    pictures = _pictures(counts)
    for name, key in tqdm(pictures.items(), "drawing cats and dogs", disable=None, delay=1, leave=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(key[1], np.random.default_rng(key))).save(folder / name, quality=90)
    (folder / NOTE).write_bytes(_note(counts))


def _pictures(counts: Mapping[str, int]) -> dict[str, tuple[int, int, int]]:
    """The path of each picture in the folder, and the seed of its drawing: split, label and number."""
    return {
        f"{split}/{name}s/{name}.{number}.jpg": (list(COUNTS).index(split), label, number)
        for split, count in counts.items()
        for label, name in enumerate(CLASSES)
        for number in range(count)
    }


def _check(folder: Path, counts: Mapping[str, int]) -> None:
    note = folder / NOTE
    if not note.is_file() or note.read_bytes() not in (_note(counts), _note(counts, DRAWN_BY_BEFORE)):
        raise InputError(
            f"{folder}: is there already and does not hold these drawn pictures; remove it or name another"
        )
    missing = [name for name in _pictures(counts) if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder}: {missing[0]} is missing; remove the folder, and it is drawn again")


def _note(counts: Mapping[str, int], drawn_by: str = DRAWN_BY) -> bytes:
    listed = ", ".join(f"{split} {count}" for split, count in counts.items())
    return f"Cats and dogs drawn by {drawn_by}. Pictures of each: {listed}.\n".encode()
