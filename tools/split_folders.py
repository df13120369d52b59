"""Cut a folder of <class>/* pictures into train, validation and test, for experiments.folders.

    python -m tools.split_folders --source photos --dest data/mine
    python -m tools.split_folders --source photos --dest data/mine --validation 0.1 --test 0.1 --seed 1

Each split has its share of every class. Pictures that look alike (the same one stored anew, made smaller or brighter,
trimmed a little) stay together in one split, so that none is tested with what it was trained on. The same pictures and
seed give the same splits. Files are copied; DEST appears whole or not at all.
"""

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from experiments.command import bare_parser
from jaxconv.errors import InputError, one_line_errors
from tools.check_images import NEAR, Finding, Seen, examine


def split(seen: list[Seen], shares: dict[str, float], seed: int) -> dict[str, list[Seen]]:
    """The pictures of each split. `shares` are those of the splits but for the last, "train", which gets the rest.

    Raises:
        InputError: a class has too few pictures for every split to have one.
    """
    groups, classes = alike(seen), Counter(map(class_of, seen))
    random.Random(seed).shuffle(groups)
    chosen: dict[str, list[Seen]] = {}
    for name, share in shares.items():
        room = Counter({label: max(1, round(share * count)) for label, count in classes.items()})
        chosen[name], left = [], []
        for group in groups:
            takes = Counter(map(class_of, group))
            if takes <= room:
                room -= takes
                chosen[name] += group
            else:
                left.append(group)
        groups = left
    chosen["train"] = [one for group in groups for one in group]
    for name, pictures in chosen.items():
        for label in classes.keys() - set(map(class_of, pictures)):
            raise InputError(f"{label} has {classes[label]} pictures, none of them for {name}: add some that differ")
    return chosen


def class_of(seen: Seen) -> str:
    """The folder of a picture below the source."""
    return PurePosixPath(seen.path).parts[0]


def alike(seen: list[Seen]) -> list[list[Seen]]:
    """The pictures in groups, within which each looks like another; in the order of their names."""
    import numpy as np

    digests = np.array([int.from_bytes(one.digest[:8], "big") for one in seen], np.uint64)
    looks = np.array([one.look or 0 for one in seen], np.uint64)
    plain = np.array([one.look is None for one in seen])
    group = np.arange(len(seen))
    for i in range(len(seen)):
        near = (np.bitwise_count(looks[:i] ^ looks[i]) <= NEAR) & ~plain[:i] & ~plain[i]
        for other in set(group[:i][near | (digests[:i] == digests[i])].tolist()):
            group[group == other] = group[i]
    return [[seen[i] for i in np.flatnonzero(group == number)] for number in dict.fromkeys(group.tolist())]


def copy(source: Path, splits: dict[str, list[Seen]], dest: Path) -> None:
    """Fill `dest`, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{dest.name}-", dir=dest.parent) as temp:
            new = Path(temp, "new")  # one level down, as the temporary folder itself is closed to other users
            for name, pictures in splits.items():
                for one in pictures:
                    (new / name / one.path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source / one.path, new / name / one.path)
            new.rename(dest)
    except OSError as error:
        raise InputError(f"--dest {dest} cannot be written ({error.strerror}): name another folder") from error


def _check_sound(source: Path, examined: Iterable[Finding | Seen]) -> list[Seen]:
    findings = [one for one in examined if isinstance(one, Finding)]
    if findings:
        raise InputError(
            f"{source / findings[0].path} is {findings[0].kind} ({findings[0].detail}), one of {len(findings)} such: "
            f"python -m tools.check_images {source} lists them, and --quarantine DIR moves them"
        )
    return [one for one in examined if isinstance(one, Seen)]


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    assert __doc__
    parser = bare_parser("tools.split_folders", __doc__)
    parser.add_argument("--source", type=Path, required=True, metavar="DIR", help="a folder of pictures for each class")
    parser.add_argument("--dest", type=Path, required=True, metavar="DIR", help="the folder to make")
    for name in ("validation", "test"):
        parser.add_argument(f"--{name}", type=float, default=0.2, metavar="X", help="its share (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="of the choice (default: %(default)s)")
    args = parser.parse_args(argv)
    shares = {"test": args.test, "validation": args.validation}
    for name, share in shares.items():
        if not 0 < share < 1 or sum(shares.values()) >= 1:
            raise InputError(f"--{name} is {share}: give shares above 0 that leave some for train, such as 0.2")
    if args.dest.exists():
        raise InputError(f"--dest {args.dest} exists: name a new folder")
    if args.dest.resolve().is_relative_to(args.source.resolve()):
        raise InputError(f"--dest {args.dest} lies in --source {args.source}: name a folder outside of it")

    from jaxconv.records import list_classes

    class_names, _ = list_classes(args.source)
    seen = _check_sound(args.source, examine(args.source, min_side=1))
    splits = split([one for one in seen if class_of(one) in class_names], shares, args.seed)
    copy(args.source, splits, args.dest)
    for name in ("train", "validation", "test"):
        counts = Counter(map(class_of, splits[name]))
        print(f"{args.dest / name}: " + ", ".join(f"{counts[label]} {label}" for label in class_names))


if __name__ == "__main__":
    main()
