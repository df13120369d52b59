"""From sums on the device to metrics.jsonl: one line an epoch, readable by `pandas.read_json(path, lines=True)`."""

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import jax
import numpy as np

Row = dict[str, Any]
FILE = "metrics.jsonl"


def total(sums: Iterable[Mapping[str, jax.Array]]) -> dict[str, np.ndarray]:
    """The sums of many batches added up in float64 on the host: one transfer for all of them."""
    batches = jax.device_get(list(sums))
    return {name: np.asarray(sum(np.float64(batch[name]) for batch in batches)) for name in batches[0]}


def mean(totals: Mapping[str, np.ndarray]) -> Row:
    """{"loss", "acc"} per picture, from totals of loss, correct and count; and the "confusion" matrix, if there is one.

    Its rows are labels, its columns predictions.
    """
    row: Row = {"loss": float(totals["loss"] / totals["count"]), "acc": float(totals["correct"] / totals["count"])}
    return row | ({"confusion": totals["confusion"].astype(int).tolist()} if "confusion" in totals else {})


def speed(totals: Mapping[str, np.ndarray], seconds: float, waited: float) -> dict[str, float]:
    """How fast an epoch went: images a second, and the share of its seconds that were waited for data."""
    return {"images_per_second": round(float(totals["count"]) / seconds, 1), "data_wait": round(waited / seconds, 4)}


def spread(results: Sequence[Row]) -> dict[str, Row]:
    """{"mean", "std", "min", "max"}: of each number of results that are alike, over them; each in a result's own shape.

    The standard deviation is that of a sample (n - 1); where a value is not finite, it is NaN.
    """

    def over(statistic: Callable[[Sequence[float]], float]) -> Row:
        return jax.tree.map(lambda *values: float(statistic([float(value) for value in values])), *results)

    def deviation(values: Sequence[float]) -> float:
        return stdev(values) if all(map(math.isfinite, values)) else math.nan

    return {"mean": over(fmean), "std": over(deviation), "min": over(min), "max": over(max)}


def read(workdir: str | os.PathLike[str]) -> list[Row]:
    """The rows of a run's metrics.jsonl, an epoch each; none if there is no file. A torn last line is passed over."""
    path = Path(workdir) / FILE
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def append(workdir: str | os.PathLike[str], row: Row) -> None:
    """Add a line that is on the disk when this returns."""
    with (Path(workdir) / FILE).open("a") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def truncate(workdir: str | os.PathLike[str], epochs: int) -> list[Row]:
    """Drop the lines of later epochs than `epochs`, whose weights were never saved; return the lines that stay."""
    rows = [row for row in read(workdir) if row["epoch"] <= epochs]
    path = Path(workdir) / FILE
    if path.exists():
        part = path.with_suffix(".part")
        part.write_text("".join(json.dumps(row) + "\n" for row in rows))
        part.replace(path)
    return rows
