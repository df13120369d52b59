"""Cats against dogs on 2,000 photos: section 5.2 of *Deep Learning with Python*.

    python -m tools.split_catsdogs --source train.zip --dest data/cats_and_dogs_small
    python -m experiments.catsdogs                      # codes 5-5 to 5-10: 30 epochs of 100 steps of 20 pictures
    python -m experiments.catsdogs --aug --dropout      # codes 5-11 to 5-14: 100 epochs of 100 steps of 32
    python -m experiments.catsdogs --data demo          # drawn pictures; nothing is downloaded

With --aug or --dropout alone, all other settings are the same as with both, so that the four runs separate the two
effects. --recipe chooses other settings than the book's. The README has the expected results and training times.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import common, photos
from experiments.launch import Experiment, launch
from experiments.pictures import DEMO_FOLDER
from jaxconv.runtime.cli import one_line_errors
from jaxconv.runtime.errors import InputError

if TYPE_CHECKING:
    from jaxconv.data.records import Splits

DATA = "data/cats_and_dogs_small"
BOOK_RESULTS = {  # validation accuracies of the published notebook: the best, and the mean of the last 10 epochs
    "plain": "the book's run has val_acc 0.731 at best and 0.713 over its last 10 epochs",
    "aug-dropout": "the book's run has val_acc 0.846 at best and 0.830 over its last 10 epochs",
}


def read(data: str) -> "Splits":
    """The pictures of --data.

    Raises:
        InputError: the folder does not exist or does not have two classes, or as `read_splits`.
    """
    from jaxconv.data import demo
    from jaxconv.data.records import read_splits

    image_size = (photos.IMAGE_SIZE, photos.IMAGE_SIZE)
    if data == "demo":
        print(f"--data demo: the pictures are drawn, not photos; they are kept in {DEMO_FOLDER}", flush=True)
        return read_splits(demo.write(DEMO_FOLDER), image_size)
    if not Path(data).is_dir():
        split, quoted = "python -m tools.split_catsdogs", shlex.quote(data)
        if Path(data).is_file():
            raise InputError(
                f"--data {data} is a file: of an archive, make a folder ({split} --source {quoted} --dest DIR)"
            )
        raise InputError(
            f"--data {data} does not exist: make it from Kaggle's archive ({split} --source train.zip --dest {quoted})"
            f", or download the photos ({split} --download --dest {quoted}), or take drawn pictures (--data demo)"
        )
    splits = read_splits(data, image_size)
    if len(splits.train.class_names) != 2:
        raise InputError(
            f"--data {data} has the classes {', '.join(splits.train.class_names)}, and this experiment takes two: "
            f"train with python -m experiments.folders --data {shlex.quote(data)}"
        )
    return splits


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    assert __doc__
    flags = photos.parser("experiments.catsdogs", __doc__, recipe="book")
    flags.add_argument(
        "--data",
        default=DATA,
        metavar="DIR",
        help='folder with train, validation and test, or "demo" (default: %(default)s)',
    )
    arguments = flags.parse_args(argv)
    chosen = photos.choose(arguments, photos.IMAGE_SIZE)
    common.start_backend()
    model = photos.net(chosen.dropout, arguments.dtype, 2)
    if arguments.summary:
        photos.print_summary(model, photos.IMAGE_SIZE)
        return
    splits = read(arguments.data)
    from jaxconv.runs.settings import describe_data

    drawn = arguments.data == "demo"
    variant = f"demo-{chosen.variant}" if drawn else chosen.variant
    experiment = Experiment(
        name="catsdogs",
        variant=variant,
        title=f"cats against dogs, {variant}",
        model=model,
        splits=splits,
        data=describe_data(splits, kind="drawn" if drawn else "photos"),
        training=chosen.training,
        book=BOOK_RESULTS.get(variant) if chosen.repeats_recipe else None,
    )
    launch(arguments, experiment)


if __name__ == "__main__":
    main()
