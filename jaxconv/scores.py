"""How good predictions are: from the probabilities float[n, k] of n pictures and their labels int[n] to numbers.

Functions of NumPy and SciPy. A share of nothing, such as the precision of a class that was never predicted, is nan.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

Probabilities = Float[np.ndarray, "n k"]
Labels = Int[np.ndarray, " n"]
Confusion = Int[np.ndarray, "k k"]
BINS = 15  # as in Guo et al., On Calibration of Modern Neural Networks


class Mistake(NamedTuple):
    """A picture by its position, whose prediction is not its label, and the probability of that prediction."""

    position: int
    label: int
    prediction: int
    confidence: float


def accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """The share of pictures whose most probable class is their label; of equal ones the first."""
    return float(np.mean(probabilities.argmax(1) == labels))


def wilson_interval(correct: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """The bounds of Wilson's interval around a share: what a set of this size leaves open of the true one."""
    from scipy.stats import binomtest

    found = binomtest(correct, count).proportion_ci(level, "wilson")
    return float(found.low), float(found.high)


def log_loss(probabilities: Probabilities, labels: Labels) -> float:
    """The cross-entropy a picture, in nats. What float32 has rounded to 0 counts as its smallest normal number."""
    of_label = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_label, np.finfo(np.float32).tiny), dtype=np.float64).mean())


def roc_auc(probabilities: Probabilities, labels: Labels) -> float:
    """The area under the ROC curve: the chance that a picture of the class has a higher probability than another.

    Ties count a half. Of two classes it is that of the second, of more the mean over each against the rest. nan if
    the pictures are not of all classes.
    """
    from scipy.stats import rankdata

    def of_class(label: int) -> float:
        positive = labels == label
        hits, others = int(positive.sum()), int((~positive).sum())
        # SciPy may rank in the dtype that it is given, and float32 does not hold many ranks.
        above = rankdata(probabilities[:, label].astype(np.float64))[positive].sum() - hits * (hits + 1) / 2
        return above / (hits * others) if hits and others else np.nan

    classes = probabilities.shape[1]
    return float(np.mean([of_class(label) for label in ([1] if classes == 2 else range(classes))]))


def confusion_matrix(probabilities: Probabilities, labels: Labels) -> Confusion:
    """The number of pictures of each label, a row, that each class, a column, was predicted for."""
    classes = probabilities.shape[1]
    cells = labels * classes + probabilities.argmax(1)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def recall(confusion: Confusion) -> Float[np.ndarray, " k"]:
    """Of each class, the share of its pictures that were predicted as it."""
    return _shares(confusion.diagonal(), confusion.sum(1))


def precision(confusion: Confusion) -> Float[np.ndarray, " k"]:
    """Of each class, the share of its predictions that were right."""
    return _shares(confusion.diagonal(), confusion.sum(0))


def _shares(parts: Int[np.ndarray, " k"], wholes: Int[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    return np.divide(parts, wholes, out=np.full(len(parts), np.nan), where=wholes > 0)


def calibration_error(probabilities: Probabilities, labels: Labels, bins: int = BINS) -> float:
    """The expected calibration error: the mean distance of confidence and accuracy, over bins of equal width.

    Confidence is the probability of the prediction. A bin has its upper bound in it, and weighs as its pictures do.
    """
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == labels
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(bin_of, right - confidence)).sum() / len(labels))


def brier_score(probabilities: Probabilities, labels: Labels) -> float:
    """The mean squared distance of the probabilities from the label's 0 and 1: of two classes that of one of them.

    Of more classes it is summed over them, so that it goes from 0 to 2, and of two from 0 to 1.
    """
    classes = probabilities.shape[1]
    distance = probabilities.astype(np.float64) - np.eye(classes)[labels]
    return float((distance**2).sum() / len(labels) / (2 if classes == 2 else 1))


def mistakes(probabilities: Probabilities, labels: Labels) -> list[Mistake]:
    """All of them, the most confident first."""
    predictions, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predictions != labels)
    worst_first = wrong[np.argsort(-confidence[wrong], kind="stable")]
    return [Mistake(int(i), int(labels[i]), int(predictions[i]), float(confidence[i])) for i in worst_first]


def summarize(probabilities: Probabilities, labels: Labels) -> dict[str, Any]:
    """All numbers of this module but the mistakes; the confusion matrix and those of each class as lists.

    Raises:
        ValueError: there are no pictures.
    """
    if not len(labels):
        raise ValueError("there are no pictures, and so no scores")
    confusion = confusion_matrix(probabilities, labels)
    return {
        "accuracy": accuracy(probabilities, labels),
        "accuracy_interval": wilson_interval(int(confusion.trace()), len(labels)),
        "loss": log_loss(probabilities, labels),
        "auc": roc_auc(probabilities, labels),
        "calibration_error": calibration_error(probabilities, labels),
        "brier_score": brier_score(probabilities, labels),
        "confusion": confusion.tolist(),
        "recall": recall(confusion).tolist(),
        "precision": precision(confusion).tolist(),
    }
