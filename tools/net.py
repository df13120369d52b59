"""The trained net that a command works with: the flags that choose it, and how it is read."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.command import add_low_memory, bare_parser
from jaxconv.errors import InputError
from jaxconv.workdir import CONFIG

if TYPE_CHECKING:
    from jaxconv.trained import Trained


def parser(command: str, docstring: str) -> argparse.ArgumentParser:
    """A parser with the run and its epoch."""
    flags = bare_parser(command, docstring)
    flags.add_argument("run", type=Path, metavar="RUN", help="run directory")
    flags.add_argument(
        "--epoch",
        choices=("best", "last"),
        help="whose weights: the best by val_loss, or the last (default: best, or last if validated on the test)",
    )
    add_low_memory(flags)
    return flags


def read(arguments: argparse.Namespace) -> "Trained":
    """The net that the flags say.

    Raises:
        InputError: the directory is no run's, or as `trained.load`.
    """
    run: Path = arguments.run
    if not (run / CONFIG).is_file():
        seeds = sorted(path.parent.name for path in run.glob(f"seed*/{CONFIG}"))
        cure = f"name that of one of its seeds, such as {run / seeds[0]}" if seeds else "name one that was trained"
        raise InputError(f"{run} is not the directory of a run, it has no {CONFIG}: {cure}")
    from jaxconv import trained
    from jaxconv.checkpoints import quiet_orbax
    from jaxconv.compilation import use_cache

    use_cache()
    quiet_orbax()
    return trained.load(run, best={"best": True, "last": False}.get(arguments.epoch))
