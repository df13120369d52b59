"""The flags that every experiment has. Light on imports, so that --help and mistakes answer at once."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from jaxconv.config import FitConfig


def parser(command: str, docstring: str) -> argparse.ArgumentParser:
    """A parser with the common flags; a number that is not given stays with the book."""
    summary, _, details = docstring.partition("\n\n")
    flags = argparse.ArgumentParser(
        prog=f"python -m {command}",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flags.add_argument("--workdir", type=Path, help="run directory (default: runs/<experiment>-<variant>-seed<k>)")
    flags.add_argument("--epochs", type=int, help="epochs to train")
    flags.add_argument("--batch-size", type=int, help="pictures a step")
    flags.add_argument("--learning-rate", type=float, help="of RMSprop")
    flags.add_argument("--seed", type=int, help="of weights, order, augmentation and dropout (default: 0)")
    flags.add_argument("--resume", action="store_true", help="go on from the run directory's newest checkpoint")
    flags.add_argument("--summary", action="store_true", help="print the net's layers and parameters, and stop")
    return flags


def fit_config(arguments: argparse.Namespace, book: FitConfig) -> FitConfig:
    """The book's numbers, but for those that were given as flags.

    Raises:
        InputError: a number that makes no run.
    """
    names = [field.name for field in dataclasses.fields(FitConfig)]
    given = {name: value for name in names if (value := getattr(arguments, name, None)) is not None}
    return dataclasses.replace(book, **given)


def print_result(result: dict[str, Any], workdir: Path) -> None:
    """The closing lines of a run."""
    for name, what in (("last", "last epoch"), ("best", "lowest val_loss")):
        row = result[name]
        print(f"{what}: epoch {row['epoch']}  val_acc {row['val_acc']:.4f}  test_acc {row['test_acc']:.4f}")
    print(f"val_acc, mean of the last 10 epochs: {result['val_acc_mean_last_10']:.4f}")
    print(f"saved in {workdir}")
