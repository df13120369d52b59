"""The measurement of contestants, which run in separate processes and take turns; and the table of results."""

import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from jaxconv.runtime.errors import InputError

BATCH = 32
IMAGE_SIZE = (150, 150)
WORKERS = "tools.benchmarks.workers"


class Part(NamedTuple):
    """A measurement: a round asks a worker for `repeats` of `asked`."""

    heading: str
    unit: str
    asked: str
    repeats: int = 1


PARTS = {
    "step": Part("training step, batch 32", "images/s", "train_step", 5),
    "inference": Part("inference, batch 32", "images/s", "infer", 10),
    "input": Part("input alone, a later pass, all cores", "images/s", "input"),
    "input-one-core": Part("input alone, a later pass, one core", "images/s", "input"),
    "epoch": Part("an epoch and its validation, from the files on", "s", "epoch"),
    "memory": Part("peak memory after that", "MB", "peak_mb"),
    "cold-start": Part("start to first step, nothing compiled before", "s", "train_step"),
    "warm-start": Part("start to first step, compiled before", "s", "train_step"),
}
Found = dict[str, list[float]]  # the numbers of each contestant, one per round
Measure = Callable[[str, int], float]  # (what, repeats) to seconds, or to megabytes


def serve(prepare: Callable[[], Measure]) -> None:
    """Answer each request on standard input, a line of JSON such as ["infer", 10], with a number."""
    answers, sys.stdout = sys.stdout, sys.stderr  # a framework may print to standard output too
    measure = prepare()
    for line in sys.stdin:
        print(json.dumps(measure(*json.loads(line))), file=answers, flush=True)


@contextlib.contextmanager
def working(
    name: str, data: Path, cache: Path, workers: str = WORKERS, one_core: bool = False
) -> Iterator[Callable[..., float]]:
    """Start a contestant's process, and yield a function (what, repeats=1) that asks it for a number.

    Raises:
        InputError: the process ended; the message has its last line of output.
    """
    command = [sys.executable, "-m", workers, name, str(data), *(["--one-core"] if one_core else [])]
    pipe, environment = subprocess.PIPE, _environment(name, cache)
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True, env=environment) as process,
    ):
        stdin, stdout = process.stdin, process.stdout
        assert stdin and stdout

        def ask(what: str, repeats: int = 1) -> float:
            with contextlib.suppress(BrokenPipeError):
                print(json.dumps([what, repeats]), file=stdin, flush=True)
            answer = stdout.readline()
            if answer:
                return float(json.loads(answer))
            log.seek(0)
            last = log.read().strip().splitlines()[-1:]
            raise InputError(f"{name} failed ({''.join(last)}): leave it out")

        try:
            yield ask
        finally:
            with contextlib.suppress(BrokenPipeError):
                stdin.close()  # the process ends at the end of its input


def _environment(name: str, cache: Path) -> dict[str, str]:
    return os.environ | {
        "KERAS_BACKEND": "tensorflow" if name == "keras-tensorflow" else "jax",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # the contestants share one GPU
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0],  # the peers use one GPU
    }


def take_turns(part: str, names: Sequence[str], data: Path, rounds: int) -> dict[str, Found]:
    """Measure a part, every contestant in every round; "epoch" also yields "memory"."""
    found: dict[str, Found] = {part: {name: [] for name in names}}
    _, unit, asked, repeats = PARTS[part]
    train_pictures = sum(1 for path in (data / "train").rglob("*") if path.is_file())
    with contextlib.ExitStack() as stack:
        cache = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        start = functools.partial(working, data=data, cache=cache, one_core=part == "input-one-core")
        asks = {name: stack.enter_context(start(name)) for name in names}
        for round_ in range(-1, rounds):  # the first round compiles and warms up; it is not counted
            for name, ask in asks.items():
                seconds = ask(asked, repeats)
                pictures = repeats * (train_pictures if asked == "input" else BATCH)
                if round_ >= 0:
                    found[part][name].append(seconds if unit == "s" else pictures / seconds)
        if part == "epoch":
            found["memory"] = {name: [ask("peak_mb")] for name, ask in asks.items()}
    return found


def start(names: Sequence[str], data: Path, rounds: int) -> dict[str, Found]:
    """Measure the seconds from the start of a process to its first step, with an empty and with a filled cache."""
    found: dict[str, Found] = {part: {name: [] for name in names} for part in ("cold-start", "warm-start")}
    for _ in range(rounds):
        for name in names:
            with tempfile.TemporaryDirectory() as cache:
                for part in found:
                    _, _, asked, repeats = PARTS[part]
                    started = time.perf_counter()
                    with working(name, data, Path(cache)) as ask:
                        ask(asked, repeats)
                        found[part][name].append(time.perf_counter() - started)
    return found


def table(found: dict[str, Found]) -> str:
    """The results as Markdown: median, lowest and highest, and the ratio of jaxconv's median to each peer's median."""
    lines = ["| | contestant | median | lowest to highest | jaxconv is |", "|---|---|---|---|---|"]
    for part, contestants in found.items():
        heading, unit, *_ = PARTS[part]
        ours = median(contestants["jaxconv"])
        for name, values in contestants.items():
            theirs = median(values)
            times = ours / theirs if unit.endswith("/s") else theirs / ours
            compared = "" if name == "jaxconv" else f"{times:.2f}x {'as small' if unit == 'MB' else 'as fast'}"
            cells = [heading, name, f"{_number(theirs)} {unit}", f"{_number(min(values))} to {_number(max(values))}"]
            lines.append(f"| {' | '.join([*cells, compared])} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.3f}"
