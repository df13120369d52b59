"""A linear classifier of features: multinomial logistic regression by L-BFGS, its penalty chosen on validation."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int
from scipy.optimize import minimize
from scipy.special import log_softmax

# Penalties from strong to weak: each fit begins where the one before ended, which takes fewer steps.
PENALTIES = tuple(10 ** (power / 2) for power in range(1, -9, -1))
STEPS = 500  # at most, of a fit
MIN_DEVIATION = 1e-6  # of a feature, below which it is not scaled up


class LinearHead(NamedTuple):
    """A dense layer for features as they are: `kernel` float64[d, k], `bias` float64[k], and its penalty `l2`."""

    kernel: Float64[np.ndarray, "d k"]
    bias: Float64[np.ndarray, " k"]
    l2: float

    def logits(self, features: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, "n k"]:
        """The logits of pictures by their features."""
        return features.astype(np.float64) @ self.kernel + self.bias


def choose(
    features: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    validation: Float[np.ndarray, "m d"],
    validation_labels: Int[np.ndarray, " m"],
    classes: int,
) -> LinearHead:
    """Fit a head for each of `PENALTIES` to the features, and return the head with the lowest validation loss."""
    heads = fit(features, labels, classes, PENALTIES)
    losses = [log_loss(head.logits(validation), validation_labels) for head in heads]
    return heads[int(np.argmin(losses))]


def fit(
    features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], classes: int, penalties: Sequence[float]
) -> list[LinearHead]:
    """Fit a head for each penalty l2, on standardized features.

    The loss is the mean cross-entropy plus l2 / 2 times the sum of the squared weights, the bias excluded. For three
    classes or more, scikit-learn's LogisticRegression with C = 1 / (l2 * n) has the same loss. The heads take features
    that are not standardized.
    """
    mean = features.mean(0, dtype=np.float64)
    deviation = np.maximum(features.std(0, dtype=np.float64), MIN_DEVIATION)
    standard = (features - mean) / deviation
    targets = np.eye(classes)[labels]
    heads, start = [], np.zeros((features.shape[1] + 1, classes))
    for l2 in penalties:
        start = _minimize(standard, targets, l2, start)
        kernel = start[:-1] / deviation[:, None]
        heads.append(LinearHead(kernel, start[-1] - mean @ kernel, l2))
    return heads


def log_loss(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> float:
    """The mean cross-entropy, in nats."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def _minimize(
    features: Float64[np.ndarray, "n d"],
    targets: Float64[np.ndarray, "n k"],
    l2: float,
    start: Float64[np.ndarray, "e k"],
) -> Float64[np.ndarray, "e k"]:
    """The weights, and the bias as their last row."""

    def loss(flat: Float64[np.ndarray, " p"]) -> tuple[float, Float64[np.ndarray, " p"]]:
        weights = flat.reshape(start.shape)
        kernel, bias = weights[:-1], weights[-1]
        logs = log_softmax(features @ kernel + bias, axis=1)
        errors = (np.exp(logs) - targets) / len(targets)
        gradient = np.vstack([features.T @ errors + l2 * kernel, errors.sum(0)])
        return float(-(logs * targets).sum() / len(targets) + l2 / 2 * (kernel**2).sum()), gradient.ravel()

    options = {"maxiter": STEPS, "gtol": 1e-6, "ftol": 1e-10}
    return minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options=options).x.reshape(start.shape)
