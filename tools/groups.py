"""Runs of one configuration but for the seed, and what they have in common."""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from jaxconv.errors import InputError
from jaxconv.workdir import CONFIG, flatten, read_config

INCIDENTAL = ("seed", "versions.", "device.", "data.path")  # what runs of one configuration may differ in
WEIGHTS = {"last": "last epoch", "best": "lowest val_loss"}


class Run(NamedTuple):
    """What a run directory holds: a row an epoch, and a result, which is empty while the run is not finished."""

    workdir: Path
    config: dict[str, Any]
    rows: list[dict[str, Any]]
    result: dict[str, Any]


class Range(NamedTuple):
    """A number of several runs."""

    mean: float
    low: float
    high: float


class Confusion(NamedTuple):
    """Counts of test pictures, rows the labels, columns the predictions; `of` says of which weights and runs."""

    counts: list[list[int]]
    of: str


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone, each of which has finished an epoch."""

    name: str
    runs: list[Run]

    @property
    def class_names(self) -> list[str]:
        """In label order."""
        return self.runs[0].config["class_names"]

    @property
    def chosen_by_test(self) -> bool:
        """Whether the validation pictures are the test pictures."""
        prints = self.runs[0].config["data"]["fingerprint"]
        return prints["validation"] == prints["test"]

    def numbers(self, runs: Sequence[Run] | None = None) -> dict[str, dict[str, Range]]:
        """Of the weights of the last epoch and of the lowest val_loss: epoch, val_acc, and of the test loss and acc.

        Runs that are not finished are left out; if none is, these are the numbers of the last epoch so far.
        """
        runs = self.runs if runs is None else runs
        results = [run.result for run in runs if run.result]
        if not results:
            return {"last epoch so far": _ranges([run.rows[-1] for run in runs])}
        kinds = [kind for kind in WEIGHTS if all(kind in result for result in results)]
        return {WEIGHTS[kind]: _ranges([result[kind] for result in results]) for kind in kinds}

    @property
    def confusion(self) -> Confusion | None:
        """That of the lowest val_loss, or else of the last epoch, added up over the runs; None if none is finished."""
        results = [run.result for run in self.runs if run.result]
        if not results:
            return None
        kind = "best" if "best" in results[0] else "last"
        matrices = [result[kind]["test_confusion"] for result in results]
        added = [[sum(counts) for counts in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]
        return Confusion(added, WEIGHTS[kind] + (f", {len(matrices)} seeds together" if len(matrices) > 1 else ""))

    @property
    def epochs(self) -> int:
        """As many as all of them have."""
        return min(len(run.rows) for run in self.runs)

    def curve(self, column: str) -> list[list[float]]:
        """A row a run, of what metrics.jsonl has in a column, over these epochs."""
        return [[row[column] for row in run.rows[: self.epochs]] for run in self.runs]


def _ranges(rows: Sequence[dict[str, Any]]) -> dict[str, Range]:
    names = ("epoch", "val_acc", "test_loss", "test_acc")
    columns = {name: [row[name] for row in rows] for name in names if name in rows[0]}
    return {name: Range(fmean(column), min(column), max(column)) for name, column in columns.items()}


def read(paths: Sequence[Path]) -> list[Group]:
    """The runs in directories of one, and in those of --seeds, those of one configuration together, each once.

    Raises:
        InputError: there is none, or none that has finished an epoch, or a file is damaged.
    """
    found: dict[str, list[Run]] = {}
    places: dict[str, Path] = {}
    seen: set[Path] = set()
    for path in paths:
        for run in _read_runs(path):
            if (place := run.workdir.resolve()) in seen:
                continue
            seen.add(place)
            kept = {key: value for key, value in flatten(run.config).items() if not key.startswith(INCIDENTAL)}
            configuration = json.dumps(kept, sort_keys=True)
            found.setdefault(configuration, []).append(run)
            places.setdefault(configuration, path)
    names = {configuration: _name(runs[0]) for configuration, runs in found.items()}
    taken = Counter(names.values())
    return [
        Group(name if taken[name] == 1 else f"{name} ({places[configuration]})", found[configuration])
        for configuration, name in names.items()
    ]


def _read_runs(path: Path) -> list[Run]:
    from jaxconv import metrics

    seeds = sorted((found.parent for found in path.glob(f"seed*/{CONFIG}")), key=lambda found: (len(found.name), found))
    workdirs = [path] if (path / CONFIG).is_file() else seeds
    if not workdirs:
        raise InputError(f"{path} is not the directory of a run, it has no {CONFIG}: name one that was trained")
    runs = [run for workdir in workdirs if (run := _read_run(workdir)).rows]
    if not runs:
        raise InputError(f"{path} has no epoch in its {metrics.FILE}: name a run that has finished one")
    return runs


def _read_run(workdir: Path) -> Run:
    from jaxconv import metrics

    path = workdir / "result.json"
    try:
        result = json.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): --resume the run, which writes it anew") from error
    rows = metrics.read(workdir)
    if result and result["last"]["epoch"] != len(rows):  # of before it was made longer
        result = {}
    return Run(workdir, read_config(workdir), rows, result)


def _name(run: Run) -> str:
    return " ".join(run.config[key] for key in ("experiment", "variant") if key in run.config) or run.workdir.name


class Setting(NamedTuple):
    """A setting's name, what it is in each group, and whether they differ in it."""

    name: str
    values: list[str]
    differs: bool


def settings(groups: Sequence[Group]) -> list[Setting]:
    """All that config.json says, in its order; what the runs of a group differ in is listed."""
    configs = [[flatten(run.config) for run in group.runs] for group in groups]
    found = []
    for key in dict.fromkeys(key for runs in configs for config in runs for key in config):
        values = [", ".join(dict.fromkeys(shown(config.get(key, "null")) for config in runs)) for runs in configs]
        found.append(Setting(key, values, len({*values}) > 1))
    return found


def shown(setting: str) -> str:
    """A setting in JSON as people write it."""
    value = json.loads(setting)
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
