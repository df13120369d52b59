"""Convolution and pooling as a CPU is fast at them, and sums over the batch that keep to its caches.

XLA's own formulations are slow there, convolutions of large pictures with few channels and the gradient of max pooling
above all. A GPU keeps them. Both compute the same numbers, to rounding.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

LAYOUT = ("NHWC", "HWIO", "NHWC")
# Of the pictures that are worked on together, found by measurement: 2 of 150x150, 16 of 28x28.
CHUNK_ROWS, CHUNK_VALUES = 16, 140_000
FEW_CHANNELS = 8


def _convolve(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=LAYOUT)


def _convolve_by_products(x: Array, kernel: Array) -> Array:
    """As matrix products, which XLA runs faster on a CPU, most of all for large pictures with few channels."""
    height, width, channels, features = kernel.shape
    n, rows, cols = len(x), x.shape[1] - height + 1, x.shape[2] - width + 1
    if channels <= FEW_CHANNELS:
        shifted = [x[:, i : i + rows, j : j + cols] for i in range(height) for j in range(width)]
        patches = jnp.concatenate(shifted, -1).reshape(-1, height * width * channels)
        return (patches @ kernel.reshape(-1, features)).reshape(n, rows, cols, features)
    # With many channels patches are too large for the caches. Strips of one kernel row's height are a third of them:
    # one product gives what each kernel row contributes to each picture row, and rows are then added with an offset.
    strips = jnp.concatenate([x[:, :, j : j + cols] for j in range(width)], -1).reshape(-1, width * channels)
    by_row = kernel.transpose(1, 2, 0, 3).reshape(-1, height * features)
    parts = (strips @ by_row).reshape(n, -1, cols, height, features)
    return sum((parts[:, i : i + rows, :, i] for i in range(1, height)), parts[:, :rows, :, 0])


def conv_valid(x: Float[Array, "n h w i"], kernel: Float[Array, "kh kw i o"]) -> Float[Array, "n h2 w2 o"]:
    """Convolution with stride 1 and no padding; nothing is left of a picture that is smaller than the kernel."""
    if x.shape[1] < kernel.shape[0] or x.shape[2] < kernel.shape[1]:
        return _convolve(x, kernel)  # which knows the shape of nothing
    return lax.platform_dependent(x, kernel, cpu=_convolve_by_products, default=_convolve)


def conv_general_dilated(
    x: Array, kernel: Array, window_strides: Any, padding: Any, *, lhs_dilation: Any, rhs_dilation: Any, **options: Any
) -> Array:
    """`conv_valid` where it applies, else `lax.conv_general_dilated`: what `nn.Conv` takes under the same name."""
    ones = (*window_strides, *lhs_dilation, *rhs_dilation, options.get("feature_group_count", 1))
    if padding == "VALID" and all(one == 1 for one in ones):
        return conv_valid(x, kernel)
    dilations = {"lhs_dilation": lhs_dilation, "rhs_dilation": rhs_dilation}
    return lax.conv_general_dilated(x, kernel, window_strides, padding, **dilations, **options)


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


def Conv(features: int, strides: int = 1, padding: str = "VALID") -> nn.Conv:
    """3x3, with Keras's padding and initial values."""
    return nn.Conv(
        features,
        (3, 3),
        strides,
        padding=padding,
        kernel_init=nn.initializers.glorot_uniform(),
        conv_general_dilated=conv_general_dilated,
    )


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


def summed(function: Callable[[Any], Any], batch: Any) -> Any:
    """What `function` of a batch returns, which is sums over its rows; on a CPU, added up chunk by chunk."""
    return lax.platform_dependent(batch, cpu=lambda batch: _add_up(function, _chunks(batch)), default=function)


def summed_gradients(
    loss: Callable[[Any, Any, Key[Array, ""]], tuple[Array, Any]], params: Any, batch: Any, key: Key[Array, ""]
) -> tuple[Any, Any]:
    """The gradient of a loss summed over the batch, and the other sums that `loss` returns.

    `loss(params, chunk, key)` takes a few rows of the batch and returns (summed loss, sums). On a CPU the chunks
    come one after the other, so that their activations stay in the cache; elsewhere all at once. Every chunk has its
    own key, so that dropout is the same either way.
    """
    chunks = _chunks(batch)
    keys = jax.random.split(key, len(jax.tree.leaves(chunks)[0]))

    def one_by_one(params: Any, chunks: Any, keys: Array) -> Any:
        return _add_up(lambda chunk: jax.grad(loss, has_aux=True)(params, *chunk), (chunks, keys))

    def at_once(params: Any, chunks: Any, keys: Array) -> Any:
        def total(params: Any) -> tuple[Array, Any]:
            totals = jax.vmap(loss, (None, 0, 0))(params, chunks, keys)
            return jax.tree.map(lambda x: x.sum(0), totals)

        return jax.grad(total, has_aux=True)(params)

    return lax.platform_dependent(params, chunks, keys, cpu=one_by_one, default=at_once)


def _chunks(batch: Any) -> Any:
    """The batch with a leading axis of chunks, of the largest size that the limits and the batch allow."""
    leaves = jax.tree.leaves(batch)
    rows = len(leaves[0])
    limit = min(CHUNK_ROWS, CHUNK_VALUES * rows // sum(leaf.size for leaf in leaves))
    size = max((size for size in range(1, limit + 1) if rows % size == 0), default=1)
    return jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), batch)


def _add_up(function: Callable[[Any], Any], chunks: Any) -> Any:
    """The sum of `function` over the leading axis, one by one."""
    shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], chunks))
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    return lax.scan(lambda sums, chunk: (jax.tree.map(jnp.add, sums, function(chunk)), None), zeros, chunks)[0]
