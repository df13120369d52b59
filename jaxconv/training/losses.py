"""Losses and predictions from logits: sigmoid for one logit of two classes, softmax otherwise."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

Loss = Callable[[Array, Array], Array]  # logits float[n, l] and targets float[n, k] to a value for each picture, [n]


def cross_entropy(logits: Float[Array, "n l"], targets: Float[Array, "n k"]) -> Float[Array, " n"]:
    """The cross-entropy of each picture, in nats; targets are probabilities of the classes.

    One logit for two classes is the book's binary cross-entropy; a positive logit is the second class.

    Raises:
        ValueError: logits and targets have different numbers of rows, or there is not one logit for each class.
    """
    if logits.ndim != 2 or logits.shape[:1] != targets.shape[:1] or logits.shape[1:] not in (targets.shape[1:], (1,)):
        raise ValueError(
            f"targets are {list(targets.shape)} beside logits {list(logits.shape)}, not [n, k] beside [n, k]"
        )
    if logits.shape[1] == 1:
        if targets.shape[1] != 2:
            raise ValueError(f"one logit cannot tell {targets.shape[1]} classes apart")
        return optax.sigmoid_binary_cross_entropy(logits[:, 0], targets[:, 1])
    return optax.softmax_cross_entropy(logits, targets)


def predictions(logits: Float[Array, "n l"]) -> Int[Array, " n"]:
    """The class of each picture, int32: for one logit the second class if it is above 0, else the largest logit."""
    if logits.shape[1] == 1:
        return (logits[:, 0] > 0).astype(jnp.int32)
    return jnp.argmax(logits, -1).astype(jnp.int32)


def probabilities(logits: Float[Array, "n l"]) -> Float[Array, "n k"]:
    """Class probabilities: sigmoid for one logit, softmax otherwise."""
    if logits.shape[1] == 1:
        return jax.nn.sigmoid(jnp.concatenate([-logits, logits], -1))
    return jax.nn.softmax(logits)
