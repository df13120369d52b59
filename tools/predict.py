"""Predict the class of pictures: one line per file, with its path, its class and the probability of this class.

    python -m tools.predict runs/catsdogs-plain-seed0 cat.jpg
    python -m tools.predict runs/catsdogs-plain-seed0 holiday/ --csv holiday.csv

Folders are searched at any depth, in sorted order, for files with the names of pictures. Hidden files are skipped.
There is no limit to the number of files. The file of --csv has one row per picture: path, class, probability, and the
probability of every class.

The nets of MNIST know white digits on black. With --invert, the net sees the negatives: for dark digits on a light
ground.

The exit code is 0 if every file was read, 1 if some files were not, and 2 if the command could not do its work. Files
that cannot be read are listed on standard error.
"""

import csv
import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxconv.runtime import files
from jaxconv.runtime.cli import one_line_errors
from jaxconv.runtime.errors import InputError
from tools import net

if TYPE_CHECKING:
    import numpy as np


class Skipped:
    """Prints each file that cannot be read to standard error, and counts these files."""

    count = 0

    def __call__(self, path: Path, error: Exception) -> None:
        """Print a file and the reason."""
        from tqdm import tqdm

        from jaxconv.data.images import reason

        self.count += 1
        tqdm.write(files.printable(f"{path}: skipped ({reason(error)})"), file=sys.stderr)


def listed(paths: Iterable[Path], passed_over: Counter[str]) -> Iterator[Path]:
    """The files in `paths`, and the pictures below the folders in it; other files there are counted."""
    from jaxconv.data.folders import is_named_as_picture, kind_of, walk

    for path in paths:
        for found in walk(path) if path.is_dir() else [path]:
            if found == path or is_named_as_picture(found):
                yield found
            else:
                passed_over[kind_of(found)] += 1


def write_csv(file: Path, class_names: list[str], predictions: Iterable[tuple[Path, "np.ndarray"]]) -> int:
    """Write one row per picture, and return the number of rows.

    Raises:
        InputError: the file cannot be written.
    """
    from tqdm import tqdm

    count = 0
    try:
        with file.open("w", newline="", encoding="utf-8", errors="surrogateescape") as opened:
            rows = csv.writer(opened, lineterminator="\n")
            rows.writerow(["path", "class", "probability", *class_names])
            for path, row in tqdm(predictions, "predicting", unit="picture", leave=False, disable=None, delay=2):
                values = [f"{value:.6g}" for value in row]
                rows.writerow([path, class_names[row.argmax()], values[row.argmax()], *values])
                count += 1
    except OSError as error:
        raise InputError(f"--csv {file} cannot be written ({error.strerror}): name another file") from error
    return count


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, predict and print; exits with 1 if a file could not be read."""
    assert __doc__
    parser = net.parser("tools.predict", __doc__)
    parser.add_argument("paths", type=Path, nargs="+", metavar="FILE|DIR", help="pictures, or folders of pictures")
    parser.add_argument("--invert", action="store_true", help="predict from the negatives: white for black")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a table to this file instead of lines")
    arguments = parser.parse_args(argv)
    predictor, skipped = net.read(arguments), Skipped()
    from jaxconv.data.images import quiet_pillow

    passed_over = Counter[str]()
    found = listed(arguments.paths, passed_over)
    first = next(found, None)
    if first is None:  # before a table is written
        raise InputError(f"{', '.join(map(str, arguments.paths))} holds no pictures: name pictures, or folders of them")
    if predictor.config.data.kind == "MNIST" and not arguments.invert:
        print("this net knows white digits on black: give --invert for dark digits on a light ground", file=sys.stderr)
    pictures, names = itertools.chain([first], found), predictor.class_names
    predictions = predictor.predict_files(pictures, skipped, invert=arguments.invert)
    with quiet_pillow():
        if arguments.csv is not None:
            count = write_csv(arguments.csv, names, predictions)
            by = f"by epoch {predictor.epoch:g} of {arguments.run}"
            print(f"{count:,} picture{'s' * (count != 1)} in {arguments.csv}, {by}")
        else:
            for path, row in predictions:
                print(files.printable(str(path)), names[row.argmax()], f"{row.max():.4f}", sep="\t")
    if passed_over:
        from jaxconv.data.classes import describe_passed_over

        print(files.printable(f"passed over {describe_passed_over(passed_over)}"), file=sys.stderr)
    if skipped.count:
        sys.exit(1)


if __name__ == "__main__":
    main()
