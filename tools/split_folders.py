"""Divide a folder of <class>/* pictures into train, validation and test, for experiments.folders.

    python -m tools.split_folders --source photos --dest data/mine
    python -m tools.split_folders --source photos --dest data/mine --validation 0.1 --test 0.1 --seed 1

Each split gets its share of every class. Pictures that look alike stay together in one split, so that no net is tested
on a picture that it was trained on: copies that were stored anew, made smaller or brighter, or trimmed a little. The
same pictures and seed give the same splits. Files are copied. DEST appears complete, or not at all.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxconv.runtime.cli import bare_parser, one_line_errors
from jaxconv.runtime.errors import InputError

if TYPE_CHECKING:
    import argparse

    from jaxconv.data.similarity import Seen


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, choose the splits, copy their pictures and print the counts."""
    args = _parse(argv)
    shares = {"test": args.test, "validation": args.validation}

    from jaxconv.config import SPLITS
    from jaxconv.data.records import list_classes
    from jaxconv.data.splits import class_of, copy_splits, split

    class_names, _ = list_classes(args.source)
    pictures = [picture for picture in _examine(args.source) if class_of(picture) in class_names]
    splits = split(pictures, shares, args.seed)
    try:
        copy_splits(args.source, splits, args.dest)
    except OSError as error:
        raise InputError(f"--dest {args.dest} cannot be written ({error.strerror}): name another folder") from error
    for name in SPLITS:
        counts = Counter(map(class_of, splits[name]))
        print(f"{args.dest / name}: " + ", ".join(f"{counts[label]} {label}" for label in class_names))


def _parse(argv: Sequence[str] | None) -> "argparse.Namespace":
    assert __doc__
    parser = bare_parser("tools.split_folders", __doc__)
    parser.add_argument("--source", type=Path, required=True, metavar="DIR", help="a folder of pictures for each class")
    parser.add_argument("--dest", type=Path, required=True, metavar="DIR", help="the folder to make")
    for name in ("validation", "test"):
        parser.add_argument(f"--{name}", type=float, default=0.2, metavar="X", help="its share (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="of the choice (default: %(default)s)")
    args = parser.parse_args(argv)
    for name, share in (("test", args.test), ("validation", args.validation)):
        if not 0 < share < 1 or args.test + args.validation >= 1:
            raise InputError(f"--{name} is {share}: give shares above 0 that leave some for train, such as 0.2")
    if args.dest.exists():
        raise InputError(f"--dest {args.dest} exists: name a new folder")
    if args.dest.resolve().is_relative_to(args.source.resolve()):
        raise InputError(f"--dest {args.dest} lies in --source {args.source}: name a folder outside of it")
    return args


def _examine(source: Path) -> "list[Seen]":
    """Decode all pictures of the source; a file at fault is an `InputError`."""
    from jaxconv.analysis.image_audit import Finding, examine

    examined = examine(source, min_side=1)
    findings = [one for one in examined if isinstance(one, Finding)]
    if findings:
        raise InputError(
            f"{source / findings[0].path} is {findings[0].kind} ({findings[0].detail}), one of {len(findings)} such: "
            f"python -m tools.check_images {source} lists them, and --quarantine DIR moves them"
        )
    return [one for one in examined if not isinstance(one, Finding)]


if __name__ == "__main__":
    main()
