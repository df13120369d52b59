"""The training loop."""

import contextlib
import time
from pathlib import Path
from statistics import fmean

import flax.linen as nn
import jax

from jaxconv import metrics, plateau
from jaxconv.augment import RandomAffine
from jaxconv.checkpoints import Checkpoints
from jaxconv.config import FitConfig
from jaxconv.interrupts import Interrupts
from jaxconv.metrics import Row
from jaxconv.records import Splits
from jaxconv.runs import Run
from jaxconv.streaming import Streaming, evaluate
from jaxconv.summary import layer_shapes
from jaxconv.tensorboard import Events
from jaxconv.train_step import TrainState, create_state, learning_rates, rmsprop
from jaxconv.workdir import write_json

DRAW_EVERY = 5.0  # seconds, at the least: a small net's epoch may take less than its curves


def fit(
    model: nn.Module,
    splits: Splits,
    config: FitConfig,
    workdir: Path,
    *,
    title: str,
    augment: RandomAffine | None = None,
) -> Row:
    """Train until `config.epochs` or out of patience, going on from the newest checkpoint in `workdir`.

    Returns what result.json says. Ctrl-C and SIGTERM end it after the step that is under way, which is saved.

    Raises:
        InputError: the loss or the weights are not finite, or no checkpoint is sound, or metrics.jsonl is damaged.
        Stopped: by a signal.
        OSError: the run directory cannot be written; what was there stays.
    """
    _check_labels(model, splits)
    image_shape, steps = splits.train[0]["image"].shape, config.steps_of_an_epoch(len(splits.train))
    schedule = learning_rates(config.schedule, config.learning_rate, config.epochs * steps)
    optimizer = plateau.reducing(rmsprop(schedule)) if config.schedule == "plateau" else rmsprop(schedule)

    def new_state() -> TrainState:
        return create_state(model, image_shape, optimizer, config.seed, config.ema)

    with (
        Interrupts() as interrupts,
        Checkpoints(workdir / "checkpoints", jax.eval_shape(new_state)) as checkpoints,
    ):
        run = Run(config, splits.train, workdir, checkpoints, schedule, title)
        done = max([0, *checkpoints.steps])
        state = run.go_back_to(done) or new_state()
        feed = Streaming(splits, config, done, augment, interrupts.noted)
        state = _train(run, state, feed, splits, interrupts)
        result = summarize(run, state, splits)
        interrupts.act(f"{workdir} is complete; of several seeds, the same command with --resume trains the others")
        return result


def _check_labels(model: nn.Module, splits: Splits) -> None:
    """Raise ValueError where the net has no logit for a label: the loss would be that of something else."""
    shapes, _ = layer_shapes(model, splits.train[0]["image"].shape)
    logits, classes = shapes[-1][1][-1], len(splits.train.class_names)
    if logits < classes and (logits, classes) != (1, 2):
        raise ValueError(f"a net of {logits} logits cannot tell {classes} classes apart")


def _train(run: Run, state: TrainState, feed: Streaming, splits: Splits, interrupts: Interrupts) -> TrainState:
    """Each stretch of steps in this order: train, at the end of an epoch validate and write the line, save.

    A kill between any two loses no more than what was trained since the checkpoint before: on resume, lines of epochs
    that were never saved are dropped, and the steps are trained again, to the same bits on a CPU. The curves so far are
    drawn while the devices validate.
    """
    config, done = run.config, run.step
    steps = config.steps_of_an_epoch(len(splits.train))
    if done >= config.epochs * steps:
        print(f"all {config.epochs} epochs are trained already: --epochs makes a run longer", flush=True)
    elif done and run.stale_since is None:
        print(f"going on after step {done} (epoch {done / steps:.2f})", flush=True)
    with contextlib.ExitStack() as stack:
        if config.tensorboard:
            run.events = stack.enter_context(contextlib.closing(Events(run.workdir / "tensorboard", run.rows)))
        drawn = time.monotonic()
        for stretch in config.stretches(len(splits.train), done):
            if run.stale_since is not None:
                print(f"out of patience: val_loss has not fallen since epoch {run.stale_since}", flush=True)
                break
            started = time.perf_counter()
            state, sums, waited = feed.train(state, stretch)
            run.add(sums, time.perf_counter() - started, waited)
            run.checkpoints.wait()
            if run.step % steps:
                run.save(state)
            else:
                started = time.perf_counter()
                validating = evaluate(state, splits.validation, config.batch_size)
                if run.rows and time.monotonic() > drawn + DRAW_EVERY:
                    run.draw()
                    drawn = time.monotonic()
                scores = metrics.mean(metrics.total(validating))
                state = run.record(state, scores, time.perf_counter() - started)
                print(describe(run.rows[-1], config.epochs), flush=True)
            where = f"{run.step} steps are trained and saved in {run.workdir}"
            interrupts.act(f"{where}: the same command with --resume goes on")
    return state


def summarize(run: Run, state: TrainState, splits: Splits) -> Row:
    """Write result.json, the last epoch and the best by val_loss with test figures, and draw the run's figures.

    There is no best where the test pictures are also those of validation: it would be chosen by its test figures, and
    so would the epoch of the highest val_acc. What the test pictures are taken for is drawn of the best, or the last.
    """
    tested = {"last": (len(run.rows), state)}
    result: Row = {"val_acc_mean_last_10": fmean(row["val_acc"] for row in run.rows[-10:])}
    if splits.validation is not splits.test:
        tested["best"] = run.best()
        highest = max(run.rows, key=lambda row: row["val_acc"])
        result["highest_val_acc"] = {name: highest[name] for name in ("epoch", "val_acc")}
    for name, (epoch, weights) in tested.items():
        row = run.rows[epoch - 1]
        scores = metrics.mean(metrics.total(evaluate(weights, splits.test, run.config.batch_size)))
        result[name] = {"epoch": epoch, "val_loss": row["val_loss"], "val_acc": row["val_acc"]}
        result[name] |= {f"test_{key}": value for key, value in scores.items()}
    write_json(run.workdir / "result.json", result)
    run.draw()
    drawn = "best" if "best" in tested else "last"
    epoch, weights = tested[drawn]
    run.draw_tested(weights, splits.test, result[drawn]["test_confusion"], epoch)
    return result


def describe(row: Row, epochs: int) -> str:
    """An epoch as a line for a log."""
    return (
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  loss {row['loss']:.4f}  acc {row['acc']:.4f}  "
        f"val_loss {row['val_loss']:.4f}  val_acc {row['val_acc']:.4f}  {row['seconds']:.1f}s  "
        f"{row['images_per_second']:.0f} images/s  data wait {row['data_wait']:.1%}"
    )
