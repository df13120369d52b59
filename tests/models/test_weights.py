"""Weights that pass from one net to another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv.models.registry import Forward
from jaxconv.models.weights import adopt, checksum
from jaxconv.runtime.errors import InputError
from tests.nets import FlatNet, PretrainedNet

SHAPE = (12, 12, 3)


def variables(net, seed=0):
    return Forward(net).init(jax.random.key(seed), jnp.zeros((1, *SHAPE), jnp.uint8))


def test_layers_of_the_same_name_and_shape_are_taken_and_others_are_random(capsys):
    given = variables(PretrainedNet(7))
    found = adopt(PretrainedNet(3), SHAPE, given, seed=1)
    assert capsys.readouterr().out == "layers that begin with random weights: classifier\n"
    for layer in ("lower", "upper"):
        jax.tree.map(np.testing.assert_array_equal, found["params"][layer], given["params"][layer])
    assert found["params"]["classifier"]["kernel"].shape == (8, 3)
    assert adopt(PretrainedNet(7), SHAPE, given, seed=1).keys() == given.keys()
    assert capsys.readouterr().out == ""


def test_a_net_without_a_layer_in_common_is_refused():
    with pytest.raises(InputError, match="--init-from names a run of another net: its layers have other names"):
        adopt(FlatNet(), SHAPE, variables(PretrainedNet(7)), seed=0)


def test_a_checksum_is_that_of_names_and_values():
    one, same, other = (checksum(variables(PretrainedNet(), seed)) for seed in (0, 0, 1))
    assert one == same != other and len(one) == 64
