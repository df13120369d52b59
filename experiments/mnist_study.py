"""A study of convolution and pooling on MNIST, with several seeds: the claims of sections 5.1.1 and 5.1.2.

    python -m experiments.mnist_study [--files DIR]

The study trains five nets as experiments.mnist does, each with three seeds: the convnet with max pooling, with average
pooling, with strided convolutions and without downsampling, and the dense net. It then answers three questions. How
large is the output of a convolution? What does each downsampling cost and gain? How does the accuracy fall when the
test digits are moved by some pixels? The same command continues an interrupted study.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from experiments import common, launch
from experiments.mnist import BOOK, DATA, describe, net, variant
from experiments.mnist_measures import MOVED, SHIFTS, downsampling, output_sizes, translation
from jaxconv.runtime.cli import add_low_memory, bare_parser, one_line_errors
from jaxconv.runtime.errors import InputError

if TYPE_CHECKING:
    from jaxconv.data.arrays import ArraySource
    from jaxconv.data.records import Splits
    from jaxconv.training.state import TrainState


class Net(NamedTuple):
    """A net of the study."""

    model: str = "convnet"
    downsample: str | None = None


NETS = {
    "max pooling": Net(),
    "average pooling": Net(downsample="average"),
    "strided convolutions": Net(downsample="stride"),
    "no downsampling": Net(downsample="none"),
    "dense net": Net("dense"),
}


def train(splits: "Splits", seeds: int, epochs: int, folder: Path) -> dict[str, list["TrainState"]]:
    """Train the runs that are not trained yet.

    Returns:
        The states of each net after the last epoch, one per seed.
    """
    from jaxconv.analysis.predictor import Predictor

    states, training, data = {}, common.replaced(BOOK, {"epochs": epochs}), describe(splits)
    for name, chosen in NETS.items():
        named = variant(*chosen)
        workdirs = {seed: folder / f"{named}-seed{seed}" for seed in range(seeds)}
        title = f"MNIST, {named}, validated on the test digits"
        print(f"net: {name}", flush=True)
        described = launch.Experiment("mnist", named, title, net(*chosen, "float32"), splits, data, training)
        launch.train(described, workdirs, resume=True)
        states[name] = [Predictor(workdir, best=False).state for workdir in workdirs.values()]
    return states


def tables(sizes: list[tuple[str, int, tuple[int, int]]], nets: dict[str, Any], shifts: dict[str, Any]) -> str:
    """The answers as Markdown: the mean over the seeds, with the lowest and the highest value."""
    lines = ["| padding | stride | 28x28 becomes |", "|---|---|---|"]
    lines += [f"| {padding} | {strides} | {size[0]}x{size[1]} |" for padding, strides, size in sizes]
    lines += ["", "| net | into the dense layers | parameters | training acc | test acc | test loss |"]
    lines += ["|---|---|---|---|---|---|"]
    for name, found in nets.items():
        into = f"{'x'.join(map(str, found['into_dense']))} = {math.prod(found['into_dense']):,}"
        row = [name, into, f"{found['parameters']:,}", f"{fmean(found['train_acc']):.4f}"]
        lines.append(f"| {' | '.join([*row, _spread(found['test_acc']), _spread(found['test_loss'])])} |")
    convnet, dense = (1 - fmean(nets[name]["test_acc"]) for name in MOVED)
    fewer = 1 - convnet / dense if dense else 0.0
    lines += ["", f"Test errors: {dense:.2%} of the dense net, {convnet:.2%} of the convnet, {fewer:.0%} fewer."]
    lines += ["", "| pixels moved | convnet, test acc | dense net, test acc | ink moved out |", "|---|---|---|---|"]
    for column, pixels in enumerate(shifts["pixels"]):
        accuracies = [_spread([run[column] for run in shifts[name]]) for name in MOVED]
        lines.append(f"| {pixels} | {' | '.join(accuracies)} | {shifts['ink_lost'][column]:.1%} |")
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float]) -> str:
    return f"{fmean(values):.4f} ({min(values):.4f} to {max(values):.4f})"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags, checked before anything is made."""
    flags = bare_parser("experiments.mnist_study", __doc__ or "")
    flags.add_argument(
        "--files", type=Path, metavar="DIR", help="folder with the four .gz files of MNIST, in place of the download"
    )
    flags.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="number of seeds of each net (default: %(default)s)"
    )
    flags.add_argument(
        "--epochs", type=int, default=BOOK.epochs, metavar="N", help="number of epochs (default: %(default)s)"
    )
    flags.add_argument(
        "--out",
        type=Path,
        default=Path("runs/mnist-study"),
        metavar="DIR",
        help="folder of the runs, the tables and the figure (default: %(default)s)",
    )
    add_low_memory(flags)
    arguments = flags.parse_args(argv)
    if arguments.seeds < 1:
        raise InputError(f"--seeds is {arguments.seeds}: give a whole number above 0")
    common.replaced(BOOK, {"epochs": arguments.epochs})
    return arguments


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    arguments = parse(argv)
    out: Path = arguments.out
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out} cannot be made ({error.strerror}): name another folder") from error

    from jaxconv.data.mnist import read_mnist
    from jaxconv.runs.figures import write_bands
    from jaxconv.runtime.files import write_json
    from jaxconv.runtime.signals import interruptible

    with interruptible():
        splits = read_mnist(DATA, arguments.files)
    states = train(splits, arguments.seeds, arguments.epochs, out / "runs")
    nets, shifts = downsampling(states, splits), translation(states, cast("ArraySource", splits.test))
    write_json(out / "study.json", {"downsampling": nets, "translation": shifts})
    write_bands(
        out / "translation.png",
        SHIFTS,
        {"convnet": shifts["max pooling"], "dense net": shifts["dense net"]},
        labels=("Shift of the test digits in pixels", "Test accuracy"),
        title=f"MNIST: moved digits, mean and range of {arguments.seeds} seeds",
    )
    found = tables(output_sizes(), nets, shifts)
    (out / "tables.md").write_text(found)
    print(found)


if __name__ == "__main__":
    main()
