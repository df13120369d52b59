"""What a process holds as it goes on: `python -m tests.long_run PHOTOS WORKDIR EPOCHS EVALUATIONS ROUNDS`.

Prints as JSON the memory in MB, the open files and the threads after each epoch of one run, after each evaluation, and
after each of some runs that are over, one way or the other, in rounds.
"""

import contextlib
import gc
import json
import os
import signal
import sys
import threading
from pathlib import Path

import flax.linen as nn
import psutil

from jaxconv import fit, metrics
from jaxconv.augment import RandomAffine
from jaxconv.config import FitConfig
from jaxconv.errors import InputError, Stopped
from jaxconv.layers import Dense
from jaxconv.models import Flatten
from jaxconv.records import read_splits
from jaxconv.runs import Run
from jaxconv.streaming import evaluate
from jaxconv.train_step import create_state, rmsprop


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
    splits = read_splits(photos, (24, 24))
    config = FitConfig(epochs=count, steps_per_epoch=5, batch_size=4, learning_rate=1e-4)
    record, epochs, over = Run.record, [], []

    def measured(self, *arguments, **options):
        state = record(self, *arguments, **options)
        epochs.append(held())
        return state

    def run(name: str, **changes) -> None:
        options = {"title": "a test", "augment": RandomAffine()}
        fit.fit(Net(), splits, FitConfig(**vars(config) | changes), workdir / name, **options)

    run("first", epochs=1)  # which loads what only figures need
    Run.record = measured
    run("long")
    Run.record = record
    state = create_state(Net(), (24, 24, 3), rmsprop(1e-4), 0)
    evaluations = []
    for _ in range(evaluation_count):
        metrics.total(evaluate(state, splits.validation, 4))
        evaluations.append(held())

    def interrupted(self, *arguments, **options):
        state = record(self, *arguments, **options)
        os.kill(os.getpid(), signal.SIGTERM)
        return state

    for round_ in range(rounds):
        run(f"{round_}-good", epochs=2)
        over.append({"what": "good"} | held())
        with contextlib.suppress(InputError):
            run(f"{round_}-bad", epochs=2, learning_rate=1e30)
        over.append({"what": "diverged"} | held())
        Run.record = interrupted
        with contextlib.suppress(Stopped):
            run(f"{round_}-stopped", epochs=2)
        Run.record = record
        over.append({"what": "stopped"} | held())
    print(json.dumps({"epochs": epochs, "evaluations": evaluations, "over": over}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
