"""The measurements of the MNIST study: sizes of convolutions, scores of nets, and accuracies on moved digits."""

from collections.abc import Callable
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

from experiments.mnist import IMAGE_SHAPE

if TYPE_CHECKING:
    import flax.linen as nn

    from jaxconv.data.arrays import ArraySource
    from jaxconv.data.records import Source, Splits
    from jaxconv.training.state import TrainState

MOVED = ("max pooling", "dense net")  # the nets that see moved digits
SHIFTS = [0, 1, 2, 3, 4, 5, 6]  # pixels
DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))


def output_sizes() -> list[tuple[str, int, tuple[int, int]]]:
    """Padding, stride, and the height and width of a 3x3 convolution's output for a digit of 28x28."""
    import jax
    import jax.numpy as jnp

    from jaxconv.models.layers import Conv

    digit = jax.ShapeDtypeStruct((1, *IMAGE_SHAPE), jnp.float32)

    def size(padding: str, strides: int) -> tuple[int, int]:
        layer = Conv(1, strides, padding)
        shape = jax.eval_shape(lambda x: layer.init_with_output(jax.random.key(0), x)[0], digit).shape
        return (shape[1], shape[2])

    return [(padding, strides, size(padding, strides)) for padding in ("VALID", "SAME") for strides in (1, 2, 3)]


def layout(model: "nn.Module") -> dict[str, Any]:
    """The shape of the input of a net's dense layers, and the number of its parameters."""
    from jaxconv.models import summary

    shapes, variables = summary.layer_shapes(model, IMAGE_SHAPE)
    names = [layer for layer, _ in shapes]
    into_dense = [IMAGE_SHAPE, *(shape[1:] for _, shape in shapes)][names.index("Flatten_0")]
    return {"into_dense": into_dense, "parameters": summary.count_params(variables["params"])}


def downsampling(states: dict[str, list["TrainState"]], splits: "Splits") -> dict[str, Any]:
    """The layout of each net, and the training and test scores of its runs."""
    nets = {}
    for name, runs in states.items():
        nets[name] = layout(runs[0].apply_fn.model)
        for split in ("train", "test"):
            found = [score(state, getattr(splits, split)) for state in runs]
            nets[name] |= {f"{split}_{key}": [run[key] for run in found] for key in ("acc", "loss")}
    return nets


def score(state: "TrainState", digits: "Source") -> dict[str, Any]:
    """Loss, accuracy and confusion matrix."""
    from jaxconv.training.feed import evaluate

    return evaluate(state, digits, 500)


def translation(states: dict[str, list["TrainState"]], test: "ArraySource") -> dict[str, Any]:
    """The accuracy of each run on test digits that are moved, for each shift, and the share of ink that is moved out.

    Both are means over the four directions.
    """
    ways = [sorted({(pixels * rows, pixels * cols) for rows, cols in DIRECTIONS}) for pixels in SHIFTS]
    moved = [[move(test, rows, cols) for rows, cols in same] for same in ways]

    def over_shifts(measure: Callable[["ArraySource"], float]) -> list[float]:
        return [fmean(map(measure, sources)) for sources in moved]

    def accuracy(state: "TrainState", source: "ArraySource") -> float:
        return float(score(state, source)["acc"])

    ink = float(test.images.sum())
    found: dict[str, Any] = {"pixels": SHIFTS, "ink_lost": over_shifts(lambda source: 1 - source.images.sum() / ink)}
    return found | {name: [over_shifts(partial(accuracy, state)) for state in states[name]] for name in MOVED}


def move(digits: "ArraySource", rows: int, cols: int) -> "ArraySource":
    """The digits, moved down and to the right by whole pixels. The free pixels are black."""
    import numpy as np

    from jaxconv.data.arrays import ArraySource

    most, (height, width) = max(SHIFTS), digits.images.shape[1:3]
    padded = np.pad(digits.images, ((0, 0), (most, most), (most, most), (0, 0)))
    images = padded[:, most - rows : most - rows + height, most - cols : most - cols + width]
    return ArraySource(images, digits.labels, digits.class_names)
