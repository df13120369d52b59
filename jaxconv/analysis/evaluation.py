"""Evaluate a trained net on a split of the pictures of its run, or on other pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from jaxconv.analysis import scores
from jaxconv.analysis.predictor import Predictor
from jaxconv.data.classes import class_difference
from jaxconv.data.layout import is_split, list_part, list_split
from jaxconv.data.mnist import VERSION, read_mnist
from jaxconv.data.records import Source, SplitDirectory
from jaxconv.runs.directory import CONFIG, read_division
from jaxconv.runtime.errors import InputError


def read_split(predictor: Predictor, data: Path | None, split: str) -> tuple[Source, Path]:
    """The pictures of a split, and their folder: `data` or, with None, the folder that the run was trained on.

    Raises:
        InputError: the pictures are missing or damaged, or have other classes or another shape than the net; or, with
            None, they have changed since the run.
    """
    found, workdir = predictor.config.data, predictor.workdir
    folder = data or Path(found.path or "")
    if data is None and (found.path is None or not folder.is_dir()):
        where = "nowhere" if found.path is None else f"in {folder}, which does not exist here"
        raise InputError(f"{workdir / CONFIG} has its pictures {where}: name their folder with --data")
    source = _read_mnist(folder, split) if found.kind == "MNIST" else _read_folder(predictor, folder, split)
    if (shape := source[0]["image"].shape) != predictor.image_shape:
        other, wanted = ("x".join(map(str, sizes)) for sizes in (shape, predictor.image_shape))
        raise InputError(f"{folder} has pictures of {other}, but {workdir} takes {wanted}: name others with --data")
    if data is None and source.fingerprint != found.fingerprint.get(split):
        raise InputError(
            f"{folder} no longer holds the {split} pictures that {workdir} was made with: give their folder with "
            "--data, or this folder for its present pictures"
        )
    return source, folder


def _read_mnist(folder: Path, split: str) -> Source:
    if folder.name != "mnist" or not (folder / VERSION).is_dir():  # `read_mnist` would download or build it
        raise InputError(f"{folder} is not MNIST as experiments.mnist prepares it: name its folder mnist with --data")
    return getattr(read_mnist(folder.parent), split)


def _read_folder(predictor: Predictor, folder: Path, split: str) -> Source:
    division = read_division(predictor.workdir)
    if division is None or is_split(folder):
        listing = list_split(folder, split)
    else:
        listing = list_part(folder, predictor.class_names, division.get(split, []))
    if different := class_difference(listing.class_names, predictor.class_names, str(predictor.workdir)):
        raise InputError(f"{listing.folder} {different}: name a folder of the same classes with --data")
    interpolation = predictor.config.data.interpolation
    return SplitDirectory(folder, split, predictor.image_shape[:2], interpolation=interpolation, listing=listing)


def predict_source(
    predictor: Predictor, source: Source, views: Sequence[str] = ("plain",)
) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, " n"]]:
    """The probabilities and the labels of all pictures of a source."""

    def images() -> Iterator[np.ndarray]:
        for index in tqdm(range(len(source)), "predicting", unit="picture", leave=False, disable=None, delay=2):
            yield source[index]["image"]

    return predictor.probabilities(images(), views), source.labels


def evaluate_source(
    predictor: Predictor, source: Source, views: Sequence[str] = ("plain",), *, worst: int = 0
) -> dict[str, Any]:
    """`scores.summarize` of a source, and under "worst" its most confident mistakes, at most `worst` of them."""
    probabilities, labels = predict_source(predictor, source, views)
    names = predictor.class_names
    mistakes = [
        {
            "file": source.name(mistake.position),
            "label": names[mistake.label],
            "prediction": names[mistake.prediction],
            "confidence": mistake.confidence,
        }
        for mistake in scores.mistakes(probabilities, labels)[:worst]
    ]
    return scores.summarize(probabilities, labels) | {"worst": mistakes}
