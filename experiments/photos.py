"""Common parts of the experiments on photos: the flags, the chapter's settings and its net."""

import argparse
import math
from typing import TYPE_CHECKING

from experiments import common
from jaxconv.config import BOOK_AUGMENTATION, MAX_VALUES, Training
from jaxconv.runtime.errors import InputError

if TYPE_CHECKING:
    import flax.linen as nn

IMAGE_SIZE = 150  # pixels
SMALLEST = 46  # in a smaller image, the four poolings leave nothing
LARGEST = math.isqrt(MAX_VALUES // 3)


def parser(experiment: str, docstring: str) -> argparse.ArgumentParser:
    """A parser with the flags of an experiment on photos, without --data."""
    with_either = "{}, or {} with --aug or --dropout"
    flags = common.parser(
        experiment,
        docstring,
        epochs=with_either.format(30, 100),
        batch_size=with_either.format(20, 32),
        learning_rate="1e-4",
        steps_per_epoch="100",
    )
    flags.add_argument("--aug", action="store_true", help="rotate, shift, shear, zoom and flip the pictures at random")
    flags.add_argument("--dropout", action="store_true", help="drop half of the features before the dense layers")
    return flags


def book(aug: bool, dropout: bool) -> Training:
    """The chapter's settings: code 5-8 for the plain net, 5-14 for the others."""
    if aug or dropout:
        augmentation = BOOK_AUGMENTATION if aug else None
        return Training(epochs=100, steps_per_epoch=100, batch_size=32, augmentation=augmentation)
    return Training(epochs=30, steps_per_epoch=100, batch_size=20)


def settings(arguments: argparse.Namespace, image_size: int) -> tuple[Training, str]:
    """The settings from the flags, and the name of the variant, such as plain or aug-dropout-96px-lr0.001.

    Raises:
        InputError: a number is out of bounds; the message names its flag.
    """
    if image_size < SMALLEST:
        raise InputError(f"--image-size is {image_size}: this net needs {SMALLEST} pixels or more")
    if image_size > LARGEST:
        raise InputError(f"--image-size is {image_size}: give at most {LARGEST} pixels")
    chapter = book(arguments.aug, arguments.dropout)
    training = common.training(arguments, chapter)
    parts = {
        "plain": not (arguments.aug or arguments.dropout),
        "aug": arguments.aug,
        "dropout": arguments.dropout,
        f"{image_size}px": image_size != IMAGE_SIZE,
        arguments.dtype: arguments.dtype != "float32",
    }
    return training, "-".join([*(name for name, on in parts.items() if on), *common.changes(training, chapter)])


def net(arguments: argparse.Namespace, classes: int) -> "nn.Module":
    """The chapter's net, with a dropout of one half or without dropout."""
    from jaxconv.models import CatsDogsConvNet

    return CatsDogsConvNet(0.5 if arguments.dropout else 0.0, arguments.dtype, classes)


def print_summary(arguments: argparse.Namespace, image_size: int, classes: int) -> None:
    """Print the layers and parameters of the net."""
    from jaxconv.models.summary import summary

    print(summary(net(arguments, classes), (image_size, image_size, 3)))
