"""The layers of the nets, with Keras's initial values and, on a CPU, with custom gradients.

On a CPU, XLA's gradient of max pooling and its kernel gradients are slow. Other platforms use XLA's gradients; the
results are the same, up to rounding. tools/benchmarks/README.md has the gain of each formulation here.

A layer computes in its `dtype`. Its parameters are float32 and are rounded at each use, so that small updates add up.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

LAYOUT = ("NHWC", "HWIO", "NHWC")
FEW_CHANNELS, BLOCK = 4, 4  # a convolution of at most 4 channels is computed for 4 columns at once
GROUP_VALUES, MOST_GROUPS = 1_600_000, 16  # of a kernel gradient: activations in a group (6 MB); number of groups


def _convolve(x: Array, kernel: Array, bias: Array, strides: int = 1, padding: str = "VALID") -> Array:
    y = lax.conv_general_dilated(x, kernel, (strides, strides), padding, dimension_numbers=LAYOUT)
    return y + bias[None, None, None]


def _convolve_blocks(x: Array, kernel: Array, bias: Array) -> Array:
    """`_convolve` with four columns of a picture as channels, because products of few channels are slow.

    The kernel of a block has the kernel once for each of its columns. The last input channel is 1 everywhere, and its
    kernel is the bias; this saves a pass over the output.
    """
    n, height, width, channels = x.shape
    rows, columns, _, features = kernel.shape
    out = width - columns + 1
    blocks, taps = -(-out // BLOCK), -(-(columns + BLOCK - 1) // BLOCK)  # of the output; of the input, for an output
    x = jnp.pad(x, [(0, 0), (0, 0), (0, (blocks + taps - 1) * BLOCK - width), (0, 0)])
    x = x.reshape(n, height, blocks + taps - 1, BLOCK * channels)
    x = jnp.concatenate([x, jnp.ones((*x.shape[:3], 1), x.dtype)], 3)
    shifted = [jnp.pad(kernel, [(0, 0), (i, taps * BLOCK - columns - i), (0, 0), (0, 0)]) for i in range(BLOCK)]
    wide = jnp.stack(shifted, 3).reshape(rows, taps, BLOCK * channels, BLOCK * features)
    biases = jnp.zeros((rows, taps, 1, BLOCK * features), bias.dtype).at[0, 0, 0].set(jnp.tile(bias, BLOCK))
    y = lax.conv_general_dilated(x, jnp.concatenate([wide, biases], 2), (1, 1), "VALID", dimension_numbers=LAYOUT)
    return y.reshape(n, height - rows + 1, blocks * BLOCK, features)[:, :, :out]


@jax.custom_vjp
def _cpu_convolve(x: Array, kernel: Array, bias: Array) -> Array:
    """XLA's formulation, the fastest without a gradient. Training uses `_convolve_blocks` for few channels."""
    return _convolve(x, kernel, bias)


def _cpu_convolve_forward(x: Array, kernel: Array, bias: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    convolve = _convolve_blocks if x.shape[-1] <= FEW_CHANNELS else _convolve
    return convolve(x, kernel, bias), (x, kernel, bias)


def _cpu_convolve_backward(saved: tuple[Array, Array, Array], gradient: Array) -> tuple[Array, Array, Array]:
    """The kernel's gradient is summed over groups of pictures that fit the caches."""
    x, kernel, bias = saved
    n = len(x)
    size = max(GROUP_VALUES * n // max(x.size + gradient.size, 1), -(-n // MOST_GROUPS), 1)

    def of_kernel(x: Array, gradient: Array) -> Array:
        return jax.vjp(lambda kernel: _convolve(x, kernel, bias), kernel)[1](gradient)[0]

    groups = (of_kernel(x[i : i + size], gradient[i : i + size]) for i in range(0, n, size))
    total = sum((group.astype(jnp.float32) for group in groups), jnp.zeros(kernel.shape))
    (of_x,) = jax.vjp(lambda x: _convolve(x, kernel, bias), x)[1](gradient)
    return of_x, total.astype(kernel.dtype), gradient.sum((0, 1, 2))


_cpu_convolve.defvjp(_cpu_convolve_forward, _cpu_convolve_backward)


def conv_valid(
    x: Float[Array, "n h w i"], kernel: Float[Array, "kh kw i o"], bias: Float[Array, " o"]
) -> Float[Array, "n h2 w2 o"]:
    """Convolution with stride 1 and no padding. The result is empty if the picture is smaller than the kernel."""
    if x.shape[1] < kernel.shape[0] or x.shape[2] < kernel.shape[1]:
        return _convolve(x, kernel, bias)  # has the right shape for an empty result
    return lax.platform_dependent(x, kernel, bias, cpu=_cpu_convolve, default=_convolve)


def _windows(x: Array) -> Array:
    """Split rows and columns into 2x2 windows: [n, h2, 2, w2, 2, c]; an odd last row or column is dropped."""
    n, height, width, c = x.shape
    rows, columns = height // 2, width // 2
    return x[:, : 2 * rows, : 2 * columns].reshape(n, rows, 2, columns, 2, c)


def _pool(x: Array) -> Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


@jax.custom_vjp
def _cpu_pool(x: Array) -> Array:
    """Slices on jax 0.10, where YNNPACK would compute a convolution and its `reduce_window` together, and slower."""
    if jax.__version_info__ >= (0, 11):
        return _pool(x)
    windows = _windows(x)
    top, bottom = (jnp.maximum(windows[:, :, row, :, 0], windows[:, :, row, :, 1]) for row in (0, 1))
    return jnp.maximum(top, bottom)


def _cpu_pool_forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
    pooled = _pool(x)
    return pooled, (x, pooled)


def _cpu_pool_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    """The first pixel of a window that equals its maximum gets the gradient."""
    x, pooled = saved
    windows = _windows(x)
    is_max = [windows[:, :, row, :, column] == pooled for row, column in ((0, 0), (0, 1), (1, 0))]
    first = jnp.where(is_max[0], 0, jnp.where(is_max[1], 1, jnp.where(is_max[2], 2, 3)))
    first, gradient = (array[:, :, None, :, None] for array in (first, gradient))
    positions = jnp.arange(4).reshape(1, 1, 2, 1, 2, 1)
    spread = jnp.where(first == positions, gradient, jnp.zeros((), gradient.dtype))
    n, rows, _, columns, _, c = windows.shape
    odd = [(0, 0), (0, x.shape[1] - 2 * rows), (0, x.shape[2] - 2 * columns), (0, 0)]
    return (jnp.pad(spread.reshape(n, 2 * rows, 2 * columns, c), odd),)


_cpu_pool.defvjp(_cpu_pool_forward, _cpu_pool_backward)


def max_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Maximum of each 2x2 window; an odd last row or column is dropped.

    If several pixels of a window share the maximum, the first gets the whole gradient, as in XLA and Keras.
    """
    return lax.platform_dependent(x, cpu=_cpu_pool, default=_pool)


def average_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Mean of each 2x2 window; an odd last row or column is dropped."""
    return _windows(x).mean((2, 4))


class Conv(nn.Module):
    """3x3, with Keras's padding."""

    features: int
    strides: int = 1
    padding: str = "VALID"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 features"]:
        """Convolve every `strides`-th pixel of each axis. "VALID" drops a border of one pixel, "SAME" keeps it."""
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = (array.astype(self.dtype) for array in (x, kernel, bias))
        if self.strides == 1 and self.padding == "VALID":
            return conv_valid(x, kernel, bias)
        return _convolve(x, kernel, bias, self.strides, self.padding)


class MaxPool(nn.Module):
    """`max_pool` as a layer, so that it has a row in the summary."""

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


Dense = functools.partial(nn.Dense, dtype=jnp.float32, kernel_init=nn.initializers.glorot_uniform())
