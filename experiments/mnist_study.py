"""What sections 5.1.1 and 5.1.2 say of convolution and pooling, measured on MNIST over several seeds.

    python -m experiments.mnist_study [--files DIR]

Trains the convnet with max pooling, average pooling, strided convolutions and no downsampling, and the dense net, as
experiments.mnist does, each with three seeds. Then answers: how large is what a convolution puts out; what does the
choice of downsampling cost and gain; how does accuracy fall as the test digits are moved by some pixels? An
interrupted study goes on where it was.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

from experiments import command
from experiments.mnist import BOOK, DATA, IMAGE_SHAPE, Config, net, run
from jaxconv.errors import InputError, one_line_errors

if TYPE_CHECKING:
    from jaxconv.records import ArraySource, Source, Splits
    from jaxconv.train_step import TrainState

NETS = {
    "max pooling": Config(),
    "average pooling": Config(downsample="average"),
    "strided convolutions": Config(downsample="stride"),
    "no downsampling": Config(downsample="none"),
    "dense net": Config(model="dense"),
}
MOVED = ("max pooling", "dense net")
SHIFTS = [0, 1, 2, 3, 4, 5, 6]  # pixels
DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))


def train(configs: dict[str, list[Config]], splits: "Splits", folder: Path) -> dict[str, list["TrainState"]]:
    """Train what is not trained yet; the final weights of each net's runs."""
    from jaxconv import trained

    states = {}
    for name, runs in configs.items():
        workdirs = [folder / f"{config.variant}-seed{config.fit.seed}" for config in runs]
        for config, workdir in zip(runs, workdirs, strict=True):
            print(workdir, flush=True)
            run(config, splits, workdir, resume=True)
        states[name] = [trained.load(workdir, best=False).state for workdir in workdirs]
    return states


def output_sizes() -> list[tuple[str, int, tuple[int, int]]]:
    """Padding, stride, and the height and width that a 3x3 convolution makes of a digit's 28x28."""
    import jax
    import jax.numpy as jnp

    from jaxconv.layers import Conv

    digit = jax.ShapeDtypeStruct((1, *IMAGE_SHAPE), jnp.float32)

    def size(padding: str, strides: int) -> tuple[int, int]:
        layer = Conv(1, strides, padding)
        shape = jax.eval_shape(lambda x: layer.init_with_output(jax.random.key(0), x)[0], digit).shape
        return (shape[1], shape[2])

    return [(padding, strides, size(padding, strides)) for padding in ("VALID", "SAME") for strides in (1, 2, 3)]


def downsampling(states: dict[str, list["TrainState"]], splits: "Splits") -> dict[str, Any]:
    """What each net is, and what each of its runs came to."""
    from jaxconv import summary

    nets = {}
    for name, runs in states.items():
        shapes, params = summary.layer_shapes(net(NETS[name]), IMAGE_SHAPE)
        names = [layer for layer, _ in shapes]
        into_dense = [IMAGE_SHAPE, *(shape[1:] for _, shape in shapes)][names.index("Flatten_0")]
        nets[name] = {"into_dense": into_dense, "parameters": summary.count_params(params)}
        for split in ("train", "test"):
            found = [score(state, getattr(splits, split)) for state in runs]
            nets[name] |= {f"{split}_{key}": [run[key] for run in found] for key in ("acc", "loss")}
    return nets


def score(state: "TrainState", digits: "Source") -> dict[str, Any]:
    """Loss, accuracy and confusion matrix."""
    from jaxconv import metrics
    from jaxconv.streaming import evaluate

    return metrics.mean(metrics.total(evaluate(state, digits, 500)))


def translation(states: dict[str, list["TrainState"]], test: "ArraySource") -> dict[str, Any]:
    """For each shift, the accuracy of each run on the moved test digits, and the share of ink that leaves the picture.

    Both are means over the four directions.
    """
    ways = [sorted({(pixels * rows, pixels * cols) for rows, cols in DIRECTIONS}) for pixels in SHIFTS]
    moved = [[move(test, rows, cols) for rows, cols in same] for same in ways]

    def over_shifts(measure: Callable[["ArraySource"], float]) -> list[float]:
        return [fmean(map(measure, sources)) for sources in moved]

    def accuracy(state: "TrainState", source: "ArraySource") -> float:
        return float(score(state, source)["acc"])

    ink = float(test.images.sum())
    found: dict[str, Any] = {"pixels": SHIFTS, "ink_lost": over_shifts(lambda source: 1 - source.images.sum() / ink)}
    return found | {name: [over_shifts(partial(accuracy, state)) for state in states[name]] for name in MOVED}


def move(digits: "ArraySource", rows: int, cols: int) -> "ArraySource":
    """The digits moved down and to the right by whole pixels, black coming in."""
    import numpy as np

    from jaxconv.records import ArraySource

    most, (height, width) = max(SHIFTS), digits.images.shape[1:3]
    padded = np.pad(digits.images, ((0, 0), (most, most), (most, most), (0, 0)))
    images = padded[:, most - rows : most - rows + height, most - cols : most - cols + width]
    return ArraySource(images, digits.labels, digits.class_names)


def tables(sizes: list[tuple[str, int, tuple[int, int]]], nets: dict[str, Any], shifts: dict[str, Any]) -> str:
    """The answers as Markdown; mean, lowest and highest over the seeds."""
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


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = command.bare_parser("experiments.mnist_study", __doc__)
    parser.add_argument("--files", type=Path, help="folder of MNIST's four .gz files, in place of the download")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each net (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=BOOK.epochs, help="epochs of each run (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/mnist-study"), help="(default: %(default)s)")
    command.add_low_memory(parser)
    arguments = parser.parse_args(argv)
    out: Path = arguments.out
    if arguments.seeds < 1:
        raise InputError(f"--seeds is {arguments.seeds}: give a whole number above 0")
    fits = [dataclasses.replace(BOOK, epochs=arguments.epochs, seed=seed) for seed in range(arguments.seeds)]
    configs = {name: [dataclasses.replace(config, fit=fit) for fit in fits] for name, config in NETS.items()}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out} cannot be made ({error.strerror}): name another folder") from error

    from jaxconv.downloads import interruptible
    from jaxconv.figures import write_bands
    from jaxconv.mnist import read_mnist
    from jaxconv.workdir import write_json

    with interruptible():
        splits = read_mnist(DATA, arguments.files)
    states = train(configs, splits, out / "runs")
    nets, shifts = downsampling(states, splits), translation(states, cast("ArraySource", splits.test))
    write_json(out / "study.json", {"downsampling": nets, "translation": shifts})
    write_bands(
        out / "translation.png",
        SHIFTS,
        {"convnet": shifts["max pooling"], "dense net": shifts["dense net"]},
        labels=("Pixels that the test digits are moved by", "Test accuracy"),
        title=f"MNIST: moved digits, mean and range of {arguments.seeds} seeds",
    )
    found = tables(output_sizes(), nets, shifts)
    (out / "tables.md").write_text(found)
    print(found)


if __name__ == "__main__":
    main()
