import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv.models import CatsDogsConvNet
from jaxconv.summary import count_params, layer_shapes

# The chapter's table (code 5-5): output shape and parameters of each layer.
CATSDOGS = [
    ("Conv_0", (148, 148, 32), 896),
    ("MaxPool_0", (74, 74, 32), 0),
    ("Conv_1", (72, 72, 64), 18_496),
    ("MaxPool_1", (36, 36, 64), 0),
    ("Conv_2", (34, 34, 128), 73_856),
    ("MaxPool_2", (17, 17, 128), 0),
    ("Conv_3", (15, 15, 128), 147_584),
    ("MaxPool_3", (7, 7, 128), 0),
    ("Flatten_0", (6272,), 0),
    ("Dense_0", (512,), 3_211_776),
    ("Dense_1", (1,), 513),
]
WITH_DROPOUT = [*CATSDOGS[:9], ("Dropout_0", (6272,), 0), *CATSDOGS[9:]]


@pytest.mark.parametrize("dropout, table", [(0.0, CATSDOGS), (0.5, WITH_DROPOUT)])
def test_catsdogs_layers_are_the_chapter_s(dropout, table):
    shapes, params = layer_shapes(CatsDogsConvNet(dropout=dropout), (150, 150, 3))
    assert [(name, shape[1:], count_params(params.get(name, {}))) for name, shape in shapes] == table
    assert count_params(params) == 3_453_121


def test_jitted_layers_put_out_those_shapes():
    """Run for real: the shapes of the table come from tracing alone."""
    model, images = CatsDogsConvNet(), jnp.ones((2, 150, 150, 3))
    variables = jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(images)
    run = jax.jit(lambda v, x: model.apply(v, x, train=False, capture_intermediates=True))
    logits, captured = run(variables, images)
    assert (logits.shape, logits.dtype) == ((2, 1), jnp.float32)
    for name, shape, _ in CATSDOGS:
        assert captured["intermediates"][name]["__call__"][0].shape == (2, *shape)


def test_kernels_start_glorot_uniform_and_biases_zero():
    model = CatsDogsConvNet()
    init = jax.jit(lambda key: model.init(key, jnp.ones((1, 150, 150, 3)), train=False))
    params = init(jax.random.key(0))["params"]
    for name, fans in {"Conv_1": 9 * (32 + 64), "Dense_0": 6272 + 512}.items():
        limit = (6 / fans) ** 0.5
        kernel = np.asarray(params[name]["kernel"])
        assert 0.99 * limit < np.abs(kernel).max() <= limit
        np.testing.assert_allclose(kernel.std(), limit / 3**0.5, rtol=0.02)
        assert not params[name]["bias"].any()


def test_dropout_drops_half_and_scales_only_in_training():
    model, images = CatsDogsConvNet(dropout=0.5), jax.random.uniform(jax.random.key(1), (4, 46, 46, 3))
    variables = jax.jit(lambda: model.init(jax.random.key(0), images, train=False))()

    def features(train, key):
        rngs = {"dropout": jax.random.key(key)}
        _, captured = model.apply(variables, images, train=train, rngs=rngs, capture_intermediates=True)
        layers = captured["intermediates"]
        return np.asarray(layers["Flatten_0"]["__call__"][0]), np.asarray(layers["Dropout_0"]["__call__"][0])

    before, after = features(train=True, key=0)
    kept = after != 0
    np.testing.assert_array_equal(after[kept], 2 * before[kept])
    alive = before != 0
    assert 0.4 < kept[alive].mean() < 0.6
    assert (features(train=True, key=1)[1] != after).any()
    np.testing.assert_array_equal(*features(train=False, key=0))


def test_a_picture_too_small_for_the_net_is_an_error():
    jax.eval_shape(lambda x: CatsDogsConvNet().init(jax.random.key(0), x, train=False), jnp.ones((1, 46, 46, 3)))
    with pytest.raises(ValueError, match="the picture is too small for this net: 0x0 is left at Flatten"):
        layer_shapes(CatsDogsConvNet(), (45, 45, 3))
    with pytest.raises(ValueError, match="too small for this net"):
        layer_shapes(CatsDogsConvNet(), (8, 8, 3))
