"""EfficientNet-Lite0 as a Flax linen module. `jaxconv.models.pretrained` has its weights of ImageNet.

EfficientNet (Tan and Le 2019, arXiv:1905.11946) is a stack of the inverted residuals of MobileNetV2 (Sandler et al.
2018, arXiv:1801.04381). The Lite variant has relu6, and no squeeze-and-excitation.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, UInt8

from jaxconv.models.layers import LAYOUT, Dense

EPSILON = 1e-3  # added to the variances of batch norm


class Stage(NamedTuple):
    """Inverted residuals in a row. The strides are those of the first; the others move by one pixel."""

    repeats: int
    size: int  # of the depthwise kernels
    strides: int
    expansion: int
    features: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def _convolve(x: Array, kernel: Array, strides: int, groups: int = 1) -> Array:
    window = (strides, strides)
    return lax.conv_general_dilated(x, kernel, window, "SAME", dimension_numbers=LAYOUT, feature_group_count=groups)


def _cpu_depthwise(x: Array, kernel: Array, strides: int) -> Array:
    """The sum of shifted inputs, each times one place of the kernels. XLA's takes twenty times as long."""
    rows, columns = kernel.shape[:2]
    pads = lax.padtype_to_pads(x.shape[1:3], (rows, columns), (strides, strides), "SAME")
    x = jnp.pad(x, [(0, 0), *pads, (0, 0)])
    height, width = x.shape[1] - rows + 1, x.shape[2] - columns + 1
    shifted = [
        x[:, row : row + height : strides, column : column + width : strides] * kernel[None, None, row, column]
        for row in range(rows)
        for column in range(columns)
    ]
    return functools.reduce(jnp.add, shifted)


def depthwise(
    x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw 1 c"], strides: int = 1
) -> Float[Array, "n h2 w2 c"]:
    """Convolution of each channel with a kernel of its own, at every `strides`-th pixel, with padding "SAME"."""
    cpu = functools.partial(_cpu_depthwise, strides=strides)
    default = functools.partial(_convolve, strides=strides, groups=x.shape[-1])
    return lax.platform_dependent(x, kernel, cpu=cpu, default=default)


class ConvNorm(nn.Module):
    """A convolution with padding "SAME", and batch norm that always uses its saved statistics.

    So batch norm is a factor for the kernel and a bias, and fine-tuning leaves its statistics as they are.
    """

    features: int
    size: int = 1
    strides: int = 1
    depthwise: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 features"]:
        """Needs as many channels as `features` if `depthwise`."""
        shape, each = (self.size, self.size, 1 if self.depthwise else x.shape[-1], self.features), (self.features,)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        scale = self.param("scale", nn.initializers.ones, each)
        bias = self.param("bias", nn.initializers.zeros, each)
        mean = self.variable("batch_stats", "mean", jnp.zeros, each, jnp.float32).value
        var = self.variable("batch_stats", "var", jnp.ones, each, jnp.float32).value
        factor = scale * lax.rsqrt(var + EPSILON)
        x, kernel, bias = (a.astype(self.dtype) for a in (x, kernel * factor[None, None, None], bias - mean * factor))
        convolve = depthwise if self.depthwise else _convolve
        return convolve(x, kernel, self.strides) + bias[None, None, None]


class InvertedResidual(nn.Module):
    """More features by a 1x1 convolution, a depthwise convolution, and fewer features by a linear 1x1 convolution."""

    features: int
    expansion: int
    size: int
    strides: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 features"]:
        """The input is added to an output of its shape."""
        y, inner = x, self.expansion * x.shape[-1]
        if self.expansion > 1:
            y = nn.relu6(ConvNorm(inner, dtype=self.dtype, name="expand")(y))
        y = nn.relu6(ConvNorm(inner, self.size, self.strides, depthwise=True, dtype=self.dtype, name="depthwise")(y))
        y = ConvNorm(self.features, dtype=self.dtype, name="project")(y)
        return x + y if x.shape == y.shape else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0, with a logit for each class, or one logit for two classes.

    With 1,000 classes, it has 4,652,008 parameters. It was trained on pictures of 224x224; other sizes work too. With
    `trained_blocks`, 1 to 16, training has no gradients for the layers before the last inverted residuals.
    """

    classes: int = 1000
    dropout: float = 0.2
    dtype: DTypeLike = jnp.float32
    trained_blocks: int | None = None

    def setup(self) -> None:
        """Name the layers: stem, blocks_0 to blocks_15, head and classifier. Raises ValueError for other numbers."""
        self.stem = ConvNorm(32, 3, 2, dtype=self.dtype)
        self.blocks = [
            InvertedResidual(stage.features, stage.expansion, stage.size, 1 if again else stage.strides, self.dtype)
            for stage in STAGES
            for again in range(stage.repeats)
        ]
        if self.trained_blocks is not None and not 1 <= self.trained_blocks <= len(self.blocks):
            raise ValueError(f"trained_blocks is {self.trained_blocks}, not 1 to {len(self.blocks)}")
        self.head = ConvNorm(1280, dtype=self.dtype)
        self.drop = nn.Dropout(self.dropout)
        self.classifier = Dense(1 if self.classes == 2 else self.classes)

    def __call__(self, images: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n k"]:
        """Needs rngs={"dropout": key} when `train` and `dropout`."""
        return self.classifier(self.drop(self.features(images, train=train), deterministic=not train))

    def features(self, images: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n 1280"]:
        """The input of the classifier: the mean of the last maps, in float32. `train` changes only gradients."""
        x = nn.relu6(self.stem(images))
        for number, block in enumerate(self.blocks):
            if train and self.trained_blocks == len(self.blocks) - number:
                x = lax.stop_gradient(x)
            x = block(x)
        return nn.relu6(self.head(x)).astype(jnp.float32).mean((1, 2))

    def normalize(self, images: UInt8[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Pixels as the pretrained weights need them: float32 in [-0.993, 1]."""
        return (images.astype(jnp.float32) - 127) / 128
