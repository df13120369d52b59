"""The fast formulations against XLA's plain ones and Flax's layers."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxconv.models import layers

BFLOAT16 = jnp.dtype(jnp.bfloat16)

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


def plain_conv(x, kernel, bias):
    y = lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y + bias[None, None, None]


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
    bias = rng.normal(size=features).astype(np.float32)
    expected = gradients(plain_conv, x, kernel, bias)
    jax.tree.map(assert_close, gradients(layers.conv_valid, x, kernel, bias), expected)
    assert_close(jax.jit(layers.conv_valid)(x, kernel, bias), expected[0])  # without a gradient it is another program


@pytest.mark.parametrize("batch, groups", [(1, 1), (7, 4), (12, 6), (31, 16), (32, 16), (64, 16)])
def test_kernel_gradients_do_not_depend_on_their_groups(batch, groups, monkeypatch):
    """Groups of two pictures, the last of what is left, and sixteen groups at the most."""
    monkeypatch.setattr(layers, "GROUP_VALUES", 2 * (10 * 11 * 5 + 8 * 9 * 6))
    rng = np.random.default_rng(0)
    shapes = (batch, 10, 11, 5), (3, 3, 5, 6), (6,)
    arguments = [jnp.asarray(rng.normal(size=shape).astype(np.float32)) for shape in shapes]
    program = jax.jit(jax.grad(lambda k: jnp.sin(layers.conv_valid(arguments[0], k, arguments[2])).sum()))
    expected = jax.jit(jax.grad(lambda k: jnp.sin(plain_conv(arguments[0], k, arguments[2])).sum()))(arguments[1])
    assert_close(program(arguments[1]), expected)
    assert convolutions(program, arguments[1], "cpu") == 1 + groups  # one forward, and one for each group


def convolutions(program, argument, platform):
    """How many a program has for a platform, as it is given to XLA."""
    return program.trace(argument).lower(lowering_platforms=(platform,)).as_text().count("stablehlo.convolution")


def test_an_empty_batch_has_an_empty_gradient():
    kernel, bias = jnp.ones((3, 3, 2, 4)), jnp.zeros(4)
    gradient = jax.grad(lambda k: layers.conv_valid(jnp.zeros((0, 8, 8, 2)), k, bias).sum())(kernel)
    np.testing.assert_array_equal(gradient, jnp.zeros_like(kernel))


def test_kernel_gradients_in_bfloat16_are_added_up_in_float32(monkeypatch):
    """Sixteen groups of two pictures, 2.046875 each: added up in bfloat16 one after the other they give 32.5."""
    monkeypatch.setattr(layers, "GROUP_VALUES", 1)
    x = jnp.full((32, 3, 3, 1), 1 + 3 / 128, BFLOAT16)
    kernel, bias = jnp.zeros((3, 3, 1, 1), BFLOAT16), jnp.zeros(1, BFLOAT16)
    found = jax.grad(lambda k: layers.conv_valid(x, k, bias).astype(jnp.float32).sum())(kernel)
    assert float(found[0, 0, 0, 0]) == 32.75


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
@given(height=sizes, width=sizes, strides=st.integers(1, 4), padding=st.sampled_from(["VALID", "SAME"]))
def test_the_size_of_a_convolution_s_output(height, width, strides, padding):
    """Section 5.1.1: o = floor((i - f) / s) + 1 for VALID; SAME pads to o = ceil(i / s)."""
    x = jax.ShapeDtypeStruct((1, height, width, 2), jnp.float32)
    layer = layers.Conv(5, strides, padding)
    output, _ = jax.eval_shape(lambda x: layer.init_with_output(jax.random.key(0), x), x)
    valid = [max(0, (i - 3) // strides + 1) for i in (height, width)]
    same = [-(-i // strides) for i in (height, width)]
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


@pytest.mark.parametrize("strides, padding", [(1, "VALID"), (1, "SAME"), (2, "VALID"), (2, "SAME")])
def test_convolutions_are_flax_s(strides, padding):
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 3))
    plain, ours = nn.Conv(4, (3, 3), strides, padding), layers.Conv(4, strides, padding)
    params = {"params": {**plain.init(jax.random.key(1), x)["params"], "bias": jnp.arange(4.0)}}
    assert_close(ours.apply(params, x), plain.apply(params, x))


@pytest.mark.parametrize(
    "ours, plain, shape",
    [
        (layers.Conv(4, dtype=BFLOAT16), nn.Conv(4, (3, 3), padding="VALID", dtype=BFLOAT16), (2, 9, 8, 3)),
        (layers.Conv(4, 2, "SAME", BFLOAT16), nn.Conv(4, (3, 3), 2, "SAME", dtype=BFLOAT16), (2, 9, 8, 3)),
        (layers.Dense(20, dtype=BFLOAT16), nn.Dense(20, dtype=BFLOAT16), (3, 50)),
    ],
)
def test_layers_in_bfloat16_are_flax_s(ours, plain, shape):
    """To a few of its roundings, each 1/256 of a value; parameters and their gradients stay float32."""
    x = jax.random.normal(jax.random.key(0), shape)
    params = plain.init(jax.random.key(1), x)["params"]

    def total(layer, params):
        y = layer.apply({"params": params}, x)
        assert y.dtype == BFLOAT16
        return jnp.sin(y.astype(jnp.float32)).sum(), y

    (gradients, y), (expected_gradients, expected) = (
        jax.grad(functools.partial(total, layer), has_aux=True)(params) for layer in (ours, plain)
    )
    np.testing.assert_allclose(*(np.asarray(array, np.float32) for array in (y, expected)), atol=3e-2)
    for name, gradient in gradients.items():
        assert gradient.dtype == params[name].dtype == jnp.float32
        scale = float(jnp.abs(expected_gradients[name]).max())
        np.testing.assert_allclose(gradient, expected_gradients[name], atol=2e-2 * scale)


def test_on_a_gpu_the_layers_are_xla_s_own(monkeypatch):
    """A CPU has a kernel gradient for each of four pictures here."""
    monkeypatch.setattr(layers, "GROUP_VALUES", 1)
    x, kernel = jnp.zeros((4, 8, 8, 3)), jnp.zeros((3, 3, 3, 5))
    program = jax.jit(jax.grad(lambda k: jnp.sum(layers.max_pool(layers.conv_valid(x, k, jnp.zeros(5))))))
    assert convolutions(program, kernel, "cpu") == 5
    assert convolutions(program, kernel, "cuda") == 2
    lowered = {platform: program.trace(kernel).lower(lowering_platforms=(platform,)) for platform in ("cpu", "cuda")}
    assert ["select_and_scatter" in text.as_text() for text in lowered.values()] == [False, True]
