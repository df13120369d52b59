"""The common flags of commands that use a trained net, and the reading of this net."""

import argparse
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from jaxconv.runtime.cli import add_low_memory, bare_parser, quiet_orbax
from jaxconv.runtime.errors import InputError

if TYPE_CHECKING:
    import flax.linen as nn

    from jaxconv.analysis.predictor import Predictor


def parser(command: str, docstring: str) -> argparse.ArgumentParser:
    """A parser with the flags for the run, its epoch and its net."""
    flags = bare_parser(command, docstring)
    flags.add_argument("run", type=Path, metavar="RUN", help="run directory")
    flags.add_argument(
        "--epoch",
        choices=("best", "last"),
        help="use the weights with the lowest val_loss, or the latest (default: best, but last after a cosine "
        "schedule, and for a run that was validated on its test pictures)",
    )
    add_model(flags)
    add_low_memory(flags)
    return flags


def add_model(flags: argparse.ArgumentParser) -> None:
    """Add the flag for a custom net."""
    flags.add_argument("--model", metavar="MODULE:CLASS", help="class of a custom net, such as mynets:ResNet")


def read(arguments: argparse.Namespace) -> "Predictor":
    """Read the trained net that the flags select.

    Raises:
        InputError: as `import_model` and `Predictor`.
    """
    from jaxconv.analysis.predictor import Predictor
    from jaxconv.runtime.compilation import start_backend, use_cache

    start_backend()
    use_cache()
    quiet_orbax()
    best = {"best": True, "last": False}.get(arguments.epoch)
    return Predictor(arguments.run, best=best, model=import_model(arguments.model))


def import_model(name: str | None) -> "type[nn.Module] | nn.Module | None":
    """Import the class, or the net, of `--model`; None without the flag.

    Raises:
        InputError: it does not exist, or it is not a net.
    """
    if name is None:
        return None
    import flax.linen as nn

    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"--model {name} cannot be imported ({error}): give it as MODULE:CLASS") from error
    if not isinstance(found, nn.Module) and not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise InputError(f"--model {name} is not a Flax linen module: give one as MODULE:CLASS")
    return found
