"""Optimizers by hand, and the plateau by what Keras says of its callback."""

import random

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxconv.config import Optimizer
from jaxconv.models import DenseNet
from jaxconv.models.registry import Forward
from jaxconv.training import optimizers
from jaxconv.training.state import EpochSums, TrainState

PLATEAU = Optimizer(learning_rate=1e-3, schedule="plateau")


def test_rmsprop_is_the_book_s_formula():
    """Three steps by hand, gradients tiny enough that the place of epsilon shows."""
    lr, rho, eps = 1e-3, 0.9, 1e-7
    optimizer, weight = optimizers.make(Optimizer(learning_rate=lr), 100), jnp.float32(1.0)
    state = optimizer.init(weight)
    w, v = 1.0, 0.0
    for g in (1e-6, -3e-6, 2e-6):
        update, state = optimizer.update(jnp.float32(g), state, weight)
        weight = optax.apply_updates(weight, update)
        v = rho * v + (1 - rho) * g**2
        w -= lr * g / (np.sqrt(v) + eps)
    assert abs(float(weight) - w) < 2e-7
    inside = 1.0 - lr * 1e-6 / np.sqrt(0.1e-12 + eps)
    assert abs(w - inside) > 1e-4


def test_learning_rates_by_hand():
    constant = optimizers.learning_rates(Optimizer(learning_rate=1e-3), 100)
    assert {constant(step) for step in (0, 50, 99)} == {1e-3}
    cosine = Optimizer(learning_rate=0.2, schedule="cosine")
    for step, expected in {0: 0.02, 5: 0.11, 10: 0.2, 55: 0.1, 100: 0.0}.items():
        assert float(optimizers.learning_rates(cosine, 100)(step)) == pytest.approx(expected, abs=1e-7)
    assert float(optimizers.learning_rates(cosine, 3)(0)) == pytest.approx(0.2)  # too short for a rise


def test_equal_settings_have_one_transformation():
    """Another object, if only an equal one, would be another program to compile."""
    plateau = Optimizer(learning_rate=1e-3, schedule="plateau")
    assert optimizers.make(plateau, 10) is optimizers.make(Optimizer(learning_rate=1e-3, schedule="plateau"), 10)
    assert optimizers.make(plateau, 10) is optimizers.make(plateau, 20)  # a longer run is no other program
    assert optimizers.make(plateau, 10) is not optimizers.make(Optimizer(learning_rate=1e-3), 10)


def new_state():
    params, tx = {"kernel": jnp.ones((2, 3))}, optimizers.make(PLATEAU, 100)
    return TrainState(
        step=jnp.int32(0),
        params=params,
        collections={},
        opt_state=tx.init(params),
        average=None,
        key=None,
        sums=EpochSums.zero(),
        apply_fn=Forward(DenseNet()),
        tx=tx,
    )


def scales(val_losses):
    state, found = new_state(), []
    for val_loss in val_losses:
        state = optimizers.observe(state, PLATEAU, val_loss)
        rate = optimizers.learning_rate(state.replace(step=jnp.int32(1)), PLATEAU, 100)
        found.append(rate / PLATEAU.learning_rate)
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

    def stepped(state):
        updates, opt_state = state.tx.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return state.replace(step=state.step + 1, params=params, opt_state=opt_state)

    state = new_state()
    for _ in range(20):
        state = stepped(state)
    assert float(state.opt_state[1].scale) == 1
    for _ in range(11):
        state = optimizers.observe(state, PLATEAU, 0.5)
    after = stepped(state)
    tenth = optimizers.make(Optimizer(learning_rate=1e-4), 100)
    updates, _ = tenth.update(gradients, state.opt_state[0], state.params)
    expected = optax.apply_updates(state.params, updates)
    np.testing.assert_allclose(after.params["kernel"], expected["kernel"], rtol=1e-6)
    moved = state.params["kernel"] - after.params["kernel"]
    np.testing.assert_allclose(moved, 1e-4 * 0.3 / (0.3 * np.sqrt(1 - 0.9**21)), rtol=1e-2)


def test_other_schedules_observe_nothing():
    state = new_state()
    assert optimizers.observe(state, Optimizer(), 0.5) is optimizers.observe(state, None, 0.5) is state
    assert optimizers.learning_rate(state, None, 100) is None
