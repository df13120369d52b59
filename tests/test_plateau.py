"""When the learning rate is reduced, by hand and by what Keras says of its callback."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxconv import plateau
from jaxconv.train_step import TrainState, rmsprop

PARAMS = {"kernel": jnp.ones((2, 3))}


def new_state(optimizer=None):
    optimizer = plateau.reducing(optimizer or rmsprop(1e-3))
    return TrainState.create(apply_fn=print, params=PARAMS, tx=optimizer, dropout_key=jax.random.key(0))


def scales(val_losses):
    state, found = new_state(), []
    for val_loss in val_losses:
        state = plateau.observe(state, val_loss)
        found.append(plateau.scale(state))
    return found


def keras_scales(val_losses, factor=0.1, patience=10, min_delta=1e-4):
    """keras.callbacks.ReduceLROnPlateau.on_epoch_end of Keras 3, for a monitor that is to fall."""
    scale, best, wait, found = 1.0, np.inf, 0, []
    for val_loss in val_losses:
        if val_loss < best - min_delta:
            best, wait = val_loss, 0
        else:
            wait += 1
            if wait >= patience:
                scale, wait = scale * factor, 0
        found.append(scale)
    return found


def test_by_hand():
    assert scales([0.5] * 11) == pytest.approx([1.0] * 10 + [0.1])
    assert scales([0.5] * 21) == pytest.approx([1.0] * 10 + [0.1] * 10 + [0.01])
    barely = [0.5] * 10 + [0.49995] + [0.4] * 3
    assert scales(barely) == pytest.approx([1.0] * 10 + [0.1] * 4)
    assert scales([0.5] * 10 + [0.4] * 11) == pytest.approx([1.0] * 20 + [0.1])


@pytest.mark.parametrize("seed", range(3))
def test_as_keras(seed):
    drawn = random.Random(seed)
    val_losses = [0.7 - 0.01 * min(epoch, 25) + drawn.choice((0.0, 0.05, 0.1)) for epoch in range(80)]
    expected = keras_scales(val_losses)
    assert expected[-1] < 0.05
    assert scales(val_losses) == pytest.approx(expected)


def test_the_updates_are_those_of_a_reduced_rate():
    """And steps do not count as epochs."""
    gradients = {"kernel": jnp.full((2, 3), 0.3)}
    state = new_state()
    for _ in range(20):
        state = state.apply_gradients(grads=gradients)
    assert plateau.scale(state) == 1
    for _ in range(11):
        state = plateau.observe(state, 0.5)
    after = state.apply_gradients(grads=gradients)
    optimizer = rmsprop(1e-4)
    updates, _ = optimizer.update(gradients, state.opt_state[0], state.params)
    expected = optax.apply_updates(state.params, updates)
    np.testing.assert_allclose(after.params["kernel"], expected["kernel"], rtol=1e-6)
    moved = state.params["kernel"] - after.params["kernel"]
    np.testing.assert_allclose(moved, 1e-4 * 0.3 / (0.3 * np.sqrt(1 - 0.9**21)), rtol=1e-2)
