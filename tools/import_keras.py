"""Import a net that Keras trained, as a run directory for all tools.

    python -m tools.import_keras cats_and_dogs_small_1.h5 --run runs/book
    python -m tools.import_keras mnist.keras --run runs/mnist-keras
    python -m tools.import_keras net.weights.h5 --run runs/wolves --class-names cats,wolves --image-size 180 180

The file is a .keras file, a .weights.h5 file, or an .h5 file in the format of Keras 2, with a model or its weights. The
net must be one of the book's: cats against dogs with or without dropout, the convnet of MNIST, or the dense net. The
command needs h5py (extra: keras), but not Keras.

The net must expect pictures scaled to [0, 1]. A file of weights alone does not have the size of the pictures; without
--image-size, it is the book's size. A dense net must take the pixels of a picture row by row.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxconv.runtime.cli import bare_parser, one_line_errors
from jaxconv.runtime.errors import InputError
from tools import keras_nets

if TYPE_CHECKING:
    import argparse

    import flax.linen as nn

    from jaxconv.config import Config

BOOK_CLASSES = {2: "cats,dogs", 10: "0,1,2,3,4,5,6,7,8,9"}


def class_names_of(given: str | None, count: int) -> list[str]:
    """The names of --class-names, or the book's.

    Raises:
        InputError: the names are not one name for each class.
    """
    names = [name.strip() for name in (given or BOOK_CLASSES.get(count, "")).split(",")]
    if len(names) != count or "" in names or len(set(names)) < count:
        raise InputError(f"--class-names {given or 'is missing'}: give {count} names, in the order of the labels")
    return names


def describe(file: Path, model: "nn.Module", image_shape: tuple[int, int, int], names: list[str]) -> "Config":
    """The settings of the run. Its training is unknown."""
    from jaxconv.config import Config, Data
    from jaxconv.models import registry
    from jaxconv.runs.directory import environment

    photos = type(model).__name__ == "CatsDogsConvNet"
    kind: Any = "photos" if photos else "MNIST"
    return Config(
        experiment="catsdogs" if photos else "mnist",
        variant=f"keras-{file.name}",
        seed=None,
        model=registry.describe(model, image_shape),
        data=Data(class_names=names, image_shape=image_shape, kind=kind),  # nearest: Keras's default
        training=None,
        **environment(),
    )


def write(run: Path, model: "nn.Module", params: dict[str, Any], config: "Config") -> None:
    """Write a run directory: a checkpoint of step 0, and then config.json, which marks a complete run."""
    from jaxconv.runs.checkpoints import Checkpoints
    from jaxconv.runs.directory import write_config
    from jaxconv.runs.proof import Progress, digest, settings_digest
    from jaxconv.training.state import evaluation_state

    state = evaluation_state(model, {"params": params})
    with Checkpoints(run / "checkpoints", state, settings_digest(config)) as checkpoints:
        checkpoints.save(0, state, Progress(digest([])))
    write_config(run, config)


def _parse(argv: Sequence[str] | None) -> "argparse.Namespace":
    assert __doc__
    parser = bare_parser("tools.import_keras", __doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="file that Keras saved")
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help="run directory to make")
    parser.add_argument("--class-names", metavar="A,B", help="names in label order (default: cats,dogs, or the digits)")
    parser.add_argument(
        "--image-size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="size of the pictures (default: the size in the file, or else the book's)",
    )
    arguments = parser.parse_args(argv)
    if arguments.run.exists():
        raise InputError(f"--run {arguments.run} exists: name a new directory")
    if arguments.image_size is not None and min(arguments.image_size) < 1:
        raise InputError(f"--image-size {' '.join(map(str, arguments.image_size))}: give whole numbers above 0")
    return arguments


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, read the file and write the run directory."""
    arguments = _parse(argv)
    file, run = arguments.file, arguments.run
    found = keras_nets.read(file)
    try:
        model = keras_nets.net_of(found)
        net, outputs = type(model).__name__, len(found.layers[-1].bias)
        image_shape = keras_nets.image_shape_of(found, net, arguments.image_size)
        if found.described:
            keras_nets.check_architecture(found.described, net, outputs)
        params = keras_nets.params_of(found.layers, model, image_shape)
    except InputError as error:
        raise InputError(f"{file} cannot be imported: {error}") from error
    names = class_names_of(arguments.class_names, max(2, outputs))
    try:
        write(run, model, params, describe(file, model, image_shape, names))
    except OSError as error:
        raise InputError(f"--run {run} cannot be written ({error.strerror}): name another directory") from error
    print(f"{run}: {net} of pictures {'x'.join(map(str, image_shape))}, classes {', '.join(names)}")


if __name__ == "__main__":
    main()
