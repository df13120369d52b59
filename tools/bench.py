"""How fast jaxconv and its peers are on this machine, side by side on the same work.

    python -m tools.bench --data data/cats_and_dogs_small
    python -m tools.bench --only step inference         # on drawn pictures

Each contestant runs in a process of its own; they take turns within every round, so that a busy machine slows all of
them. Medians are shown with lowest and highest, and the ratio to jaxconv's median. Peers come with the extra `bench`;
those that are not installed are left out, and named.
"""

import contextlib
import functools
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from experiments.command import bare_parser
from jaxconv.errors import InputError, one_line_errors
from jaxconv.workdir import write_json

PEERS = {  # and the packages they need
    "keras-tensorflow": ("keras", "tensorflow", "scipy"),
    "keras-jax": ("keras", "scipy"),
    "keras-grain": ("keras",),
    "pytorch": ("torch",),
}
PACKAGES = ("jax", "keras", "tensorflow-cpu", "torch", "numpy", "grain", "opencv-python-headless", "pillow")
BATCH = 32


class Part(NamedTuple):
    """Something to measure: its heading, its unit, what a worker is asked for, and how much of it a round does."""

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
CHOICES = ("step", "inference", "input", "input-one-core", "epoch", "start")
Found = dict[str, list[float]]  # a contestant's figures, one a round


@contextlib.contextmanager
def working(name: str, data: Path, cache: Path, one_core: bool = False) -> Iterator[Callable[..., float]]:
    """A contestant's process, as a function that asks it for a figure: (what, repeats=1).

    Raises:
        InputError: the process ended; with its last words.
    """
    environment = os.environ | {
        "KERAS_BACKEND": "tensorflow" if name == "keras-tensorflow" else "jax",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
    }
    command = [sys.executable, "-m", "tools.contestants", name, str(data), *(["--one-core"] if one_core else [])]
    pipe = subprocess.PIPE
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
            raise InputError(f"{name} failed ({''.join(last)}): leave it out by naming the others with --against")

        try:
            yield ask
        finally:
            with contextlib.suppress(BrokenPipeError):
                stdin.close()  # at which it ends


def take_turns(part: str, names: Sequence[str], data: Path, rounds: int) -> dict[str, Found]:
    """The figures of a part; with those of "epoch" come those of "memory"."""
    _, unit, asked, repeats = PARTS[part]
    pictures = BATCH if asked != "input" else sum(1 for path in (data / "train").rglob("*") if path.is_file())
    found: dict[str, Found] = {part: {name: [] for name in names}}
    with contextlib.ExitStack() as stack:
        cache = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        asks = {name: stack.enter_context(working(name, data, cache, part == "input-one-core")) for name in names}
        for ask in asks.values():
            ask(asked)  # compiles, and warms up
        for _ in range(rounds):
            for name, ask in asks.items():
                seconds = ask(asked, repeats)
                found[part][name].append(seconds if unit == "s" else repeats * pictures / seconds)
        if part == "epoch":
            found["memory"] = {name: [ask("peak_mb")] for name, ask in asks.items()}
    return found


def start(names: Sequence[str], data: Path, rounds: int) -> dict[str, Found]:
    """Seconds from the start of a process to the end of its first step, with an empty and with a filled cache."""
    found: dict[str, Found] = {part: {name: [] for name in names} for part in ("cold-start", "warm-start")}
    for _ in range(rounds):
        for name in names:
            with tempfile.TemporaryDirectory() as cache:
                for part in found:
                    started = time.perf_counter()
                    with working(name, data, Path(cache)) as ask:
                        ask("train_step")
                        found[part][name].append(time.perf_counter() - started)
    return found


def table(found: dict[str, Found]) -> str:
    """The figures as Markdown: median, lowest and highest, and how jaxconv's median compares."""
    lines = ["| | contestant | median | lowest to highest | jaxconv is |", "|---|---|---|---|---|"]
    for part, contestants in found.items():
        heading, unit, *_ = PARTS[part]
        ours = median(contestants["jaxconv"])
        for name, values in contestants.items():
            theirs = median(values)
            times = ours / theirs if unit == "images/s" else theirs / ours
            compared = "" if name == "jaxconv" else f"{times:.2f}x {'as small' if unit == 'MB' else 'as fast'}"
            cells = [heading, name, f"{_figure(theirs)} {unit}", f"{_figure(min(values))} to {_figure(max(values))}"]
            lines.append(f"| {' | '.join([*cells, compared])} |")
    return "\n".join(lines)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def machine() -> dict[str, Any]:
    """Where this was measured, and with what."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        cpu = Path("/proc/cpuinfo").read_text().split("model name", 1)[-1].split(":", 1)[-1].splitlines()[0].strip()
    found = {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def drawn_pictures() -> Path:
    """The demo's folder."""
    from jaxconv import demo  # which --help need not wait for

    return demo.write(Path("data/demo"))


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = bare_parser("tools.bench", __doc__)
    parser.add_argument("--data", type=Path, help="folder of train and validation (default: drawn pictures)")
    parser.add_argument("--only", nargs="+", choices=CHOICES, default=CHOICES, metavar="PART", help=", ".join(CHOICES))
    parser.add_argument("--against", nargs="*", choices=PEERS, default=[*PEERS], metavar="PEER", help=", ".join(PEERS))
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write every figure there too")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        raise InputError(f"--rounds is {arguments.rounds}: give a whole number above 0")
    data = arguments.data or drawn_pictures()
    for split in ("train", "validation"):
        if not (data / split).is_dir():
            raise InputError(f"--data {data} has no folder {split}: name a folder of train and validation")

    names = ["jaxconv"]
    for name in arguments.against:
        if missing := [package for package in PEERS[name] if importlib.util.find_spec(package) is None]:
            print(f"{name} is left out: {', '.join(missing)} is not installed (pip install '.[bench]')", flush=True)
        else:
            names.append(name)
    found: dict[str, Found] = {}
    for part in arguments.only:
        if part == "input-one-core" and not hasattr(os, "sched_setaffinity"):
            print(f"{part} is left out: only on Linux can a process be kept to one core", flush=True)
            continue
        # keras-grain is another loader for the net of keras-jax.
        these = names if part.startswith("input") else [name for name in names if name != "keras-grain"]
        new = (start if part == "start" else functools.partial(take_turns, part))(these, data, arguments.rounds)
        print(table(new), flush=True)
        found |= new
    where = machine()
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    if arguments.json:
        write_json(arguments.json, {"machine": where, "data": str(data), "figures": found})


if __name__ == "__main__":
    main()
