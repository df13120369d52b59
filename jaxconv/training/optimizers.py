"""Optax transformations from the settings: RMSprop as the book's Keras computes it, and the schedules.

Equal settings give the same object, because a state with another optimizer object would be compiled again.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array
from optax.contrib import reduce_on_plateau

from jaxconv.config import Optimizer
from jaxconv.training.state import TrainState

# The numbers of Keras's ReduceLROnPlateau: a tenth of the learning rate after ten epochs without a lower val_loss.
_PLATEAU = reduce_on_plateau(factor=0.1, patience=10, rtol=0.0, atol=1e-4)


def learning_rates(optimizer: Optimizer, steps: int) -> optax.Schedule:
    """The learning rate of each step in a run of `steps` steps. "plateau" reduces it further: see `learning_rate`."""
    peak = float(optimizer.learning_rate)
    if optimizer.schedule == "cosine":
        cosine = optax.warmup_cosine_decay_schedule(peak / 10, peak, steps // 10, steps)
        return lambda step: cosine(jnp.float32(step))  # Optax would mix its integers with floats
    return optax.constant_schedule(peak)


def make(optimizer: Optimizer, steps: int) -> optax.GradientTransformation:
    """The transformation for a run of `steps` steps: `lr * g / (sqrt(v) + eps)`, with eps outside the root."""
    return _make(optimizer, steps if optimizer.schedule == "cosine" else 0)  # only "cosine" depends on the steps


@functools.cache
def _make(optimizer: Optimizer, steps: int) -> optax.GradientTransformation:
    rmsprop = optax.rmsprop(
        learning_rates(optimizer, steps), decay=optimizer.decay, eps=optimizer.eps, eps_in_sqrt=False
    )
    return optax.chain(rmsprop, _scaled_by_plateau()) if optimizer.schedule == "plateau" else rmsprop


@functools.cache
def _scaled_by_plateau() -> optax.GradientTransformation:
    """Scales updates by the scale that `observe` sets. The scale is saved as a part of the optimizer's state."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(lambda leaf: state.scale * leaf, updates), state

    return optax.GradientTransformation(_PLATEAU.init, update)


def observe(state: TrainState, optimizer: Optimizer | None, val_loss: float) -> TrainState:
    """The state after an epoch with this validation loss. "plateau" may reduce its learning rate."""
    if optimizer is None or optimizer.schedule != "plateau":
        return state
    rmsprop, plateau = state.opt_state
    return state.replace(opt_state=(rmsprop, _observe(plateau, jnp.float32(val_loss))))


@jax.jit
def _observe(plateau: Any, val_loss: Array) -> Any:
    with jax.numpy_dtype_promotion("standard"):  # Optax mixes integers with floats
        return _PLATEAU.update({}, plateau, value=val_loss)[1]


def learning_rate(state: TrainState, optimizer: Optimizer | None, steps: int) -> float | None:
    """The learning rate of the last step; None for a custom optimizer."""
    if optimizer is None:
        return None
    rate = float(learning_rates(optimizer, steps)(int(state.step) - 1))
    return rate * float(state.opt_state[1].scale) if optimizer.schedule == "plateau" else rate
