"""Convolution and pooling whose gradients are fast on a CPU, and gradients that keep to its caches.

XLA's backward passes are the slow ones there, that of max pooling (select-and-scatter) above all. A GPU keeps XLA's
own path. Both compute the same numbers, to rounding.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

LAYOUT = ("NHWC", "HWIO", "NHWC")
CHUNK = 4  # pictures whose activations fit the caches together


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
    """A scan over the pictures: the product of one picture's patches and its gradient is small enough for the cache."""
    height, width, channels, features = shape
    rows, cols = gradient.shape[1:3]

    def add(total: Array, picture: tuple[Array, Array]) -> tuple[Array, None]:
        pixels, gradient = picture
        shifted = [pixels[i : i + rows, j : j + cols] for i in range(height) for j in range(width)]
        patches = jnp.concatenate(shifted, -1).reshape(rows * cols, -1)
        return total + patches.T @ gradient.reshape(rows * cols, features), None

    total, _ = lax.scan(add, jnp.zeros((height * width * channels, features), x.dtype), (x, gradient))
    return total.reshape(shape)


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


def Conv(features: int) -> nn.Conv:
    """3x3, with Keras's padding and initial values."""
    return nn.Conv(
        features,
        (3, 3),
        padding="VALID",
        kernel_init=nn.initializers.glorot_uniform(),
        conv_general_dilated=conv_general_dilated,
    )


class MaxPool(nn.Module):
    """`max_pool` as a layer, so that it has its row in the summary."""

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
        """Half the height and width."""
        return max_pool(x)


def summed_gradients(
    loss: Callable[[Any, Any, Key[Array, ""]], tuple[Array, Any]], params: Any, batch: Any, key: Key[Array, ""]
) -> tuple[Any, Any]:
    """The gradient of a loss summed over the batch, and the other sums that `loss` returns.

    `loss(params, chunk, key)` takes a few rows of the batch and returns (summed loss, sums). On a CPU the chunks
    come one after the other, so that their activations stay in the cache; elsewhere all at once. Every chunk has its
    own key, so that dropout is the same either way.
    """
    rows = len(jax.tree.leaves(batch)[0])
    size = math.gcd(rows, CHUNK)
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
