import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv.config import DOWNSAMPLE
from jaxconv.models import CatsDogsConvNet, DenseNet, MnistConvNet
from jaxconv.models.summary import count_params, layer_shapes

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
MNIST = [  # codes 5-1 and 5-2
    ("Conv_0", (26, 26, 32), 320),
    ("MaxPool_0", (13, 13, 32), 0),
    ("Conv_1", (11, 11, 64), 18_496),
    ("MaxPool_1", (5, 5, 64), 0),
    ("Conv_2", (3, 3, 64), 36_928),
    ("Flatten_0", (576,), 0),
    ("Dense_0", (64,), 36_928),
    ("Dense_1", (10,), 650),
]
AVERAGE = [(name.replace("Max", "Average"), *row) for name, *row in MNIST]
STRIDE = [
    ("Conv_0", (13, 13, 32), 320),
    ("Conv_1", (6, 6, 64), 18_496),
    ("Conv_2", (4, 4, 64), 36_928),
    ("Flatten_0", (1024,), 0),
    ("Dense_0", (64,), 65_600),
    ("Dense_1", (10,), 650),
]
NONE = [  # section 5.1.2: 22 x 22 x 64 = 30,976
    ("Conv_0", (26, 26, 32), 320),
    ("Conv_1", (24, 24, 64), 18_496),
    ("Conv_2", (22, 22, 64), 36_928),
    ("Flatten_0", (30_976,), 0),
    ("Dense_0", (64,), 1_982_528),
    ("Dense_1", (10,), 650),
]
DENSE = [("Flatten_0", (784,), 0), ("Dense_0", (512,), 401_920), ("Dense_1", (10,), 5_130)]  # code 2-2
WITH_DROPOUT = [*CATSDOGS[:9], ("Dropout_0", (6272,), 0), *CATSDOGS[9:]]


@pytest.mark.parametrize("dropout, table", [(0.0, CATSDOGS), (0.5, WITH_DROPOUT)])
def test_catsdogs_layers_are_the_chapter_s(dropout, table):
    shapes, variables = layer_shapes(CatsDogsConvNet(dropout=dropout), (150, 150, 3))
    params = variables["params"]
    assert [(name, shape[1:], count_params(params.get(name, {}))) for name, shape in shapes] == table
    assert count_params(params) == 3_453_121


@pytest.mark.parametrize("downsample, table", list(zip(DOWNSAMPLE, [MNIST, AVERAGE, STRIDE, NONE], strict=True)))
def test_mnist_layers_are_the_chapter_s(downsample, table):
    shapes, variables = layer_shapes(MnistConvNet(downsample), (28, 28, 1))
    params = variables["params"]
    assert [(name, shape[1:], count_params(params.get(name, {}))) for name, shape in shapes] == table
    if downsample == "max":
        assert count_params(params) == 93_322
        assert count_params([params[f"Conv_{layer}"] for layer in range(3)]) == 55_744


def test_dense_layers_are_chapter_two_s():
    shapes, variables = layer_shapes(DenseNet(), (28, 28, 1))
    params = variables["params"]
    assert [(name, shape[1:], count_params(params.get(name, {}))) for name, shape in shapes] == DENSE


@pytest.mark.parametrize("downsample", DOWNSAMPLE)
def test_mnist_nets_compute_what_the_plain_layers_do(downsample):
    """By Flax's own layers on the same weights, relu before each pooling as in the book."""
    model, images = MnistConvNet(downsample), jax.random.uniform(jax.random.key(1), (3, 28, 28, 1))
    params = jax.jit(lambda: model.init(jax.random.key(0), images, train=False))()["params"]
    window = ((1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    pools = {
        "max": lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *window),
        "average": lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, *window) / 4,
    }
    x = images
    for layer, features in enumerate((32, 64, 64)):
        strides = 2 if downsample == "stride" and layer < 2 else 1
        conv = nn.Conv(features, (3, 3), strides, padding="VALID")
        x = nn.relu(conv.apply({"params": params[f"Conv_{layer}"]}, x))
        if downsample in pools and layer < 2:
            x = pools[downsample](x)
    x = nn.relu(x.reshape(3, -1) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"][None])
    expected = x @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"][None]
    logits = jax.jit(lambda x: model.apply({"params": params}, x, train=True))(images)
    assert logits.shape == (3, 10)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize(
    "net, shape", [(CatsDogsConvNet, (46, 46, 3)), (MnistConvNet, (28, 28, 1)), (DenseNet, (28, 28, 1))]
)
def test_nets_in_bfloat16_have_float32_weights_and_logits(net, shape):
    images = jax.random.uniform(jax.random.key(1), (3, *shape))
    variables = jax.jit(lambda: net().init(jax.random.key(0), images, train=False))()
    model = net(dtype=jnp.dtype("bfloat16"))
    again = jax.jit(lambda: model.init(jax.random.key(0), images, train=False))()
    jax.tree.map(np.testing.assert_array_equal, variables, again)
    run = jax.jit(lambda v, x: model.apply(v, x, train=False, capture_intermediates=True))
    logits, captured = run(variables, images)
    layers = {name: outputs["__call__"][0] for name, outputs in captured["intermediates"].items() if name != "__call__"}
    assert layers.pop("Dense_1").dtype == logits.dtype == jnp.float32
    if net is DenseNet:
        layers.pop("Flatten_0")  # of the pictures themselves
    assert {output.dtype for output in layers.values()} == {jnp.dtype(jnp.bfloat16)}
    expected = jax.jit(lambda v, x: net().apply(v, x, train=False))(variables, images)
    assert 0 < float(jnp.abs(logits - expected).max()) < 0.02


def test_unknown_downsampling_is_an_error():
    with pytest.raises(ValueError, match="downsample 'min' is none of max, average, stride, none"):
        layer_shapes(MnistConvNet("min"), (28, 28, 1))


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


@pytest.mark.parametrize("classes, logits", [(2, 1), (3, 3), (7, 7)])
def test_two_classes_share_a_logit_and_more_have_one_each(classes, logits):
    _, variables = layer_shapes(CatsDogsConvNet(classes=classes), (46, 46, 3))
    assert variables["params"]["Dense_1"]["kernel"].shape == (512, logits)
