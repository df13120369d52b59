import json
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv.config import Model
from jaxconv.models import CatsDogsConvNet, DenseNet, MnistConvNet, registry
from jaxconv.runtime.errors import InputError
from tests.nets import SmallNet


@pytest.mark.parametrize(
    "model, shape, parameters",
    [
        (CatsDogsConvNet(dropout=0.5, classes=3), (46, 46, 3), 308_419),
        (MnistConvNet("stride", jnp.bfloat16), (28, 28, 1), 121_994),
        (DenseNet(), (28, 28, 1), 407_050),
        (CatsDogsConvNet(), (150, 150, 3), 3_453_121),
    ],
)
def test_a_net_is_built_again_from_its_description(model, shape, parameters):
    described = registry.describe(model, shape)
    again = registry.build(described.name, json.loads(json.dumps(described.options)))
    assert type(again) is type(model) and registry.describe(again, shape) == described
    assert described.parameters == parameters


def test_a_net_of_one_s_own_is_described_by_its_place():
    described = registry.describe(SmallNet(), (12, 12, 3))
    assert (described.name, described.options) == ("tests.nets:SmallNet", {"dtype": "float32"})
    assert registry.describe(Centred(lambda x: x), (4, 4, 3)).options == {"activation": "function", "power": 1}


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("ResNet", {}, "model 'ResNet' is none of CatsDogsConvNet, MnistConvNet, DenseNet, EfficientNetLite0"),
        ("os:system", {}, "model 'os:system' is none of"),
        ("DenseNet", {"dropout": 0.5}, "model DenseNet has no option dropout"),
    ],
)
def test_other_nets_and_options_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        registry.build(name, options)


def test_pixels_become_unit_floats_in_one_place():
    images = jnp.arange(256, dtype=jnp.uint8).reshape(1, 16, 16, 1)
    np.testing.assert_allclose(registry.Forward(DenseNet()).normalize(images).ravel(), np.arange(256) / 255, rtol=1e-6)


@pytest.mark.parametrize("images", [jnp.zeros((1, 2, 2, 3)), jnp.zeros((2, 2, 3), jnp.uint8)])
def test_images_that_are_not_uint8_are_refused(images):
    with pytest.raises(ValueError, match=r"images are \w+\[.*\], not uint8\[n, h, w, c\]"):
        registry.Forward(DenseNet()).normalize(images)


class Centred(nn.Module):
    """A net with a normalisation of its own."""

    activation: Callable = jnp.abs
    power: int = 1

    @nn.compact
    def __call__(self, images, *, train):
        return images.mean((1, 2))

    def normalize(self, images):
        """In [-1, 1]."""
        return (images.astype(jnp.float32) - 127) / 128


def test_a_net_may_have_its_own_normalisation():
    images = jnp.full((1, 2, 2, 3), 255, jnp.uint8)
    np.testing.assert_allclose(registry.Forward(Centred())({}, images, train=False), np.ones((1, 3)))


@pytest.mark.parametrize("power", [(4, [5]), {"a": (1,)}, float("nan")])
def test_options_are_as_json_gives_them_back(power):
    """Else a run with a tuple or a NaN among the fields of its net could not be resumed."""
    options = registry.describe(Centred(power=power), (4, 4, 3)).options
    assert json.loads(json.dumps(options)) == options


class Wide(nn.Module):
    """Fields that JSON has, and fields that it does not have."""

    widths: Sequence[int] = (2,)
    layer: type[nn.Module] = nn.Dense
    activation: Callable | None = None

    @nn.compact
    def __call__(self, images, *, train):
        x = images.mean((1, 2))
        for width in self.widths:
            x = self.layer(width)(x)
        return self.activation(x) if self.activation else x


class Doubled(nn.Module):
    """A layer with more parameters than a dense layer."""

    features: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.features)(nn.Dense(self.features)(x))


@pytest.mark.parametrize("model", [Wide(), Wide((3, 4)), Wide([5])])
def test_a_custom_class_gets_the_recorded_options(model):
    recorded = registry.describe(model, (4, 4, 3))
    again = registry.build_custom(Wide, recorded, (4, 4, 3))
    assert (again.widths, again.layer) == (tuple(model.widths), nn.Dense)
    assert registry.describe(again, (4, 4, 3)) == recorded and hash(again)


@pytest.mark.parametrize(
    "model, kind, message",
    [
        (
            Wide(activation=jnp.abs),
            Wide,
            r"Wide does not take the options in config.json \('str' object is not callable\)",
        ),
        (Wide(layer=Doubled), Wide, "Wide has 8 parameters in place of 14 with the options in config.json"),
        (Wide((3,)), SmallNet, r"SmallNet does not take the options in config.json \(.*widths.*\)"),
        (Wide((0.5,)), Wide, r"Wide does not take the options in config.json \(.*\)"),
    ],
)
def test_options_that_do_not_give_the_net_again_are_refused(model, kind, message):
    recorded = Model(name="mynets:Wide", options=registry.options(model), parameters=14)
    with pytest.raises(InputError, match=f"{message}: give the class of the run; fields that are not JSON must equal"):
        registry.build_custom(kind, recorded, (4, 4, 3))


class Pair(nn.Module):
    """Which gives two outputs."""

    @nn.compact
    def __call__(self, x):
        return x, nn.Dense(2)(x.mean((1, 2)))


class Odd(nn.Module):
    """An array among its fields, a layer of two outputs, and a normalisation that adds a channel."""

    mean: np.ndarray

    @nn.compact
    def __call__(self, images, *, train):
        return Pair()(images)[1]

    def normalize(self, images):
        """Four channels of three."""
        return jnp.pad(images.astype(jnp.float32) - self.mean.mean(), [(0, 0), (0, 0), (0, 0), (0, 1)])


def test_any_linen_module_is_described():
    odd, other = Odd(np.arange(3.0, dtype=np.float32)), Odd(np.arange(3.0, dtype=np.float32))
    assert registry.describe(odd, (4, 4, 3)).parameters == 10
    assert registry.Forward(odd) != registry.Forward(other)  # and no error of arrays that cannot be compared


def test_forwards_of_equal_nets_are_equal():
    assert registry.Forward(DenseNet()) == registry.Forward(DenseNet()) != registry.Forward(CatsDogsConvNet())
    assert hash(registry.Forward(DenseNet())) == hash(registry.Forward(DenseNet()))
    assert jax.tree.leaves(registry.Forward(DenseNet())) == [registry.Forward(DenseNet())]
