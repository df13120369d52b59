"""Compare the speed of jaxconv and its peers on this machine, on the same work.

    python -m tools.bench --data data/cats_and_dogs_small
    python -m tools.bench --only step inference         # on drawn pictures
    python -m tools.bench --only growth

Each contestant runs in a separate process. The contestants take turns within every round, so that a busy machine slows
all of them alike. The table has the median, lowest and highest of each contestant, and the ratio of jaxconv's median to
it. The peers come with the extra `bench`. A peer that is not installed is printed and left out.

The part `growth` takes long and runs only with --only growth. It measures jaxconv alone: time and memory against the
number of pictures, and images/s against the threads of the loader. In its first table, "beyond" is the memory of the
process after its last epoch, less the decoded pictures and the memory before the first picture was read, with compiled
programs. In the last row, only 1 GB of memory is left (`ulimit -v`): more than 7,400 pictures are then decoded again at
every access.
"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxconv.runtime.cli import bare_parser, one_line_errors
from jaxconv.runtime.errors import InputError
from jaxconv.runtime.files import write_json
from tools.benchmarks import growth
from tools.benchmarks.protocol import Found, start, table, take_turns

PACKAGES = ("jax", "keras", "tensorflow-cpu", "torch", "numpy", "grain", "opencv-python-headless", "pillow")


def describe_machine() -> dict[str, Any]:
    """The processor, JAX's device, and the versions of the measured packages."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        cpu = Path("/proc/cpuinfo").read_text().split("model name", 1)[-1].split(":", 1)[-1].splitlines()[0].strip()
    # In another process, because JAX takes a GPU's memory for itself.
    code = "import jax; print(jax.devices()[0].device_kind)"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    device = asked.stdout.strip() if asked.returncode == 0 else "unknown"
    found = {"cpu": cpu, "cores": os.cpu_count(), "device": device, "python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _input(part: str, names: Sequence[str], data: Path, rounds: int) -> dict[str, Found]:
    if part == "input-one-core" and not hasattr(os, "sched_setaffinity"):
        print(f"{part} is left out: only on Linux can a process be kept to one core", flush=True)
        return {}
    return take_turns(part, names, data, rounds)


def _net(part: str, names: Sequence[str], data: Path, rounds: int) -> dict[str, Found]:
    names = [name for name in names if name != "keras-grain"]  # another loader for the net of keras-jax
    return start(names, data, rounds) if part == "start" else take_turns(part, names, data, rounds)


PEERS = {  # and the packages of each
    "keras-tensorflow": ("keras", "tensorflow", "scipy"),
    "keras-jax": ("keras", "scipy"),
    "keras-grain": ("keras",),
    "pytorch": ("torch",),
}
PARTS = {
    "step": _net,
    "inference": _net,
    "input": _input,
    "input-one-core": _input,
    "epoch": _net,
    "start": _net,
}
GROWTH = "growth"


def installed(names: Sequence[str]) -> Iterator[str]:
    """Yield the peers that can run here. For each other peer, print a line."""
    for name in names:
        if missing := [package for package in PEERS[name] if importlib.util.find_spec(package) is None]:
            print(f"{name} is left out: {', '.join(missing)} is not installed (pip install '.[bench]')", flush=True)
        else:
            yield name


def find_pictures(data: Path | None) -> Path:
    """The folder of pictures; without a folder, the demo's pictures are drawn.

    Raises:
        InputError: the folder does not have two classes in train and validation.
    """
    if data is None:
        from jaxconv.data import demo

        return demo.write(Path("data/demo"))
    from jaxconv.data.layout import list_split

    for split in ("train", "validation"):
        if not (data / split).is_dir():
            raise InputError(f"--data {data} has no folder {split}: give a folder with train and validation")
        if len(names := list_split(data, split).class_names) != 2:
            raise InputError(
                f"--data {data} has {len(names)} classes in {split}: the net of the benchmark tells two apart"
            )
    return data


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The checked flags."""
    parser = bare_parser("tools.bench", __doc__)
    data_help = "folder with train and validation (default: drawn pictures)"
    parser.add_argument("--data", type=Path, metavar="DIR", help=data_help)
    parts, peers = [*PARTS, GROWTH], [*PEERS]
    parts_help = f"parts to measure, of {', '.join(parts)} (default: all but {GROWTH}, which takes long)"
    parser.add_argument("--only", nargs="+", choices=parts, default=[*PARTS], metavar="PART", help=parts_help)
    peers_help = f"peers to measure, or none, of {', '.join(peers)} (default: all)"
    parser.add_argument("--against", nargs="*", choices=peers, default=peers, metavar="PEER", help=peers_help)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="number of rounds (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers to this file")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        raise InputError(f"--rounds is {arguments.rounds}: give a whole number above 0")
    return arguments


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Measure the parts in turn, and print a table of each."""
    arguments = parse(argv)
    data = find_pictures(arguments.data)
    compared = [part for part in arguments.only if part != GROWTH]
    names = ["jaxconv", *installed(arguments.against)] if compared else []
    found: dict[str, Found] = {}
    for part in compared:
        new = PARTS[part](part, names, data, arguments.rounds)
        if new:
            print(table(new), flush=True)
        found |= new
    grown = growth.measure(data) if GROWTH in arguments.only else {}
    machine = describe_machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    if arguments.json:
        growth_rows = {GROWTH: grown} if grown else {}
        write_json(arguments.json, {"machine": machine, "data": str(data), "figures": found} | growth_rows)


if __name__ == "__main__":
    main()
