"""What sections 5.1.1 and 5.1.2 say of convolution and pooling, measured on MNIST over several seeds.

    python -m experiments.mnist_study [--files DIR]

Trains the convnet with max pooling, average pooling, strided convolutions and no downsampling, and the dense net, each
with three seeds, as experiments.mnist does (runs that are there already are gone on with). Then two questions: what
does the choice of downsampling cost and gain; and how does accuracy fall as the test digits are moved by some pixels?
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

from experiments.mnist import BOOK, DATA, IMAGE_SHAPE, Config, net, run
from jaxconv.errors import InputError, one_line_errors

if TYPE_CHECKING:
    from jaxconv.records import ArraySource, Splits
    from jaxconv.train_step import TrainState

NETS = {
    "max pooling": Config(),
    "average pooling": Config(downsample="average"),
    "strided convolutions": Config(downsample="stride"),
    "no downsampling": Config(downsample="none"),
    "dense net": Config(model="dense"),
}
SHIFTS = [0, 1, 2, 3, 4, 5, 6]  # pixels
DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))


def train(splits: "Splits", seeds: range, epochs: int) -> dict[str, list[Config]]:
    """Train what is not trained yet; the runs of each net, one a seed."""
    configs = {
        name: [dataclasses.replace(config, fit=dataclasses.replace(BOOK, epochs=epochs, seed=seed)) for seed in seeds]
        for name, config in NETS.items()
    }
    for config in (config for runs in configs.values() for config in runs):
        print(config.workdir, flush=True)
        run(config, splits, config.workdir, resume=True)
    return configs


def downsampling(configs: dict[str, list[Config]]) -> dict[str, Any]:
    """What each net is, and what each of its runs came to."""
    from jaxconv import metrics, summary

    nets = {}
    for name, runs in configs.items():
        shapes, params = summary.layer_shapes(net(runs[0]), IMAGE_SHAPE)
        last = [metrics.read(config.workdir)[-1] for config in runs]
        tested = [json.loads((config.workdir / "result.json").read_text())["last"] for config in runs]
        before_flatten = [(None, (1, *IMAGE_SHAPE)), *shapes][[layer for layer, _ in shapes].index("Flatten_0")]
        nets[name] = {
            "into_dense": before_flatten[1][1:],
            "parameters": summary.count_params(params),
            "acc": [row["acc"] for row in last],
            "test_acc": [row["test_acc"] for row in tested],
            "test_loss": [row["test_loss"] for row in tested],
        }
    return nets


def translation(configs: dict[str, list[Config]], test: "ArraySource") -> dict[str, Any]:
    """Accuracy of each run on moved test digits, and the share of their ink that is moved out: a number a shift."""
    from jaxconv.checkpoints import restore_latest
    from jaxconv.fit import evaluate

    ways = [sorted({(pixels * rows, pixels * cols) for rows, cols in DIRECTIONS}) for pixels in SHIFTS]
    moved = [[move(test, rows, cols) for rows, cols in same] for same in ways]

    def over_shifts(measure: Callable[["ArraySource"], float]) -> list[float]:
        return [sum(map(measure, sources)) / len(sources) for sources in moved]

    def accuracy(state: "TrainState", source: "ArraySource") -> float:
        return float(evaluate(state, source, 500)["acc"])

    ink = float(test.images.sum())
    found: dict[str, Any] = {"pixels": SHIFTS, "ink_lost": over_shifts(lambda source: 1 - source.images.sum() / ink)}
    for name in ("max pooling", "dense net"):
        states = [restore_latest(net(config), IMAGE_SHAPE, config.workdir) for config in configs[name]]
        found[name] = [over_shifts(partial(accuracy, state)) for state in states]
    return found


def move(digits: "ArraySource", rows: int, cols: int) -> "ArraySource":
    """The digits moved down and to the right by whole pixels, black coming in."""
    import numpy as np

    from jaxconv.records import ArraySource

    most, (height, width) = max(SHIFTS), digits.images.shape[1:3]
    padded = np.pad(digits.images, ((0, 0), (most, most), (most, most), (0, 0)))
    images = padded[:, most - rows : most - rows + height, most - cols : most - cols + width]
    return ArraySource(images, digits.labels, digits.class_names)


def tables(nets: dict[str, Any], shifts: dict[str, Any]) -> str:
    """Both answers as Markdown, mean and range over the seeds."""
    lines = [
        "| net | into the dense layers | parameters | training acc, last epoch | test acc | test loss |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in nets.items():
        into = f"{'x'.join(map(str, found['into_dense']))} = {math.prod(found['into_dense']):,}"
        row = [name, into, f"{found['parameters']:,}", f"{fmean(found['acc']):.4f}"]
        lines.append(f"| {' | '.join([*row, _spread(found['test_acc']), _spread(found['test_loss'])])} |")
    lines += ["", "| pixels moved | convnet, test acc | dense net, test acc | ink moved out |", "|---|---|---|---|"]
    for column, pixels in enumerate(shifts["pixels"]):
        accuracies = [_spread([run[column] for run in shifts[name]]) for name in ("max pooling", "dense net")]
        lines.append(f"| {pixels} | {' | '.join(accuracies)} | {shifts['ink_lost'][column]:.1%} |")
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float]) -> str:
    """Mean, and lowest and highest."""
    return f"{fmean(values):.4f} ({min(values):.4f} to {max(values):.4f})"


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    summary, _, details = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m experiments.mnist_study",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--files", type=Path, help="folder of MNIST's four .gz files, in place of the download")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each net (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=BOOK.epochs, help="epochs of each run (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/mnist-study"), help="(default: %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.seeds < 1:
        raise InputError(f"--seeds is {arguments.seeds}: give a whole number above 0")

    from jaxconv.downloads import interruptible
    from jaxconv.figures import write_bands
    from jaxconv.mnist import read_mnist
    from jaxconv.workdir import write_json

    with interruptible():
        splits = read_mnist(DATA, arguments.files)
    configs = train(splits, range(arguments.seeds), arguments.epochs)
    nets, shifts = downsampling(configs), translation(configs, cast("ArraySource", splits.test))
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out / "study.json", {"downsampling": nets, "translation": shifts})
    (arguments.out / "tables.md").write_text(tables(nets, shifts))
    write_bands(
        arguments.out / "translation.png",
        SHIFTS,
        {name: shifts[name] for name in ("max pooling", "dense net")},
        labels=("Pixels that the test digits are moved by", "Test accuracy"),
        title=f"MNIST: moved digits, mean and range of {arguments.seeds} seeds",
    )
    print(tables(nets, shifts))


if __name__ == "__main__":
    main()
