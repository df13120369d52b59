"""The chapter's pictures: curves of accuracy and loss (code 5-10), and augmented training pictures (5-12)."""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
import numpy as np

from jaxconv.records import Source
from jaxconv.workdir import write_whole


def write_curves(rows: Sequence[Mapping[str, Any]], folder: str | os.PathLike[str], title: str) -> None:
    """accuracy.png and loss.png over the epochs: training as dots, validation as a line."""
    from matplotlib.figure import Figure  # half a second that a command with a wrong flag should not take
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for row in rows]
    for key, name in (("acc", "accuracy"), ("loss", "loss")):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.subplots()
        axes.plot(epochs, [row[key] for row in rows], "o", color="tab:blue", markersize=4, label=f"Training {name}")
        axes.plot(epochs, [row[f"val_{key}"] for row in rows], "-", color="tab:blue", label=f"Validation {name}")
        axes.set_title(f"Training and validation {name}\n{title}", fontsize=11)
        axes.set_xlabel("Epoch")
        axes.set_ylabel(name.capitalize())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
        _save(figure, Path(folder) / f"{name}.png")


def write_bands(
    path: str | os.PathLike[str],
    x: Sequence[int],
    series: Mapping[str, Sequence[Sequence[float]]],
    *,
    labels: tuple[str, str],
    title: str,
) -> None:
    """Each of `series` is a list of rows over `x`, one row a seed: their mean as a line, their range as a band."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    for name, rows in series.items():
        (line,) = axes.plot(x, np.mean(rows, 0), "o-" if len(x) <= 40 else "-", markersize=4, label=name)
        axes.fill_between(x, np.min(rows, 0), np.max(rows, 0), color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    _save(figure, Path(path))


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
    figure.suptitle(title, fontsize=11)
    _save(figure, Path(path))


def _save(figure: Any, path: Path) -> None:
    """Write whole or not at all, so that a viewer never meets half a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    write_whole(path, content.getvalue())
