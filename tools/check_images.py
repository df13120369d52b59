"""Check a folder of pictures: decode each of them, and compare it with those of other splits and other classes.

broken          the file cannot be read or decoded
empty           the file has no bytes
not an image    the file does not begin like a picture, though its name says that it is one
too large       the file claims a size that no photo has, or that does not fit the memory; it is not decoded
small           a side of the picture is shorter than --min-side pixels
blank           the whole picture has one colour, as damaged pictures often do
duplicate       the file has the bytes of a file in another split, of the same class
near-duplicate  the picture looks like one in another split, of the same class: stored anew, made smaller or brighter,
                trimmed a little
contradiction   the file has the bytes of a file of another class: remove the one whose class is wrong
look-alike      the picture looks like one of another class; have a look, mostly both are right

Each file is listed once. Of two pictures that look alike, the one in train is listed rather than the one in validation,
and the one in validation rather than the one in test, so that held-out pictures stay as they are. Otherwise, the one
whose name sorts last is listed. Copies that are mirrored, turned, or trimmed by more than a few hundredths of a side
are not found, nor are copies within a split of a class. Hidden files are passed over, and files whose names are not
those of pictures.

    python -m tools.check_images data/cats_and_dogs_small
    python -m tools.check_images data/cats_and_dogs_small --quarantine data/doubtful

--quarantine moves all of these but contradictions and look-alikes, which no command can decide. The exit code is 1 if
anything but look-alikes was found, 0 if not, and 2 if the command could not do its work.
"""

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxconv.data.folders import check_folder
from jaxconv.runtime.cli import bare_parser, one_line_errors
from jaxconv.runtime.errors import InputError
from jaxconv.runtime.files import printable, write_json

if TYPE_CHECKING:
    import argparse

    from jaxconv.analysis.image_audit import Audit
    from jaxconv.data.checks import Finding

COMPARED = ("duplicate", "near-duplicate", "contradiction", "look-alike")


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, check, print, write and move; exits with 1 if anything was found."""
    args = _parse(argv)
    if args.quarantine is not None:
        _check_writable(args.quarantine)  # now, because reading the pictures takes long

    from jaxconv.analysis.image_audit import check

    audit = check(args.folder, args.min_side)
    for finding in audit.findings:
        print(printable(f"{finding.path}: {finding.kind} ({finding.detail})"))
    if args.json is not None:
        _write(args.json, audit)
    moved = 0 if args.quarantine is None else quarantine(args.folder, audit.findings, args.quarantine)
    for note in audit.notes:
        print(printable(note))
    print(_summary(audit) + (f"; {moved:,} moved to {args.quarantine}" if moved else ""))
    if any(finding.kind != "look-alike" for finding in audit.findings):
        sys.exit(1)


def _parse(argv: Sequence[str] | None) -> "argparse.Namespace":
    assert __doc__
    parser = bare_parser("tools.check_images", __doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="the pictures, at any depth")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings to this file too")
    parser.add_argument("--quarantine", type=Path, metavar="DIR", help="move files that were found to this folder")
    parser.add_argument(
        "--min-side",
        type=int,
        metavar="N",
        help="pixels (default: 32; if half of the pictures are smaller, none is small)",
    )
    args = parser.parse_args(argv)
    check_folder(args.folder)
    for flag, path in (("--json", args.json), ("--quarantine", args.quarantine)):
        if path is not None:
            _check_outside(flag, path, args.folder)
    return args


def _check_outside(flag: str, path: Path, root: Path) -> None:
    """Refuse a place inside the folder of pictures, because the next check would read the files written there."""
    real, real_root = Path(os.path.realpath(path)), Path(os.path.realpath(root))
    if real.is_relative_to(real_root) or (flag == "--quarantine" and real_root.is_relative_to(real)):
        raise InputError(f"{flag} {path} and {root} lie one inside the other: name another place")


def _check_writable(folder: Path) -> None:
    """Make the folder of --quarantine, and refuse one that cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        why = f"cannot be written ({error.strerror})"
        raise InputError(f"--quarantine {folder} {why}: name another folder") from error


def _write(path: Path, audit: "Audit") -> None:
    listed = [{key: value for key, value in finding._asdict().items() if value} for finding in audit.findings]
    try:
        write_json(path, {"files": audit.pictures, "findings": listed})
    except OSError as error:
        raise InputError(f"--json {path} cannot be written ({error.strerror}): name another file") from error


def quarantine(root: Path, findings: "Sequence[Finding]", folder: Path) -> int:
    """Move the files of findings from `root` to the same names below `folder`; contradictions and look-alikes stay.

    Returns:
        The number of files.

    Raises:
        InputError: a name is taken below `folder`, or the two files of a finding are one file by a link; then no file
            was moved. Or a file cannot be moved; then the files before it are in `folder`.
    """
    from jaxconv.data.images import reason

    doubtful = [finding for finding in findings if finding.kind not in ("contradiction", "look-alike")]
    for path, _, _, of in doubtful:
        if os.path.lexists(folder / path):
            raise InputError(f"--quarantine {folder / path} exists: name another folder")
        if of and os.path.realpath(root / path) == os.path.realpath(root / of):
            raise InputError(f"{root / path} and {root / of} are one file, by a link: remove the link")
    try:
        for path, *_ in doubtful:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(root / path, folder / path)
    except OSError as error:
        raise InputError(f"{root / path} cannot be moved to {folder} ({reason(error)}): name another folder") from error
    return len(doubtful)


def _summary(audit: "Audit") -> str:
    from jaxconv.analysis.image_audit import KINDS
    from jaxconv.data.classes import describe_passed_over

    counts = Counter(finding.kind for finding in audit.findings)
    counted = ", ".join(_counted(counts[kind], kind) for kind in KINDS if kind in counts)
    line = f"{audit.pictures:,} picture{'s' * (audit.pictures != 1)}: {counted or 'nothing found'}"
    if audit.passed_over:
        line += printable(f"; passed over {describe_passed_over(audit.passed_over)}")
    return line


def _counted(count: int, kind: str) -> str:
    plural = {"not an image": "not images"}.get(kind, f"{kind}s" if kind in COMPARED else kind)
    return f"{count:,} {kind if count == 1 else plural}"


if __name__ == "__main__":
    main()
