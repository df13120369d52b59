"""The convnet of section 5.2 on pictures of your own: two classes or many.

    python -m tools.split_folders --source photos --dest data/mine     # of photos/<class>/*: train, validation, test
    python -m experiments.folders --data data/mine --aug --dropout
    python -m experiments.folders --data data/mine --image-size 96     # smaller pictures train faster

--data is a folder of train|validation|test/<class>/*. Two classes share one logit and the binary cross-entropy of the
book; more have a softmax. Without numbers it trains as experiments.catsdogs does.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import command
from jaxconv.config import FitConfig
from jaxconv.errors import InputError, one_line_errors

if TYPE_CHECKING:
    import flax.linen as nn

    from jaxconv.records import Splits

IMAGE_SIZE = 150  # pixels
SMALLEST = 46  # below it the four poolings leave nothing


@dataclasses.dataclass(frozen=True)
class Config:
    """One run: its variant, its pictures and their size in pixels, and how it is trained.

    Raises:
        InputError: pictures too small for the net.
    """

    aug: bool
    dropout: bool
    data: str
    fit: FitConfig
    image_size: int
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.image_size < SMALLEST:
            raise InputError(f"--image-size is {self.image_size}: this net needs {SMALLEST} pixels or more")

    @property
    def variant(self) -> str:
        """Such as plain, aug-dropout, plain-96, plain-bfloat16."""
        parts = {
            "plain": not (self.aug or self.dropout),
            "aug": self.aug,
            "dropout": self.dropout,
            str(self.image_size): self.image_size != IMAGE_SIZE,
            self.dtype: self.dtype != "float32",
        }
        return "-".join(name for name, on in parts.items() if on)


def parser(experiment: str, docstring: str) -> argparse.ArgumentParser:
    """The flags of an experiment on photos, but for --data."""
    with_either = "{}, or {} with --aug or --dropout"
    flags = command.parser(
        experiment,
        docstring,
        epochs=with_either.format(30, 100),
        batch_size=with_either.format(20, 32),
        learning_rate="1e-4",
    )
    flags.add_argument("--aug", action="store_true", help="random rotation, shift, shear, zoom and flip")
    flags.add_argument("--dropout", action="store_true", help="drop half of the features before the dense layers")
    flags.add_argument("--steps-per-epoch", type=int, metavar="N", help="steps an epoch (default: 100)")
    return flags


def book(aug: bool, dropout: bool) -> FitConfig:
    """The chapter's numbers: code 5-8 for the plain net, 5-14 for the others."""
    if aug or dropout:
        return FitConfig(epochs=100, steps_per_epoch=100, batch_size=32, learning_rate=1e-4)
    return FitConfig(epochs=30, steps_per_epoch=100, batch_size=20, learning_rate=1e-4)


def net(config: Config, classes: int) -> "nn.Module":
    """The chapter's net, with its dropout of one half or without."""
    from jaxconv.models import CatsDogsConvNet

    return CatsDogsConvNet(0.5 if config.dropout else 0.0, config.dtype, classes)


def print_summary(config: Config, classes: int) -> None:
    """The net's layers and parameters."""
    from jaxconv.summary import summary

    print(summary(net(config, classes), (config.image_size, config.image_size, 3)))


def train(
    config: Config,
    splits: "Splits",
    arguments: argparse.Namespace,
    *,
    experiment: str,
    variant: str,
    title: str,
    kind: str = "photos",
) -> None:
    """Train, fill the run directory and print the closing lines. `variant` and `title` are what people will read.

    `kind` is what config.json says of the pictures: "photos" or "drawn".
    """
    from jaxconv.augment import RandomAffine

    model = net(config, len(splits.train.class_names))
    described: dict[str, Any] = {"experiment": experiment, "variant": variant, "aug": config.aug}
    described |= {"dropout": config.dropout} | command.describe(config.fit, model, splits)
    described["data"] |= {"kind": kind, "path": config.data}
    workdir = arguments.workdir or command.default_workdir(experiment, variant, config.fit.seed, arguments.seeds)
    result = command.train(
        model,
        splits,
        config.fit,
        workdir,
        described,
        title=f"{title}, {variant}",
        resume=arguments.resume,
        seeds=arguments.seeds,
        augment=RandomAffine() if config.aug else None,
    )
    command.print_result(result, workdir)


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    assert __doc__
    flags = parser("experiments.folders", __doc__)
    flags.add_argument("--data", required=True, metavar="DIR", help="folder of train, validation and test")
    flags.add_argument(
        "--image-size", type=int, default=IMAGE_SIZE, metavar="N", help="pixels a side (default: %(default)s)"
    )
    arguments = flags.parse_args(argv)
    fit_config = command.fit_config(arguments, book(arguments.aug, arguments.dropout))
    config = Config(arguments.aug, arguments.dropout, arguments.data, fit_config, arguments.image_size, arguments.dtype)
    data = Path(config.data)
    if not (data / "train").is_dir():
        raise InputError(
            f"--data {data} has no folder train: cut a folder of <class>/* pictures into splits with "
            f"python -m tools.split_folders --source {data} --dest {data}-split"
        )
    from jaxconv.records import (
        list_classes,
        read_splits,
    )  # the heavy imports wait until the flags are known to be right

    if arguments.summary:
        print_summary(config, len(list_classes(data / "train")[0]))
        return
    splits = read_splits(data, (config.image_size, config.image_size))
    name = data.resolve().name
    train(config, splits, arguments, experiment=f"folders-{name}", variant=config.variant, title=name)


if __name__ == "__main__":
    main()
