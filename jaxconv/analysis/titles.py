"""The name of a run as a person would write it: "Cats against dogs: augmentation, learning rate 0.001"."""

import re

from jaxconv.config import Config

EXPERIMENTS = {"catsdogs": "Cats against dogs", "mnist": "MNIST"}
PREFIXES = ("folders-", "transfer-")  # of the folder in the experiment's name
WORDS = {
    "demo": "drawn pictures",
    "plain": "plain net",
    "aug": "augmentation",
    "average": "average pooling",
    "stride": "strided convolutions",
    "none": "no downsampling",
    "dense": "dense net",
    "cosine": "cosine schedule",
    "plateau": "plateau schedule",
    "constant": "constant learning rate",
    "balanced": "balanced class weights",
    "flip": "mirrored pictures",
    "no-flip": "no mirrored pictures",
    "book": "the book's settings",
    "folders": "the settings for folders",
    "frozen": "frozen features",
    "finetuned": "fine-tuned",
    "blocksall": "all blocks trained",
    "whole-passes": "every picture once an epoch",
}
NUMBERS = {
    r"(\d+)px": "{} pixels a side",
    r"blocks(\d+)": "{} blocks trained",
    r"batch(\d+)": "batches of {}",
    r"steps(\d+)": "{} steps an epoch",
    r"lr(\d.*)": "learning rate {}",
    r"epochs(\d+)": "{} epochs",
    r"ema(\d.*)": "weights averaged with decay {}",
    r"patience(\d+)": "patience of {} epochs",
    r"rotation(\d.*)": "rotated by up to {} degrees",
    r"shift(\d.*)": "shifted by up to {} of a side",
    r"shear(\d.*)": "sheared by up to {} degrees",
    r"zoom(\d.*)": "zoomed by up to {}",
}
PART = re.compile(
    r"whole-passes|no-flip|[a-z]+[\d.]+e-\d+|[^-]+"
)  # a part of a variant, which may hold the hyphen between parts


def title(config: Config) -> str:
    """A run's experiment and its variant; for a run of `jaxconv.fit`, the name of the net alone."""
    if config.experiment == "fit":
        return config.variant
    if config.experiment.startswith(PREFIXES):
        experiment = f"Pictures in {config.experiment.partition('-')[2]}"
    else:
        experiment = EXPERIMENTS.get(config.experiment, config.experiment)
    return f"{experiment}: {_variant(config.variant)}"


def _variant(variant: str) -> str:
    if variant.startswith("keras-"):
        return f"imported from {variant.removeprefix('keras-')}"
    return ", ".join(map(_words, PART.findall(variant)))


def _words(part: str) -> str:
    for pattern, words in NUMBERS.items():
        if found := re.fullmatch(pattern, part):
            return words.format(found[1])
    return WORDS.get(part, part)
