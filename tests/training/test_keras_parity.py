"""The same weights and batches through Keras and through the train step; see tests/oracles/keras_fixture.py."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxconv.models import CatsDogsConvNet
from jaxconv.training.losses import cross_entropy
from jaxconv.training.state import create_state
from jaxconv.training.steps import compiled_train_step
from tests.oracles import keras_fixture

LAYERS = ["Conv_0", "Conv_1", "Conv_2", "Conv_3", "Dense_0", "Dense_1"]


@pytest.fixture(scope="module", params=["saved", "live"])
def keras(request, tmp_path_factory):
    file = Path(keras_fixture.__file__).with_name("keras_parity.npz")
    if request.param == "live":
        if importlib.util.find_spec("keras") is None:
            pytest.skip("Keras is not installed (extra: bench)")
        file = tmp_path_factory.mktemp("keras") / "live.npz"
        # In a process of its own: Keras does not run under the tests' strict arithmetic.
        command = [sys.executable, "-m", "tests.oracles.keras_fixture", str(file)]
        subprocess.run(command, check=True, env=os.environ | {"KERAS_BACKEND": "jax"})
    return np.load(file)


@pytest.fixture
def state():
    # Keras of today adds epsilon inside the root; the book's formula is tested by hand in test_optimizers.
    optimizer = optax.rmsprop(keras_fixture.LEARNING_RATE, decay=0.9, eps=1e-7, eps_in_sqrt=True)
    fresh = create_state(CatsDogsConvNet(), (keras_fixture.SIDE, keras_fixture.SIDE, 3), optimizer, seed=0)
    weights = iter(keras_fixture.initial_weights())
    params = {layer: {"kernel": jnp.asarray(next(weights)), "bias": jnp.asarray(next(weights))} for layer in LAYERS}
    return fresh.replace(params=jax.device_put(params, jax.devices()[0]))


def sample(params):
    return keras_fixture.sample([params[layer][name] for layer in LAYERS for name in ("kernel", "bias")])


def test_logits_loss_and_gradients(keras, state):
    images, labels = keras_fixture.batches()[0]

    def loss(params):
        logits = state.apply_fn({"params": params}, jnp.asarray(images), train=False)
        return cross_entropy(logits, jax.nn.one_hot(labels, 2)).mean(), logits

    (value, logits), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(state.params)
    np.testing.assert_allclose(logits, keras["logits"], atol=1e-4)
    np.testing.assert_allclose(value, keras["loss"], atol=1e-5)
    np.testing.assert_allclose(sample(gradients), keras["gradients"], atol=1e-5 * np.abs(keras["gradients"]).max())


def test_losses_and_weights_of_twenty_steps(keras, state):
    losses = []
    for images, labels in keras_fixture.batches():
        state, loss = compiled_train_step(state, {"image": images, "target": np.eye(2, dtype=np.float32)[labels]})
        losses.append(float(loss))
    np.testing.assert_allclose(losses, keras["losses"], atol=1e-4)
    np.testing.assert_allclose(sample(state.params), keras["weights"], atol=1e-5)
    moved = np.abs(keras["weights"] - keras_fixture.sample(keras_fixture.initial_weights()))
    assert np.median(moved) > 5e-5  # else any weights would have passed
