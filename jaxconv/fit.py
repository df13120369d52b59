"""The training loop."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
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
from jaxconv.resident import Resident
from jaxconv.runs import Run
from jaxconv.streaming import Streaming
from jaxconv.summary import layer_shapes
from jaxconv.tensorboard import Events
from jaxconv.train_step import TrainState, create_state, learning_rates, rmsprop
from jaxconv.workdir import write_json

DRAW_EVERY = 5.0  # seconds, at the least: an accelerator's epoch may take less than its curves


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
    """Train until `config.epochs` or out of patience, going on from the newest checkpoint in `workdir`.

    Returns what result.json says. `augment_on` "device" keeps the pictures there, see `resident`; "host" feeds it
    batches. Ctrl-C and SIGTERM end it after the step that is under way (the dispatch, with the pictures on the device),
    which is saved.

    Raises:
        InputError: the loss or the weights are not finite, or no checkpoint is sound, or metrics.jsonl is damaged.
        Stopped: by a signal.
        OSError: the run directory cannot be written; what was there stays.
    """
    workdirs = {config.seed: workdir}
    return fit_seeds(model, splits, config, workdirs, title=title, augment=augment, augment_on=augment_on)[0]


def fit_seeds(
    model: nn.Module,
    splits: Splits,
    config: FitConfig,
    workdirs: Mapping[int, Path],
    *,
    title: str,
    augment: RandomAffine | None = None,
    augment_on: str = "host",
) -> list[Row]:
    """`fit` with each seed of `workdirs`: one after the other, or vectorized into one program where that pays."""
    _check_labels(model, splits)
    configs = [dataclasses.replace(config, seed=seed) for seed in workdirs]
    image_shape, pictures = splits.train[0]["image"].shape, len(splits.train)
    schedule = learning_rates(config.schedule, config.learning_rate, config.epochs * config.steps_of_an_epoch(pictures))
    optimizer = plateau.reducing(rmsprop(schedule)) if config.schedule == "plateau" else rmsprop(schedule)

    def new_state(seed: int) -> TrainState:
        return create_state(model, image_shape, optimizer, seed, config.ema)

    template = jax.eval_shape(lambda: new_state(config.seed))

    def saved(workdir: Path) -> list[int]:
        with Checkpoints(workdir / "checkpoints", template) as checkpoints:
            return checkpoints.steps

    at_once = (
        augment_on == "device"
        and config.patience is None  # else they would end at different epochs
        and pays_to_vectorize(model, image_shape)
        and side_by_side([saved(workdir) for workdir in workdirs.values()], config, pictures)
    )
    results = []
    with Interrupts() as interrupts:
        for group in [configs] if at_once else [[config] for config in configs]:
            if len(configs) > 1:
                print(f"seed {', '.join(str(config.seed) for config in group)}", flush=True)
            with contextlib.ExitStack() as stack:
                runs = []
                for of_run in group:
                    workdir = workdirs[of_run.seed]
                    checkpoints = stack.enter_context(Checkpoints(workdir / "checkpoints", template))
                    runs.append(Run(of_run, splits.train, workdir, checkpoints, schedule, title))
                results += _fit(splits, runs, new_state, augment, augment_on, interrupts)
    return results


def _check_labels(model: nn.Module, splits: Splits) -> None:
    """Raise ValueError where the net has no logit for a label: the loss would be that of something else."""
    shapes, _ = layer_shapes(model, splits.train[0]["image"].shape)
    logits, classes = shapes[-1][1][-1], len(splits.train.class_names)
    if logits < classes and (logits, classes) != (1, 2):
        raise ValueError(f"a net of {logits} logits cannot tell {classes} classes apart")


def side_by_side(saved: list[list[int]], config: FitConfig, pictures: int) -> bool:
    """Whether runs can go on together: all have saved one step, and none a step after the next checkpoint's."""
    latest = [max([0, *steps]) for steps in saved]
    following = next(config.stretches(pictures, min(latest)), range(min(latest))).stop
    return max(latest) <= following and all(min(latest) in (0, *steps) for steps in saved)


def pays_to_vectorize(model: nn.Module, image_shape: tuple[int, int, int]) -> bool:
    """Whether several seeds of a net are trained at once faster than one after the other.

    On a CPU they are not (README, "On a GPU"). Elsewhere, not measured: products too small to fill an accelerator
    should gain by it; convolutions with a kernel a seed would become grouped ones, which are known to be slow.
    """
    _, params = layer_shapes(model, image_shape)
    return jax.default_backend() != "cpu" and all(leaf.ndim < 4 for leaf in jax.tree.leaves(params))


def _fit(
    splits: Splits,
    runs: list[Run],
    new_state: Callable[[int], TrainState],
    augment: RandomAffine | None,
    augment_on: str,
    interrupts: Interrupts,
) -> list[Row]:
    """Each stretch of steps in this order: train, at the end of an epoch validate and write the lines, save.

    A kill between any two loses no more than what was trained since the checkpoint before: on resume, lines of epochs
    that were never saved are dropped, and the steps are trained again, to the same bits on a CPU. Curves so far are
    drawn while the devices validate.
    """
    config = runs[0].config  # the others have other seeds, and nothing else
    steps = config.steps_of_an_epoch(len(splits.train))
    done = max(set[int].intersection(*({0, *run.checkpoints.steps} for run in runs)))
    states = [run.go_back_to(done) or new_state(run.config.seed) for run in runs]
    if done >= config.epochs * steps:
        print(f"all {config.epochs} epochs are trained already: --epochs makes a run longer", flush=True)
    elif done and runs[0].stale_since is None:
        print(f"going on after step {done} (epoch {done / steps:.2f})", flush=True)
    with contextlib.ExitStack() as stack:
        for run in runs if config.tensorboard else []:
            run.events = stack.enter_context(contextlib.closing(Events(run.workdir / "tensorboard", run.rows)))
        feed: Streaming | Resident = (
            stack.enter_context(Resident(splits, [run.config for run in runs], done, augment))
            if augment_on == "device"
            else Streaming(splits, config, done, augment, interrupts.noted)
        )
        drawn = time.monotonic()
        for stretch in config.stretches(len(splits.train), done):
            if runs[0].stale_since is not None:  # with patience it is the only run
                print(f"out of patience: val_loss has not fallen since epoch {runs[0].stale_since}", flush=True)
                break
            started = time.perf_counter()
            states, sums, waited = feed.train(states, stretch)
            seconds = time.perf_counter() - started
            for run, of_run in zip(runs, sums, strict=True):
                run.add(of_run, seconds, waited)
            for run in runs:
                run.checkpoints.wait()  # so that seeds are saved at most one stretch apart
            if runs[0].step % steps:
                for run, state in zip(runs, states, strict=True):
                    run.save(state)
            else:
                started = time.perf_counter()
                validating = feed.evaluate(states, splits.validation)
                if runs[0].rows and time.monotonic() > drawn + DRAW_EVERY:
                    for run in runs:
                        run.draw()
                    drawn = time.monotonic()
                validated = [metrics.mean(metrics.total(sums)) for sums in validating]
                seconds = time.perf_counter() - started
                saving = zip(runs, states, validated, strict=True)
                states = [run.record(state, scores, seconds) for run, state, scores in saving]
                print(describe([run.rows[-1] for run in runs], config.epochs), flush=True)
            where = f"{runs[0].step} steps are trained and saved in {', '.join(str(run.workdir) for run in runs)}"
            interrupts.act(f"{where}: the same command with --resume goes on")
        return summarize(runs, states, feed, splits)


def summarize(runs: list[Run], states: list[TrainState], feed: Streaming | Resident, splits: Splits) -> list[Row]:
    """Write each run's result.json, the last epoch and the best by val_loss with test figures, and draw its figures.

    There is no best where the test pictures are also those of validation: it would be chosen by its test figures, and
    so would the epoch of the highest val_acc. What the test pictures are taken for is drawn of the best, or the last.
    """
    tested = {"last": ([len(run.rows) for run in runs], states)}
    results: list[Row] = [{"val_acc_mean_last_10": fmean(row["val_acc"] for row in run.rows[-10:])} for run in runs]
    if splits.validation is not splits.test:
        best = [run.best() for run in runs]
        tested["best"] = ([epoch for epoch, _ in best], [state for _, state in best])
        for run, result in zip(runs, results, strict=True):
            highest = max(run.rows, key=lambda row: row["val_acc"])
            result["highest_val_acc"] = {name: highest[name] for name in ("epoch", "val_acc")}
    for name, (epochs, states) in tested.items():
        tests = feed.evaluate(states, splits.test)
        for run, result, epoch, sums in zip(runs, results, epochs, tests, strict=True):
            row, scores = run.rows[epoch - 1], metrics.mean(metrics.total(sums))
            result[name] = {"epoch": epoch, "val_loss": row["val_loss"], "val_acc": row["val_acc"]}
            result[name] |= {f"test_{key}": value for key, value in scores.items()}
    drawn = [*tested][-1]
    for run, result, state in zip(runs, results, tested[drawn][1], strict=True):
        write_json(run.workdir / "result.json", result)
        run.draw()
        run.draw_tested(state, splits.test, result[drawn]["test_confusion"], result[drawn]["epoch"])
    return results


def describe(rows: list[Row], epochs: int) -> str:
    """An epoch as a line for a log; of several seeds, what is common and the means of what is not."""
    row = {name: fmean(row[name] for row in rows) for name in rows[0]}
    return (
        f"epoch {rows[0]['epoch']:>{len(str(epochs))}}/{epochs}  loss {row['loss']:.4f}  acc {row['acc']:.4f}  "
        f"val_loss {row['val_loss']:.4f}  val_acc {row['val_acc']:.4f}  {row['seconds']:.1f}s  "
        f"{len(rows) * row['images_per_second']:.0f} images/s  data wait {row['data_wait']:.1%}"
        + (f"  (means of {len(rows)} seeds)" if len(rows) > 1 else "")
    )
