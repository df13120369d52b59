"""Recipes for photos: named values of all settings, of which flags change single ones."""

from typing import NamedTuple

import msgspec

from jaxconv.config import BOOK_AUGMENTATION, Augmentation, Optimizer, Training


class Recipe(NamedTuple):
    """How the chapter's net is trained, and whether half of its features are dropped before the dense layers."""

    training: Training
    dropout: bool


PLAIN = Training(epochs=30, steps_per_epoch=100, batch_size=20)  # codes 5-5 to 5-8
BOOK = Training(epochs=100, steps_per_epoch=100, batch_size=32)  # codes 5-11 to 5-14
# For any pictures: nothing is mirrored, because that would change hands and digits.
MILD = Augmentation(rotation_deg=15.0, shift=0.1, zoom=0.1)
FOLDERS = Training(epochs=60, batch_size=32, optimizer=Optimizer(learning_rate=1e-3, schedule="cosine"))

NAMES = {
    "book": "the settings of the book",
    "folders": "a learning rate that falls along a cosine, every picture once an epoch, mild augmentation, dropout",
}


def recipe(name: str, aug: bool | None = None, dropout: bool | None = None) -> Recipe:
    """A recipe by its name, with or without augmentation and dropout; None leaves it to the recipe."""
    if name == "book":
        training = BOOK if aug or dropout else PLAIN
        return Recipe(_augmented(training, BOOK_AUGMENTATION if aug else None), bool(dropout))
    return Recipe(_augmented(FOLDERS, None if aug is False else MILD), dropout is not False)


def _augmented(training: Training, augmentation: Augmentation | None) -> Training:
    return msgspec.structs.replace(training, augmentation=augmentation)
