"""What a trained net sees in pictures: a line for each file, of its path, its class and that class's probability.

    python -m tools.predict runs/catsdogs-plain-seed0 cat.jpg
    python -m tools.predict runs/catsdogs-plain-seed0 holiday/ --csv holiday.csv

Folders are searched at any depth, in sorted order; hidden files are passed over. Any number of files will do. With
--csv the file has a row each: path, class, probability, and the probability of every class.

The exit code is 0 if every file was read, 1 if some were not, which are named on standard error, and 2 if the command
could not do its work.
"""

import csv
import itertools
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from jaxconv.errors import InputError, one_line_errors
from tools import files, net

if TYPE_CHECKING:
    import numpy as np

    from jaxconv.trained import Trained

AHEAD = 128  # pictures to decode while others are predicted: four batches


class Predictor:
    """Predicts files of pictures with a net; `failed` is how many could not be read, each named on standard error."""

    def __init__(self, net: "Trained") -> None:
        self._net = net
        self.failed = 0

    def predict(self, paths: Iterable[Path]) -> Iterator[tuple[Path, "np.ndarray"]]:
        """Each file that can be read, and the float32[k] of its classes' probabilities; in order, a batch at a time."""
        waiting: deque[Path] = deque()

        def images() -> Iterator["np.ndarray"]:
            for path, image in self._decoded(paths):
                waiting.append(path)
                yield image

        for batch in self._net.predictions(images()):
            for probabilities in batch:
                yield waiting.popleft(), probabilities

    def _decoded(self, paths: Iterable[Path]) -> Iterator[tuple[Path, "np.ndarray"]]:
        from jaxconv.machine import usable_cores

        jobs: deque[tuple[Path, Future[np.ndarray]]] = deque()
        with ThreadPoolExecutor(usable_cores()) as pool:  # Pillow decodes outside the interpreter lock
            for path in paths:
                jobs.append((path, pool.submit(lambda path: self._net.decode(path.read_bytes()), path)))
                if len(jobs) == AHEAD:
                    yield from self._result(*jobs.popleft())
            while jobs:
                yield from self._result(*jobs.popleft())

    def _result(self, path: Path, job: "Future[np.ndarray]") -> Iterator[tuple[Path, "np.ndarray"]]:
        from tqdm import tqdm

        from jaxconv.records import reason

        try:
            image = job.result()
        except MemoryError:  # no fault of the file
            raise
        # Pillow's plugins raise OSError, ValueError, SyntaxError, struct.error and more on damaged files.
        except Exception as error:
            self.failed += 1
            tqdm.write(files.printable(f"{path}: skipped ({reason(error)})"), file=sys.stderr)
            return
        yield path, image


def listed(paths: Iterable[Path]) -> Iterator[Path]:
    """The files, and in place of folders what is below them."""
    for path in paths:
        if path.is_dir():
            yield from files.below(path)
        else:
            yield path


def write_csv(file: Path, class_names: list[str], predictions: Iterable[tuple[Path, "np.ndarray"]]) -> int:
    """A row for each; returns how many there are. Raises InputError if the file cannot be written."""
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
    """Parse the command line, predict and print; exits with 1 if any file could not be read."""
    assert __doc__
    parser = net.parser("tools.predict", __doc__)
    parser.add_argument("paths", type=Path, nargs="+", metavar="FILE|DIR", help="pictures, or folders of them")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a table in place of lines")
    arguments = parser.parse_args(argv)
    trained = net.read(arguments)
    from jaxconv.records import quiet_pillow

    predictor = Predictor(trained)
    table = arguments.csv and arguments.csv.absolute()  # which may lie among the pictures
    found = (path for path in listed(arguments.paths) if path.absolute() != table)
    first = next(found, None)
    if first is None:  # before a table is begun
        raise InputError(f"{', '.join(map(str, arguments.paths))} holds no files: name pictures, or folders of them")
    predictions, names = predictor.predict(itertools.chain([first], found)), trained.class_names
    with quiet_pillow():
        if arguments.csv is not None:
            count = write_csv(arguments.csv, names, predictions)
            print(f"{count:,} pictures in {arguments.csv}, by epoch {trained.epoch:g} of {arguments.run}")
        else:
            for path, row in predictions:
                print(files.printable(str(path)), names[row.argmax()], f"{row.max():.4f}", sep="\t")
    if predictor.failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
