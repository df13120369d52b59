"""The history (metrics.jsonl) and the result (result.json) of a run."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any, NotRequired, TypedDict

import msgspec
from msgspec import Meta, Struct

from jaxconv.config import Config
from jaxconv.runtime.errors import InputError
from jaxconv.runtime.files import named_oserror, write_json, write_whole

METRICS, RESULT = "metrics.jsonl", "result.json"

Count = Annotated[int, Meta(ge=0)]
Step = Annotated[int, Meta(ge=1)]


class Row(TypedDict):
    """A row of metrics.jsonl: one epoch.

    `loss` and `acc` are means over the training steps of the epoch. Validation comes after these steps. `learning_rate`
    is the learning rate of the last step, or None for a custom optimizer. `seconds` is the time of training and
    validation; `images_per_second` counts the training only. `data_wait` is the share of the training time that was
    spent waiting for data.
    """

    epoch: Step
    step: Step
    loss: float
    acc: float
    val_loss: float
    val_acc: float
    learning_rate: float | None
    seconds: float
    images_per_second: float
    data_wait: float
    val_metrics: NotRequired[dict[str, float]]


class EpochResult(Struct, frozen=True, omit_defaults=True):
    """The scores of an epoch on the validation and test pictures. The confusion matrix has a row for each label.

    Without test pictures, it is the confusion matrix of the validation pictures, and there are no other test scores.
    """

    epoch: Step
    val_loss: float
    val_acc: float
    test_loss: float | None = None
    test_acc: float | None = None
    test_confusion: list[list[Count]] | None = None
    test_metrics: dict[str, float] = {}
    val_confusion: list[list[Count]] | None = None

    def __post_init__(self) -> None:
        if len({self.test_loss is None, self.test_acc is None, self.test_confusion is None}) > 1:
            raise ValueError("some of test_loss, test_acc and test_confusion are missing")
        if (self.test_confusion is None) == (self.val_confusion is None):
            raise ValueError("there must be one of test_confusion and val_confusion")

    @property
    def confusion(self) -> list[list[int]]:
        """The confusion matrix of the test pictures or, without these, of the validation pictures."""
        return self.test_confusion or self.val_confusion or []

    @property
    def mean_recall(self) -> float:
        """The share of a class's pictures that were recognised: the mean over the classes that have pictures."""
        return fmean(row[label] / sum(row) for label, row in enumerate(self.confusion) if any(row))


def never_predicted(confusion: Sequence[Sequence[int]]) -> list[int]:
    """The classes of a confusion matrix, rows the labels, that have pictures, but are predicted of none."""
    columns = zip(*confusion, strict=True)
    return [label for label, column in enumerate(columns) if not any(column) and any(confusion[label])]


class Highest(Struct, frozen=True):
    """The epoch of the highest validation accuracy."""

    epoch: Step
    val_acc: float


class Result(Struct, frozen=True, omit_defaults=True):
    """result.json of one run: the last epoch, and the best epoch by val_loss.

    If the validation pictures are the test pictures, there is no best epoch and no highest val_acc. `l2` is the penalty
    of a head that was fitted to frozen features, chosen by the validation loss.
    """

    val_acc_mean_last_10: float
    last: EpochResult
    best: EpochResult | None = None
    highest_val_acc: Highest | None = None
    l2: float | None = None


def uses_last(config: Config) -> bool:
    """Whether tools use the last epoch of a run by default, and not the best by val_loss.

    That is after a cosine schedule, whose learning rate ends at zero, and if the test pictures validated the run.
    """
    training = config.training
    whole = training is not None and training.schedule == "cosine" and training.patience is None
    return config.data.validated_on_test or whole


def read_rows(workdir: str | os.PathLike[str]) -> list[Row]:
    """The rows of a run's metrics.jsonl; no rows if there is no file. An incomplete last line is skipped.

    Raises:
        InputError: another line is damaged, or the epochs are not 1, 2, 3 and so on.
    """
    path = Path(workdir) / METRICS
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        rows = [msgspec.convert(json.loads(line), Row) for line in lines if line.endswith(b"\n")]
        if [row["epoch"] for row in rows] != [*range(1, len(rows) + 1)]:
            raise ValueError("its epochs are not 1, 2, 3 and so on")
    except (OSError, ValueError, RecursionError, SystemError) as error:  # SystemError: msgspec with huge numbers
        raise InputError(f"{path} is damaged ({error}): train anew in another --workdir") from error
    return rows


def append_row(workdir: str | os.PathLike[str], row: Row) -> None:
    """Append a row; it is on the disk when this returns."""
    path = Path(workdir) / METRICS
    with named_oserror(path), path.open("a") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def write_rows(workdir: str | os.PathLike[str], rows: Sequence[Row]) -> None:
    """Replace the rows of metrics.jsonl; do nothing if they are equal."""
    path, content = Path(workdir) / METRICS, "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.exists() and path.read_bytes() != content:
        write_whole(path, content)


def read_result(workdir: str | os.PathLike[str]) -> Result | None:
    """A run's result.json; None if there is none yet.

    Raises:
        InputError: it is damaged.
    """
    path = Path(workdir) / RESULT
    try:
        return msgspec.convert(json.loads(path.read_text()), Result) if path.exists() else None
    except (OSError, ValueError, RecursionError, SystemError) as error:
        raise InputError(f"{path} is damaged ({error}): --resume the run, which writes it anew") from error


def write_result(workdir: str | os.PathLike[str], result: Result) -> None:
    """Write result.json completely or not at all."""
    write_json(Path(workdir) / RESULT, msgspec.to_builtins(result))


def spread(results: Sequence[Result]) -> dict[str, Any]:
    """Mean, sample standard deviation, minimum and maximum of several results, each with the fields of a result."""
    import jax  # here, because --help of the tools should not wait for it

    rows = [msgspec.to_builtins(result) for result in results]

    def over(statistic: Any) -> Any:
        return jax.tree.map(lambda *values: float(statistic([float(value) for value in values])), *rows)

    return {"mean": over(fmean), "std": over(stdev), "min": over(min), "max": over(max)}
