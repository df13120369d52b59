"""Comparison of trained runs. Runs that differ only in their seed form a group with means and ranges."""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, cast

import msgspec

from jaxconv.analysis.titles import title
from jaxconv.config import Config
from jaxconv.runs import history
from jaxconv.runs.directory import CONFIG, read_config
from jaxconv.runs.history import METRICS, RESULT, EpochResult, Result, Row, read_result, read_rows
from jaxconv.runs.resume import leaves
from jaxconv.runtime.errors import InputError

WEIGHTS = {"last": "last epoch", "best": "lowest val_loss"}


class RunRecord(NamedTuple):
    """The content of a run directory: one row per epoch, and a result, which is None for an unfinished run."""

    workdir: Path
    config: Config
    rows: list[Row]
    result: Result | None


class Range(NamedTuple):
    """Mean, minimum and maximum of a number over several runs."""

    mean: float
    low: float
    high: float


class Confusion(NamedTuple):
    """Counts of pictures: rows are labels, columns predictions.

    `of` names the split, the weights and the number of runs. `never_predicted` has the names of the classes that were
    predicted of no picture.
    """

    counts: list[list[int]]
    of: str
    never_predicted: list[str]


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed. Each has finished at least one epoch."""

    name: str
    runs: list[RunRecord]

    @property
    def class_names(self) -> list[str]:
        """The class names in label order."""
        return self.runs[0].config.data.class_names

    @property
    def chosen_by_test(self) -> bool:
        """Whether the validation pictures are the test pictures."""
        return self.runs[0].config.data.validated_on_test

    def numbers(self, runs: Sequence[RunRecord] | None = None) -> dict[str, dict[str, Range]]:
        """The scores of the last epoch, and of the epoch with the lowest val_loss.

        They are epoch, val_acc and mean_recall and, with test pictures, test_loss and test_acc. Unfinished runs are
        left out. If no run is finished, the numbers belong to the last epoch so far.
        """
        runs = self.runs if runs is None else runs
        results = [run.result for run in runs if run.result]
        if not results:
            return {"last epoch so far": _ranges([run.rows[-1] for run in runs])}
        tested = {kind: [getattr(result, kind) for result in results] for kind in WEIGHTS}
        return {WEIGHTS[kind]: _ranges(found) for kind, found in tested.items() if None not in found}

    @property
    def confusion(self) -> Confusion | None:
        """The sum of the finished runs' confusion matrices, at the lowest val_loss or the last epoch, as tools use."""
        results = [run.result for run in self.runs if run.result]
        if not results:
            return None
        kind = "last" if history.uses_last(self.runs[0].config) or not results[0].best else "best"
        matrices = [getattr(result, kind).confusion for result in results]
        added = [[sum(counts) for counts in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]
        together = f", {len(matrices)} seeds together" if len(matrices) > 1 else ""
        of = f"{self.runs[0].config.data.final_split} pictures, {WEIGHTS[kind]}{together}"
        never = [self.class_names[label] for label in history.never_predicted(added)]
        return Confusion(added, of, never)

    @property
    def epochs(self) -> int:
        """The number of epochs that every run has finished."""
        return min(len(run.rows) for run in self.runs)

    def curve(self, column: str) -> list[list[float]]:
        """A column of metrics.jsonl over these epochs, one list per run."""
        return [[cast(dict[str, Any], row)[column] for row in run.rows[: self.epochs]] for run in self.runs]


def _ranges(found: Sequence[Row | EpochResult]) -> dict[str, Range]:
    rows = [msgspec.to_builtins(one) for one in found]
    for row, one in zip(rows, found, strict=True):
        if isinstance(one, EpochResult):
            row["mean_recall"] = one.mean_recall
    names = ("epoch", "val_acc", "test_loss", "test_acc", "mean_recall")
    columns = {name: [row[name] for row in rows] for name in names if name in rows[0]}
    return {name: Range(fmean(column), min(column), max(column)) for name, column in columns.items()}


def read(paths: Sequence[Path]) -> list[Group]:
    """Read run directories and group their runs by configuration.

    A directory of several seeds stands for all its runs. A run that is given twice is read once.

    Raises:
        InputError: a path is not a run directory, a run has finished no epoch, or a file is damaged.
    """
    found: dict[str, list[RunRecord]] = {}
    places: dict[str, str] = {}
    seen: set[Path] = set()
    for path in paths:
        for run in _read_runs(path):
            if (place := run.workdir.resolve()) in seen:
                continue
            seen.add(place)
            compared = {path: as_text(value) for path, value, how in leaves(run.config) if how != "informational"}
            configuration = json.dumps(compared | {"seed": None})
            found.setdefault(configuration, []).append(run)
            places.setdefault(configuration, path.resolve().name)
    names = _distinct([title(runs[0].config) for runs in found.values()], list(places.values()))
    return [Group(name, runs) for name, runs in zip(names, found.values(), strict=True)]


def _distinct(names: Sequence[str], places: Sequence[str]) -> list[str]:
    """The names. Equal names get the name of their directory and, if necessary, a number."""
    distinct, uses = [], Counter[str]()
    for name, place in zip(names, places, strict=True):
        label = f"{name} ({place})" if names.count(name) > 1 else name
        uses[label] += 1
        distinct.append(label if uses[label] == 1 else f"{label} {uses[label]}")
    return distinct


def _read_runs(path: Path) -> list[RunRecord]:
    seeds = sorted((found.parent for found in path.glob(f"seed*/{CONFIG}")), key=lambda found: (len(found.name), found))
    workdirs = seeds if seeds and not (path / CONFIG).is_file() else [path]
    runs = [run for workdir in workdirs if (run := _read_run(workdir)).rows]
    if not runs:
        raise InputError(f"{path} has no epoch in its {METRICS}: name a run that has finished one")
    return runs


def _read_run(workdir: Path) -> RunRecord:
    config, rows, result = read_config(workdir), read_rows(workdir), read_result(workdir)
    size = [len(config.data.class_names)] * len(config.data.class_names)
    for tested in [result.last, result.best] if result else []:
        if tested and [len(row) for row in tested.confusion] != size:
            raise InputError(f"{workdir / RESULT} is damaged (a confusion matrix has other classes): --resume the run")
    if result and result.last.epoch != len(rows):  # the run was made longer after this result
        result = None
    return RunRecord(workdir, config, rows, result)


class Setting(NamedTuple):
    """The name of a setting, its value in each group, and whether the groups differ in it."""

    name: str
    values: list[str]
    differs: bool


def settings(groups: Sequence[Group]) -> list[Setting]:
    """Every setting of config.json, in its order. If the runs of a group differ, each of their values is listed."""
    configs = [
        [{path: as_text(value) for path, value, _ in leaves(run.config)} for run in group.runs] for group in groups
    ]
    found = []
    for path in dict.fromkeys(path for runs in configs for config in runs for path in config):
        values = [", ".join(dict.fromkeys(config.get(path, "-") for config in runs)) for runs in configs]
        found.append(Setting(path, values, len({*values}) > 1))
    return found


def as_text(value: Any) -> str:
    """The value of a setting as a person would write it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
