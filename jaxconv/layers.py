"""The layers of the nets, with Keras's initial values, as a CPU is fast at them.

XLA's own formulations are slow there, convolutions of large pictures with few channels and the gradient of max pooling
above all. A GPU keeps them. Both compute the same numbers, to rounding.

A layer computes in its `dtype`. Its parameters are float32 and are rounded at each use, so that small updates add up.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

LAYOUT = ("NHWC", "HWIO", "NHWC")
FEW_CHANNELS = 8


def _convolve(x: Array, kernel: Array, bias: Array, strides: int = 1, padding: str = "VALID") -> Array:
    y = lax.conv_general_dilated(x, kernel, (strides, strides), padding, dimension_numbers=LAYOUT)
    return y + bias[None, None, None]


def _convolve_by_products(x: Array, kernel: Array, bias: Array) -> Array:
    """As matrix products, which XLA runs faster on a CPU, most of all for large pictures with few channels."""
    height, width, channels, features = kernel.shape
    n, rows, cols = x.shape[0], x.shape[1] - height + 1, x.shape[2] - width + 1
    if channels <= FEW_CHANNELS:
        # The bias is the kernel of a channel of ones: neither adding it nor its gradient takes a pass over the output.
        shifted = [x[:, i : i + rows, j : j + cols] for i in range(height) for j in range(width)]
        patches = jnp.concatenate([*shifted, jnp.ones((n, rows, cols, 1), x.dtype)], -1)
        weights = jnp.concatenate([kernel.reshape(-1, features), bias[None]])
        return (patches.reshape(-1, len(weights)) @ weights).reshape(n, rows, cols, features)
    # With many channels patches are too large for the caches. Strips of one kernel row's height are a third of them:
    # one product gives what each kernel row contributes to each picture row, and rows are then added with an offset.
    strips = jnp.concatenate([x[:, :, j : j + cols] for j in range(width)], -1).reshape(-1, width * channels)
    by_row = kernel.transpose(1, 2, 0, 3).reshape(-1, height * features)
    parts = (strips @ by_row).reshape(n, -1, cols, height, features)
    return sum((parts[:, i : i + rows, :, i] for i in range(1, height)), parts[:, :rows, :, 0]) + bias[None, None, None]


@jax.custom_vjp
def _cpu_convolve(x: Array, kernel: Array, bias: Array) -> Array:
    """Without a gradient XLA's own is faster for many channels; with one, products that share their operands are."""
    return (_convolve_by_products if x.shape[-1] <= FEW_CHANNELS else _convolve)(x, kernel, bias)


_cpu_convolve.defvjp(
    lambda *arguments: jax.vjp(_convolve_by_products, *arguments), lambda pullback, gradient: pullback(gradient)
)


def conv_valid(
    x: Float[Array, "n h w i"], kernel: Float[Array, "kh kw i o"], bias: Float[Array, " o"]
) -> Float[Array, "n h2 w2 o"]:
    """Convolution with stride 1 and no padding; nothing is left of a picture that is smaller than the kernel."""
    if x.shape[1] < kernel.shape[0] or x.shape[2] < kernel.shape[1]:
        return _convolve(x, kernel, bias)  # which knows the shape of nothing
    return lax.platform_dependent(x, kernel, bias, cpu=_cpu_convolve, default=_convolve)


def _pool(x: Array) -> Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def _pool_forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
    pooled = _pool(x)
    return pooled, (x, pooled)


def _pool_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    """Compare the four pixels of each window with its maximum; the first that equals it takes the gradient."""
    x, pooled = saved
    n, rows, cols, c = pooled.shape
    windows = x[:, : 2 * rows, : 2 * cols].reshape(n, rows, 2, cols, 2, c)
    parts, taken = [], jnp.zeros(pooled.shape, bool)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        is_max = windows[:, :, i, :, j] == pooled
        parts.append(jnp.where(is_max & ~taken, gradient, 0))
        taken |= is_max
    pairs = [jnp.stack(parts[:2], 3), jnp.stack(parts[2:], 3)]
    spread = jnp.stack(pairs, 2).reshape(n, 2 * rows, 2 * cols, c)
    odd = [(0, 0), (0, x.shape[1] - 2 * rows), (0, x.shape[2] - 2 * cols), (0, 0)]
    return (jnp.pad(spread, odd),)


_cpu_pool = jax.custom_vjp(_pool)
_cpu_pool.defvjp(_pool_forward, _pool_backward)


def max_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Maximum of each 2x2 window; an odd last row or column is dropped.

    Where several pixels of a window share the maximum, the first has the whole gradient, as in XLA and Keras.
    """
    return lax.platform_dependent(x, cpu=_cpu_pool, default=_pool)


def average_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Mean of each 2x2 window; an odd last row or column is dropped."""
    n, height, width, c = x.shape
    rows, cols = height // 2, width // 2
    return x[:, : 2 * rows, : 2 * cols].reshape(n, rows, 2, cols, 2, c).mean((2, 4))


class Conv(nn.Module):
    """3x3, with Keras's padding."""

    features: int
    strides: int = 1
    padding: str = "VALID"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 features"]:
        """One of `strides` pixels each way; "VALID" loses a border of one, "SAME" keeps it."""
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = (array.astype(self.dtype) for array in (x, kernel, bias))
        if self.strides == 1 and self.padding == "VALID":
            return conv_valid(x, kernel, bias)
        return _convolve(x, kernel, bias, self.strides, self.padding)


class MaxPool(nn.Module):
    """`max_pool` as a layer, so that it has its row in the summary."""

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
        """Half the height and width."""
        return max_pool(x)


class AveragePool(nn.Module):
    """`average_pool` as a layer."""

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
        """Half the height and width."""
        return average_pool(x)


@jax.custom_vjp
def _factored(x: Array, kernel: Array, factors: dict[str, Array]) -> Array:
    """x @ kernel, with the gradient of `kernel` put off: `factors` gets the two that it is the product of."""
    return x @ kernel


def _factored_forward(x: Array, kernel: Array, factors: dict[str, Array]) -> tuple[Array, tuple[Array, Array]]:
    return x @ kernel, (x, kernel)


def _factored_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, None, dict[str, Array]]:
    x, kernel = saved
    return gradient @ kernel.T, None, {"inputs": x, "outputs": gradient}


_factored.defvjp(_factored_forward, _factored_backward)


class Dense(nn.Module):
    """Fully connected.

    The gradient of its kernel is the product of its inputs and of its outputs' gradients. Whoever passes the collection
    "factors" gets these two as the gradient of that collection, and none for the kernel: see `chunks.summed_gradients`.
    Only a kernel larger than they are has this collection.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n inputs"]) -> Float[Array, "n features"]:
        """A row of `features` for each row."""
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = (array.astype(self.dtype) for array in (x, kernel, bias))
        factors = {"inputs": x.shape, "outputs": (*x.shape[:-1], self.features)}
        if self.has_variable("factors", "inputs"):
            return _factored(x, kernel, {name: self.get_variable("factors", name) for name in factors}) + bias[None]
        if self.is_mutable_collection("factors") and not self.is_initializing():
            larger = kernel.size > sum(math.prod(shape) for shape in factors.values())
            for name, shape in factors.items() if larger else ():  # for whoever asks for their shapes
                self.variable("factors", name, jnp.zeros, shape, self.dtype)
        return x @ kernel + bias[None]
