"""`fit`: train one net with one seed, and fill its run directory."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path

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

DRAW_EVERY = 30.0  # seconds, at the least: a small net's epoch may take less than its curves


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
    """Train a net and write its whole run directory, on which all tools work.

    `model` is any linen module with `__call__(images, *, train)`. `tx` takes the place of `training.optimizer`, `loss`
    that of the cross-entropy, and `metrics` are recorded beside loss and accuracy: see `Own`. With `resume`, a run in
    `workdir` goes on from its newest checkpoint, on a CPU to the same bits as if it had not been interrupted.

    Raises:
        InputError: the directory is not free or holds a run with other settings, or training diverges, or no checkpoint
            is sound.
        ValueError: the net has no logit for a class.
        Stopped: by Ctrl-C or SIGTERM, after the step under way was saved.
        OSError: the run directory cannot be written; what was there stays.
    """
    own, path = Own(tx, loss, metrics or {}), Path(workdir)
    data = describe_data(splits)
    config = configure(model, data, training, seed, own, experiment="fit", variant=type(model).__name__)
    with claim(path, config, resume=resume):
        directory.write_config(path, config)
        result = train(model, splits, config, path, title=type(model).__name__, own=own)
    return Run(path, history.read_rows(path), result)


def train(model: nn.Module, splits: Splits, config: Config, workdir: Path, *, title: str, own: Own = NOTHING) -> Result:
    """Fill a claimed run directory, from its newest checkpoint on if it has one; returns what result.json says."""
    training, seed = config.training, config.seed
    assert training is not None and seed is not None
    steps = config.steps_of_an_epoch
    tx = own.tx if training.optimizer is None else optimizers.make(training.optimizer, training.epochs * steps)
    assert tx is not None

    def new_state() -> TrainState:
        return create_state(
            model,
            config.data.image_shape,
            tx,
            seed,
            ema=training.ema,
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
        state = writer.restore() or new_state()
        begun = int(state.step)
        if 0 < begun < training.epochs * steps and writer.stale_since is None:
            print(f"going on after step {begun} (epoch {begun / steps:.2f})", flush=True)
        state = _loop(state, writer, interrupts.requested)
        if writer.stale_since is not None:
            print(f"out of patience: val_loss has not fallen since epoch {writer.stale_since}", flush=True)
        elif (step := int(state.step)) < training.epochs * steps:
            saved = f"{step} steps are trained and saved in {workdir}"
            interrupts.raise_if_requested(f"{saved}: the same command with --resume goes on")
        elif step == begun:
            print(f"all {training.epochs} epochs are trained already: --epochs makes a run longer", flush=True)
        result = writer.write_result(state)
        interrupts.raise_if_requested(
            f"{workdir} is complete; of several seeds, the same command with --resume trains the others"
        )
        return result


def _loop(state: TrainState, writer: RunWriter, stopped: Callable[[], bool]) -> TrainState:
    """Steps, and after them in this order: at the end of an epoch validate and write its line; save; draw now and then.

    A kill between any two loses no more than what was trained since the checkpoint before: on resume, lines of epochs
    that were never saved are dropped, and the steps are trained again, to the same bits on a CPU. A signal ends it
    after the step under way, which is saved.
    """
    training, splits, steps = writer.training, writer.splits, writer.config.steps_of_an_epoch
    every, total = training.checkpoint_every or steps, training.epochs * steps
    assert writer.config.seed is not None
    step, drawn = int(state.step), time.monotonic()
    feed = Feed(splits.train, training, writer.config.seed, step)
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


def describe(row: Row, epochs: int) -> str:
    """An epoch as a line for a log."""
    return (
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  loss {row['loss']:.4f}  acc {row['acc']:.4f}  "
        f"val_loss {row['val_loss']:.4f}  val_acc {row['val_acc']:.4f}  {row['seconds']:.1f}s  "
        f"{row['images_per_second']:.0f} images/s  data wait {row['data_wait']:.1%}"
    )
