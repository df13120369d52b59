"""The convnet of section 5.2 on your own pictures, with two classes or more.

    python -m tools.split_folders --source photos --dest data/mine     # photos/<class>/* to train, validation, test
    python -m experiments.folders --data data/mine
    python -m experiments.folders --data data/mine --image-size 96     # smaller pictures train faster
    python -m experiments.folders --data data/mine --flip              # pictures that stay the same when mirrored

--data is a folder of train|validation|test/<class>/*. Other usual names, such as Train, val and valid, are taken too.
Without a validation folder, a fifth of the training pictures is held out. Without a test folder, the results are those
of the validation pictures. A net for two classes has one logit and the book's binary cross-entropy; a net for more
classes has a softmax. --recipe book gives the settings of experiments.catsdogs.
"""

from collections.abc import Sequence
from pathlib import Path

from experiments import common, photos
from experiments.launch import Experiment, launch
from jaxconv.runtime.cli import one_line_errors


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    assert __doc__
    flags = photos.parser("experiments.folders", __doc__, recipe="folders")
    flags.add_argument("--data", required=True, metavar="DIR", help="folder with train, validation and test")
    flags.add_argument(
        "--image-size", type=int, default=photos.IMAGE_SIZE, metavar="N", help="pixels per side (default: %(default)s)"
    )
    arguments = flags.parse_args(argv)
    chosen = photos.choose(arguments, arguments.image_size)
    common.start_backend()
    data = Path(arguments.data)
    from jaxconv.data.layout import list_split
    from jaxconv.data.records import read_splits
    from jaxconv.runs.settings import describe_data

    if arguments.summary:
        classes = len(list_split(data, "train").class_names)
        photos.print_summary(photos.net(chosen.dropout, arguments.dtype, classes), arguments.image_size)
        return
    splits = read_splits(data, (arguments.image_size, arguments.image_size))
    name = data.resolve().name
    experiment = Experiment(
        name=f"folders-{name}",
        variant=chosen.variant,
        title=f"{name}, {chosen.variant}",
        model=photos.net(chosen.dropout, arguments.dtype, len(splits.class_names)),
        splits=splits,
        data=describe_data(splits),
        training=chosen.training,
    )
    launch(arguments, experiment)


if __name__ == "__main__":
    main()
