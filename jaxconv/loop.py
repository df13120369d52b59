"""`fit`: train one net with one seed, and write its run directory."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxconv.config import Config, Training
from jaxconv.data.records import Splits
from jaxconv.runs import directory, history
from jaxconv.runs.checkpoints import Checkpoints
from jaxconv.runs.directory import claim
from jaxconv.runs.history import Result, Row
from jaxconv.runs.proof import settings_digest
from jaxconv.runs.settings import NOTHING, Own, configure, describe_data
from jaxconv.runs.writer import RunWriter
from jaxconv.runtime.progress import StepProgress
from jaxconv.runtime.signals import Interrupts
from jaxconv.training import optimizers
from jaxconv.training.feed import Feed, evaluate
from jaxconv.training.losses import Loss, cross_entropy
from jaxconv.training.state import TrainState, create_state
from jaxconv.training.steps import compiled_train_step

DRAW_EVERY = 30.0  # seconds at least: an epoch of a small net may take less time than drawing its curves


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run: its directory, the rows of metrics.jsonl, and result.json."""

    workdir: Path
    history: list[Row]
    result: Result


def fit(
    model: nn.Module,
    splits: Splits,
    training: Training,
    workdir: str | Path,
    *,
    seed: int = 0,
    resume: bool = False,
    tx: optax.GradientTransformation | None = None,
    loss: Loss | None = None,
    metrics: Mapping[str, Loss] | None = None,
) -> Run:
    """Train a net and write its run directory.

    All tools can read this directory. `model` is any linen module with `__call__(images, *, train)`. `tx` replaces
    `training.optimizer`, `loss` replaces the cross-entropy, and `metrics` are recorded beside loss and accuracy: see
    `Own`. With `resume`, a run in `workdir` continues from its newest checkpoint. On a CPU, an interruption does not
    change a bit of the result.

    Raises:
        InputError: the directory holds a run and `resume` is off, or it holds a run with other settings or other files,
            or training diverges, or no checkpoint is valid.
        ValueError: the net does not have one logit for each class.
        Stopped: Ctrl-C or SIGTERM; the last step is saved.
        OSError: the run directory cannot be written; its files are unchanged.
    """
    own, path = Own(tx, loss, metrics or {}), Path(workdir)
    data = describe_data(splits)
    config = configure(model, data, training, seed, own, experiment="fit", variant=type(model).__name__)
    with claim(path, config, resume=resume):
        directory.write_config(path, config)
        result = train(model, splits, config, path, title=type(model).__name__, own=own)
    return Run(path, history.read_rows(path), result)


def train(
    model: nn.Module,
    splits: Splits,
    config: Config,
    workdir: Path,
    *,
    title: str,
    own: Own = NOTHING,
    first: Callable[[], dict[str, Any]] | None = None,
) -> Result:
    """Train in a locked run directory, from its newest checkpoint if there is one; returns the result.

    `first` makes the first variables of a new run; without it, they are random.
    """
    training, seed = config.trained
    epochs, steps = training.epochs, config.steps_of_an_epoch
    tx = own.tx if training.optimizer is None else optimizers.make(training.optimizer, epochs * steps)
    assert tx is not None  # `settings.configure` checks it

    def new_state(variables: dict[str, Any] | None = None) -> TrainState:
        return create_state(
            model,
            config.data.image_shape,
            tx,
            seed,
            ema=training.ema,
            variables=variables,
            loss_fn=own.loss or cross_entropy,
            metric_fns=tuple(own.metrics.items()),
            label_smoothing=training.label_smoothing,
        )

    settings = settings_digest(config)
    with (
        Interrupts() as interrupts,
        Checkpoints(workdir / "checkpoints", jax.eval_shape(new_state), settings) as checkpoints,
    ):
        writer = RunWriter(workdir, config, splits, checkpoints, title)
        state = writer.restore() or new_state(first() if first else None)
        begun = int(state.step)
        if 0 < begun < epochs * steps and writer.stale_since is None:
            print(f"resuming after step {begun} ({place(begun, steps, epochs)})", flush=True)
        state = _loop(state, writer, interrupts.requested)
        if writer.stale_since is not None:
            print(f"out of patience: val_loss has not fallen since epoch {writer.stale_since}", flush=True)
        elif (step := int(state.step)) < epochs * steps:
            saved = f"{step} steps are trained and saved in {workdir}"
            interrupts.raise_if_requested(f"{saved}: add --resume (in Python, resume=True) to continue")
        elif step == begun:
            print(f"epoch {epochs} of {epochs} is already trained: give more --epochs to train longer", flush=True)
        result = writer.write_result(state)
        interrupts.raise_if_requested(f"{workdir} is complete; if there are other seeds, add --resume to train them")
        return result


def _loop(state: TrainState, writer: RunWriter, stopped: Callable[[], bool]) -> TrainState:
    """Train the remaining steps. After each epoch: validate, write the row, save, and sometimes draw the curves.

    A kill at any time loses only the steps after the last checkpoint. On resume, rows of epochs without a checkpoint
    are removed, and their steps are trained again; on a CPU, with the same bits. A signal ends the loop after the
    current step is saved.
    """
    training, seed = writer.config.trained
    splits, steps = writer.splits, writer.config.steps_of_an_epoch
    every, total = training.checkpoint_every or steps, training.epochs * steps
    step, drawn = int(state.step), time.monotonic()
    feed = Feed(splits.train, training, seed, step)
    progress = StepProgress(step, total, steps)
    while step < total and not stopped() and writer.stale_since is None:
        in_epoch = step % steps
        end = step - in_epoch + min(steps, in_epoch - in_epoch % every + every)
        started, waited, loss = time.perf_counter(), feed.waited, jnp.zeros(())
        for batch in itertools.islice(feed, end - step):
            before, (state, loss) = loss, compiled_train_step(state, batch)
            jax.block_until_ready(before)  # one step ahead of the devices is enough; more would pile up batches
            step += 1
            progress.done(step, loss)
            if stopped():
                break
        jax.block_until_ready(loss)
        writer.add_time(time.perf_counter() - started, feed.waited - waited)
        writer.check_finite(state)
        if step % steps:
            writer.save(state)
            continue
        progress.end()
        started = time.perf_counter()
        scores = evaluate(state, splits.validation, training.batch_size)
        state = writer.end_epoch(state, scores, time.perf_counter() - started)
        print(describe(writer.rows[-1], training.epochs), flush=True)
        if time.monotonic() > drawn + DRAW_EVERY:
            writer.draw_curves()
            drawn = time.monotonic()
    progress.end()
    return state


def place(step: int, steps: int, epochs: int) -> str:
    """The epoch of a step: "epoch 1 of 3" at its end, "step 5 of 8 in epoch 2 of 3" before that."""
    epoch, in_epoch = divmod(step, steps)
    return f"step {in_epoch} of {steps} in epoch {epoch + 1} of {epochs}" if in_epoch else f"epoch {epoch} of {epochs}"


def describe(row: Row, epochs: int) -> str:
    """A row as a log line."""
    return (
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  loss {row['loss']:.4f}  acc {row['acc']:.4f}  "
        f"val_loss {row['val_loss']:.4f}  val_acc {row['val_acc']:.4f}  {row['seconds']:.1f}s  "
        f"{row['images_per_second']:.0f} images/s  data wait {row['data_wait']:.1%}"
    )
