"""Common parts of the experiments on photos: the flags, the settings from a recipe and the flags, and the net."""

import argparse
import math
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from experiments import common, recipes
from jaxconv.config import MAX_VALUES, Augmentation, Training
from jaxconv.runtime.errors import InputError

if TYPE_CHECKING:
    import flax.linen as nn

IMAGE_SIZE = 150  # pixels
SMALLEST = 46  # in a smaller image, the four poolings leave nothing
LARGEST = math.isqrt(MAX_VALUES // 3)
OF_RECIPE = "the recipe's"
RANGES = {
    "rotation_deg": "rotate by up to X degrees",
    "shift": "shift by up to this share of a side, such as 0.1",
    "shear_deg": "shear by up to X degrees",
    "zoom": "enlarge or shrink by up to this share, such as 0.1",
}


class Chosen(NamedTuple):
    """The settings, whether there is dropout, the name of the variant, and whether the recipe is unchanged."""

    training: Training
    dropout: bool
    variant: str
    repeats_recipe: bool


def parser(experiment: str, docstring: str, recipe: str) -> argparse.ArgumentParser:
    """A parser with the flags of an experiment on photos, without --data; `recipe` is the default recipe."""
    numbers = dict.fromkeys(("epochs", "batch_size", "learning_rate", "steps_per_epoch"), OF_RECIPE)
    flags = common.parser(experiment, docstring, **numbers, schedule=OF_RECIPE, validated_on_test=False)
    described = "; ".join(f"{name}: {words}" for name, words in recipes.NAMES.items())
    flags.add_argument(
        "--recipe",
        choices=recipes.NAMES,
        default=recipe,
        help=f"the settings to begin with. {described} (default: %(default)s)",
    )
    flags.set_defaults(usual_recipe=recipe)
    switch = argparse.BooleanOptionalAction
    flags.add_argument("--aug", action=switch, help="change the training pictures at random (default: the recipe's)")
    for name, what in RANGES.items():
        flags.add_argument(f"--{name.replace('_', '-')}", type=float, metavar="X", help=f"--aug: {what}")
    flags.add_argument("--flip", action=switch, help="--aug: mirror every second picture")
    flags.add_argument(
        "--dropout", action=switch, help="drop half of the features before the dense layers (default: the recipe's)"
    )
    flags.add_argument(
        "--class-weights",
        choices=("balanced",),
        help="give every class the same weight in the loss, however many pictures it has",
    )
    return flags


def choose(arguments: argparse.Namespace, image_size: int) -> Chosen:
    """The settings from the recipe and the flags, and the name of the variant, such as plain or aug-dropout-96px.

    Raises:
        InputError: a number is out of bounds, or a flag needs --aug; the message names the flag.
    """
    if image_size < SMALLEST:
        raise InputError(f"--image-size is {image_size}: this net needs {SMALLEST} pixels or more")
    if image_size > LARGEST:
        raise InputError(f"--image-size is {image_size}: give at most {LARGEST} pixels")
    recipe = recipes.recipe(arguments.recipe, arguments.aug, arguments.dropout)
    training = common.training(arguments, recipe.training)
    training = msgspec.structs.replace(training, augmentation=_augmentation(arguments, recipe.training.augmentation))
    augmented = training.augmentation is not None
    parts = {
        arguments.recipe: arguments.recipe != arguments.usual_recipe,
        "plain": not (augmented or recipe.dropout),
        "aug": augmented,
        "dropout": recipe.dropout,
        f"{image_size}px": image_size != IMAGE_SIZE,
        arguments.dtype: arguments.dtype != "float32",
    }
    variant = "-".join([*(name for name, on in parts.items() if on), *common.changes(training, recipe.training)])
    return Chosen(training, recipe.dropout, variant, common.is_book(training, recipe.training))


def _augmentation(arguments: argparse.Namespace, of_recipe: Augmentation | None) -> Augmentation | None:
    given = {name: getattr(arguments, name) for name in (*RANGES, "flip") if getattr(arguments, name) is not None}
    if of_recipe is None and given:
        first = next(iter(given)) if arguments.flip is not False else "no_flip"
        cure = "leave out --no-aug" if arguments.aug is False else "give --aug too"
        raise InputError(f"--{first.replace('_', '-')} changes the augmentation: {cure}")
    return of_recipe and common.replaced(of_recipe, given)


def net(dropout: bool, dtype: str, classes: int) -> "nn.Module":
    """The chapter's net, with a dropout of one half or without dropout."""
    from jaxconv.models import CatsDogsConvNet

    return CatsDogsConvNet(0.5 if dropout else 0.0, dtype, classes)


def print_summary(model: "nn.Module", image_size: int) -> None:
    """Print the layers and parameters of the net."""
    from jaxconv.models.summary import summary

    print(summary(model, (image_size, image_size, 3)))
