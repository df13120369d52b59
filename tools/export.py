"""Export the trained net of a run as one file. To load it you need JAX, but neither jaxconv nor Flax.

    python -m tools.export runs/catsdogs-aug-dropout-seed0 --to model.stablehlo

The file has the weights and the program in StableHLO, a portable format. It runs on a CPU and on CUDA, for any number
of pictures at once. Beside it, model.stablehlo.json has the class names, the image shape, the way to resize pictures,
and the run and epoch of the net. To use the net:

    import json

    import jax
    import numpy as np
    from jax import export
    from PIL import Image, ImageOps

    net = export.deserialize(open("model.stablehlo", "rb").read())
    about = json.load(open("model.stablehlo.json"))
    predict = jax.jit(net.call, compiler_options=about["cpu_compiler_options"])  # on a GPU: jax.jit(net.call)

    height, width, channels = about["image_shape"]
    picture = ImageOps.exif_transpose(Image.open("cat.jpg")).convert(about["mode"])
    picture = picture.resize((width, height), Image.Resampling[about["interpolation"].upper()])
    images = np.asarray(picture, np.uint8).reshape(1, height, width, channels)

    probabilities = predict(images)  # float32[n, classes] of uint8[n, height, width, channels]
    print(about["class_names"][probabilities[0].argmax()])

JAX guarantees that its versions of the next six months can load the file.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxconv.runtime.cli import one_line_errors
from jaxconv.runtime.errors import InputError
from jaxconv.runtime.files import write_json, write_whole
from tools import net

if TYPE_CHECKING:
    from jaxconv.analysis.predictor import Predictor

PLATFORMS = ("cpu", "cuda")
MODES = {1: "L", 3: "RGB"}  # Pillow's names for grey and coloured pictures, by the number of channels


def serialize(predictor: "Predictor") -> bytes:
    """The exported prediction, from uint8[n, h, w, c] to float32[n, k] for any n from 1 on."""
    import jax
    import jax.numpy as jnp
    from jax import export

    from jaxconv.training.losses import probabilities

    state = predictor.state
    variables = jax.device_get(state.variables)  # constants of the program, on no device

    def predict(images: jax.Array) -> jax.Array:
        logits: Any = state.apply_fn(jax.tree.map(jnp.asarray, variables), images, train=False)
        return probabilities(logits)

    height, width, channels = predictor.image_shape
    shape = export.symbolic_shape(f"n, {height}, {width}, {channels}")
    exported = export.export(jax.jit(predict), platforms=PLATFORMS)(jax.ShapeDtypeStruct(shape, jnp.uint8))
    return bytes(exported.serialize())


def describe(predictor: "Predictor") -> dict[str, Any]:
    """The content of the JSON file beside the net."""
    import jax

    from jaxconv.runtime.compilation import CPU_OPTIONS

    names = predictor.class_names
    return {
        "class_names": names,
        "input": f"uint8[n, {', '.join(map(str, predictor.image_shape))}]: pictures, height, width, channels; 0 to 255",
        "output": f"float32[n, {len(names)}]: the probability of each class",
        "image_shape": list(predictor.image_shape),
        "mode": MODES.get(predictor.image_shape[-1]),
        "interpolation": predictor.config.data.interpolation,
        "run": str(predictor.workdir),
        "epoch": predictor.epoch,
        "platforms": PLATFORMS,
        "jax": jax.__version__,
        "cpu_compiler_options": CPU_OPTIONS,
    }


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, and write the net and the JSON file beside it."""
    assert __doc__
    parser = net.parser("tools.export", __doc__)
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="file to write")
    arguments = parser.parse_args(argv)
    predictor = net.read(arguments)
    content, to = serialize(predictor), arguments.to
    try:
        write_whole(to, content)
        write_json(to.with_name(f"{to.name}.json"), describe(predictor))
    except OSError as error:
        raise InputError(f"--to {to} cannot be written ({error.strerror}): name another file") from error
    print(f"{to}: {len(content) / 1e6:.1f} MB, epoch {predictor.epoch:g}, classes {', '.join(predictor.class_names)}")


if __name__ == "__main__":
    main()
