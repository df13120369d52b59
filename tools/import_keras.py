"""A net that Keras trained as a run directory, with which the tools do what they do with any run.

    python -m tools.import_keras cats_and_dogs_small_1.h5 --run runs/book
    python -m tools.import_keras mnist.keras --run runs/mnist-keras
    python -m tools.import_keras net.weights.h5 --run runs/wolves --class-names cats,wolves --image-size 180 180

Reads .keras, .weights.h5, and the .h5 of Keras 2, models and weights alone, of the book's nets: cats against dogs with
dropout or without, the convnet of MNIST, and the dense one. Needs h5py (extra: keras), not Keras. Pictures are taken to
have been scaled to [0, 1]. A file of weights alone does not say how large its pictures were: the book's size is taken,
unless --image-size gives another. Of a dense net the features must be the pixels row by row.
"""

import io
import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.command import bare_parser
from jaxconv.errors import InputError, one_line_errors

if TYPE_CHECKING:
    import flax.linen as nn
    import numpy as np

CONV = {"strides": [1, 1], "padding": "valid", "dilation_rate": [1, 1], "activation": "relu"}
POOL = {"pool_size": [2, 2], "strides": [2, 2], "padding": "valid"}
SIDES = {"CatsDogsConvNet": 150, "MnistConvNet": 28, "DenseNet": 28}
PASSED_OVER = ("InputLayer", "Flatten", "Dropout")  # they have no weights, and change no prediction


class Layer(NamedTuple):
    """One with weights, by its name in the file: float32 arrays."""

    name: str
    kernel: "np.ndarray"
    bias: "np.ndarray"


def read(file: Path) -> tuple[list[Layer], list[dict[str, Any]]]:
    """The layers that have weights, and what the file says of all layers: nothing if it holds weights alone.

    Raises:
        InputError: it is no such file, or h5py is missing.
    """
    try:
        import h5py
    except ImportError as error:
        raise InputError("h5py is needed to read what Keras writes: pip install -e '.[keras]'") from error
    if not file.is_file():
        raise InputError(f"{file} is no file: name a .keras, .weights.h5 or .h5 file")
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                described = json.loads(archive.read("config.json"))["config"]
                with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
                    return _layers(weights), described["layers"]
        with h5py.File(file) as weights:
            described = json.loads(weights.attrs.get("model_config", '{"config": []}'))["config"]
            layers = described["layers"] if isinstance(described, dict) else described  # a list before Keras 2.2.3
            return _layers(weights), layers
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} cannot be read as a model or weights of Keras ({error}): name another") from error


def _layers(file: Any) -> list[Layer]:
    import numpy as np

    if "layers" in file:  # Keras 3, and .weights.h5 of Keras 2: numbered by kind, so convolutions come first
        groups = {name: [group["vars"][key] for key in sorted(group["vars"])] for name, group in file["layers"].items()}
        names = sorted(groups, key=lambda name: (not name.startswith("conv"), _number(name)))
    else:
        root = file.get("model_weights", file)
        names = [_text(name) for name in root.attrs["layer_names"]]
        groups = {name: [root[name][_text(key)] for key in root[name].attrs["weight_names"]] for name in names}
    return [Layer(name, *(np.asarray(array, np.float32) for array in groups[name])) for name in names if groups[name]]


def _number(name: str) -> int:
    found = re.search(r"_(\d+)$", name)
    return int(found[1]) if found else 0


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def net_of(layers: list[Layer], described: list[dict[str, Any]]) -> "nn.Module":
    """The net that has as many layers of each kind.

    Raises:
        InputError: none has.
    """
    from jaxconv.models import CatsDogsConvNet, DenseNet, MnistConvNet

    kinds = [layer.kernel.ndim for layer in layers]
    if kinds == [4] * 4 + [2] * 2:
        rates = [layer["config"]["rate"] for layer in described if layer["class_name"] == "Dropout"]
        return CatsDogsConvNet(dropout=sum(rates, 0.0), classes=max(2, len(layers[-1].bias)))
    if kinds == [4] * 3 + [2] * 2:
        return MnistConvNet()
    if kinds == [2] * 2:
        return DenseNet()
    convolutions, dense = kinds.count(4), kinds.count(2)
    found = f"{convolutions} convolutions and {dense} dense layers of {len(layers)} layers with weights"
    raise InputError(f"it has {found}: only nets of 4 and 2, 3 and 2, or 0 and 2 can be imported")


def image_shape_of(
    layers: list[Layer], described: list[dict[str, Any]], net: str, size: Sequence[int] | None
) -> tuple[int, int, int]:
    """(height, width, channels): of `size`, or as the file says, or the book's."""
    for layer in described[:1]:
        shape = layer["config"].get("batch_shape") or layer["config"].get("batch_input_shape") or []
        if len(shape) == 4 and size is None and None not in shape[1:]:
            return tuple(shape[1:])
    height, width = size or (SIDES[net], SIDES[net])
    inputs = layers[0].kernel.shape[-2]
    return height, width, inputs if layers[0].kernel.ndim == 4 else max(1, inputs // (height * width))


def check_architecture(described: list[dict[str, Any]], net: str, outputs: int) -> None:
    """Whether the layers do what those of the net do; their sizes are told by their weights.

    Raises:
        InputError: one does not, by its name and what is different.
    """
    last = {"activation": "sigmoid" if outputs == 1 else "softmax"}
    conv, pool, dense = ("Conv2D", CONV), ("MaxPooling2D", POOL), ("Dense", {"activation": "relu"})
    expected = {
        "CatsDogsConvNet": [conv, pool] * 4,
        "MnistConvNet": [conv, pool, conv, pool, conv],
        "DenseNet": [],
    }[net] + [dense, ("Dense", last)]
    found = [layer for layer in described if layer["class_name"] not in PASSED_OVER]
    for layer, (kind, settings) in zip(found, expected, strict=False):
        name, config = layer["config"].get("name", layer["class_name"]), layer["config"]
        if layer["class_name"] != kind:
            raise InputError(f"its layer {name} is {layer['class_name']} where the book's net has {kind}")
        order = {"data_format": "channels_last"} if "data_format" in config else {}
        for setting, value in (settings | order).items():
            if config.get(setting) != value:
                raise InputError(f"its layer {name} has {setting} {config.get(setting)} where the book's has {value}")
    if len(found) != len(expected):
        raise InputError(f"it has {len(found)} layers that compute where the book's net has {len(expected)}")


def params_of(layers: list[Layer], model: "nn.Module", image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """The weights as the net names them.

    Raises:
        InputError: a shape is another than the net's for such pictures.
    """
    from jaxconv.summary import layer_shapes

    try:
        rows, shapes = layer_shapes(model, image_shape)
    except ValueError as error:
        raise InputError(f"{error}: give their size by --image-size") from error
    params = {}
    size = "x".join(map(str, image_shape))
    for target, layer in zip([name for name, _ in rows if name in shapes], layers, strict=True):
        params[target] = {"kernel": layer.kernel, "bias": layer.bias}
        for part, array in params[target].items():
            if array.shape != (expected := shapes[target][part].shape):
                raise InputError(
                    f"its layer {layer.name} has a {part} of {list(array.shape)}, where {type(model).__name__} of "
                    f"pictures {size} has {list(expected)}: give their size by --image-size, if it is another"
                )
    return params


def class_names_of(given: str | None, count: int) -> list[str]:
    """Those of --class-names, or the book's.

    Raises:
        InputError: they are not one a class.
    """
    book = {2: "cats,dogs", 10: "0,1,2,3,4,5,6,7,8,9"}.get(count, "")
    names = [name.strip() for name in (given or book).split(",")]
    if len(names) != count or "" in names or len(set(names)) < count:
        raise InputError(f"--class-names {given or 'is missing'}: give {count} names, in the order of the labels")
    return names


def write(run: Path, model: "nn.Module", params: dict[str, Any], config: dict[str, Any]) -> None:
    """A run directory of no training: a checkpoint of step 0, then config.json, without which there is no run."""
    import jax.numpy as jnp

    from jaxconv.checkpoints import Checkpoints
    from jaxconv.train_step import evaluation_state
    from jaxconv.workdir import CONFIG, write_json

    state = evaluation_state(model, params).replace(step=jnp.int32(0))
    with Checkpoints(run / "checkpoints", state) as checkpoints:
        checkpoints.save(0, state, {})
    write_json(run / CONFIG, config)


def describe(file: Path, model: "nn.Module", image_shape: tuple[int, int, int], names: list[str]) -> dict[str, Any]:
    """What config.json says: nothing of training, which is not known. An epoch of one step makes step 0 epoch 0."""
    from jaxconv import models, summary
    from jaxconv.records import SPLITS
    from jaxconv.workdir import environment

    photos = type(model).__name__ == "CatsDogsConvNet"
    config = {
        "experiment": "catsdogs" if photos else "mnist",
        "variant": "keras",
        "imported_from": str(file),
        "epochs": 0,
        "steps_per_epoch": 1,
        "batch_size": 1,
        "model": models.describe(model),
        "parameters": summary.count_params(summary.layer_shapes(model, image_shape)[1]),
        "image_shape": image_shape,
        "class_names": names,
        "data": {
            "kind": "photos" if photos else "MNIST",
            "counts": dict.fromkeys(SPLITS, 0),
            "fingerprint": dict.fromkeys(SPLITS),
            "interpolation": "nearest",  # as Keras reads pictures, unless it is told otherwise
        },
    }
    return config | environment()


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    assert __doc__
    parser = bare_parser("tools.import_keras", __doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="what Keras saved")
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help="the run directory to make")
    parser.add_argument("--class-names", metavar="A,B", help="in label order (default: cats,dogs, or the digits)")
    parser.add_argument(
        "--image-size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of pictures (default: see above)"
    )
    arguments = parser.parse_args(argv)
    file, run = arguments.file, arguments.run
    if run.exists():
        raise InputError(f"--run {run} exists: name a new directory")
    if arguments.image_size is not None and min(arguments.image_size) < 1:
        raise InputError(f"--image-size {' '.join(map(str, arguments.image_size))}: give whole numbers above 0")
    layers, described = read(file)
    try:
        model = net_of(layers, described)
        net, outputs = type(model).__name__, len(layers[-1].bias)
        image_shape = image_shape_of(layers, described, net, arguments.image_size)
        if described:
            check_architecture(described, net, outputs)
        params = params_of(layers, model, image_shape)
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
