"""Pictures checked one by one: the fault of a bad one, or what a good one looks like."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

from jaxconv.data.folders import find_pictures, is_broken_link
from jaxconv.data.images import FORMATS, decode_rgb, is_picture, quiet_pillow, reason
from jaxconv.data.similarity import Seen, see
from jaxconv.runtime.errors import InputError
from jaxconv.runtime.machine import usable_cores
from jaxconv.runtime.signals import interruptible


class Finding(NamedTuple):
    """A file, and the fault that was found in it.

    Attributes:
        path: the name of the file, relative to the folder of pictures.
        kind: one of `image_audit.KINDS`.
        detail: the fault in words.
        of: the name of the file that this one looks like; None if it is at fault by itself.
    """

    path: str
    kind: str
    detail: str
    of: str | None = None


def examine(root: Path, paths: Iterable[Path] | None = None) -> list[Finding | Seen]:
    """Check pictures one by one, as `check_file` does.

    Args:
        root: a folder.
        paths: pictures in it; by default all files at any depth whose names are those of pictures.

    Returns:
        A result for each picture, sorted by name.

    Raises:
        InputError: there are no pictures, or a folder cannot be listed.
    """
    found = find_pictures(root) if paths is None else paths
    names = sorted(path.relative_to(root).as_posix() for path in found)
    if not names:
        raise InputError(f"{root} holds no pictures: name a folder of pictures")
    # After an interrupt, the pool would first wait for all remaining files; `interruptible` ends the process at once.
    with quiet_pillow(), ThreadPoolExecutor(usable_cores()) as pool, interruptible():
        parts = pool.map(lambda name: check_file(root, name), names)
        return list(tqdm(parts, f"checking {root}", len(names), unit="file", leave=False, disable=None, delay=2))


def check_file(root: Path, name: str) -> Finding | Seen:
    """Check one file by itself.

    Returns:
        A finding if the file is at fault, else the picture, ready to be compared with others. Faults raise nothing,
        whatever bytes the file holds.
    """
    if is_broken_link(root / name):
        return Finding(name, "broken", "a link to a file that does not exist")
    try:
        data = (root / name).read_bytes()
        if not data:
            return Finding(name, "empty", "0 bytes")
        if not is_picture(data):
            return Finding(name, "not an image", f"begins like none of {', '.join(FORMATS)}")
        picture = decode_rgb(data)
        if picture.getcolors(1):  # getcolors returns None if there are more colours than 1
            return Finding(name, "blank", "one colour all over")
        return see(name, data, picture)
    except Image.DecompressionBombError as error:
        return Finding(name, "too large", reason(error))
    except MemoryError:  # the machine's fault, not the file's
        raise
    # On damaged files, Pillow's plugins raise OSError, ValueError, SyntaxError, struct.error and more.
    except Exception as error:
        return Finding(name, "broken", reason(error))
