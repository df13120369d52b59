"""From sums on the device to metrics.jsonl: one line an epoch, readable by `pandas.read_json(path, lines=True)`."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import jax
import numpy as np

from jaxconv.errors import InputError
from jaxconv.workdir import naming, write_whole

Row = dict[str, Any]
StepSums = dict[str, np.ndarray]  # float32[steps]: loss, correct and count of each step
FILE = "metrics.jsonl"


def total(sums: Iterable[Mapping[str, jax.Array]]) -> dict[str, np.ndarray]:
    """The sums of many batches added up in float64 on the host: one transfer for all of them."""
    batches = jax.device_get(list(sums))
    return {name: np.asarray(sum(np.float64(batch[name]) for batch in batches)) for name in batches[0]}


def of_steps(sums: Iterable[Mapping[str, jax.Array]]) -> StepSums:
    """The sums of steps, one transfer for all of them."""
    steps = jax.device_get(list(sums))
    return {name: np.stack([step[name] for step in steps]) for name in steps[0]}


def add(totals: Mapping[str, float], sums: StepSums) -> dict[str, float]:
    """Totals and the sums of further steps, one after the other: an epoch in pieces has the sums of a whole one."""
    added = {name: np.cumsum([totals.get(name, 0.0), *values], dtype=float) for name, values in sums.items()}
    return {name: float(values[-1]) for name, values in added.items()}


def mean(totals: Mapping[str, Any]) -> Row:
    """{"loss", "acc"} per picture, from totals of loss, correct and count; and the "confusion" matrix, if there is one.

    Its rows are labels, its columns predictions.
    """
    row: Row = {"loss": float(totals["loss"] / totals["count"]), "acc": float(totals["correct"] / totals["count"])}
    return row | ({"confusion": totals["confusion"].astype(int).tolist()} if "confusion" in totals else {})


def speed(totals: Mapping[str, float]) -> dict[str, float]:
    """How fast training went, from totals of count, seconds and waited: images a second, and the share waited."""
    count, seconds, waited = (totals[name] for name in ("count", "seconds", "waited"))
    return {"images_per_second": round(count / seconds, 1), "data_wait": round(waited / seconds, 4)}


def spread(results: Sequence[Row]) -> dict[str, Row]:
    """{"mean", "std", "min", "max"}: of each number of results that are alike, over them; each in a result's own shape.

    The standard deviation is that of a sample (n - 1).
    """

    def over(statistic: Callable[[Sequence[float]], float]) -> Row:
        return jax.tree.map(lambda *values: float(statistic([float(value) for value in values])), *results)

    return {"mean": over(fmean), "std": over(stdev), "min": over(min), "max": over(max)}


def read(workdir: str | os.PathLike[str]) -> list[Row]:
    """The rows of a run's metrics.jsonl, an epoch each; none if there is no file. A torn last line is passed over.

    Raises:
        InputError: another line is damaged.
    """
    path = Path(workdir) / FILE
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    try:
        rows = [json.loads(line) for line in lines if line.endswith(b"\n")]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("a line is no JSON object")
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}): train anew in another --workdir") from error
    return rows


def append(workdir: str | os.PathLike[str], row: Row) -> None:
    """Add a line that is on the disk when this returns."""
    path = Path(workdir) / FILE
    with naming(path), path.open("a") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def truncate(workdir: str | os.PathLike[str], epochs: int) -> list[Row]:
    """Drop the lines after the first `epochs`, whose weights were never saved; return the lines that stay."""
    rows, path = read(workdir)[:epochs], Path(workdir) / FILE
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.exists() and path.read_bytes() != content:
        write_whole(path, content)
    return rows
