"""Training of one or several seeds."""

import argparse
import contextlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.closing import print_results
from jaxconv.config import Config, Data, Training
from jaxconv.runtime.cli import quiet_orbax
from jaxconv.runtime.errors import InputError

if TYPE_CHECKING:
    import flax.linen as nn

    from jaxconv.data.records import Splits
    from jaxconv.runs.history import Result


def launch(
    arguments: argparse.Namespace,
    model: "nn.Module",
    splits: "Splits",
    training: Training,
    *,
    experiment: str,
    variant: str,
    title: str,
    data: Data,
    book: str | None = None,
) -> None:
    """Train with the settings of the flags, write the run directory and print the results.

    `book` is the book's result in words, for a run that repeats it.
    """
    seed, seeds = arguments.seed, arguments.seeds
    name = f"{experiment}-{variant}-seed{seed if seeds is None else f's{seed}-{seed + seeds - 1}'}"
    workdir = arguments.workdir or Path("runs", name)
    workdirs = {seed: workdir} if seeds is None else seed_workdirs(workdir, seed, seeds)
    described = {"experiment": experiment, "variant": variant, "title": title}
    results = train(model, splits, training, workdirs, data=data, resume=arguments.resume, **described)
    if seeds is not None:
        _sum_up(workdir, workdirs, results, title)
    print_results(results, data.class_names, book)
    print(f"saved in {workdir}")
    first, every = (shlex.quote(str(path)) for path in (next(iter(workdirs.values())), workdir))
    for tool in (f"predict {first} PICTURE", f"evaluate {first}", f"report {every}"):
        print(f"  python -m tools.{tool}")


def train(
    model: "nn.Module",
    splits: "Splits",
    training: Training,
    workdirs: Mapping[int, Path],
    *,
    experiment: str,
    variant: str,
    title: str,
    data: Data,
    resume: bool,
) -> list["Result"]:
    """Train the seeds one after the other, each in its run directory.

    All directories are locked before the first seed is trained.

    Raises:
        InputError: as `settings.configure`, `directory.claim` and `loop.train`, or a directory cannot be written.
    """
    from jaxconv.runs import directory, settings
    from jaxconv.runtime.compilation import start_backend, use_cache

    start_backend()
    use_cache()
    quiet_orbax()
    own = settings.NOTHING
    configs = {
        path: settings.configure(model, data, training, seed, own, experiment=experiment, variant=variant)
        for seed, path in workdirs.items()
    }
    with contextlib.ExitStack() as claims:
        for path, config in configs.items():
            claims.enter_context(directory.claim(path, config, resume=resume))
        return _fill(configs, model, splits, title)


def _fill(configs: Mapping[Path, Config], model: "nn.Module", splits: "Splits", title: str) -> list["Result"]:
    """Train in locked run directories."""
    from jaxconv import loop
    from jaxconv.data.augment import RandomAffine
    from jaxconv.runs import directory, figures

    path, results = next(iter(configs)), []
    try:
        for path, config in configs.items():
            directory.write_config(path, config)
        for path, config in configs.items():
            if len(configs) > 1:
                print(f"seed {config.seed}", flush=True)
            if config.training and config.training.augmentation:
                augment = RandomAffine(config.training.augmentation)
                figures.write_augmented(splits.train, augment, path / "figures" / "augmented.png", title)
            results.append(loop.train(model, splits, config, path, title=title))
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
