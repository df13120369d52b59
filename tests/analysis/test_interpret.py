"""Activations, patterns and heat maps, against nets that can be computed by hand."""

import functools
from pathlib import Path

import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate

from jaxconv.analysis import interpret
from jaxconv.analysis.predictor import Predictor
from jaxconv.models import CatsDogsConvNet, DenseNet, Flatten, MnistConvNet
from jaxconv.models.efficientnet import ConvNorm
from jaxconv.models.layers import AveragePool, Conv, Dense, MaxPool
from jaxconv.runtime.errors import InputError
from jaxconv.training.state import evaluation_state
from tests.made_runs import settings
from tests.nets import BatchNormNet, Block, SmallNet


class Readout(nn.Module):
    """The logits are weighted sums of a convolution's responses."""

    logits: int

    @nn.compact
    def __call__(self, images, *, train):
        return Dense(self.logits)(Flatten()(nn.relu(Conv(2)(images))))


class AllLayers(nn.Module):
    """Every kind of layer that has maps."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.relu(MaxPool()(Conv(3)(images)))
        x = AveragePool()(nn.relu(Conv(4)(x)))
        return Dense(1)(Flatten()(x))


def net_of(model, image_shape, params=None):
    """A predictor without a run directory: with these parameters, or with random ones."""
    init = jax.jit(functools.partial(model.init, train=False))
    variables = init(jax.random.key(3), jnp.zeros((1, *image_shape)))
    net = Predictor.__new__(Predictor)
    net.workdir, net.model, net.epoch = Path("by-hand"), model, 0.0
    net.config = settings(model, image_shape, [str(i) for i in range(10)])
    kept = {name: part for name, part in variables.items() if name in ("params", "batch_stats")}
    net.state = evaluation_state(model, kept | ({"params": params} if params else {}))
    return net


def pictures(count, *shape):
    return np.random.default_rng(0).integers(1, 255, (count, *shape), dtype=np.uint8)


def readout(logits):
    """The first filter gives a pixel's first channel, the second what it lacks of 1: both are positive."""
    kernel = np.zeros((3, 3, 3, 2), np.float32)
    kernel[1, 1, 0] = 1, -1
    weights = np.random.default_rng(1).normal(size=(4 * 5 * 2, logits)).astype(np.float32)
    weights += np.arange(logits, dtype=np.float32) / 4
    params = {
        "Conv_0": {"kernel": kernel, "bias": np.array([0, 1], np.float32)},
        "Dense_0": {"kernel": weights, "bias": np.zeros(logits, np.float32)},
    }
    return net_of(Readout(logits), (6, 7, 3), params), weights.reshape(4, 5, 2, logits)


def by_hand(image, weights):
    """`weights` are the readout's of one class: the gradient of its logit."""
    x = image[1:-1, 1:-1, 0] / 255
    mean = weights.mean((0, 1))
    evidence = np.maximum(mean[0] * x + mean[1] * (1 - x), 0)
    heat = cv2.resize(evidence, (7, 6), interpolation=cv2.INTER_LINEAR)
    return heat / max(heat.max(), 1e-9)


def test_grad_cam_of_a_readout_is_as_computed_by_hand():
    images = pictures(3, 6, 7, 3)
    net, weights = readout(4)
    found = interpret.grad_cam(net, images)
    assert (found.shape, found.dtype) == ((3, 4, 6, 7), np.float32)
    for image, heats in zip(images, found, strict=True):
        for k in range(4):
            np.testing.assert_allclose(heats[k], by_hand(image, weights[..., k]), atol=1e-5)
    assert {0, 1} == set(np.unique(found.max((2, 3))).round(6))  # some class has evidence, and some has none


def test_silent_maps_are_no_evidence():
    """Even where their weights speak for the class."""
    net, _ = readout(4)
    net.state.params["Conv_0"]["bias"] = jnp.full(2, -10.0)
    assert not interpret.grad_cam(net, pictures(2, 6, 7, 3)).any()


def test_one_logit_speaks_for_both_classes_with_opposite_signs():
    images = pictures(2, 6, 7, 3)
    net, weights = readout(1)
    found = interpret.grad_cam(net, images)
    assert found.shape == (2, 2, 6, 7)
    for image, (first, second) in zip(images, found, strict=True):
        np.testing.assert_allclose(first, by_hand(image, -weights[..., 0]), atol=1e-5)
        np.testing.assert_allclose(second, by_hand(image, weights[..., 0]), atol=1e-5)
    assert found[:, 0].any() and found[:, 1].any()


def test_silent_cells_have_their_share_of_the_gradient():
    """As in the book, whose layers take their relu before the pooling: the net's head once more, of such maps."""
    images, net = pictures(2, 78, 78, 3), net_of(CatsDogsConvNet(), (78, 78, 3))
    params, maps = net.state.params, [interpret.activations(net, image)["Conv_3"] for image in images]

    def head(maps):
        x = nn.relu(pooled(maps, jnp.max).reshape(-1) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"])
        return (x @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"])[0]

    for heats, of_image in zip(interpret.grad_cam(net, images), maps, strict=True):
        assert 0.2 < (of_image == 0).mean() < 0.8
        evidence = of_image @ jax.grad(head)(jnp.asarray(of_image)).mean((0, 1))
        for heat, sign in zip(heats, (-1, 1), strict=True):
            expected = cv2.resize(np.maximum(sign * np.asarray(evidence), 0), (78, 78), interpolation=cv2.INTER_LINEAR)
            np.testing.assert_allclose(heat, expected / max(expected.max(), 1e-9), atol=1e-4)


@pytest.mark.parametrize(
    ("model", "shape", "classes"),
    [
        (CatsDogsConvNet(dropout=0.5), (46, 48, 3), 2),
        (SmallNet("bfloat16"), (8, 9, 3), 2),
    ],
)
def test_heat_is_a_share_of_the_strongest(model, shape, classes):
    found = interpret.grad_cam(net_of(model, shape), pictures(2, *shape))
    assert found.shape == (2, classes, *shape[:2])
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() == 1


def pooled(x, how):
    rows, cols = x.shape[0] // 2, x.shape[1] // 2
    return how(x[: 2 * rows, : 2 * cols].reshape(rows, 2, cols, 2, -1), (1, 3))


def test_activations_are_as_computed_layer_by_layer():
    net, image = net_of(AllLayers(), (11, 12, 2)), pictures(1, 11, 12, 2)[0]
    params = jax.tree.map(np.asarray, net.state.params)

    def convolved(x, name):
        maps = [correlate(x, kernel, "valid")[..., 0] for kernel in np.moveaxis(params[name]["kernel"], -1, 0)]
        return np.maximum(np.stack(maps, -1) + params[name]["bias"], 0)

    first = convolved(image / 255, "Conv_0")
    coarse = pooled(first, np.max)
    second = convolved(coarse, "Conv_1")
    expected = {"Conv_0": first, "MaxPool_0": coarse, "Conv_1": second, "AveragePool_0": pooled(second, np.mean)}
    found = interpret.activations(net, image)
    assert [*found] == [*expected]  # in the order of the calls
    for name, maps in found.items():
        assert maps.dtype == np.float32
        np.testing.assert_allclose(maps, expected[name], atol=1e-5, err_msg=name)
        assert maps.any()


def test_kernels_are_one_per_filter():
    net, _ = readout(1)
    found = interpret.kernels(net, "Conv_0")
    assert found.shape == (2, 3, 3, 3)
    assert (found[0, 1, 1, 0], found[1, 1, 1, 0], np.abs(found).sum()) == (1, -1, 2)


def test_gradient_ascent_raises_the_mean_activation():
    net, filters = net_of(AllLayers(), (14, 15, 1)), [3, 0, 3]
    params = jax.tree.map(np.array, net.state.params)
    params["Conv_0"]["bias"][:] = 1
    params["Conv_1"]["bias"][0] = -5  # it is silent at first
    net = net_of(net.model, net.image_shape, params)
    before, half, after = (
        np.asarray(interpret.mean_activation(net.state, jnp.asarray(made), jnp.array(filters), "Conv_1"))
        for made in (interpret.maximize_activation(net, "Conv_1", filters, steps=steps) for steps in (0, 10, 20))
    )
    assert before[1] < -0.5
    assert (before < half).all() and (half < after).all()
    np.testing.assert_array_equal(before[0], before[2])  # every filter begins with the same noise


def test_every_filter_has_a_picture_of_its_own():
    net = net_of(AllLayers(), (11, 12, 2))
    found = interpret.maximize_activation(net, "Conv_0", [2, 0], steps=5)
    assert (found.shape, found.dtype) == ((2, 11, 12, 2), np.float32)
    np.testing.assert_allclose(interpret.maximize_activation(net, "Conv_0", [0], steps=5)[0], found[1], atol=1e-6)
    assert not np.allclose(found[0], found[1], atol=0.01)
    noise = interpret.maximize_activation(net, "Conv_0", [0], steps=0)
    assert 128 / 255 <= noise.min() < noise.max() <= 148 / 255


def test_a_step_has_its_size():
    net = net_of(AllLayers(), (11, 12, 2))
    start, end = (interpret.maximize_activation(net, "Conv_1", [0, 1], steps=steps, step_size=0.25) for steps in (0, 1))
    np.testing.assert_allclose(np.sqrt(np.square(end - start).mean((1, 2, 3))), 0.25, rtol=1e-5)


def test_a_smoothed_gradient_still_leads_upwards():
    smoother = np.asarray(interpret._smoother(7))
    np.testing.assert_allclose(smoother[3] * 16, [0, 1, 4, 6, 4, 1, 0], atol=1e-6)
    assert np.linalg.eigvalsh(smoother).min() > 0


def test_a_net_without_convolutions_is_named():
    net = net_of(DenseNet(), (28, 28, 1))
    for look in (lambda: interpret.convolutions(net), lambda: interpret.grad_cam(net, pictures(1, 28, 28, 1))):
        with pytest.raises(InputError, match=r"by-hand holds a DenseNet, which has no convolutions .*: name another"):
            look()
    assert interpret.activations(net, pictures(1, 28, 28, 1)[0]) == {}
    assert interpret.convolutions(net_of(MnistConvNet(), (28, 28, 1))) == ["Conv_0", "Conv_1", "Conv_2"]


class Wide(nn.Module):
    """A net with a layer of its own making, and one layer that is used twice."""

    @nn.compact
    def __call__(self, images, *, train):
        twice = nn.Conv(3, (1, 1))
        return nn.Dense(2)(Wide5()(twice(twice(images))).mean((1, 2)))


class Wide5(nn.Module):
    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (5, 5, x.shape[-1], 6))
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def test_layers_of_nested_modules_go_by_their_paths():
    net, images = net_of(BatchNormNet(), (20, 22, 3)), pictures(2, 20, 22, 3)
    layers = ["Block_0/Conv_0", "Block_1/Conv_0"]
    assert interpret.convolutions(net) == layers
    found = interpret.activations(net, images[0])
    assert {name: maps.shape for name, maps in found.items()} == {layers[0]: (10, 11, 4), layers[1]: (5, 6, 6)}
    inside = Block(4).apply(
        {name: part["Block_0"] for name, part in net.state.variables.items()}, images[:1] / np.float32(255), train=False
    )
    expected = np.maximum(found[layers[0]] / np.sqrt(1 + 1e-5), 0)  # fresh statistics: mean 0, variance 1
    np.testing.assert_allclose(inside[0], expected, atol=1e-5)
    assert interpret.kernels(net, layers[1]).shape == (6, 3, 3, 4)
    assert interpret.maximize_activation(net, layers[1], [5, 1], steps=2).shape == (2, 20, 22, 3)
    heats = interpret.grad_cam(net, images)
    assert heats.shape == (2, 2, 20, 22) and heats.max() == 1 and np.isfinite(heats).all()


def test_grad_cam_sees_the_running_statistics_of_batch_norm():
    net, images = net_of(BatchNormNet(), (20, 22, 3)), pictures(2, 20, 22, 3)
    before = interpret.grad_cam(net, images)
    net.state.collections["batch_stats"]["Block_1"]["BatchNorm_0"]["mean"] = jnp.linspace(-1, 1, 6)
    assert np.abs(interpret.grad_cam(net, images) - before).max() > 0.05


class PooledHead(nn.Module):
    """The end of EfficientNet: relu6 of a convolution with batch norm, and the mean of its maps."""

    @nn.compact
    def __call__(self, images, *, train):
        return Dense(3)(nn.relu6(ConvNorm(5, 3, name="head")(images)).mean((1, 2)))


def test_grad_cam_of_means_of_maps_is_the_class_activation_map():
    """Zhou et al. 2016, arXiv:1512.04150: the maps after relu, weighted by the kernel of the classifier."""
    net, (image,) = net_of(PooledHead(), (6, 7, 3)), pictures(1, 6, 7, 3)
    evidence = np.maximum(interpret.activations(net, image)["head"] @ net.state.params["Dense_0"]["kernel"], 0)
    (found,) = interpret.grad_cam(net, image[None])
    np.testing.assert_allclose(np.moveaxis(found, 0, -1), evidence / evidence.max((0, 1)), atol=1e-5)


def test_layers_of_ones_own_making_are_convolutions_too():
    net, image = net_of(Wide(), (8, 9, 3)), pictures(1, 8, 9, 3)
    assert interpret.convolutions(net) == ["Conv_0", "Wide5_0"]  # the layer that is used twice is one
    assert interpret.kernels(net, "Wide5_0").shape == (6, 5, 5, 3)
    assert [*interpret.activations(net, image[0])] == ["Conv_0", "Wide5_0"]
    assert interpret.grad_cam(net, image).shape == (1, 2, 8, 9)
    assert interpret.maximize_activation(net, "Wide5_0", [0], steps=1).shape == (1, 8, 9, 3)
