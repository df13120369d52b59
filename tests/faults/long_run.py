"""The memory, files and threads that a process holds as it goes on.

    python -m tests.faults.long_run PHOTOS WORKDIR EPOCHS EVALUATIONS ROUNDS

Prints the figures as JSON after each epoch of one run, after each evaluation, and after each of some shorter runs: in
every round one run ends well, one diverges, and one is stopped.
"""

import gc
import json
import os
import signal
import sys
import threading
from pathlib import Path

import flax.linen as nn
import optax
import psutil
import pytest

from jaxconv import loop
from jaxconv.config import BOOK_AUGMENTATION, Optimizer, Training
from jaxconv.data.records import read_splits
from jaxconv.models import Flatten
from jaxconv.models.layers import Dense
from jaxconv.runs.writer import RunWriter
from jaxconv.runtime.errors import InputError, Stopped
from jaxconv.training import optimizers
from jaxconv.training.feed import evaluate
from jaxconv.training.state import create_state

SIZE = (24, 24)
DIVERGES = optax.sgd(1e30)


class Net(nn.Module):
    """Dense alone: quick to compile, and its checkpoints are small."""

    @nn.compact
    def __call__(self, images, *, train):
        return Dense(1)(nn.relu(Dense(32)(Flatten()(images))))


def held() -> dict[str, float]:
    gc.collect()
    process = psutil.Process()
    return {
        "memory": process.memory_info().rss / 1e6,
        "files": process.num_fds(),
        "threads": threading.active_count(),
    }


def main(photos: Path, workdir: Path, count: int, evaluation_count: int, rounds: int) -> None:
    splits = read_splits(photos, SIZE)
    end_epoch, epochs, evaluations, over = RunWriter.end_epoch, [], [], []

    def run(name: str, epochs: int, tx: optax.GradientTransformation | None = None) -> None:
        training = Training(epochs=epochs, steps_per_epoch=5, batch_size=4, augmentation=BOOK_AUGMENTATION)
        loop.fit(Net(), splits, training, workdir / name, tx=tx)

    def measured(self, *arguments):
        state = end_epoch(self, *arguments)
        epochs.append(held())
        return state

    def interrupted(self, *arguments):
        state = end_epoch(self, *arguments)
        os.kill(os.getpid(), signal.SIGTERM)
        return state

    run("first", 1)  # loads what only figures need
    RunWriter.end_epoch = measured
    run("long", count)
    RunWriter.end_epoch = end_epoch
    state = create_state(Net(), (*SIZE, 3), optimizers.make(Optimizer(), 1), 0)
    for _ in range(evaluation_count):
        evaluate(state, splits.validation, 4)
        evaluations.append(held())
    for round_ in range(rounds):
        run(f"{round_}-good", 2)
        over.append({"what": "good"} | held())
        with pytest.raises(InputError, match="not finite"):
            run(f"{round_}-bad", 2, tx=DIVERGES)
        over.append({"what": "diverged"} | held())
        RunWriter.end_epoch = interrupted
        with pytest.raises(Stopped):
            run(f"{round_}-stopped", 2)
        RunWriter.end_epoch = end_epoch
        over.append({"what": "stopped"} | held())
    print(json.dumps({"epochs": epochs, "evaluations": evaluations, "over": over}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
