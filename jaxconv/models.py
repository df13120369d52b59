"""The nets of chapter 5 as Flax linen modules: pictures in [0, 1] in, logits out.

Kernels start glorot_uniform and biases zero, convolutions are VALID and pooling floors: Keras's defaults, not Flax's.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
from jaxtyping import Array, Float

from jaxconv.layers import Conv, MaxPool

Dense: Callable[..., nn.Dense] = partial(nn.Dense, kernel_init=nn.initializers.glorot_uniform())


class Flatten(nn.Module):
    """Rows, columns and channels of each picture as one row of features, in that order."""

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n features"]:
        """Raises ValueError when the layers before have used the picture up."""
        if x.size == 0:
            raise ValueError(f"the picture is too small for this net: {x.shape[1]}x{x.shape[2]} is left at Flatten")
        return x.reshape(x.shape[0], -1)


class CatsDogsConvNet(nn.Module):
    """The net of code 5-5, and of 5-13 with `dropout=0.5`; one logit, positive for the second class.

    At 150x150: 3,453,121 parameters.
    """

    dropout: float = 0.0

    @nn.compact
    def __call__(self, images: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n 1"]:
        """Needs rngs={"dropout": key} when `train` and `dropout`. Raises ValueError below 46x46 pixels."""
        x = images
        for features in (32, 64, 128, 128):
            # relu and max pooling commute; after the pool, relu touches a quarter of the values.
            x = nn.relu(MaxPool()(Conv(features)(x)))
        x = Flatten()(x)
        if self.dropout:
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = nn.relu(Dense(512)(x))
        return Dense(1)(x)
