"""The nets of chapter 5 as Flax linen modules: from pictures in [0, 1] to logits.

They have the defaults of Keras, not of Flax: glorot_uniform kernels, zero biases, VALID convolutions, and pooling that
drops an odd row or column. With `dtype` bfloat16, all layers but the last compute in bfloat16, as Keras advises for
mixed precision; parameters and logits are float32.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxconv.config import DOWNSAMPLE
from jaxconv.models.layers import AveragePool, Conv, Dense, MaxPool


class Flatten(nn.Module):
    """Rows, columns and channels of each picture as one row of features, in that order."""

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n features"]:
        """Raises ValueError if the layers before leave no pixels."""
        if x.size == 0:
            raise ValueError(f"the picture is too small for this net: {x.shape[1]}x{x.shape[2]} is left at Flatten")
        return x.reshape(x.shape[0], -1)


class CatsDogsConvNet(nn.Module):
    """The net of code 5-5, and of 5-13 with `dropout=0.5`; one logit, positive for the second class.

    At 150x150, it has 3,453,121 parameters. With more than two `classes`, each class has a logit.
    """

    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32
    classes: int = 2

    @nn.compact
    def __call__(self, images: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n k"]:
        """Needs rngs={"dropout": key} when `train` and `dropout`. Raises ValueError below 46x46 pixels."""
        x = images
        for features in (32, 64, 128, 128):
            # relu and max pooling commute; after the pooling, relu computes a quarter of the values.
            x = nn.relu(MaxPool()(Conv(features, dtype=self.dtype)(x)))
        x = Flatten()(x)
        if self.dropout:
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = nn.relu(Dense(512, dtype=self.dtype)(x))
        return Dense(1 if self.classes == 2 else self.classes)(x)


class MnistConvNet(nn.Module):
    """The net of codes 5-1 and 5-2, with a logit for each of ten digits.

    At 28x28x1 and with max pooling, it has 93,322 parameters, 55,744 of them in the convolutions. `downsample` replaces
    the two poolings (section 5.1.2): "max", "average", "stride" (the first two convolutions move by two pixels) or
    "none".
    """

    downsample: str = "max"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n 10"]:
        """`train` has no effect. Raises ValueError for another `downsample`, or for pictures below 18x18 pixels."""
        if self.downsample not in DOWNSAMPLE:
            raise ValueError(f"downsample {self.downsample!r} is none of {', '.join(DOWNSAMPLE)}")
        x = images
        for features in (32, 64):
            x = Conv(features, strides=2 if self.downsample == "stride" else 1, dtype=self.dtype)(x)
            # relu and max pooling commute; relu and average pooling do not.
            x = nn.relu(MaxPool()(x) if self.downsample == "max" else x)
            x = AveragePool()(x) if self.downsample == "average" else x
        x = Flatten()(nn.relu(Conv(64, dtype=self.dtype)(x)))
        x = nn.relu(Dense(64, dtype=self.dtype)(x))
        return Dense(10)(x)


class DenseNet(nn.Module):
    """The dense net of chapter 2 (code 2-2), with ten logits. It has 407,050 parameters at 28x28x1."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n 10"]:
        """`train` has no effect."""
        x = nn.relu(Dense(512, dtype=self.dtype)(Flatten()(images)))
        return Dense(10)(x)
