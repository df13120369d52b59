"""What the command of every experiment has: its flags, its config.json, its training and its closing lines.

Light on imports, so that --help and mistakes answer at once.
"""

import argparse
import contextlib
import dataclasses
import functools
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from jaxconv import machine
from jaxconv.config import SCHEDULES, FitConfig
from jaxconv.errors import InputError

if TYPE_CHECKING:
    import flax.linen as nn

    from jaxconv.augment import RandomAffine
    from jaxconv.records import Splits

DTYPES = ("float32", "bfloat16")
REPORT = "report.html"  # which tools.report leaves beside a run


class Parser(argparse.ArgumentParser):
    """One whose mistakes are one line, as all others are.

    Whatever has the flag --low-memory keeps the memory that XLA frees, unless it is given.
    """

    def parse_args(self, *arguments: Any, **options: Any) -> Any:
        """Before a command does anything else, as `keep_freed_memory` needs it."""
        parsed = super().parse_args(*arguments, **options)
        if not getattr(parsed, "low_memory", True):
            machine.keep_freed_memory()
        return parsed

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"error: {message}: --help lists the flags\n")


def bare_parser(command: str, docstring: str) -> argparse.ArgumentParser:
    """A parser that shows a module's docstring as its help, and says in one line what is wrong with a flag."""
    summary, _, details = docstring.partition("\n\n")
    return Parser(
        prog=f"python -m {command}",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_low_memory(flags: argparse.ArgumentParser) -> None:
    """The flag of the commands that train or use a net."""
    flags.add_argument(
        "--low-memory",
        action="store_true",
        help="on a CPU: return freed memory to the system after every step; slower (README, Speed)",
    )


def parser(
    command: str, docstring: str, *, epochs: str, batch_size: str, learning_rate: str
) -> argparse.ArgumentParser:
    """A parser with the common flags; a number that is not given stays with the book, as the last three say it."""
    flags = bare_parser(command, docstring)
    flags.add_argument(
        "--workdir", type=Path, metavar="DIR", help="run directory (default: runs/<experiment>-<variant>-seed<k>)"
    )
    flags.add_argument("--epochs", type=int, metavar="N", help=f"epochs to train (default: {epochs})")
    flags.add_argument("--batch-size", type=int, metavar="N", help=f"pictures a step (default: {batch_size})")
    flags.add_argument("--learning-rate", type=float, metavar="X", help=f"of RMSprop (default: {learning_rate})")
    flags.add_argument("--schedule", choices=SCHEDULES, help="of the learning rate (default: constant)")
    flags.add_argument("--patience", type=int, metavar="N", help="end once val_loss has not fallen for N epochs")
    flags.add_argument("--ema", type=float, metavar="X", help="average the weights with decay X, such as 0.999")
    flags.add_argument("--seed", type=int, metavar="K", help="of weights, order, augmentation and dropout (default: 0)")
    flags.add_argument("--seeds", type=int, metavar="N", help="train N seeds, from --seed on, and say how they spread")
    flags.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="in which the layers compute; parameters, loss and metrics stay float32 (default: %(default)s)",
    )
    flags.add_argument("--resume", action="store_true", help="go on from the run directory's newest checkpoint")
    flags.add_argument("--checkpoint-every", type=int, metavar="N", help="save after every N steps of an epoch too")
    flags.add_argument("--tensorboard", action="store_true", help="write event files, in the run's folder tensorboard")
    add_low_memory(flags)
    flags.add_argument("--summary", action="store_true", help="print the net's layers and parameters, and stop")
    return flags


def fit_config(arguments: argparse.Namespace, book: FitConfig) -> FitConfig:
    """The book's numbers, but for those that were given as flags.

    Raises:
        InputError: a number that makes no run.
    """
    if arguments.seeds is not None and arguments.seeds < 2:
        raise InputError(f"--seeds is {arguments.seeds}: give a whole number above 1, or name one seed by --seed")
    names = [field.name for field in dataclasses.fields(FitConfig)]
    given = {name: value for name in names if (value := getattr(arguments, name, None)) is not None}
    return dataclasses.replace(book, **given)


def describe(fit: FitConfig, model: "nn.Module", splits: "Splits") -> dict[str, Any]:
    """What config.json says of any run: how the net is trained, the net, and the data's classes and counts."""
    from jaxconv import models, summary

    image_shape = splits.train[0]["image"].shape
    _, params = summary.layer_shapes(model, image_shape)
    config = dataclasses.asdict(fit)
    if fit.schedule == "cosine":  # then another number of epochs is another run
        config["schedule"] = f"{fit.schedule} over {fit.epochs} epochs"
    return config | {
        "model": models.describe(model),
        "parameters": summary.count_params(params),
        "image_shape": image_shape,
        "class_names": splits.train.class_names,
        "data": {
            "counts": {name: len(split) for name, split in splits._asdict().items()},
            "fingerprint": {name: split.fingerprint for name, split in splits._asdict().items()},
            "interpolation": getattr(splits.train, "interpolation", "nearest"),
        },
    }


def default_workdir(experiment: str, variant: str, seed: int, seeds: int | None) -> Path:
    """Such as runs/mnist-convnet-seed0, or of several seeds runs/mnist-convnet-seeds0-4."""
    return Path(f"runs/{experiment}-{variant}-seed{seed if seeds is None else f's{seed}-{seed + seeds - 1}'}")


def train(
    model: "nn.Module",
    splits: "Splits",
    config: FitConfig,
    workdir: Path,
    described: dict[str, Any],
    *,
    title: str,
    resume: bool,
    seeds: int | None = None,
    augment: "RandomAffine | None" = None,
) -> dict[str, Any]:
    """Fill the run directory; returns what its result.json says.

    config.json is `described`, and where it runs. Several seeds have a run directory each in `workdir`, beside a
    result.json of how they spread and figures with all of them.

    Raises:
        InputError: a batch that the devices cannot share, a choice by the test pictures, or as `claim`.
    """
    from jaxconv.checkpoints import quiet_orbax
    from jaxconv.compilation import use_cache
    from jaxconv.devices import check_divides
    from jaxconv.figures import write_augmented
    from jaxconv.fit import fit
    from jaxconv.workdir import CONFIG, cannot_be_written, claim, environment, write_json

    use_cache()
    quiet_orbax()
    check_divides(config.batch_size)
    if splits.validation is splits.test and (config.patience is not None or config.schedule == "plateau"):
        chosen = "--patience and --schedule plateau go by val_loss"
        raise InputError(f"{chosen}, which is here that of the test pictures: leave them out")
    workdirs = {config.seed: workdir} if seeds is None else _of_seeds(workdir, config.seed, seeds)
    described = described | environment()
    with contextlib.ExitStack() as claims:
        configs = {path: described | {"seed": seed} for seed, path in workdirs.items()}
        for path, of_run in configs.items():
            claims.enter_context(claim(path, of_run, resume=resume))
        try:
            for path, of_run in configs.items():  # when all are known to be right
                write_json(path / CONFIG, of_run)
            if augment is not None:
                write_augmented(splits.train, augment, workdir / "figures" / "augmented.png", title)
            results = []
            for seed, path in workdirs.items():
                if seeds is not None:
                    print(f"seed {seed}", flush=True)
                seeded = dataclasses.replace(config, seed=seed)
                results.append(fit(model, splits, seeded, path, title=title, augment=augment))
            return results[0] if seeds is None else _sum_up(workdir, workdirs, results, title)
        except OSError as error:
            if not Path(error.filename or "").absolute().is_relative_to(workdir.absolute()):
                raise
            raise cannot_be_written(workdir, error) from error


def _of_seeds(workdir: Path, seed: int, seeds: int) -> dict[int, Path]:
    """A run directory for each seed."""
    from jaxconv.workdir import CONFIG, entries

    names = entries(workdir)
    if CONFIG in names:
        raise InputError(f"--workdir {workdir} holds a run of one seed: name another directory")
    ours = ("result.json", "result.part", "figures", REPORT, "report.part")
    if any(name not in ours and not name.startswith("seed") for name in names):
        raise InputError(f"--workdir {workdir} holds other files: name a new directory")
    return {seed: workdir / f"seed{seed}" for seed in range(seed, seed + seeds)}


def _sum_up(workdir: Path, workdirs: dict[int, Path], results: list[dict[str, Any]], title: str) -> dict[str, Any]:
    """result.json and the figures of several seeds."""
    from jaxconv import figures, metrics
    from jaxconv.workdir import write_json

    result = {"seeds": [*workdirs]} | metrics.spread(results)
    write_json(workdir / "result.json", result)
    figures.write_seeds([metrics.read(path) for path in workdirs.values()], workdir / "figures", title)
    return result


def print_result(result: dict[str, Any], workdir: Path) -> None:
    """The closing lines of a run, of several seeds mean, standard deviation and range; and what to do with it next."""
    several = "seeds" in result
    spread = [result[name] for name in ("mean", "std", "min", "max")] if several else [result]

    def figure(*path: str) -> str:
        values: list[Any] = [functools.reduce(dict.__getitem__, path, found) for found in spread]
        mean, *around = values
        return f"{mean:.4f}" + (" ± {:.4f} ({:.4f} to {:.4f})".format(*around) if around else "")

    tested = {"last": "last epoch", "best": "lowest val_loss"}
    for name, what in tested.items():
        if name in spread[0]:
            epoch = f"{spread[0][name]['epoch']:.0f}"
            print(f"{what}: epoch {epoch}  val_acc {figure(name, 'val_acc')}  test_acc {figure(name, 'test_acc')}")
    epochs = min(10, int(spread[0]["last"]["epoch"]))
    if epochs > 1:
        print(f"val_acc, mean of the last {epochs} epochs: {figure('val_acc_mean_last_10')}")
    highest = spread[0].get("highest_val_acc")
    if highest and highest["epoch"] not in [spread[0][name]["epoch"] for name in tested]:
        print(f"highest val_acc: epoch {highest['epoch']:.0f}  {figure('highest_val_acc', 'val_acc')}")
    print(f"saved in {workdir}")
    run = shlex.quote(str(workdir / f"seed{result['seeds'][0]}" if several else workdir))
    for tool in (f"predict {run} PICTURE", f"evaluate {run}", f"report {run}"):
        print(f"  python -m tools.{tool}")
