"""Cats against dogs on 2,000 photos: section 5.2 of *Deep Learning with Python*.

    python -m tools.split_catsdogs --source train.zip --dest data/cats_and_dogs_small
    python -m experiments.catsdogs                      # codes 5-5 to 5-10: 30 epochs of 100 steps of 20 pictures
    python -m experiments.catsdogs --aug --dropout      # codes 5-11 to 5-14: 100 epochs of 100 steps of 32
    python -m experiments.catsdogs --data demo          # on drawn pictures, with nothing downloaded

--aug alone and --dropout alone train as both together do, so that the four runs separate the two effects. What to
expect, and how long it takes, stands in the README.
"""

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

DATA = "data/cats_and_dogs_small"
DEMO_FOLDER = Path("data/demo")
IMAGE_SIZE = (150, 150)


@dataclasses.dataclass(frozen=True)
class Config:
    """One run: its variant, its pictures (a folder, or "demo" for drawn ones), and how it is trained."""

    aug: bool
    dropout: bool
    data: str
    fit: FitConfig
    dtype: str = "float32"

    @property
    def variant(self) -> str:
        """Such as plain, aug-dropout, demo-aug, plain-bfloat16."""
        plain = not (self.aug or self.dropout)
        parts = {"demo": self.data == "demo", "plain": plain, "aug": self.aug, "dropout": self.dropout}
        return "-".join(name for name, on in (parts | {self.dtype: self.dtype != "float32"}).items() if on)


def book(aug: bool, dropout: bool) -> FitConfig:
    """The chapter's numbers: code 5-8 for the plain net, 5-14 for the others."""
    if aug or dropout:
        return FitConfig(epochs=100, steps_per_epoch=100, batch_size=32, learning_rate=1e-4)
    return FitConfig(epochs=30, steps_per_epoch=100, batch_size=20, learning_rate=1e-4)


def net(config: Config) -> "nn.Module":
    """The chapter's net, with its dropout of one half or without."""
    from jaxconv.models import CatsDogsConvNet

    return CatsDogsConvNet(dropout=0.5 if config.dropout else 0.0, dtype=config.dtype)


def read(data: str) -> "Splits":
    """The pictures of --data.

    Raises:
        InputError: there are none, there are not two classes, or as `SplitDirectory`.
    """
    from jaxconv import demo
    from jaxconv.records import read_splits

    if data == "demo":
        print(f"--data demo: these are drawn pictures, kept in {DEMO_FOLDER}, not photos", flush=True)
        return read_splits(demo.write(DEMO_FOLDER), IMAGE_SIZE)
    if not Path(data).is_dir():
        split = "python -m tools.split_catsdogs"
        raise InputError(
            f"--data {data} does not exist: make it from Kaggle's archive ({split} --source train.zip --dest {data}), "
            f"or download the photos ({split} --download --dest {data}), or take drawn pictures (--data demo)"
        )
    splits = read_splits(data, IMAGE_SIZE)
    if len(splits.train.class_names) != 2:
        raise InputError(
            f"--data {data} has the classes {', '.join(splits.train.class_names)}: this net tells two apart"
        )
    return splits


def describe(config: Config, splits: "Splits") -> dict[str, Any]:
    """What config.json says of the run, but for versions and device."""
    described = command.describe(config.fit, net(config), splits)
    described["data"] |= {"kind": "drawn" if config.data == "demo" else "photos", "path": config.data}
    return {
        "experiment": "catsdogs",
        "variant": config.variant,
        "aug": config.aug,
        "dropout": config.dropout,
        **described,
    }


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    with_either = "{}, or {} with --aug or --dropout"
    parser = command.parser(
        "experiments.catsdogs",
        __doc__,
        epochs=with_either.format(30, 100),
        batch_size=with_either.format(20, 32),
        learning_rate="1e-4",
    )
    parser.add_argument("--aug", action="store_true", help="random rotation, shift, shear, zoom and flip")
    parser.add_argument("--dropout", action="store_true", help="drop half of the features before the dense layers")
    parser.add_argument(
        "--data",
        default=DATA,
        metavar="DIR",
        help='folder of train, validation, test, or "demo" (default: %(default)s)',
    )
    parser.add_argument("--steps-per-epoch", type=int, metavar="N", help="steps an epoch (default: 100)")
    arguments = parser.parse_args(argv)
    fit_config = command.fit_config(arguments, book(arguments.aug, arguments.dropout))
    config = Config(arguments.aug, arguments.dropout, arguments.data, fit_config, arguments.dtype)
    if arguments.summary:
        from jaxconv.summary import summary

        print(summary(net(config), (*IMAGE_SIZE, 3)))
        return
    from jaxconv.augment import RandomAffine  # the heavy imports wait until the flags are known to be right

    splits = read(config.data)
    workdir = arguments.workdir or command.default_workdir("catsdogs", config.variant, config.fit.seed, arguments.seeds)
    result = command.train(
        net(config),
        splits,
        config.fit,
        workdir,
        describe(config, splits),
        title=f"cats against dogs, {config.variant}",
        resume=arguments.resume,
        seeds=arguments.seeds,
        augment=RandomAffine() if config.aug else None,
        augment_on=arguments.augment_on,
    )
    command.print_result(result, workdir)


if __name__ == "__main__":
    main()
