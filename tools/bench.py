"""How fast jaxconv and its peers are on this machine, side by side on the same work.

    python -m tools.bench --data data/cats_and_dogs_small
    python -m tools.bench --only step inference         # on drawn pictures

Each contestant runs in a process of its own; they take turns within every round, so that a busy machine slows all of
them. Medians are shown with lowest and highest, and the ratio to jaxconv's median. Peers come with the extra `bench`;
those that are not installed are left out, and named.
"""

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

from experiments.command import bare_parser
from jaxconv.errors import InputError, one_line_errors
from jaxconv.workdir import write_json
from tools.turns import Found, start, table, take_turns

PACKAGES = ("jax", "keras", "tensorflow-cpu", "torch", "numpy", "grain", "opencv-python-headless", "pillow")


def machine() -> dict[str, Any]:
    """Where this was measured, and with what; the device is the one that JAX computes on.

    It is asked for in another process, because JAX takes a GPU's memory for itself.
    """
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        cpu = Path("/proc/cpuinfo").read_text().split("model name", 1)[-1].split(":", 1)[-1].splitlines()[0].strip()
    code = "import jax; print(jax.devices()[0].device_kind)"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    device = asked.stdout.strip() if asked.returncode == 0 else "unknown"
    found = {"cpu": cpu, "cores": os.cpu_count(), "device": device, "python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def drawn_pictures() -> Path:
    """The demo's folder."""
    from jaxconv import demo  # which --help need not wait for

    return demo.write(Path("data/demo"))


def _input(part: str, names: Sequence[str], data: Path, rounds: int) -> dict[str, Found]:
    if part == "input-one-core" and not hasattr(os, "sched_setaffinity"):
        print(f"{part} is left out: only on Linux can a process be kept to one core", flush=True)
        return {}
    return take_turns(part, names, data, rounds)


def _net(part: str, names: Sequence[str], data: Path, rounds: int) -> dict[str, Found]:
    """keras-grain is another loader for the net of keras-jax."""
    names = [name for name in names if name != "keras-grain"]
    return start(names, data, rounds) if part == "start" else take_turns(part, names, data, rounds)


PEERS = {  # and the packages they need
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


def chosen(flag: str, given: Sequence[str] | None, known: Sequence[str]) -> Sequence[str]:
    """All that are known, if none is given.

    Raises:
        InputError: one that is not known.
    """
    for name in given or ():
        if name not in known:
            raise InputError(f"{flag} {name}: give some of {', '.join(known)}")
    return known if given is None else given


def installed(names: Sequence[str]) -> Iterator[str]:
    """The peers that can be run here; the others are named."""
    for name in names:
        if missing := [package for package in PEERS[name] if importlib.util.find_spec(package) is None]:
            print(f"{name} is left out: {', '.join(missing)} is not installed (pip install '.[bench]')", flush=True)
        else:
            yield name


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = bare_parser("tools.bench", __doc__)
    parser.add_argument("--data", type=Path, help="folder of train and validation (default: drawn pictures)")
    parser.add_argument("--only", nargs="+", metavar="PART", help="some parts; a wrong one is answered by the list")
    parser.add_argument("--against", nargs="*", metavar="PEER", help="some peers or none, likewise")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write every figure there too")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        raise InputError(f"--rounds is {arguments.rounds}: give a whole number above 0")
    parts = chosen("--only", arguments.only, [*PARTS])
    against = chosen("--against", arguments.against, [*PEERS])
    data = arguments.data or drawn_pictures()
    for split in ("train", "validation"):
        if not (data / split).is_dir():
            raise InputError(f"--data {data} has no folder {split}: name a folder of train and validation")

    names = ["jaxconv", *installed(against)]
    found: dict[str, Found] = {}
    for part in parts:
        new = PARTS[part](part, names, data, arguments.rounds)
        if new:
            print(table(new), flush=True)
        found |= new
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    if arguments.json:
        write_json(arguments.json, {"machine": machine(), "data": str(data), "figures": found})


if __name__ == "__main__":
    main()
