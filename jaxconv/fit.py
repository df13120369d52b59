"""The training loop."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from tqdm import tqdm

from jaxconv import figures, metrics, resident
from jaxconv.augment import RandomAffine
from jaxconv.batches import Batch, evaluation_batches, training_batches
from jaxconv.checkpoints import Checkpoints
from jaxconv.config import FitConfig
from jaxconv.metrics import Row
from jaxconv.records import Source, Splits
from jaxconv.train_step import TrainState, create_state, eval_step, learning_rates, rmsprop, train_step
from jaxconv.workdir import write_json

Train = Callable[[TrainState, int], tuple[TrainState, Row, dict[str, float]]]
Measure = Callable[[TrainState, Source], Row]


def fit(
    model: nn.Module,
    splits: Splits,
    config: FitConfig,
    workdir: Path,
    *,
    title: str,
    augment: RandomAffine | None = None,
    augment_on: str = "host",
) -> Row:
    """Train until `config.epochs`, going on from the newest checkpoint in `workdir`; return what result.json says.

    `augment_on` "device" keeps the pictures there, see `resident`; "host" feeds it batches.

    Each epoch, in this order: train, validate, write the metrics line, draw the curves, save the checkpoint. A kill
    between any two loses no more than that epoch: on resume, lines of epochs that were never saved are dropped and
    the epochs trained again, to the same bits.
    """
    steps = config.steps_of_an_epoch(len(splits.train))
    schedule = learning_rates(config.schedule, config.learning_rate, config.epochs * steps)
    optimizer = rmsprop(schedule)  # once: a state with another is another program to compile

    def new_state() -> TrainState:
        return create_state(model, splits.train[0]["image"].shape, optimizer, config.seed)

    with Checkpoints(workdir / "checkpoints", jax.eval_shape(new_state)) as checkpoints:
        done = checkpoints.latest_epoch
        if done >= config.epochs:
            print(f"all {config.epochs} epochs are trained already: --epochs makes a run longer", flush=True)
        state = checkpoints.restore(done) if done else new_state()
        rows = metrics.truncate(workdir, done)
        options = {"seed": config.seed, "whole_passes": config.steps_per_epoch is None, "first_step": done * steps}
        feed = _from_device if augment_on == "device" else _from_host
        train, measure = feed(splits, config.batch_size, steps, options | {"augment": augment})
        for epoch in range(done + 1, config.epochs + 1):
            started = time.perf_counter()
            state, trained, speed = train(state, epoch)
            validated = measure(state, splits.validation)
            row = {"epoch": epoch, "step": epoch * steps, "loss": trained["loss"], "acc": trained["acc"]}
            row |= {"val_loss": validated["loss"], "val_acc": validated["acc"]}
            row |= {"learning_rate": float(schedule(epoch * steps - 1))}  # of the epoch's last step
            row |= {"seconds": round(time.perf_counter() - started, 3)} | speed
            rows.append(row)
            metrics.append(workdir, row)
            figures.write_curves(rows, workdir / "figures", title)
            checkpoints.save(epoch, state, row["val_loss"])
            print(describe(row, config.epochs), flush=True)
        result = summarize(rows, checkpoints, state, splits, measure)
    write_json(workdir / "result.json", result)
    return result


def _from_host(splits: Splits, batch_size: int, steps: int, options: dict[str, Any]) -> tuple[Train, Measure]:
    """Training and evaluation on batches that the host makes; `options` are those of `training_batches`."""
    stream = training_batches(splits.train, batch_size, **options)
    return (
        lambda state, epoch: train_epoch(state, stream, steps, epoch),
        lambda state, source: evaluate(state, source, batch_size),
    )


def _from_device(splits: Splits, batch_size: int, steps: int, options: dict[str, Any]) -> tuple[Train, Measure]:
    """The same on pictures that the device holds."""
    pictures = {key: resident.place(source) for key, source in {id(source): source for source in splits}.items()}
    plans = resident.training_plans(splits.train, batch_size, steps, **options)
    return (
        lambda state, epoch: resident.train_epoch(state, pictures[id(splits.train)], plans),
        lambda state, source: resident.evaluate(state, pictures[id(source)], batch_size),
    )


def train_epoch(
    state: TrainState, stream: Iterator[Batch], steps: int, epoch: int
) -> tuple[TrainState, Row, dict[str, float]]:
    """An epoch's steps; the state, the mean loss and accuracy, and how fast it went.

    `data_wait` is the share of the time that this loop stood waiting for its next batch.
    """
    sums, waited, started = [], 0.0, time.perf_counter()
    for _ in tqdm(range(steps), f"epoch {epoch}", unit="step", leave=False, disable=None):
        asked = time.perf_counter()
        batch = next(stream)
        waited += time.perf_counter() - asked
        state, step_sums = train_step(state, batch)
        sums.append(step_sums)
        # One step ahead of the device is enough to keep it busy; more would only pile up batches.
        jax.block_until_ready(sums[-2:][0])
    totals = metrics.total(sums)
    return state, metrics.mean(totals), metrics.speed(totals, time.perf_counter() - started, waited)


def evaluate(state: TrainState, source: Source, batch_size: int) -> Row:
    """Loss and accuracy over every picture exactly once, and the confusion matrix (rows: labels)."""
    totals = metrics.total([eval_step(state, batch) for batch in evaluation_batches(source, batch_size)])
    return metrics.mean(totals) | {"confusion": totals["confusion"].astype(int).tolist()}


def summarize(
    rows: list[Row], checkpoints: Checkpoints, last: TrainState, splits: Splits, measure: Measure
) -> dict[str, Any]:
    """The last epoch and the best by val_loss, both with their test figures.

    There is no best where the test pictures are also those of validation: it would be chosen by its test figures.
    """
    states = {"last": (rows[-1]["epoch"], last)}
    if splits.validation is not splits.test:
        best_epoch = checkpoints.best_epoch
        states["best"] = (best_epoch, checkpoints.restore(best_epoch))
    result: dict[str, Any] = {"val_acc_mean_last_10": float(np.mean([row["val_acc"] for row in rows[-10:]]))}
    for name, (epoch, state) in states.items():
        tested = {f"test_{key}": value for key, value in measure(state, splits.test).items()}
        row = rows[epoch - 1]
        result[name] = {"epoch": epoch, "val_loss": row["val_loss"], "val_acc": row["val_acc"]} | tested
    return result


def describe(row: Row, epochs: int) -> str:
    """An epoch as a line for a log."""
    return (
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  loss {row['loss']:.4f}  acc {row['acc']:.4f}  "
        f"val_loss {row['val_loss']:.4f}  val_acc {row['val_acc']:.4f}  {row['seconds']:.1f}s  "
        f"{row['images_per_second']:.0f} images/s  data wait {row['data_wait']:.1%}"
    )
