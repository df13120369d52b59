"""What a run came to: metrics.jsonl, a line an epoch, and result.json at the end."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NotRequired, TypedDict

import msgspec
from msgspec import Meta, Struct

from jaxconv.runtime.errors import InputError
from jaxconv.runtime.files import named_oserror, write_json, write_whole

METRICS, RESULT = "metrics.jsonl", "result.json"

Count = Annotated[int, Meta(ge=0)]
Step = Annotated[int, Meta(ge=1)]


class Row(TypedDict):
    """A line of metrics.jsonl: an epoch, with training figures as of its steps and validation figures after them.

    `learning_rate` is that of the last step, None for an optimizer of one's own. `seconds` has training and validation,
    `images_per_second` the training alone; `data_wait` is the share of it that was spent waiting for data.
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
    """An epoch's figures on the validation and test pictures. The confusion matrix has a row for each label."""

    epoch: Step
    val_loss: float
    val_acc: float
    test_loss: float
    test_acc: float
    test_confusion: list[list[Count]]
    test_metrics: dict[str, float] = {}


class Highest(Struct, frozen=True):
    """The epoch of the highest validation accuracy."""

    epoch: Step
    val_acc: float


class Result(Struct, frozen=True, omit_defaults=True):
    """result.json of one run: the last epoch and the best by val_loss.

    There is no best, and no highest val_acc, where the validation pictures are the test pictures.
    """

    val_acc_mean_last_10: float
    last: EpochResult
    best: EpochResult | None = None
    highest_val_acc: Highest | None = None


def read_rows(workdir: str | os.PathLike[str]) -> list[Row]:
    """The rows of a run's metrics.jsonl; none if there is no file. A torn last line is passed over.

    Raises:
        InputError: another line is damaged, or is not the next epoch's.
    """
    path = Path(workdir) / METRICS
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        rows = [msgspec.convert(json.loads(line), Row) for line in lines if line.endswith(b"\n")]
        if [row["epoch"] for row in rows] != [*range(1, len(rows) + 1)]:
            raise ValueError("its epochs are not 1, 2, 3 and so on")
    except (OSError, ValueError, RecursionError, SystemError) as error:  # msgspec's of huge numbers is a SystemError
        raise InputError(f"{path} is damaged ({error}): train anew in another --workdir") from error
    return rows


def append_row(workdir: str | os.PathLike[str], row: Row) -> None:
    """Add a line that is on the disk when this returns."""
    path = Path(workdir) / METRICS
    with named_oserror(path), path.open("a") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def write_rows(workdir: str | os.PathLike[str], rows: Sequence[Row]) -> None:
    """Let metrics.jsonl have these lines alone; it stays as it is where it has them already."""
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
    """Write result.json whole or not at all."""
    write_json(Path(workdir) / RESULT, msgspec.to_builtins(result))
