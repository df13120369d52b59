"""The fast formulations against XLA's plain ones, and the gradients in chunks against the gradient at once."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxconv import layers

# (height, width, channels in, features) of every convolution of the two nets, and odd ones.
SHAPES = [
    (150, 150, 3, 32),
    (74, 74, 32, 64),
    (36, 36, 64, 128),
    (17, 17, 128, 128),
    (28, 28, 1, 32),
    (13, 13, 32, 64),
    (5, 5, 64, 64),
    (9, 12, 5, 7),
    (3, 3, 1, 1),
]


def plain_conv(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=layers.LAYOUT)


def plain_pool(x):
    # Not `lax.reduce_window` with a custom gradient: JAX's own differentiation of it.
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * float(jnp.abs(expected).max()))


def gradients(function, *arguments):
    """The value, and the gradients for a random cotangent."""

    def both(cotangent, *arguments):
        value, pullback = jax.vjp(function, *arguments)
        return value, pullback(cotangent)

    shape = jax.eval_shape(function, *arguments).shape
    return jax.jit(both)(np.random.default_rng(9).normal(size=shape).astype(np.float32), *arguments)


@pytest.mark.parametrize("height, width, channels, features", SHAPES)
def test_conv_equals_xla(height, width, channels, features):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, height, width, channels)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, channels, features)).astype(np.float32)
    jax.tree.map(assert_close, gradients(layers.conv_valid, x, kernel), gradients(plain_conv, x, kernel))


@pytest.mark.parametrize("batch", [1, 3, 20, 32])
@pytest.mark.parametrize("height, width", [(148, 148), (15, 15), (15, 8), (2, 2), (3, 2)])
def test_pool_equals_xla(batch, height, width):
    x = np.random.default_rng(0).normal(size=(batch, height, width, 2)).astype(np.float32)
    jax.tree.map(assert_close, gradients(layers.max_pool, x), gradients(plain_pool, x))


def test_pool_gives_the_gradient_of_a_tie_to_the_first_as_xla_does():
    """Even patches of a photo make exact ties: all 81 windows of three values must agree."""
    values = np.stack(np.meshgrid(*[[0.0, 1.0, 2.0]] * 4, indexing="ij"), -1).reshape(81, 2, 2, 1).astype(np.float32)
    for ours, plain in zip(gradients(layers.max_pool, values), gradients(plain_pool, values), strict=True):
        jax.tree.map(np.testing.assert_array_equal, ours, plain)


@pytest.mark.parametrize("height, width", [(26, 26), (11, 11), (15, 8), (2, 2), (3, 2)])
def test_average_pool_equals_xla(height, width):
    x = np.random.default_rng(0).normal(size=(3, height, width, 2)).astype(np.float32)

    def plain(x):
        return lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4

    jax.tree.map(assert_close, gradients(layers.average_pool, x), gradients(plain, x))


sizes = st.integers(1, 40)


@settings(max_examples=100, deadline=None)
@given(
    picture=st.tuples(sizes, sizes),
    window=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    strides=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.sampled_from(["VALID", "SAME"]),
)
def test_the_size_of_a_convolution_s_output(picture, window, strides, padding):
    """Section 5.1.1: o = floor((i - f) / s) + 1 for VALID; SAME pads to o = ceil(i / s)."""
    x = jax.ShapeDtypeStruct((1, *picture, 2), jnp.float32)
    layer = nn.Conv(5, window, strides, padding, conv_general_dilated=layers.conv_general_dilated)
    output, _ = jax.eval_shape(lambda x: layer.init_with_output(jax.random.key(0), x), x)
    valid = [max(0, (i - f) // s + 1) for i, f, s in zip(picture, window, strides, strict=True)]
    same = [-(-i // s) for i, s in zip(picture, strides, strict=True)]
    assert output.shape == (1, *(valid if padding == "VALID" else same), 5)


@settings(max_examples=30, deadline=None)
@given(height=sizes, width=sizes, pool=st.sampled_from([layers.MaxPool, layers.AveragePool]))
def test_the_size_of_a_pooling_s_output(height, width, pool):
    """The same formula with f = s = 2."""
    x = jax.ShapeDtypeStruct((1, height, width, 2), jnp.float32)
    output = jax.eval_shape(lambda x: pool().apply({}, x), x)
    assert output.shape == (1, (height - 2) // 2 + 1, (width - 2) // 2 + 1, 2)


def test_same_padding_and_strides_by_hand():
    """Figures 5.5 to 5.7 in numbers: a kernel of ones counts the pixels that it covers."""
    ones = jnp.ones((1, 4, 5, 1))
    for strides, padding, expected in [
        (1, "VALID", np.full((2, 3), 9.0)),
        (1, "SAME", [[4, 6, 6, 6, 4], [6, 9, 9, 9, 6], [6, 9, 9, 9, 6], [4, 6, 6, 6, 4]]),
        (2, "VALID", [[9, 9]]),
        (2, "SAME", [[6, 9, 6], [4, 6, 4]]),
    ]:
        kernel = {"params": {"kernel": jnp.ones((3, 3, 1, 1)), "bias": jnp.zeros(1)}}
        output = layers.Conv(1, strides, padding).apply(kernel, ones)
        np.testing.assert_array_equal(output[0, :, :, 0], expected)


@pytest.mark.parametrize("options", [{"padding": "SAME"}, {"strides": (2, 2)}, {"kernel_dilation": (2, 2)}])
def test_other_convolutions_are_left_to_xla(options):
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 3))
    plain = nn.Conv(4, (3, 3), **({"padding": "VALID"} | options))
    ours = nn.Conv(4, (3, 3), **({"padding": "VALID"} | options), conv_general_dilated=layers.conv_general_dilated)
    params = plain.init(jax.random.key(1), x)
    np.testing.assert_array_equal(ours.apply(params, x), plain.apply(params, x))


@pytest.mark.parametrize("rows", [1, 3, 20, 32])
@pytest.mark.parametrize("values", [1, 30_000])
def test_sums_over_the_batch_do_not_depend_on_its_chunks(rows, values):
    """Rows of 5 and of 150,000 values: in chunks of up to 16 rows, and row by row."""
    x = jax.random.normal(jax.random.key(0), (rows, 5, values))

    def function(batch):
        return {"tanh": jnp.tanh(batch["x"]).sum(), "rows": jnp.float32(len(batch["x"]))}

    sums = jax.jit(lambda x: layers.summed(function, {"x": x}))(x)
    assert sums["rows"] == rows
    np.testing.assert_allclose(sums["tanh"], np.tanh(np.asarray(x, np.float64)).sum(), rtol=1e-4, atol=0.5)


@pytest.mark.parametrize("rows", [1, 3, 20, 32])
def test_summed_gradients_equal_the_gradient_at_once(rows):
    weights = jax.random.normal(jax.random.key(0), (5,))
    batch = {"x": jax.random.normal(jax.random.key(1), (rows, 5))}

    def loss(weights, chunk, key):
        total = jnp.sum(jnp.tanh(chunk["x"] @ weights))
        return total, {"count": jnp.float32(len(chunk["x"]))}

    expected = jax.grad(lambda w: jnp.sum(jnp.tanh(batch["x"] @ w)))(weights)
    actual, sums = jax.jit(lambda w, b: layers.summed_gradients(loss, w, b, jax.random.key(2)))(weights, batch)
    assert_close(actual, expected)
    assert sums["count"] == rows


def test_chunks_draw_the_same_randomness_on_every_platform(monkeypatch):
    """Dropout must not depend on whether the chunks come one after the other or at once."""
    batch, weights = jnp.ones((8, 6)), jnp.ones((6,))

    def loss(weights, chunk, key):
        kept = jnp.where(jax.random.bernoulli(key, 0.5, chunk.shape), chunk, 0.0)
        return jnp.sum(kept @ weights), kept.sum()

    def run():
        return jax.jit(lambda: layers.summed_gradients(loss, weights, batch, jax.random.key(3)))()

    one_by_one = run()
    monkeypatch.setattr(lax, "platform_dependent", lambda *arguments, cpu, default: default(*arguments))
    at_once = run()
    jax.tree.map(assert_close, one_by_one, at_once)
    assert 0 < at_once[1] < batch.size


def test_on_a_gpu_the_kernel_gradient_is_one_ordinary_convolution():
    """Chunks under `vmap` must be folded into the batch there, not become the groups of a grouped convolution."""
    x, kernel = jnp.zeros((4, 2, 8, 8, 3)), jnp.zeros((3, 3, 3, 5))

    def total(kernel):
        return jnp.sum(jax.vmap(lambda x: layers.max_pool(layers.conv_valid(x, kernel)))(x))

    lowered = jax.jit(jax.grad(total)).trace(kernel).lower(lowering_platforms=("cuda",)).as_text()
    assert "select_and_scatter" in lowered
    assert "feature_group_count = 1" in lowered
    assert "feature_group_count = 4" not in lowered
