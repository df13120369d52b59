"""What is wrong with a folder of pictures: each of its files is decoded, and compared with those of other folders.

broken          it cannot be read or decoded
empty           it has no bytes
not an image    it begins like no picture (BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP), whatever its name says
too large       it claims a size that no photo has, and is not decoded
small           one of its sides is under --min-side
blank           it has one colour all over, as damaged pictures often do
duplicate       it has the bytes of a file in another folder: another split, or another class
near-duplicate  it looks like a picture in another folder: stored anew, made smaller or brighter, trimmed a little

A file is listed once. Of two that are alike it is the one in train rather than in validation rather than in test, and
else the one whose name sorts last, so that pictures held out stay as they are. Mirrored and turned copies are not
found, nor those that lost more than a few hundredths of a side. Hidden files are passed over.

    python -m tools.check_images data/cats_and_dogs_small
    python -m tools.check_images data/cats_and_dogs_small --quarantine data/doubtful

The exit code is 0 if nothing was found, 1 if something was, 2 if the command could not do its work.
"""

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from experiments.command import bare_parser
from jaxconv.downloads import interruptible
from jaxconv.errors import InputError, one_line_errors
from jaxconv.workdir import write_json
from tools.files import below, printable

if TYPE_CHECKING:
    from PIL import Image

KINDS = ("broken", "empty", "not an image", "too large", "small", "blank", "duplicate", "near-duplicate")
# Bits of 64 in which the hashes of near-duplicates may differ. Of the pairs among the book's 4,000 photos two differ in
# none and are the same photo, no pair differs in 1 to 9, and those that differ in 10 or 12 are all different photos.
NEAR = 6
MIN_CONTRAST = 4  # standard deviation of brightness, of 255, under which a hash is one of noise; photos have over 14


class Finding(NamedTuple):
    """What is wrong with a file; `of` is the file that it is like. Names are relative to the folder looked at."""

    path: str
    kind: str
    detail: str
    of: str | None = None


class Seen(NamedTuple):
    """A picture to compare with others: the digest of its bytes, and its perceptual hash unless it is too plain."""

    path: str
    digest: bytes
    look: int | None


def check(root: Path, min_side: int = 32) -> tuple[int, list[Finding]]:
    """The number of files below `root`, and the findings, sorted by name; raises as `examine`."""
    checked = examine(root, min_side)
    findings = [result for result in checked if isinstance(result, Finding)]
    return len(checked), sorted(findings + alike([result for result in checked if isinstance(result, Seen)]))


def examine(root: Path, min_side: int = 32) -> list[Finding | Seen]:
    """What `check_file` says of each file below `root`, sorted by name.

    Raises:
        InputError: `root` holds no files, or cannot be listed.
    """
    from tqdm import tqdm

    from jaxconv.machine import usable_cores
    from jaxconv.records import quiet_pillow

    names = sorted(path.relative_to(root).as_posix() for path in below(root))
    if not names:
        raise InputError(f"{root} holds no files: name a folder of pictures")
    # An interrupt ends the process before the pool can wait for all the files that are left.
    with quiet_pillow(), ThreadPoolExecutor(usable_cores()) as pool, interruptible():
        parts = pool.map(lambda name: check_file(root, name, min_side), names)
        return list(tqdm(parts, f"checking {root}", len(names), unit="file", leave=False, disable=None, delay=2))


def check_file(root: Path, name: str, min_side: int = 32) -> Finding | Seen:
    """What is wrong with the file, or what to compare with others. Raises nothing, whatever the file holds."""
    import hashlib

    from PIL import Image

    from jaxconv.records import FORMATS, decode_rgb, reason

    Image.init()  # or Image.OPEN lacks the formats that are less common
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
        if picture.getcolors(1):  # None of more than one
            return Finding(name, "blank", "one colour all over")
        return Seen(name, hashlib.sha256(data).digest(), _look(picture))
    except Image.DecompressionBombError as error:
        return Finding(name, "too large", reason(error))
    except MemoryError:  # no fault of the file
        raise
    # Pillow's plugins raise OSError, ValueError, SyntaxError, struct.error and more on damaged files.
    except Exception as error:
        return Finding(name, "broken", reason(error))


def _look(picture: "Image.Image") -> int | None:
    """The perceptual hash's 64 bits; None of a picture so plain that noise would decide them."""
    import imagehash
    import numpy as np

    grey = picture.convert("L").resize((64, 64), reducing_gap=2)
    if np.asarray(grey).std() < MIN_CONTRAST:
        return None
    return int(str(imagehash.phash(grey)), 16)


def alike(pictures: list[Seen]) -> list[Finding]:
    """The pictures to give up, so that none is left that is like one in another folder."""
    import numpy as np

    pictures = sorted(pictures, key=_worth)
    numbers: dict[PurePosixPath | bytes, int] = {}
    folder = np.array([numbers.setdefault(PurePosixPath(seen.path).parent, len(numbers)) for seen in pictures])
    digest = np.array([numbers.setdefault(seen.digest, len(numbers)) for seen in pictures])
    look = np.array([seen.look or 0 for seen in pictures], np.uint64)
    plain = np.array([seen.look is None for seen in pictures])
    kept = np.ones(len(pictures), bool)
    findings = []
    for i, seen in enumerate(pictures):
        differs = digest[:i] != digest[i]
        distance = (np.bitwise_count(look[:i] ^ look[i]) + 1) * differs  # nothing is closer than the same bytes
        incomparable = differs & (plain[:i] | plain[i])
        distance[incomparable | ~kept[:i] | (folder[:i] == folder[i])] = 65
        if i and distance[nearest := distance.argmin()] <= NEAR + 1:
            kept[i], of = False, pictures[nearest].path
            if digest[nearest] == digest[i]:
                findings.append(Finding(seen.path, "duplicate", f"the bytes of {of}", of))
            else:
                bits = distance[nearest] - 1
                findings.append(Finding(seen.path, "near-duplicate", f"looks like {of}, {bits} of 64 bits apart", of))
    return findings


def _worth(seen: Seen) -> tuple[int, str]:
    """The order in which pictures stay: those of test, of validation, of train and of other folders; then by name."""
    from jaxconv.records import SPLITS

    ranks = [len(SPLITS) - SPLITS.index(part) for part in PurePosixPath(seen.path).parts[:-1] if part in SPLITS]
    return min(ranks, default=len(SPLITS)), seen.path


def quarantine(root: Path, findings: list[Finding], folder: Path) -> None:
    """Move the files that were found to the same names below `folder`.

    Raises:
        InputError: a name is taken there or the file of a pair is but a link to the other, and nothing is moved; or
            `folder` cannot be written, and what was moved until then is in it.
    """
    from jaxconv.records import reason

    for path, _, _, of in findings:
        if os.path.lexists(folder / path):
            raise InputError(f"--quarantine {folder / path} exists: name another folder")
        if of and os.path.realpath(root / path) == os.path.realpath(root / of):
            raise InputError(f"{root / path} and {root / of} are one file, by a link: remove the link")
    try:
        for path, *_ in findings:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(root / path, folder / path)
    except OSError as error:
        raise InputError(f"{root / path} cannot be moved to {folder} ({reason(error)}): name another folder") from error


def _check_outside(flag: str, path: Path, root: Path) -> None:
    """What is written must not be looked at the next time."""
    real, real_root = Path(os.path.realpath(path)), Path(os.path.realpath(root))
    if real.is_relative_to(real_root) or (flag == "--quarantine" and real_root.is_relative_to(real)):
        raise InputError(f"{flag} {path} and {root} lie one inside the other: name another place")


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, check, print, write and move; exits with 1 if anything was found."""
    assert __doc__
    parser = bare_parser("tools.check_images", __doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="the pictures, at any depth")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what is found there too")
    parser.add_argument("--quarantine", type=Path, metavar="DIR", help="move what is found there")
    parser.add_argument("--min-side", type=int, default=32, metavar="N", help="pixels (default: %(default)s)")
    args = parser.parse_args(argv)
    if not args.folder.is_dir():
        raise InputError(f"{args.folder} does not exist or is no folder: name a folder of pictures")
    for flag, path in (("--json", args.json), ("--quarantine", args.quarantine)):
        if path is not None:
            _check_outside(flag, path, args.folder)
    if args.quarantine is not None:  # before the long reading
        try:
            args.quarantine.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=args.quarantine).close()
        except OSError as error:
            why = f"cannot be written ({error.strerror})"
            raise InputError(f"--quarantine {args.quarantine} {why}: name another folder") from error
    files, findings = check(args.folder, args.min_side)
    for finding in findings:
        print(printable(f"{finding.path}: {finding.kind} ({finding.detail})"))
    if args.json is not None:
        listed = [{key: value for key, value in finding._asdict().items() if value} for finding in findings]
        try:
            write_json(args.json, {"files": files, "findings": listed})
        except OSError as error:
            raise InputError(f"--json {args.json} cannot be written ({error.strerror}): name another file") from error
    if args.quarantine is not None:
        quarantine(args.folder, findings, args.quarantine)
    counts = Counter(finding.kind for finding in findings)
    print(
        f"{files:,} files: "
        + (", ".join(_counted(counts[kind], kind) for kind in KINDS if kind in counts) or "nothing found")
    )
    if findings:
        sys.exit(1)


def _counted(count: int, kind: str) -> str:
    plural = {"not an image": "not images"}.get(kind, f"{kind}s" if kind.endswith("duplicate") else kind)
    return f"{count:,} {kind if count == 1 else plural}"


if __name__ == "__main__":
    main()
