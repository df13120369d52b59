"""The figures of a run: curves (code 5-10), augmented pictures (5-12), the confusion matrix and single predictions."""

import io
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
import numpy as np
from jaxtyping import Float

from jaxconv.data.records import Record, Source
from jaxconv.runtime.files import write_whole

NUMBERED = 32  # classes, whose cells have room for their numbers


def write_curves(rows: Sequence[Mapping[str, Any]], folder: str | os.PathLike[str], title: str) -> None:
    """accuracy.png and loss.png over the epochs: training as dots, validation as a line."""
    epochs = [row["epoch"] for row in rows]
    for key, name in (("acc", "accuracy"), ("loss", "loss")):
        figure, axes = _axes(epochs, ("Epoch", name.capitalize()), f"Training and validation {name}\n{title}")
        axes.plot(epochs, [row[key] for row in rows], "o", markersize=4, label=f"Training {name}")
        axes.plot(epochs, [row[f"val_{key}"] for row in rows], _line(epochs), markersize=4, label=f"Validation {name}")
        axes.legend(frameon=False)
        save(figure, Path(folder) / f"{name}.png")


def write_bands(
    path: str | os.PathLike[str],
    x: Sequence[int],
    series: Mapping[str, Sequence[Sequence[float]]],
    *,
    labels: tuple[str, str],
    title: str,
) -> None:
    """Each of `series` is a list of rows over `x`, one row a seed: their mean as a line, their range as a band."""
    figure, axes = _axes(x, labels, title)
    for name, rows in series.items():
        (line,) = axes.plot(x, np.mean(rows, 0), _line(x), markersize=4, label=name)
        axes.fill_between(x, np.min(rows, 0), np.max(rows, 0), color=line.get_color(), alpha=0.2, linewidth=0)
    axes.legend(frameon=False)
    save(figure, Path(path))


def _axes(x: Sequence[int], labels: tuple[str, str], title: str) -> tuple[Any, Any]:
    """A figure and its axes, for curves over `x`; Matplotlib's first two colours are blue and orange."""
    from matplotlib.figure import Figure  # half a second that a command with a wrong flag should not take

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=11)
    axes.set(xlabel=labels[0], ylabel=labels[1], xticks=whole_ticks(x))
    axes.grid(alpha=0.25)
    return figure, axes


def _line(x: Sequence[int]) -> str:
    """A line, with a dot at each of a few points: the line of one point is invisible."""
    return "o-" if len(x) <= 10 else "-"


def whole_ticks(x: Sequence[int]) -> list[int]:
    """The first and the last of ascending whole numbers, and between them up to twelve round ones."""
    first, last = x[0], x[-1]
    steps = (1, 5, *(digit * 10**power for power in range(1, 6) for digit in (1, 2, 5)))
    step = next(step for step in steps if last - first <= 12 * step)
    return sorted({first, *range(first - first % step + step, last - step // 2, step), last})


def write_seeds(runs: Sequence[Sequence[Mapping[str, Any]]], folder: str | os.PathLike[str], title: str) -> None:
    """accuracy.png and loss.png of several runs' rows: mean and range over the epochs that all of them have."""
    epochs = [row["epoch"] for row in min(runs, key=len)]
    for key, name in (("acc", "accuracy"), ("loss", "loss")):
        series = {
            f"{kind} {name}": [[row[column] for row in rows[: len(epochs)]] for rows in runs]
            for kind, column in (("Training", key), ("Validation", f"val_{key}"))
        }
        write_bands(
            Path(folder) / f"{name}.png",
            epochs,
            series,
            labels=("Epoch", name.capitalize()),
            title=f"Training and validation {name}: mean and range of {len(runs)} seeds\n{title}",
        )


def write_augmented(
    source: Source, augment: grain.transforms.RandomMap, path: str | os.PathLike[str], title: str, versions: int = 5
) -> None:
    """A grid: each row one of four pictures spread over the source, and random versions of it."""
    from matplotlib.figure import Figure

    rng = np.random.default_rng(0)
    records = [source[index] for index in np.linspace(0, len(source) - 1, 4).astype(int).tolist()]
    figure = Figure(figsize=(1.6 * (1 + versions), 1.65 * len(records) + 0.6), layout="constrained")
    grid = figure.subplots(len(records), 1 + versions)
    for row, record in zip(grid, records, strict=True):
        pictures = [record, *(augment.random_map(record, rng) for _ in range(versions))]
        for axes, picture, name in zip(row, pictures, ["original", *["augmented"] * versions], strict=True):
            axes.imshow(picture["image"])
            axes.set_axis_off()
            if record is records[0]:
                axes.set_title(name, fontsize=10)
    figure.suptitle(f"Training pictures and their augmented versions\n{title}", fontsize=11)
    save(figure, Path(path))


def write_confusion(
    confusion: Sequence[Sequence[int]],
    class_names: Sequence[str],
    path: str | os.PathLike[str],
    title: str,
    split: str = "test",
) -> None:
    """A confusion matrix, rows the labels: in each cell the number of pictures and its share of the row.

    Cells of more than 32 classes have their colour alone.
    """
    from matplotlib.figure import Figure

    counts, classes = np.array(confusion), len(class_names)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    cell = 1.5 if classes <= 3 else 0.9 if classes <= 6 else min(0.62, 20 / classes)  # inches
    names = [shorten(name) for name in class_names]
    figure = Figure(figsize=(cell * classes + 2.2, cell * classes + 1.4), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts) if classes <= NUMBERED else ():
        colour = "white" if shares[row, column] > 0.6 else "black" if count else "dimgray"
        text = f"{count:,}\n{shares[row, column]:.1%}" if count else "0"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=11 if cell > 1 else 7.5)
    axes.set_xticks(range(classes), names, rotation=45 if max(map(len, names)) > 8 * cell else 0)
    axes.set_yticks(range(classes), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("Prediction")
    axes.set_ylabel("Label")
    figure.colorbar(image, shrink=0.8, label="Share of the label's pictures", format="{x:.0%}")
    figure.suptitle(f"Predictions of {counts.sum():,} {split} pictures\n{title}", fontsize=11)
    save(figure, Path(path))


def spread_positions(source: Source, count: int = 25) -> list[int]:
    """The positions of the pictures that `write_predictions` is for: spread evenly, whatever is predicted of them."""
    return np.unique(np.linspace(0, len(source) - 1, count).astype(int)).tolist()


def write_predictions(
    records: Sequence[Record],
    probabilities: Float[np.ndarray, "n k"],
    class_names: Sequence[str],
    path: str | os.PathLike[str],
    title: str,
    split: str = "test",
) -> None:
    """A grid of pictures: above each its true class, the predicted one and its probability; mistakes in red."""
    from matplotlib.figure import Figure

    columns = min(5, len(records))
    rows = -(-len(records) // columns)
    figure = Figure(figsize=(1.7 * max(3, columns), 2.05 * rows + 0.8), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(records) :]:
        axes.set_axis_off()
    names = [shorten(name) for name in class_names]
    size = min(9, 215 / (18 + max(map(len, names))))  # at which a line fits above its picture
    for axes, record, of_classes in zip(grid.flat, records, probabilities, strict=False):
        label, prediction = names[record["label"]], names[of_classes.argmax()]
        wrong = record["label"] != of_classes.argmax()
        colour = "firebrick" if wrong else "black"
        axes.imshow(record["image"].squeeze(), cmap="gray", vmin=0, vmax=255)
        text = f"true: {label}\npredicted: {prediction} {of_classes.max():.1%}"
        axes.set_title(text, fontsize=size, color=colour)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color=colour if wrong else "silver", linewidth=4 if wrong else 1)
    what = f"{split.capitalize()} pictures, their true and their predicted classes; mistakes in red"
    figure.suptitle(f"{what}\n{title}", fontsize=11)
    save(figure, Path(path))


def shorten(name: str, length: int = 14) -> str:
    """A class name that fits above a picture."""
    return name if len(name) <= length else f"{name[: length - 1]}\u2026"


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG, whole or not at all, so that a viewer never meets half a picture."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a dollar in a name begins no formula
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of a script that the font lacks there are boxes
        figure.savefig(content, format="png", dpi=120)
    write_whole(path, content.getvalue())
