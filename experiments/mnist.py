"""MNIST digits by the first convnet of *Deep Learning with Python*: section 5.1, and chapter 2's net beside it.

    python -m experiments.mnist                         # codes 5-1 to 5-3: 5 epochs of all 60,000 digits, 64 a step
    python -m experiments.mnist --model dense           # chapter 2's net, which the chapter compares with
    python -m experiments.mnist --downsample average    # section 5.1.2: another choice than max pooling

The first run downloads the four files (11.1 MiB) or takes them from --files, and keeps the digits in data/mnist. The
book holds no validation digits out: val_loss and val_acc are those of the test digits, and result.json has the last
epoch alone, as the best would be chosen by the test.
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

DATA = Path("data")  # below it, tensorflow-datasets makes mnist/<version>
IMAGE_SHAPE = (28, 28, 1)
MODELS = ("convnet", "dense")
DOWNSAMPLE = ("max", "average", "stride", "none")
BOOK = FitConfig(epochs=5, steps_per_epoch=None, batch_size=64, learning_rate=1e-3)


@dataclasses.dataclass(frozen=True)
class Config:
    """One run: its net, and how it is trained.

    Raises:
        InputError: the dense net has nothing to downsample.
    """

    model: str = "convnet"
    downsample: str | None = None
    fit: FitConfig = BOOK
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.model == "dense" and self.downsample is not None:
            raise InputError("--downsample is a choice of the convnet: leave it out with --model dense")

    @property
    def variant(self) -> str:
        """Such as convnet, convnet-average, dense, dense-bfloat16."""
        parts = [self.model, self.downsample or "max", self.dtype]
        return "-".join(part for part in parts if part not in ("max", "float32"))


def net(config: Config) -> "nn.Module":
    """The convnet of code 5-1 and 5-2 or the dense net of 2-2."""
    from jaxconv.models import DenseNet, MnistConvNet

    if config.model == "dense":
        return DenseNet(config.dtype)
    return MnistConvNet(config.downsample or "max", config.dtype)


def run(config: Config, splits: "Splits", workdir: Path, **options: Any) -> dict[str, Any]:
    """Train, and fill the run directory; returns what result.json says. `options` are those of `command.train`."""
    model = net(config)
    described = command.describe(config.fit, model, splits)
    described["data"] |= {"kind": "MNIST", "path": str(DATA / "mnist"), "validation": "the test digits"}
    described = {"experiment": "mnist", "variant": config.variant} | described
    title = f"MNIST, {config.variant}, validated on the test digits"
    return command.train(model, splits, config.fit, workdir, described, title=title, **options)


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = command.parser("experiments.mnist", __doc__, epochs="5", batch_size="64", learning_rate="1e-3")
    parser.add_argument("--model", choices=MODELS, default="convnet", help="the net (default: %(default)s)")
    parser.add_argument("--downsample", choices=DOWNSAMPLE, help="how the convnet grows coarser (default: max)")
    parser.add_argument(
        "--files", type=Path, metavar="DIR", help="folder of MNIST's four .gz files, in place of the download"
    )
    arguments = parser.parse_args(argv)
    config = Config(arguments.model, arguments.downsample, command.fit_config(arguments, BOOK), arguments.dtype)
    if arguments.summary:
        from jaxconv.summary import summary

        print(summary(net(config), IMAGE_SHAPE))
        return
    from jaxconv.downloads import interruptible
    from jaxconv.mnist import read_mnist

    with interruptible():
        splits = read_mnist(DATA, arguments.files)
    workdir = arguments.workdir or command.default_workdir("mnist", config.variant, config.fit.seed, arguments.seeds)
    result = run(config, splits, workdir, resume=arguments.resume, seeds=arguments.seeds)
    command.print_result(result, workdir)


if __name__ == "__main__":
    main()
