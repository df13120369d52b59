"""Convolution and pooling whose gradients are fast on a CPU, and gradients that keep to its caches.

XLA's backward passes are the slow ones there, that of max pooling (select-and-scatter) above all. A GPU keeps XLA's
own path. Both compute the same numbers, to rounding.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

LAYOUT = ("NHWC", "HWIO", "NHWC")
# Sizes whose intermediate results fit a CPU's caches, found by measurement.
CHUNK_ROWS, CHUNK_VALUES = 32, 280_000  # of the pictures whose gradient is taken at once: 4 of 150x150, 32 of 28x28
PATCH_VALUES = 300_000  # of the patches whose product with the gradient is taken at once


def _convolve(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=LAYOUT)


def _convolve_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel), (x, kernel)


def _convolve_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    """XLA drops the first of the two where nobody asks for it, as at the first layer."""
    x, kernel = saved
    full = [(size - 1, size - 1) for size in kernel.shape[:2]]
    mirrored = jnp.flip(kernel, (0, 1)).transpose(0, 1, 3, 2)
    of_x = lax.conv_general_dilated(gradient, mirrored, (1, 1), full, dimension_numbers=LAYOUT)
    return of_x, _kernel_gradient(x, gradient, kernel.shape)


def _kernel_gradient(x: Array, gradient: Array, shape: tuple[int, ...]) -> Array:
    """The product of patches and gradient, summed over groups of pictures whose patches fit the cache."""
    height, width, channels, features = shape
    rows, cols = gradient.shape[1:3]
    patch = height * width * channels
    size = _divisor(len(x), PATCH_VALUES // (rows * cols * patch))

    def add(total: Array, group: tuple[Array, Array]) -> tuple[Array, None]:
        pixels, gradient = group
        shifted = [pixels[:, i : i + rows, j : j + cols] for i in range(height) for j in range(width)]
        patches = jnp.concatenate(shifted, -1).reshape(-1, patch)
        return total + patches.T @ gradient.reshape(-1, features), None

    groups = jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), (x, gradient))
    total, _ = lax.scan(add, jnp.zeros((patch, features), x.dtype), groups)
    return total.reshape(shape)


def _divisor(count: int, limit: int) -> int:
    """The largest divisor of `count` that is not above `limit`; 1 if none is."""
    return max((size for size in range(1, count + 1) if count % size == 0 and size <= limit), default=1)


_cpu_convolve = jax.custom_vjp(_convolve)
_cpu_convolve.defvjp(_convolve_forward, _convolve_backward)


def conv_valid(x: Float[Array, "n h w i"], kernel: Float[Array, "kh kw i o"]) -> Float[Array, "n h2 w2 o"]:
    """Convolution with stride 1 and no padding.

    The platform is chosen outside of the custom gradient: under `vmap` that would compute a kernel gradient a chunk
    (a grouped convolution, slow on a GPU), where XLA's own path folds the chunks into one batch.
    """
    return lax.platform_dependent(x, kernel, cpu=_cpu_convolve, default=_convolve)


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
    """Mean of each 2x2 window; an odd last row or column is dropped. As a mean over axes, its gradient is fast."""
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


def summed_gradients(
    loss: Callable[[Any, Any, Key[Array, ""]], tuple[Array, Any]], params: Any, batch: Any, key: Key[Array, ""]
) -> tuple[Any, Any]:
    """The gradient of a loss summed over the batch, and the other sums that `loss` returns.

    `loss(params, chunk, key)` takes a few rows of the batch and returns (summed loss, sums). On a CPU the chunks
    come one after the other, so that their activations stay in the cache; elsewhere all at once. Every chunk has its
    own key, so that dropout is the same either way.
    """
    leaves = jax.tree.leaves(batch)
    rows = len(leaves[0])
    size = _divisor(rows, min(CHUNK_ROWS, CHUNK_VALUES * rows // sum(leaf.size for leaf in leaves)))
    chunks = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), batch)
    keys = jax.random.split(key, rows // size)

    def one_by_one(params: Any, chunks: Any, keys: Array) -> Any:
        def add(totals: Any, chunk: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, totals, jax.grad(loss, has_aux=True)(params, *chunk)), None

        first = jax.tree.map(lambda x: x[0], (chunks, keys))
        shapes = jax.eval_shape(jax.grad(loss, has_aux=True), params, *first)
        zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
        return lax.scan(add, zeros, (chunks, keys))[0]

    def at_once(params: Any, chunks: Any, keys: Array) -> Any:
        def summed(params: Any) -> tuple[Array, Any]:
            totals = jax.vmap(loss, (None, 0, 0))(params, chunks, keys)
            return jax.tree.map(lambda x: x.sum(0), totals)

        return jax.grad(summed, has_aux=True)(params)

    return lax.platform_dependent(params, chunks, keys, cpu=one_by_one, default=at_once)
