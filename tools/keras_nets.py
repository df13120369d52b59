"""Read files of Keras 2 and 3, and find the book's net in them."""

import io
import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxconv.runtime.errors import InputError

if TYPE_CHECKING:
    import flax.linen as nn
    import numpy as np

CONV = {"strides": [1, 1], "padding": "valid", "dilation_rate": [1, 1], "activation": "relu"}
POOL = {"pool_size": [2, 2], "strides": [2, 2], "padding": "valid"}
SIDES = {"CatsDogsConvNet": 150, "MnistConvNet": 28, "DenseNet": 28}
SKIPPED = ("InputLayer", "Flatten", "Dropout")  # layers without weights that change no prediction


class Layer(NamedTuple):
    """A layer with weights, and its name in the file. The arrays are float32."""

    name: str
    kernel: "np.ndarray"
    bias: "np.ndarray"


class KerasFile(NamedTuple):
    """The layers with weights, and the description of all layers, which is empty in a file of weights alone."""

    layers: list[Layer]
    described: list[dict[str, Any]]


def read(file: Path) -> KerasFile:
    """Read a .keras, .weights.h5 or .h5 file.

    Raises:
        InputError: the file is missing or has another format, or h5py is missing.
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
                    return KerasFile(_layers(weights), described["layers"])
        with h5py.File(file) as weights:
            described = json.loads(weights.attrs.get("model_config", '{"config": []}'))["config"]
            layers = described["layers"] if isinstance(described, dict) else described  # a list before Keras 2.2.3
            return KerasFile(_layers(weights), layers)
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} cannot be read as a model or weights of Keras ({error}): name another") from error


def _layers(file: Any) -> list[Layer]:
    import numpy as np

    if "layers" in file:  # Keras 3, and .weights.h5 of Keras 2: numbered by kind, so the convolutions come first
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


def net_of(file: KerasFile) -> "nn.Module":
    """The book's net with the same number of convolutions and of dense layers.

    Raises:
        InputError: there is no such net in the book.
    """
    from jaxconv.models import CatsDogsConvNet, DenseNet, MnistConvNet

    kinds = [layer.kernel.ndim for layer in file.layers]
    if kinds == [4] * 4 + [2] * 2:
        rates = [layer["config"]["rate"] for layer in file.described if layer["class_name"] == "Dropout"]
        return CatsDogsConvNet(dropout=sum(rates, 0.0), classes=max(2, len(file.layers[-1].bias)))
    if kinds == [4] * 3 + [2] * 2:
        return MnistConvNet()
    if kinds == [2] * 2:
        return DenseNet()
    convolutions, dense = kinds.count(4), kinds.count(2)
    found = f"{convolutions} convolutions and {dense} dense layers of {len(kinds)} layers with weights"
    raise InputError(f"it has {found}: only nets of 4 and 2, 3 and 2, or 0 and 2 can be imported")


def image_shape_of(file: KerasFile, net: str, size: Sequence[int] | None) -> tuple[int, int, int]:
    """(height, width, channels): the given size, or the size in the file, or the size in the book."""
    for layer in file.described[:1]:
        shape = layer["config"].get("batch_shape") or layer["config"].get("batch_input_shape") or []
        if len(shape) == 4 and size is None and None not in shape[1:]:
            return tuple(shape[1:])
    height, width = size or (SIDES[net], SIDES[net])
    kernel = file.layers[0].kernel
    return height, width, kernel.shape[-2] if kernel.ndim == 4 else max(1, kernel.shape[-2] // (height * width))


def check_architecture(described: list[dict[str, Any]], net: str, outputs: int) -> None:
    """Check that the layers compute the same as the layers of the net. Their sizes follow from their weights.

    Raises:
        InputError: a layer computes something else; the message names the layer and the difference.
    """
    last = {"activation": "sigmoid" if outputs == 1 else "softmax"}
    conv, pool, dense = ("Conv2D", CONV), ("MaxPooling2D", POOL), ("Dense", {"activation": "relu"})
    expected = {
        "CatsDogsConvNet": [conv, pool] * 4,
        "MnistConvNet": [conv, pool, conv, pool, conv],
        "DenseNet": [],
    }[net] + [dense, ("Dense", last)]
    found = [layer for layer in described if layer["class_name"] not in SKIPPED]
    for layer, (kind, settings) in zip(found, expected, strict=False):
        name, config = layer["config"].get("name", layer["class_name"]), layer["config"]
        if layer["class_name"] != kind:
            raise InputError(f"its layer {name} is {layer['class_name']}, but the book's net has {kind}")
        order = {"data_format": "channels_last"} if "data_format" in config else {}
        for setting, value in (settings | order).items():
            if config.get(setting) != value:
                raise InputError(f"its layer {name} has {setting} {config.get(setting)}, but the book's has {value}")
    if len(found) != len(expected):
        raise InputError(f"it has {len(found)} layers that compute, but the book's net has {len(expected)}")


def params_of(layers: list[Layer], model: "nn.Module", image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """The weights under the names of the net's layers.

    Raises:
        InputError: a shape differs from the shape in a net for such pictures.
    """
    from jaxconv.models.summary import layer_shapes

    try:
        rows, variables = layer_shapes(model, image_shape)
    except ValueError as error:
        raise InputError(f"{error}: give their size by --image-size") from error
    params, shapes = {}, variables["params"]
    size = "x".join(map(str, image_shape))
    for target, layer in zip([name for name, _ in rows if name in shapes], layers, strict=True):
        params[target] = {"kernel": layer.kernel, "bias": layer.bias}
        for part, array in params[target].items():
            if array.shape != (expected := shapes[target][part].shape):
                raise InputError(
                    f"its layer {layer.name} has a {part} of {list(array.shape)}, but {type(model).__name__} of "
                    f"pictures {size} has {list(expected)}: give their size by --image-size, if it is another"
                )
    return params
