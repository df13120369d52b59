"""The trained net of a run as one file that JAX alone can load: weights inside, any number of pictures at once.

    python -m tools.export runs/catsdogs-aug-dropout-seed0 --to model.stablehlo

Writes StableHLO, as jax.export serializes it, for a CPU and for CUDA; and beside it model.stablehlo.json: class names,
image shape, how pictures become it, and of which run and epoch it is. Whoever loads it needs neither jaxconv nor Flax:

    import json

    import jax
    from jax import export

    net = export.deserialize(open("model.stablehlo", "rb").read())
    about = json.load(open("model.stablehlo.json"))
    predict = jax.jit(net.call, compiler_options=about["cpu_compiler_options"])  # on a GPU: jax.jit(net.call)
    probabilities = predict(images)  # float32[n, classes] of uint8[n, height, width, channels]

JAX promises that a later version loads it for half a year.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxconv.errors import InputError, one_line_errors
from jaxconv.workdir import write_json, write_whole
from tools import net

if TYPE_CHECKING:
    from jaxconv.trained import Trained

PLATFORMS = ("cpu", "cuda")


def serialize(trained: "Trained") -> bytes:
    """Its prediction: uint8[n, h, w, c] to float32[n, k], for any n from 1 on."""
    import jax
    import jax.numpy as jnp
    from jax import export

    from jaxconv.train_step import probabilities, scale

    weights = jax.device_get(trained.state.weights)  # as constants, which belong to no device

    def predict(images: jax.Array) -> jax.Array:
        logits: Any = trained.model.apply({"params": jax.tree.map(jnp.asarray, weights)}, scale(images), train=False)
        return probabilities(logits)

    height, width, channels = trained.image_shape
    shape = export.symbolic_shape(f"n, {height}, {width}, {channels}")
    exported = export.export(jax.jit(predict), platforms=PLATFORMS)(jax.ShapeDtypeStruct(shape, jnp.uint8))
    return bytes(exported.serialize())


def describe(trained: "Trained") -> dict[str, Any]:
    """What a user of the file has to know."""
    import jax

    from jaxconv.compilation import CPU_OPTIONS

    return {
        "class_names": trained.class_names,
        "input": f"uint8[n, {', '.join(map(str, trained.image_shape))}]: pictures, height, width, channels; 0 to 255",
        "output": f"float32[n, {len(trained.class_names)}]: the probability of each class",
        "image_shape": list(trained.image_shape),
        "interpolation": trained.config["data"]["interpolation"],
        "run": str(trained.workdir),
        "epoch": trained.epoch,
        "platforms": PLATFORMS,
        "jax": jax.__version__,
        "cpu_compiler_options": CPU_OPTIONS,
    }


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    assert __doc__
    parser = net.parser("tools.export", __doc__)
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="the file to write")
    arguments = parser.parse_args(argv)
    trained = net.read(arguments)
    content, to = serialize(trained), arguments.to
    try:
        write_whole(to, content)
        write_json(to.with_name(f"{to.name}.json"), describe(trained))
    except OSError as error:
        raise InputError(f"--to {to} cannot be written ({error.strerror}): name another file") from error
    print(f"{to}: {len(content) / 1e6:.1f} MB, epoch {trained.epoch:g}, classes {', '.join(trained.class_names)}")


if __name__ == "__main__":
    main()
