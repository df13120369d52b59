"""Scores of predictions: functions of the probabilities float[n, k] of n pictures and of their labels int[n].

They need no JAX. The share of an empty set, such as the precision of a class that was never predicted, is nan.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxconv.runs.history import never_predicted

Probabilities = Float[np.ndarray, "n k"]
Labels = Int[np.ndarray, " n"]
Confusion = Int[np.ndarray, "k k"]
BINS = 15  # as in Guo et al., On Calibration of Modern Neural Networks


class Mistake(NamedTuple):
    """A picture, by its position, with a wrong prediction; `confidence` is the probability of that prediction."""

    position: int
    label: int
    prediction: int
    confidence: float


def accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """The share of pictures whose most probable class is their label. Of equally probable classes the first counts."""
    return float(np.mean(probabilities.argmax(1) == labels))


def wilson_interval(correct: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """The bounds of Wilson's confidence interval: the true share that `correct` of `count` pictures leave likely."""
    from scipy.stats import binomtest

    found = binomtest(correct, count).proportion_ci(level, "wilson")
    return float(found.low), float(found.high)


def log_loss(probabilities: Probabilities, labels: Labels) -> float:
    """The mean cross-entropy, in nats. A probability of 0 counts as float32's smallest normal number."""
    of_label = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_label, np.finfo(np.float32).tiny), dtype=np.float64).mean())


def roc_auc(probabilities: Probabilities, labels: Labels) -> float:
    """The area under the ROC curve, or AUC.

    It is the chance that a picture of a class has a higher probability for this class than a picture of another class;
    ties count a half. The class is the second of two. For more classes it is the mean over all classes. It is nan
    unless there are pictures of every class.
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
    """The number of pictures by label, in rows, and prediction, in columns."""
    classes = probabilities.shape[1]
    cells = labels * classes + probabilities.argmax(1)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def recall(confusion: Confusion) -> Float[np.ndarray, " k"]:
    """For each class, the share of its pictures that were recognised."""
    return _shares(confusion.diagonal(), confusion.sum(1))


def mean_recall(confusion: Confusion) -> float:
    """The mean of the recall over the classes that have pictures, also known as balanced accuracy.

    Unlike accuracy, it counts a class with few pictures as much as a class with many.
    """
    return float(np.nanmean(recall(confusion)))


def precision(confusion: Confusion) -> Float[np.ndarray, " k"]:
    """For each class, the share of its predictions that were right."""
    return _shares(confusion.diagonal(), confusion.sum(0))


def _shares(parts: Int[np.ndarray, " k"], wholes: Int[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    return np.divide(parts, wholes, out=np.full(len(parts), np.nan), where=wholes > 0)


def calibration_error(probabilities: Probabilities, labels: Labels, bins: int = BINS) -> float:
    """The expected calibration error: the mean distance between confidence and accuracy.

    The confidence of a prediction is its probability. Pictures are put into bins of confidence of equal width, each of
    which includes its upper bound; the mean is weighted by the number of pictures in a bin.
    """
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == labels
    bin_of = np.searchsorted(np.arange(1, bins) / bins, confidence)  # not by a product, which may round over a bound
    return float(np.abs(np.bincount(bin_of, right - confidence)).sum() / len(labels))


def brier_score(probabilities: Probabilities, labels: Labels) -> float:
    """The Brier score: the mean squared distance between the probabilities and the truth, which is 0 or 1.

    For two classes it is the distance of one of them, from 0 to 1. For more classes it is summed over the classes and
    goes from 0 to 2.
    """
    classes = probabilities.shape[1]
    distance = probabilities.astype(np.float64) - np.eye(classes)[labels]
    return float((distance**2).sum() / len(labels) / (2 if classes == 2 else 1))


def mistakes(probabilities: Probabilities, labels: Labels) -> list[Mistake]:
    """All wrong predictions, the most confident first."""
    predictions, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predictions != labels)
    worst_first = wrong[np.argsort(-confidence[wrong], kind="stable")]
    return [Mistake(int(i), int(labels[i]), int(predictions[i]), float(confidence[i])) for i in worst_first]


def summarize(probabilities: Probabilities, labels: Labels) -> dict[str, Any]:
    """All scores of this module by name. The confusion matrix, the recall and the precision are lists.

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
        "mean_recall": mean_recall(confusion),
        "confusion": confusion.tolist(),
        "recall": recall(confusion).tolist(),
        "precision": precision(confusion).tolist(),
        "never_predicted": never_predicted(confusion.tolist()),
    }
