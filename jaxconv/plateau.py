"""The schedule "plateau": the learning rate falls to a tenth once val_loss has not fallen for ten epochs.

These are the numbers of Keras's callback ReduceLROnPlateau (factor 0.1, patience 10, min_delta 1e-4), applied by Optax.
What it has to remember is part of the optimizer's state, so that it is saved and restored with it.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array
from optax.contrib import reduce_on_plateau

from jaxconv.train_step import TrainState

_PLATEAU = reduce_on_plateau(factor=0.1, patience=10, rtol=0.0, atol=1e-4)


@functools.cache  # as `train_step.rmsprop`
def reducing(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The optimizer, with a learning rate that `observe` reduces."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(lambda leaf: state.scale * leaf, updates), state

    return optax.chain(optimizer, optax.GradientTransformation(_PLATEAU.init, update))


def observe(state: TrainState, val_loss: float) -> TrainState:
    """The state after the val_loss of an epoch: with a tenth of the learning rate, if it is time."""
    optimizer, plateau = state.opt_state
    return state.replace(opt_state=(optimizer, _observe(plateau, jnp.float32(val_loss))))


@jax.jit
def _observe(plateau: Any, val_loss: Array) -> Any:
    with jax.numpy_dtype_promotion("standard"):  # Optax mixes integers with floats
        return _PLATEAU.update({}, plateau, value=val_loss)[1]


def scale(state: TrainState) -> float:
    """What the learning rate is multiplied by."""
    return float(state.opt_state[1].scale)
