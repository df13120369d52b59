"""Cats against dogs on 2,000 photos: section 5.2 of *Deep Learning with Python*.

    python -m tools.split_catsdogs --source train.zip --dest data/cats_and_dogs_small
    python -m experiments.catsdogs                      # codes 5-5 to 5-10: 30 epochs of 100 steps of 20 pictures
    python -m experiments.catsdogs --aug --dropout      # codes 5-11 to 5-14: 100 epochs of 100 steps of 32
    python -m experiments.catsdogs --data demo          # on drawn pictures, with nothing downloaded

--aug alone and --dropout alone train as both together do, so that the four runs separate the two effects. What to
expect, and how long it takes, stands in the README.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import command, folders
from experiments.folders import Config
from jaxconv.errors import InputError, one_line_errors

if TYPE_CHECKING:
    from jaxconv.records import Splits

DATA = "data/cats_and_dogs_small"
DEMO_FOLDER = Path("data/demo")


def variant(config: Config) -> str:
    """Such as plain, aug-dropout, demo-aug, plain-bfloat16."""
    return f"demo-{config.variant}" if config.data == "demo" else config.variant


def read(config: Config) -> "Splits":
    """The pictures of --data.

    Raises:
        InputError: there are none, there are not two classes, or as `SplitDirectory`.
    """
    from jaxconv import demo
    from jaxconv.records import read_splits

    data, size = config.data, (config.image_size, config.image_size)
    if data == "demo":
        print(f"--data demo: these are drawn pictures, kept in {DEMO_FOLDER}, not photos", flush=True)
        return read_splits(demo.write(DEMO_FOLDER), size)
    if not Path(data).is_dir():
        split = "python -m tools.split_catsdogs"
        raise InputError(
            f"--data {data} does not exist: make it from Kaggle's archive ({split} --source train.zip --dest {data}), "
            f"or download the photos ({split} --download --dest {data}), or take drawn pictures (--data demo)"
        )
    splits = read_splits(data, size)
    if len(splits.train.class_names) != 2:
        raise InputError(
            f"--data {data} has the classes {', '.join(splits.train.class_names)}: this net tells two apart, "
            f"python -m experiments.folders --data {data} tells as many as there are"
        )
    return splits


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    assert __doc__
    parser = folders.parser("experiments.catsdogs", __doc__)
    parser.add_argument(
        "--data",
        default=DATA,
        metavar="DIR",
        help='folder of train, validation, test, or "demo" (default: %(default)s)',
    )
    arguments = parser.parse_args(argv)
    fit_config = command.fit_config(arguments, folders.book(arguments.aug, arguments.dropout))
    size = folders.IMAGE_SIZE
    config = Config(arguments.aug, arguments.dropout, arguments.data, fit_config, size, arguments.dtype)
    if arguments.summary:
        folders.print_summary(config, 2)
        return
    title = "cats against dogs"
    kind = "drawn" if config.data == "demo" else "photos"
    folders.train(
        config, read(config), arguments, experiment="catsdogs", variant=variant(config), title=title, kind=kind
    )


if __name__ == "__main__":
    main()
