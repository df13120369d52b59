"""Audit of a folder of pictures: files that cannot be decoded, useless pictures, and pictures that look alike."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from jaxconv.config import SPLITS
from jaxconv.data.images import FORMATS, decode_rgb, quiet_pillow, reason
from jaxconv.data.similarity import INCOMPARABLE, NEAR, SAME_BYTES, Seen, distances, see
from jaxconv.runtime.errors import InputError
from jaxconv.runtime.files import below
from jaxconv.runtime.machine import usable_cores
from jaxconv.runtime.signals import interruptible

KINDS = ("broken", "empty", "not an image", "too large", "small", "blank", "duplicate", "near-duplicate")


class Finding(NamedTuple):
    """A file, and the fault that was found in it.

    Attributes:
        path: the name of the file, relative to the audited folder.
        kind: one of `KINDS`.
        detail: the fault in words.
        of: the name of the file that a duplicate or near-duplicate looks like; None for the other kinds.
    """

    path: str
    kind: str
    detail: str
    of: str | None = None


def check(root: Path, min_side: int = 32) -> tuple[int, list[Finding]]:
    """Audit all files below a folder.

    Args:
        root: the folder.
        min_side: the length in pixels below which a side makes a picture small.

    Returns:
        The number of files, and the findings, sorted by name.

    Raises:
        InputError: `root` holds no files, or cannot be listed.
    """
    examined = examine(root, min_side)
    findings = [result for result in examined if isinstance(result, Finding)]
    return len(examined), sorted(findings + find_duplicates([one for one in examined if isinstance(one, Seen)]))


def examine(root: Path, min_side: int = 32) -> list[Finding | Seen]:
    """Check each file below a folder by itself, as `check_file` does; the results are sorted by name.

    Raises:
        InputError: `root` holds no files, or cannot be listed.
    """
    names = sorted(path.relative_to(root).as_posix() for path in below(root))
    if not names:
        raise InputError(f"{root} holds no files: name a folder of pictures")
    # After an interrupt, the pool would first wait for all remaining files; `interruptible` ends the process at once.
    with quiet_pillow(), ThreadPoolExecutor(usable_cores()) as pool, interruptible():
        parts = pool.map(lambda name: check_file(root, name, min_side), names)
        return list(tqdm(parts, f"checking {root}", len(names), unit="file", leave=False, disable=None, delay=2))


def check_file(root: Path, name: str, min_side: int = 32) -> Finding | Seen:
    """Check one file by itself.

    Args:
        root: the audited folder.
        name: the name of the file, relative to `root`.
        min_side: the length in pixels below which a side makes a picture small.

    Returns:
        A finding if the file is at fault, else the picture, ready to be compared with others. Faults raise nothing,
        whatever bytes the file holds.
    """
    Image.init()  # else Image.OPEN lacks the less common formats
    try:
        data = (root / name).read_bytes()
        if not data:
            return Finding(name, "empty", "0 bytes")
        if not any((accept := Image.OPEN[kind][1]) and accept(data[:16]) for kind in FORMATS):
            return Finding(name, "not an image", f"begins like none of {', '.join(FORMATS)}")
        picture = decode_rgb(data)
        if min(picture.size) < min_side:
            width, height = picture.size
            return Finding(name, "small", f"{width} x {height} pixels, a side under {min_side}")
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


def find_duplicates(pictures: list[Seen]) -> list[Finding]:
    """Choose the pictures to remove, so that no two remaining pictures in different folders look alike.

    Of two pictures that look alike, the one in train is removed rather than the one in validation, and the one in
    validation rather than the one in test. Otherwise, the one whose name sorts last is removed.

    Returns:
        A finding for each picture to remove; it names the most similar picture that remains.
    """
    pictures = sorted(pictures, key=_removal_rank)
    numbers: dict[PurePosixPath, int] = {}
    folder = np.array([numbers.setdefault(PurePosixPath(seen.path).parent, len(numbers)) for seen in pictures])
    kept = np.ones(len(pictures), bool)
    findings = []
    for i, (seen, distance) in enumerate(zip(pictures, distances(pictures), strict=True)):
        distance[~kept[:i] | (folder[:i] == folder[i])] = INCOMPARABLE
        if i and distance[nearest := distance.argmin()] <= NEAR:
            kept[i], of = False, pictures[nearest].path
            if distance[nearest] == SAME_BYTES:
                findings.append(Finding(seen.path, "duplicate", f"the bytes of {of}", of))
            else:
                detail = f"looks like {of}, {distance[nearest]} of 64 bits apart"
                findings.append(Finding(seen.path, "near-duplicate", detail, of))
    return findings


def _removal_rank(seen: Seen) -> tuple[int, str]:
    """Sort key: pictures of test first, then of validation, then all others; each of the three by name."""
    ranks = [len(SPLITS) - SPLITS.index(part) for part in PurePosixPath(seen.path).parts[:-1] if part in SPLITS]
    return min(ranks, default=len(SPLITS)), seen.path
