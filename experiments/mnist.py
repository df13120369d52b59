"""MNIST digits by the first convnet of *Deep Learning with Python*, section 5.1, and by the dense net of chapter 2.

    python -m experiments.mnist                         # codes 5-1 to 5-3: 5 epochs of all 60,000 digits, 64 per step
    python -m experiments.mnist --model dense           # chapter 2's net, with which the chapter compares
    python -m experiments.mnist --downsample average    # section 5.1.2: other downsampling than max pooling

The first run downloads the four files (11.1 MiB) or takes them from --files, and keeps the digits in data/mnist. The
book has no validation digits, so val_loss and val_acc are measured on the test digits. Nothing may be chosen by them:
result.json has no best epoch, and there are no flags --patience and --schedule plateau.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import common
from experiments.launch import Experiment, launch
from jaxconv.config import DOWNSAMPLE, Data, Optimizer, Training
from jaxconv.runtime.cli import one_line_errors
from jaxconv.runtime.errors import InputError

if TYPE_CHECKING:
    import flax.linen as nn

    from jaxconv.data.records import Splits

DATA = Path("data")  # tensorflow-datasets makes mnist/<version> in it
IMAGE_SHAPE = (28, 28, 1)
MODELS = ("convnet", "dense")
BOOK = Training(epochs=5, steps_per_epoch=None, batch_size=64, optimizer=Optimizer(learning_rate=1e-3))
BOOK_RESULTS = {"convnet": "the book's run has test_acc 0.9912", "dense": "the book's run has test_acc 0.978"}


def net(model: str, downsample: str | None, dtype: str) -> "nn.Module":
    """The convnet of codes 5-1 and 5-2, or the dense net of 2-2.

    Raises:
        InputError: `downsample` is given for the dense net.
    """
    from jaxconv.models import DenseNet, MnistConvNet

    if model == "dense":
        if downsample is not None:
            raise InputError("--downsample is a choice of the convnet: leave it out with --model dense")
        return DenseNet(dtype)
    return MnistConvNet(downsample or "max", dtype)


def variant(model: str, downsample: str | None, dtype: str = "float32") -> str:
    """The name of a net, such as convnet, convnet-average, dense or dense-bfloat16."""
    return "-".join(part for part in (model, downsample or "max", dtype) if part not in ("max", "float32"))


def describe(splits: "Splits") -> Data:
    """The description of the digits in config.json."""
    from jaxconv.runs.settings import describe_data

    return describe_data(splits, kind="MNIST", path=str(DATA / "mnist"))


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    assert __doc__
    defaults = {"epochs": "5", "batch_size": "64", "learning_rate": "1e-3", "steps_per_epoch": "0"}
    flags = common.parser("experiments.mnist", __doc__, **defaults, validated_on_test=True)
    flags.add_argument("--model", choices=MODELS, default="convnet", help="the net (default: %(default)s)")
    flags.add_argument("--downsample", choices=DOWNSAMPLE, help="downsampling of the convnet (default: max)")
    flags.add_argument(
        "--files", type=Path, metavar="DIR", help="folder with the four .gz files of MNIST, in place of the download"
    )
    arguments = flags.parse_args(argv)
    training = common.training(arguments, BOOK)
    common.start_backend()
    model = net(arguments.model, arguments.downsample, arguments.dtype)
    if arguments.summary:
        from jaxconv.models.summary import summary

        print(summary(model, IMAGE_SHAPE))
        return
    from jaxconv.data.mnist import read_mnist
    from jaxconv.runtime.signals import interruptible

    with interruptible():
        splits = read_mnist(DATA, arguments.files)
    named = variant(arguments.model, arguments.downsample, arguments.dtype)
    name = "-".join([named, *common.changes(training, BOOK)])
    title, book = f"MNIST, {name}, validated on the test digits", BOOK_RESULTS.get(name)
    book = book if common.is_book(training, BOOK) else None
    launch(arguments, Experiment("mnist", name, title, model, splits, describe(splits), training, book=book))


if __name__ == "__main__":
    main()
