"""Training of one or several seeds."""

import argparse
import contextlib
import dataclasses
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.closing import print_results
from jaxconv.config import Config, Data, Training, Transfer
from jaxconv.runtime.cli import quiet_orbax
from jaxconv.runtime.errors import InputError

if TYPE_CHECKING:
    import flax.linen as nn

    from jaxconv.data.records import Splits
    from jaxconv.runs.history import Result


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What a command trains, with each of its seeds.

    Attributes:
        name: the name of the experiment, such as catsdogs.
        variant: the name of the settings, such as plain or aug-dropout.
        title: the title of the figures.
        model: the net.
        splits: the pictures.
        data: the description of the pictures.
        training: how the net is trained; None for a head that is fitted to frozen features.
        transfer: the weights that the net begins with; None for random weights.
        fit: trains one seed, as `loop.train` does: (model, splits, config, workdir, title=...) to the result.
        division: the names of the pictures of each split, if the command divided them.
        book: the book's result in words, for a run that repeats it.
    """

    name: str
    variant: str
    title: str
    model: "nn.Module"
    splits: "Splits"
    data: Data
    training: Training | None
    transfer: Transfer | None = None
    fit: "Callable[..., Result] | None" = None
    division: Mapping[str, Sequence[str]] | None = None
    book: str | None = None


def launch(arguments: argparse.Namespace, experiment: Experiment) -> None:
    """Train with the seeds of the flags, write the run directories and print the results."""
    seed, seeds = arguments.seed, arguments.seeds
    seeded = f"seed{seed}" if seeds is None else f"seeds{seed}-{seed + seeds - 1}"
    workdir = arguments.workdir or Path("runs", f"{experiment.name}-{experiment.variant}-{seeded}")
    workdirs = {seed: workdir} if seeds is None else seed_workdirs(workdir, seed, seeds)
    results = train(experiment, workdirs, resume=arguments.resume)
    if seeds is not None:
        _sum_up(workdir, workdirs, results, experiment.title)
    print_results(results, experiment.splits.class_names, experiment.book)
    print(f"saved in {workdir}")
    first, every = (shlex.quote(str(path)) for path in (next(iter(workdirs.values())), workdir))
    for tool in (f"predict {first} PICTURE", f"evaluate {first}", f"report {every}"):
        print(f"  python -m tools.{tool}")


def train(experiment: Experiment, workdirs: Mapping[int, Path], *, resume: bool) -> list["Result"]:
    """Train the seeds one after the other, each in its run directory.

    All directories are locked before the first seed is trained.

    Raises:
        InputError: as `settings.configure`, `directory.claim` and `loop.train`, or a directory cannot be written.
    """
    from jaxconv.runs import directory
    from jaxconv.runtime.compilation import use_cache

    use_cache()
    quiet_orbax()
    configs = {path: _configure(experiment, seed) for seed, path in workdirs.items()}
    with contextlib.ExitStack() as claims:
        for path, config in configs.items():
            claims.enter_context(directory.claim(path, config, resume=resume))
        return _fill(experiment, configs)


def _configure(experiment: Experiment, seed: int) -> Config:
    from jaxconv.runs import settings

    return settings.configure(
        experiment.model,
        experiment.data,
        experiment.training,
        seed,
        settings.NOTHING,
        experiment=experiment.name,
        variant=experiment.variant,
        transfer=experiment.transfer,
    )


def _fill(experiment: Experiment, configs: Mapping[Path, Config]) -> list["Result"]:
    """Train in locked run directories."""
    from jaxconv import loop
    from jaxconv.data.augment import RandomAffine
    from jaxconv.runs import directory, figures

    model, splits, title = experiment.model, experiment.splits, experiment.title
    path, results, fit = next(iter(configs)), [], experiment.fit or loop.train
    try:
        for path, config in configs.items():
            directory.write_config(path, config)
            if experiment.division is not None:
                directory.write_division(path, experiment.division)
        for path, config in configs.items():
            if len(configs) > 1:
                print(f"seed {config.seed}", flush=True)
            settings = config.training or config.transfer
            if settings and settings.augmentation:
                augment = RandomAffine(settings.augmentation)
                figures.write_augmented(splits.train, augment, path / "figures" / "augmented.png", title)
            results.append(fit(model, splits, config, path, title=title))
    except OSError as error:
        if not Path(error.filename or "").absolute().is_relative_to(path.absolute()):
            raise
        raise directory.cannot_be_written(path, error) from error
    return results


def seed_workdirs(workdir: Path, seed: int, seeds: int) -> dict[int, Path]:
    """A run directory for each of several seeds.

    Raises:
        InputError: the directory above them has other files, or a run of one seed.
    """
    from jaxconv.runs.directory import CONFIG, REPORT, entries

    names = entries(workdir)
    if CONFIG in names:
        raise InputError(f"--workdir {workdir} holds a run of one seed: name another directory")
    if any(name not in ("result.json", "figures", REPORT) and not name.startswith("seed") for name in names):
        raise InputError(f"--workdir {workdir} holds other files: name a new directory")
    return {seed: workdir / f"seed{seed}" for seed in range(seed, seed + seeds)}


def _sum_up(workdir: Path, workdirs: Mapping[int, Path], results: list["Result"], title: str) -> None:
    """Write result.json and the figures of several seeds."""
    from jaxconv.runs import figures, history
    from jaxconv.runs.directory import cannot_be_written
    from jaxconv.runtime.files import write_json

    try:
        write_json(workdir / history.RESULT, {"seeds": [*workdirs]} | history.spread(results))
        figures.write_seeds([history.read_rows(path) for path in workdirs.values()], workdir / "figures", title)
    except OSError as error:
        raise cannot_be_written(workdir, error) from error
