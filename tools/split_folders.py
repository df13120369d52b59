"""Divide a folder of <class>/* pictures into train, validation and test, for experiments.folders.

    python -m tools.split_folders --source photos --dest data/mine
    python -m tools.split_folders --source photos --dest data/mine --validation 0.1 --test 0.1 --seed 1

Each split gets its share of every class. Pictures of a class that look alike stay together in one split, so that no net
is tested on a picture that it was trained on: copies that were stored anew, made smaller or brighter, or trimmed a
little. The same pictures and seed give the same splits. Files are copied. DEST appears complete, or not at all.

Files whose names are not those of pictures are passed over, and pictures beside the class folders too. A picture that
cannot be used, being broken, empty or of one colour, is an error; so is the same file in two classes.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxconv.runtime.cli import bare_parser, one_line_errors
from jaxconv.runtime.errors import InputError

if TYPE_CHECKING:
    import argparse


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, choose the splits, copy their pictures and print the counts."""
    args = _parse(argv)

    from jaxconv.config import SPLITS
    from jaxconv.data.classes import class_of
    from jaxconv.data.splits import divide

    division = divide(
        args.source,
        {"test": args.test, "validation": args.validation},
        args.seed,
        grouping=not args.no_grouping,
        skip_bad=args.skip_bad,
        keep_contradictions=args.keep_contradictions,
    )
    print(*division.notes, sep="\n", flush=True)
    try:
        copy_splits(args.source, division.splits, args.dest)
    except OSError as error:
        raise InputError(f"--dest {args.dest} cannot be written ({error.strerror}): name another folder") from error
    for name in SPLITS:
        counts = Counter(map(class_of, division.splits[name]))
        print(f"{args.dest / name}: " + ", ".join(f"{counts[label]} {label}" for label in division.class_names))


def _parse(argv: Sequence[str] | None) -> "argparse.Namespace":
    assert __doc__
    parser = bare_parser("tools.split_folders", __doc__)
    parser.add_argument("--source", type=Path, required=True, metavar="DIR", help="a folder of pictures for each class")
    parser.add_argument("--dest", type=Path, required=True, metavar="DIR", help="the folder to make")
    for name in ("validation", "test"):
        parser.add_argument(f"--{name}", type=float, default=0.2, metavar="X", help="its share (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="of the choice (default: %(default)s)")
    for flag, what in (
        ("--skip-bad", "leave out pictures that cannot be used"),
        ("--keep-contradictions", "keep files with the same bytes in two classes, in one split"),
        ("--no-grouping", "do not keep pictures that look alike together"),
    ):
        parser.add_argument(flag, action="store_true", help=what)
    args = parser.parse_args(argv)
    for name, share in (("test", args.test), ("validation", args.validation)):
        if not 0 < share < 1 or args.test + args.validation >= 1:
            raise InputError(f"--{name} is {share}: give shares above 0 that leave some for train, such as 0.2")
    if args.dest.exists():
        raise InputError(f"--dest {args.dest} exists: name a new folder")
    if args.dest.resolve().is_relative_to(args.source.resolve()):
        raise InputError(f"--dest {args.dest} lies in --source {args.source}: name a folder outside of it")
    return args


def copy_splits(source: Path, splits: Mapping[str, Sequence[str]], dest: Path) -> None:
    """Copy the pictures of each split to `dest/<split>/`, under the names that they have in `source`.

    Raises:
        OSError: a file cannot be copied; `dest` does not exist then.
    """
    dest.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{dest.name}-", dir=dest.parent) as temp:
        new = Path(temp, "new")  # one level down, because other users cannot enter the temporary folder itself
        for name, paths in splits.items():
            for path in paths:
                (new / name / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / path, new / name / path)
        new.rename(dest)


if __name__ == "__main__":
    main()
