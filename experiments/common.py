"""The common flags of the experiments, and the settings from these flags.

This module imports little, so that `--help` and wrong flags get an answer at once.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec

from jaxconv.config import Augmentation, Schedule, Setting, Training
from jaxconv.runtime.cli import add_low_memory, bare_parser
from jaxconv.runtime.errors import InputError

DTYPES = ("float32", "bfloat16")
LARGEST_SEED = 2**63 - 1
S = TypeVar("S", bound=Setting)


def parser(
    command: str,
    docstring: str,
    *,
    epochs: str,
    batch_size: str,
    learning_rate: str,
    steps_per_epoch: str,
    schedule: str = "constant",
    validated_on_test: bool = False,
) -> argparse.ArgumentParser:
    """A parser with the common flags.

    Five arguments are the defaults in words, for `--help`. With `validated_on_test`, there is no flag that would choose
    by val_loss.
    """
    flags = bare_parser(command, docstring)
    flags.add_argument(
        "--workdir", type=Path, metavar="DIR", help="run directory (default: runs/<experiment>-<variant>-seed<k>)"
    )
    flags.add_argument("--epochs", type=int, metavar="N", help=f"number of epochs (default: {epochs})")
    flags.add_argument(
        "--steps-per-epoch",
        type=int,
        metavar="N",
        help=f"steps per epoch; 0 takes every picture once (default: {steps_per_epoch})",
    )
    flags.add_argument("--batch-size", type=int, metavar="N", help=f"pictures per step (default: {batch_size})")
    flags.add_argument(
        "--learning-rate", type=float, metavar="X", help=f"learning rate of RMSprop (default: {learning_rate})"
    )
    schedules = [name for name in get_args(Schedule) if not (validated_on_test and name == "plateau")]
    flags.add_argument("--schedule", choices=schedules, help=f"schedule of the learning rate (default: {schedule})")
    if not validated_on_test:
        flags.add_argument("--patience", type=int, metavar="N", help="stop once val_loss has not fallen for N epochs")
    _add_training(flags)
    _add_run(flags)
    return flags


def _add_training(flags: argparse.ArgumentParser) -> None:
    flags.add_argument(
        "--ema",
        type=float,
        metavar="X",
        help="use an exponential moving average of the weights with decay X, such as 0.999",
    )
    flags.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="data type of the layers; parameters, loss and metrics stay float32 (default: %(default)s)",
    )
    flags.add_argument(
        "--seed", type=int, default=0, metavar="K", help="seed of weights, order, augmentation and dropout (default: 0)"
    )
    flags.add_argument("--seeds", type=int, metavar="N", help="train N seeds, from --seed on, and report their spread")


def _add_run(flags: argparse.ArgumentParser) -> None:
    flags.add_argument("--resume", action="store_true", help="continue from the newest checkpoint of the run directory")
    flags.add_argument("--checkpoint-every", type=int, metavar="N", help="save after every N steps within an epoch too")
    add_low_memory(flags)
    flags.add_argument("--summary", action="store_true", help="print the layers and parameters of the net, and exit")


def add_init_from(flags: argparse.ArgumentParser) -> None:
    """Add the flag for the weights of a run."""
    flags.add_argument("--init-from", type=Path, metavar="RUN", help="begin with the weights of this run")


def start_backend() -> None:
    """Start JAX, so that a device that is not there is named before the pictures are read."""
    from jaxconv.runtime import compilation

    compilation.start_backend()


def training(arguments: argparse.Namespace, book: Training) -> Training:
    """The book's settings, changed by the flags.

    Raises:
        InputError: a number is out of bounds; the message names its flag.
    """
    if arguments.seeds is not None and arguments.seeds < 2:
        raise InputError(f"--seeds is {arguments.seeds}: give a whole number above 1, or one seed with --seed")
    if not 0 <= arguments.seed <= LARGEST_SEED - (arguments.seeds or 1) + 1:
        raise InputError(f"--seed is {arguments.seed}: give a whole number from 0 on, below 2**63")
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    if given.get("steps_per_epoch") == 0:
        given["steps_per_epoch"] = None
    assert book.optimizer is not None
    return replaced(replaced(book, given), {"optimizer": replaced(book.optimizer, given)})


def replaced(setting: S, given: Mapping[str, Any]) -> S:
    """The setting with the given values of its fields. Other names in `given` are ignored.

    Raises:
        InputError: a value is out of bounds; the message names the field as a flag.
    """
    fields = {name: value for name, value in given.items() if name in setting.__struct_fields__}
    try:
        return msgspec.structs.replace(setting, **fields)
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        raise InputError(f"--{name.replace('_', '-')} {rest}") from error


def changes(training: Training, book: Training) -> list[str]:
    """The changes from the book that are part of a run's name, such as ["batch64", "lr0.001"].

    A run is never resumed with another value of these settings.
    """
    assert training.optimizer and book.optimizer
    steps = "whole-passes" if training.steps_per_epoch is None else f"steps{training.steps_per_epoch}"
    parts = {
        f"batch{training.batch_size}": training.batch_size != book.batch_size,
        steps: training.steps_per_epoch != book.steps_per_epoch,
        f"lr{training.optimizer.learning_rate:g}": training.optimizer.learning_rate != book.optimizer.learning_rate,
        training.schedule: training.schedule != book.schedule,
        f"epochs{training.epochs}": training.schedule == "cosine" and training.epochs != book.epochs,
        f"ema{training.ema}": training.ema != book.ema,
        f"patience{training.patience}": training.patience != book.patience,
        f"{training.class_weights}": training.class_weights != book.class_weights,
    }
    changed = [name for name, changed in parts.items() if changed]
    return [*_changes_of_augmentation(training.augmentation, book.augmentation), *changed]


def _changes_of_augmentation(new: Augmentation | None, old: Augmentation | None) -> list[str]:
    if new is None or old is None:
        return []
    numbers = {"rotation": new.rotation_deg, "shift": new.shift, "shear": new.shear_deg, "zoom": new.zoom}
    before = (old.rotation_deg, old.shift, old.shear_deg, old.zoom)
    parts = [f"{name}{value:g}" for (name, value), was in zip(numbers.items(), before, strict=True) if value != was]
    return parts + ([] if new.flip == old.flip else ["flip" if new.flip else "no-flip"])


def is_book(training: Training, book: Training) -> bool:
    """Whether a run has the book's settings and number of epochs."""
    return training.epochs == book.epochs and not changes(training, book)
