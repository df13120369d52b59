"""The training loop."""

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import flax.linen as nn
import jax

from jaxconv import figures, metrics
from jaxconv.augment import RandomAffine
from jaxconv.checkpoints import Checkpoints
from jaxconv.config import FitConfig
from jaxconv.metrics import Row
from jaxconv.records import Splits
from jaxconv.resident import Resident
from jaxconv.streaming import Streaming
from jaxconv.summary import layer_shapes
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
    """Train until `config.epochs`, going on from the newest checkpoint in `workdir`; return what result.json says.

    `augment_on` "device" keeps the pictures there, see `resident`; "host" feeds it batches.
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
    configs = [dataclasses.replace(config, seed=seed) for seed in workdirs]
    at_once = (
        augment_on == "device"
        and pays_to_vectorize(model, splits.train[0]["image"].shape)
        and side_by_side([*workdirs.values()])
    )
    results = []
    for group in [configs] if at_once else [[config] for config in configs]:
        if len(configs) > 1:
            print(f"seed {', '.join(str(config.seed) for config in group)}", flush=True)
        results += _fit(model, splits, group, [workdirs[c.seed] for c in group], title, augment, augment_on)
    return results


def side_by_side(workdirs: list[Path]) -> bool:
    """Whether runs can go on together: all hold one epoch, and none has been trained more than one further."""
    saved = [
        {0} | {int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit()}
        for workdir in workdirs
    ]
    latest = [max(epochs) for epochs in saved]
    return max(latest) <= min(latest) + 1 and all(min(latest) in epochs for epochs in saved)


def pays_to_vectorize(model: nn.Module, image_shape: tuple[int, int, int]) -> bool:
    """Whether several seeds of a net are trained at once faster than one after the other.

    On a CPU they are not (README, "On a GPU"). Elsewhere, not measured: products too small to fill an accelerator
    should gain by it; convolutions with a kernel a seed would become grouped ones, which are known to be slow.
    """
    _, params = layer_shapes(model, image_shape)
    return jax.default_backend() != "cpu" and all(leaf.ndim < 4 for leaf in jax.tree.leaves(params))


def _fit(
    model: nn.Module,
    splits: Splits,
    configs: list[FitConfig],
    workdirs: list[Path],
    title: str,
    augment: RandomAffine | None,
    augment_on: str,
) -> list[Row]:
    """Each epoch, in this order: train, validate, write the metrics lines, save the checkpoints.

    A kill between any two loses no more than that epoch: on resume, lines of epochs that were never saved are dropped
    and the epochs trained again, to the same bits on a CPU. Curves so far are drawn while the devices validate.
    """
    config = configs[0]  # the others have other seeds, and nothing else
    steps = config.steps_of_an_epoch(len(splits.train))
    schedule = learning_rates(config.schedule, config.learning_rate, config.epochs * steps)
    optimizer = rmsprop(schedule)

    def new_state(seed: int) -> TrainState:
        return create_state(model, splits.train[0]["image"].shape, optimizer, seed)

    with contextlib.ExitStack() as stack:
        template, latest = jax.eval_shape(lambda: new_state(config.seed)), min(2, len(configs))
        runs = [
            Run(config.seed, path, stack.enter_context(Checkpoints(path / "checkpoints", template, latest)))
            for config, path in zip(configs, workdirs, strict=True)
        ]
        done = min(run.checkpoints.latest_epoch for run in runs)
        if done >= config.epochs:
            print(f"all {config.epochs} epochs are trained already: --epochs makes a run longer", flush=True)
        states = [run.go_back_to(done) or new_state(run.seed) for run in runs]
        feed: Streaming | Resident = (
            stack.enter_context(Resident(splits, configs, done, augment))
            if augment_on == "device"
            else Streaming(splits, config, done, augment)
        )
        drawn = time.monotonic()
        for epoch in range(done + 1, config.epochs + 1):
            started = time.perf_counter()
            states, training, waited = feed.train(states, epoch)
            trained = [metrics.total(sums) for sums in training]
            speeds = [metrics.speed(totals, time.perf_counter() - started, waited) for totals in trained]
            validating = feed.evaluate(states, splits.validation)
            if runs[0].rows and time.monotonic() > drawn + DRAW_EVERY:
                for run in runs:
                    run.draw(title)
                drawn = time.monotonic()
            validated = [metrics.mean(metrics.total(sums)) for sums in validating]
            seconds = round(time.perf_counter() - started, 3)
            for run in runs:
                run.checkpoints.wait()  # so that seeds are saved at most one epoch apart
            for run, state, totals, scores, speed in zip(runs, states, trained, validated, speeds, strict=True):
                row: Row = {"epoch": epoch, "step": epoch * steps} | metrics.mean(totals)
                row |= {"val_loss": scores["loss"], "val_acc": scores["acc"]}
                row |= {"learning_rate": float(schedule(epoch * steps - 1))}  # of the epoch's last step
                run.record(state, row | {"seconds": seconds} | speed)
            print(describe([run.rows[-1] for run in runs], config.epochs), flush=True)
        return summarize(runs, states, feed, splits, title)


@dataclasses.dataclass
class Run:
    """What the training of one seed leaves in its directory."""

    seed: int
    workdir: Path
    checkpoints: Checkpoints
    rows: list[Row] = dataclasses.field(default_factory=list)

    def go_back_to(self, epoch: int) -> TrainState | None:
        """The state after a saved epoch, None for 0; what came later is forgotten."""
        self.rows = metrics.truncate(self.workdir, epoch)
        self.checkpoints.forget_after(epoch)
        return self.checkpoints.restore(epoch) if epoch else None

    def record(self, state: TrainState, row: Row) -> None:
        """An epoch more."""
        self.rows.append(row)
        metrics.append(self.workdir, row)
        self.checkpoints.save(row["epoch"], state, row["val_loss"])

    def draw(self, title: str) -> None:
        """The curves so far."""
        figures.write_curves(self.rows, self.workdir / "figures", f"{title}, seed {self.seed}")


def summarize(
    runs: list[Run], states: list[TrainState], feed: Streaming | Resident, splits: Splits, title: str
) -> list[Row]:
    """Draw each run's curves and write its result.json: the last epoch and the best by val_loss, with test figures.

    There is no best where the test pictures are also those of validation: it would be chosen by its test figures.
    """
    tested = {"last": ([run.rows[-1]["epoch"] for run in runs], states)}
    if splits.validation is not splits.test:
        best = [run.checkpoints.best_epoch for run in runs]
        tested["best"] = (best, [run.checkpoints.restore(epoch) for run, epoch in zip(runs, best, strict=True)])
    results: list[Row] = [{"val_acc_mean_last_10": fmean(row["val_acc"] for row in run.rows[-10:])} for run in runs]
    for name, (epochs, states) in tested.items():
        tests = feed.evaluate(states, splits.test)
        for run, result, epoch, sums in zip(runs, results, epochs, tests, strict=True):
            row, scores = run.rows[epoch - 1], metrics.mean(metrics.total(sums))
            result[name] = {"epoch": epoch, "val_loss": row["val_loss"], "val_acc": row["val_acc"]}
            result[name] |= {f"test_{key}": value for key, value in scores.items()}
    for run, result in zip(runs, results, strict=True):
        run.draw(title)
        write_json(run.workdir / "result.json", result)
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
