"""Sums and gradients in chunks against those at once."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxconv import chunks
from jaxconv.layers import Dense


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("rows", [1, 3, 20, 32])
@pytest.mark.parametrize("values", [1, 30_000])
def test_sums_over_the_batch_do_not_depend_on_its_chunks(rows, values):
    """Rows of 5 and of 150,000 values: in chunks of up to 16 rows, and row by row."""
    x = jax.random.normal(jax.random.key(0), (rows, 5, values))

    def function(batch):
        return {"tanh": jnp.tanh(batch["x"]).sum(), "rows": jnp.float32(len(batch["x"]))}

    sums = jax.jit(lambda x: chunks.summed(function, {"x": x}))(x)
    assert sums["rows"] == rows
    np.testing.assert_allclose(sums["tanh"], np.tanh(np.asarray(x, np.float64)).sum(), rtol=1e-4, atol=0.5)


@pytest.mark.parametrize("rows", [1, 3, 20, 32])
@pytest.mark.parametrize("values", [1, 30_000])
def test_rows_keep_their_order_in_chunks(rows, values):
    x = jax.random.normal(jax.random.key(0), (rows, 5, values))
    found = jax.jit(lambda x: chunks.mapped(lambda chunk: chunk.sum(2), x))(x)
    np.testing.assert_allclose(found, np.asarray(x, np.float64).sum(2), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("rows", [1, 3, 20, 32])
def test_summed_gradients_equal_the_gradient_at_once(rows):
    weights = {"w": jax.random.normal(jax.random.key(0), (5,))}
    batch = {"x": jax.random.normal(jax.random.key(1), (rows, 5))}

    def loss(variables, chunk, key):
        total = jnp.sum(jnp.tanh(chunk["x"] @ variables["params"]["w"]))
        return total, ({"count": jnp.float32(len(chunk["x"]))}, {})

    expected = jax.grad(lambda w: jnp.sum(jnp.tanh(batch["x"] @ w["w"])))(weights)
    actual, sums = jax.jit(lambda w, b: chunks.summed_gradients(loss, w, b, jax.random.key(2)))(weights, batch)
    jax.tree.map(assert_close, actual, expected)
    assert sums["count"] == rows


def test_chunks_draw_the_same_randomness_on_every_platform(monkeypatch):
    """Dropout must not depend on whether the chunks come one after the other or at once."""
    batch, weights = jnp.ones((32, 6)), {"w": jnp.ones((6,))}

    def loss(variables, chunk, key):
        kept = jnp.where(jax.random.bernoulli(key, 0.5, chunk.shape), chunk, 0.0)
        return jnp.sum(kept @ variables["params"]["w"]), (kept.sum(), {})

    def run():
        return jax.jit(lambda: chunks.summed_gradients(loss, weights, batch, jax.random.key(3)))()

    assert len(chunks._chunks(batch)) == 2
    one_by_one = run()
    monkeypatch.setattr(lax, "platform_dependent", lambda *arguments, cpu, default: default(*arguments))
    at_once = run()
    jax.tree.map(assert_close, one_by_one, at_once)
    assert 0 < at_once[1] < batch.size


class TwoDense(nn.Module):
    """A kernel that is larger than its factors, in a submodule; one that is not; and Flax's own, which has none."""

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(Inner()(x))
        return nn.Dense(40)(Dense(1)(x))


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Dense(60)(x)


@pytest.mark.parametrize("platform", ["cpu", "default"])
@pytest.mark.parametrize("rows", [1, 3, 32])
def test_gradients_through_factors_equal_the_plain_gradient(rows, platform, monkeypatch):
    """On a CPU, where they are used, and on other platforms, where the same loss must do without them."""
    monkeypatch.setattr(lax, "platform_dependent", lambda *arguments, **choices: choices[platform](*arguments))
    model, x = TwoDense(), jax.random.normal(jax.random.key(0), (rows, 3000))
    params = model.init(jax.random.key(1), x)["params"]

    def loss(variables, x, key):
        y, state = model.apply(variables, x, mutable=["factors"])
        assert state["factors"].keys() == {"Inner_0"}
        return jnp.sin(y).sum(), (jnp.float32(len(x)), state)

    expected = jax.grad(lambda params: jnp.sin(model.apply({"params": params}, x)).sum())(params)
    actual, sums = jax.jit(lambda p: chunks.summed_gradients(loss, p, x, jax.random.key(2)))(params)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(assert_close, actual, expected)
    assert sums == rows


@pytest.mark.parametrize("platform", ["cpu", "default"])
def test_gradients_of_a_net_in_bfloat16_are_float32_and_near_the_exact(platform, monkeypatch):
    """Also that of the large kernel, which on a CPU comes from factors in bfloat16."""
    monkeypatch.setattr(lax, "platform_dependent", lambda *arguments, **choices: choices[platform](*arguments))
    x = jax.random.normal(jax.random.key(0), (32, 3000))
    params = Dense(60).init(jax.random.key(1), x)["params"]

    def loss(variables, x, key):
        y, state = Dense(60, jnp.dtype("bfloat16")).apply(variables, x, mutable=["factors"])
        return jnp.sin(y.astype(jnp.float32)).sum(), (jnp.float32(len(x)), state)

    expected = jax.grad(lambda params: jnp.sin(Dense(60).apply({"params": params}, x)).sum())(params)
    actual, _ = jax.jit(lambda p: chunks.summed_gradients(loss, p, x, jax.random.key(2)))(params)
    for name, gradient in actual.items():
        assert gradient.dtype == jnp.float32
        error = jnp.linalg.norm(gradient - expected[name]) / jnp.linalg.norm(expected[name])
        assert 1e-4 < float(error) < 0.02


def test_no_chunk_carries_the_gradient_of_a_large_kernel():
    """What makes it fast: 700 kB that every chunk would read and write."""
    model, x = TwoDense(), jnp.ones((32, 3000))
    params = model.init(jax.random.key(1), x)["params"]

    def loss(variables, x, key):
        y, state = model.apply(variables, x, mutable=["factors"])
        return y.sum(), (jnp.float32(len(x)), state)

    step = jax.make_jaxpr(lambda p: chunks.summed_gradients(loss, p, x, jax.random.key(2)))(params)
    scans = [equation for equation in equations(step.jaxpr) if equation.primitive.name == "scan"]
    shapes = {variable.aval.shape for scan in scans for variable in scan.outvars}
    assert (60, 1) in shapes
    assert (3000, 60) not in shapes


def equations(jaxpr):
    """All of them, also those inside others."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from equations(inner)
