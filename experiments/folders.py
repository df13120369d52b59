"""The convnet of section 5.2 on your own pictures, with two classes or more.

    python -m tools.split_folders --source photos --dest data/mine     # photos/<class>/* to train, validation, test
    python -m experiments.folders --data data/mine --aug --dropout
    python -m experiments.folders --data data/mine --image-size 96     # smaller pictures train faster

--data is a folder of train|validation|test/<class>/*. A net for two classes has one logit and the book's binary
cross-entropy; a net for more classes has a softmax. experiments.catsdogs has the same default settings.
"""

from collections.abc import Sequence
from pathlib import Path

from experiments import photos
from experiments.launch import launch
from jaxconv.runtime.cli import one_line_errors
from jaxconv.runtime.errors import InputError


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    assert __doc__
    flags = photos.parser("experiments.folders", __doc__)
    flags.add_argument("--data", required=True, metavar="DIR", help="folder with train, validation and test")
    flags.add_argument(
        "--image-size", type=int, default=photos.IMAGE_SIZE, metavar="N", help="pixels per side (default: %(default)s)"
    )
    arguments = flags.parse_args(argv)
    training, variant = photos.settings(arguments, arguments.image_size)
    data = Path(arguments.data)
    if not (data / "train").is_dir():
        raise InputError(
            f"--data {data} has no folder train: split a folder of <class>/* pictures with "
            f"python -m tools.split_folders --source {data} --dest {data}-split"
        )
    from jaxconv.data.records import list_classes, read_splits
    from jaxconv.runs.settings import describe_data

    if arguments.summary:
        photos.print_summary(arguments, arguments.image_size, len(list_classes(data / "train")[0]))
        return
    splits = read_splits(data, (arguments.image_size, arguments.image_size))
    name = data.resolve().name
    launch(
        arguments,
        photos.net(arguments, len(splits.train.class_names)),
        splits,
        training,
        experiment=f"folders-{name}",
        variant=variant,
        title=f"{name}, {variant}",
        data=describe_data(splits),
    )


if __name__ == "__main__":
    main()
