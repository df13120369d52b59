"""Feed batches to the devices."""

import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32

from jaxconv.config import Training
from jaxconv.data.augment import RandomAffine
from jaxconv.data.batches import evaluation_batches, training_batches
from jaxconv.data.records import Source
from jaxconv.runtime import sharding
from jaxconv.training.state import TrainState
from jaxconv.training.steps import Batch, compiled_eval_step


class Feed:
    """Iterate over training batches on the devices, starting at any step.

    A batch is {"image": uint8[n, h, w, c], "target": float32[n, k]} with one-hot targets, and with balanced class
    weights also "weight": float32[n]. A step always has the same batch. The iterator is endless. `waited` counts the
    seconds spent waiting for data.
    """

    def __init__(self, source: Source, training: Training, seed: int, first_step: int) -> None:
        self.waited = 0.0
        self._classes = np.eye(len(source.class_names), dtype=np.float32)
        self._weights = balanced_weights(source) if training.class_weights else None
        self._batches = training_batches(
            source,
            training.batch_size,
            seed=seed,
            augment=RandomAffine(training.augmentation) if training.augmentation else None,
            whole_passes=training.steps_per_epoch is None,
            first_step=first_step,
        )

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        asked = time.perf_counter()
        batch = next(self._batches)
        self.waited += time.perf_counter() - asked
        weights = {} if self._weights is None else {"weight": self._weights[batch["label"]]}
        return sharding.shard_batch({"image": batch["image"], "target": self._classes[batch["label"]]} | weights)


def balanced_weights(source: Source) -> Float32[np.ndarray, " k"]:
    """The weight of each class that makes all classes equal in the loss: n / (k * pictures of the class).

    The mean weight of a picture is 1. scikit-learn calls these weights balanced too.

    Raises:
        ValueError: a class has no pictures.
    """
    counts = np.bincount(source.labels, minlength=len(source.class_names))
    if not counts.all():
        raise ValueError(f"{source.class_names[counts.argmin()]} has no training pictures, and so no balanced weight")
    return (len(source) / (len(counts) * counts)).astype(np.float32)


def evaluate(state: TrainState, source: Source, batch_size: int) -> dict[str, Any]:
    """Evaluate every picture of the source exactly once: {"loss", "acc", "confusion"} and the state's metrics.

    Values are means over the pictures. The confusion matrix has counts, with a row for each label and a column for each
    prediction.
    """
    totals: dict[str, Any] = {}
    before: dict[str, Any] = {}
    for batch in evaluation_batches(source, batch_size):
        sums = compiled_eval_step(state, sharding.shard_batch(batch))
        _add(totals, before)  # one step ahead of the devices is enough; more would pile up batches
        before = sums
    _add(totals, before)
    confusion = totals.pop("confusion").astype(int)
    means = {name: float(total / confusion.sum()) for name, total in totals.items()}
    return means | {"acc": float(confusion.trace() / confusion.sum()), "confusion": confusion.tolist()}


def _add(totals: dict[str, Any], sums: dict[str, Any]) -> None:
    for name, value in jax.device_get(sums).items():
        totals[name] = totals.get(name, 0.0) + np.asarray(value, np.float64)
