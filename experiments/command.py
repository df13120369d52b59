"""What the command of every experiment has: its flags, its config.json and its closing lines.

Light on imports, so that --help and mistakes answer at once.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxconv.config import SCHEDULES, FitConfig

if TYPE_CHECKING:
    import flax.linen as nn

    from jaxconv.records import Splits


def bare_parser(command: str, docstring: str) -> argparse.ArgumentParser:
    """A parser that shows a module's docstring as its help."""
    summary, _, details = docstring.partition("\n\n")
    return argparse.ArgumentParser(
        prog=f"python -m {command}",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def parser(command: str, docstring: str) -> argparse.ArgumentParser:
    """A parser with the common flags; a number that is not given stays with the book."""
    flags = bare_parser(command, docstring)
    flags.add_argument("--workdir", type=Path, help="run directory (default: runs/<experiment>-<variant>-seed<k>)")
    flags.add_argument("--epochs", type=int, help="epochs to train")
    flags.add_argument("--batch-size", type=int, help="pictures a step")
    flags.add_argument("--learning-rate", type=float, help="of RMSprop")
    flags.add_argument("--schedule", choices=SCHEDULES, help="of the learning rate (default: constant)")
    flags.add_argument("--seed", type=int, help="of weights, order, augmentation and dropout (default: 0)")
    flags.add_argument(
        "--augment-on",
        choices=("host", "device"),
        help="device keeps all pictures in its memory and warps them there (default: on an accelerator that has room)",
    )
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


def describe(fit: FitConfig, model: "nn.Module", splits: "Splits") -> dict[str, Any]:
    """What config.json says of any run: how the net is trained, the net, and the data's classes and counts."""
    from jaxconv import summary

    image_shape = splits.train[0]["image"].shape
    _, params = summary.layer_shapes(model, image_shape)
    config = dataclasses.asdict(fit)
    if fit.schedule != "constant":  # then another number of epochs is another run
        config["schedule"] = f"{fit.schedule} over {fit.epochs} epochs"
    return config | {
        "model": type(model).__name__,
        "parameters": summary.count_params(params),
        "image_size": image_shape[:2],
        "class_names": splits.train.class_names,
        "data": {
            "counts": {name: len(split) for name, split in splits._asdict().items()},
            "fingerprint": {name: split.fingerprint for name, split in splits._asdict().items()},
        },
    }


def print_result(result: dict[str, Any], workdir: Path) -> None:
    """The closing lines of a run."""
    for name, what in (("last", "last epoch"), ("best", "lowest val_loss")):
        if name in result:
            row = result[name]
            print(f"{what}: epoch {row['epoch']}  val_acc {row['val_acc']:.4f}  test_acc {row['test_acc']:.4f}")
    epochs = min(10, result["last"]["epoch"])
    print(f"val_acc, mean of the last {epochs} epochs: {result['val_acc_mean_last_10']:.4f}")
    print(f"saved in {workdir}")
