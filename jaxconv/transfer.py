"""Transfer: a linear head for the features of a pretrained net, fitted at once, and the run directory of it.

It is the book's "fast feature extraction" (section 5.3.1): each picture goes through the frozen layers once.
"""

import functools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32
from scipy.special import softmax
from tqdm import tqdm

from jaxconv.config import Augmentation, Config
from jaxconv.data.augment import RandomAffine
from jaxconv.data.records import Record, Source, Splits
from jaxconv.models.registry import Forward
from jaxconv.runs import figures, history
from jaxconv.runs.checkpoints import Checkpoints
from jaxconv.runs.history import EpochResult, Highest, Result, Row
from jaxconv.runs.proof import Progress, digest, settings_digest
from jaxconv.runtime.compilation import jit
from jaxconv.runtime.seeds import derive_seed
from jaxconv.training import linear_head
from jaxconv.training.linear_head import LinearHead
from jaxconv.training.state import evaluation_state

BATCH = 8  # pictures; on a CPU, larger batches are no faster
HEAD = "classifier"  # the dense layer that a pretrained net ends with


class Fitted(NamedTuple):
    """A net with a fitted head: its variables, the penalty of the head, and the logits of every split by name."""

    variables: dict[str, Any]
    l2: float
    logits: dict[str, Float[np.ndarray, "n k"]]
    seconds: float


def extract(
    model: nn.Module, variables: dict[str, Any], records: Iterator[Record], count: int, what: str
) -> Float32[np.ndarray, "n d"]:
    """The features of `count` records: what the net's method `features` gives for their images, in order."""
    features = _compiled_features(Forward(model))
    found: list[np.ndarray] = []
    batch: list[np.ndarray] = []
    for record in tqdm(records, f"features of {what}", count, unit="picture", leave=False, disable=None, delay=2):
        batch.append(record["image"])
        if len(batch) == BATCH or len(found) * BATCH + len(batch) == count:
            padded = np.zeros((BATCH, *batch[0].shape), np.uint8)  # batches of one size are one program
            padded[: len(batch)] = batch
            found.append(np.asarray(features(variables, padded), np.float32)[: len(batch)])
            batch = []
    return np.concatenate(found)


@functools.cache  # else each split would be compiled for anew
def _compiled_features(forward: Forward) -> jit:
    return jit(lambda variables, images: forward(variables, images, method="features"))


def fit(
    model: nn.Module,
    variables: dict[str, Any],
    splits: Splits,
    *,
    augmentation: Augmentation | None = None,
    views: int = 1,
    seed: int = 0,
) -> Fitted:
    """Fit the head of a net to the training pictures, with the penalty that has the lowest validation loss.

    With `augmentation`, the head is fitted to `views` random versions of each training picture.

    Args:
        model: a net with the method `features`, whose last layer is the dense layer `HEAD`.
        variables: the variables of the net. The head among them is replaced, whatever its size.
        splits: the pictures.
        augmentation: the ranges of the random versions; None for the pictures as they are.
        views: the number of random versions.
        seed: the seed of the random versions.
    """
    started, sources = time.perf_counter(), splits.named()
    placed = jax.device_put(variables)  # once, and not for every batch
    versions = views if augmentation else 1
    train = _versions(splits.train, augmentation, versions, seed)
    features = {"train": extract(model, placed, train, versions * len(splits.train), "train")}
    for name, source in sources.items():
        if name != "train":
            features[name] = extract(model, placed, _versions(source), len(source), name)
    labels = np.tile(splits.train.labels, versions)
    validation, classes = splits.validation.labels, len(splits.class_names)
    head = linear_head.choose(features["train"], labels, features["validation"], validation, classes)
    logits = {name: head.logits(found) for name, found in features.items()}
    return Fitted(with_head(variables, head), head.l2, logits, time.perf_counter() - started)


def _versions(
    source: Source, augmentation: Augmentation | None = None, versions: int = 1, seed: int = 0
) -> Iterator[Record]:
    """The records of a source, `versions` times one after the other, with random changes if asked for."""
    augment = RandomAffine(augmentation) if augmentation else None
    for version in range(versions):
        for index in range(len(source)):
            rng = np.random.default_rng((derive_seed(seed, "augment"), version, index))
            yield augment.random_map(source[index], rng) if augment else source[index]


def accuracy(fitted: Fitted, splits: Splits, split: str) -> float:
    """The accuracy of the head on a split."""
    return float(_scores(fitted.logits[split], splits.named()[split])["acc"])


def with_head(variables: dict[str, Any], head: LinearHead) -> dict[str, Any]:
    """The variables with a fitted head in the place of theirs; of two classes, with one logit."""
    kernel, bias = head.kernel, head.bias
    if len(bias) == 2:
        kernel, bias = np.diff(kernel), np.diff(bias)
    layer = {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}
    return variables | {"params": variables["params"] | {HEAD: layer}}


def write(fitted: Fitted, model: nn.Module, splits: Splits, config: Config, workdir: Path, *, title: str) -> Result:
    """Write the locked run directory of a net with a fitted head: one row, one checkpoint, result and figures."""
    scores = {name: _scores(fitted.logits[name], source) for name, source in splits.named().items()}
    row: Row = {
        "epoch": 1,
        "step": 1,
        "loss": scores["train"]["loss"],
        "acc": scores["train"]["acc"],
        "val_loss": scores["validation"]["loss"],
        "val_acc": scores["validation"]["acc"],
        "learning_rate": None,
        "seconds": round(fitted.seconds, 3),
        "images_per_second": round(sum(map(len, fitted.logits.values())) / fitted.seconds, 1),
        "data_wait": 0.0,
    }
    state = evaluation_state(model, fitted.variables)
    with Checkpoints(workdir / "checkpoints", state, settings_digest(config)) as checkpoints:
        checkpoints.save(
            1, state.replace(step=jnp.ones((), jnp.int32)), Progress(digest([row]), val_loss=row["val_loss"])
        )
    history.write_rows(workdir, [])  # of a run that was killed before its result
    history.append_row(workdir, row)
    final = scores[config.data.final_split]
    validated = 1, row["val_loss"], row["val_acc"]
    if splits.test is None:
        tested = EpochResult(*validated, val_confusion=final["confusion"])
    else:
        tested = EpochResult(*validated, final["loss"], final["acc"], final["confusion"])
    result = Result(row["val_acc"], tested, tested, Highest(1, row["val_acc"]), fitted.l2)
    history.write_result(workdir, result)
    _draw(fitted, splits, config, workdir / "figures", row, tested, f"{title}, seed {config.seed}")
    return result


def _scores(logits: Float[np.ndarray, "n k"], source: Source) -> dict[str, Any]:
    """Loss, accuracy and confusion matrix; of several versions of each picture, those of the first."""
    logits = logits[: len(source)]
    confusion = np.zeros((len(source.class_names),) * 2, int)
    np.add.at(confusion, (source.labels, logits.argmax(1)), 1)
    loss, acc = linear_head.log_loss(logits, source.labels), float(confusion.trace() / len(source))
    return {"loss": loss, "acc": acc, "confusion": confusion.tolist()}


def _draw(
    fitted: Fitted, splits: Splits, config: Config, folder: Path, row: Row, tested: EpochResult, title: str
) -> None:
    split = config.data.final_split
    source, names = splits.named()[split], splits.class_names
    figures.write_curves([row], folder, title)
    figures.write_confusion(tested.confusion, names, folder / "confusion.png", title, split)
    positions = figures.spread_positions(source)
    records, probabilities = [source[index] for index in positions], softmax(fitted.logits[split][positions], axis=1)
    figures.write_predictions(records, probabilities, names, folder / "predictions.png", title, split)
