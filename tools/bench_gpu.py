"""The parts of `tools.bench --gpu` that are more than asking contestants in turns."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from jaxconv.errors import InputError
from tools.turns import ON_DEVICE, PARTS, STEPS, Found, Suite, one_gpu, start, take_turns, working

EPOCHS = 100


def device() -> str:
    """The name of the GPU that JAX uses; asked in another process, because JAX takes a GPU's memory for itself.

    Raises:
        InputError: it sees none.
    """
    code = "import jax, json; print(json.dumps([jax.default_backend(), jax.devices()[0].device_kind]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    platform, kind = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else ("nothing", "")
    if platform != "gpu":
        raise InputError(
            f"--gpu: JAX finds no GPU here, but {platform}: take a machine with one, and install '.[cuda12]'"
        )
    return str(kind)


def run(data: Path, more: list[str]) -> float:
    """Seconds of `experiments.catsdogs --aug --dropout` in a process of its own, without its compilation."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, "-m", "experiments.catsdogs", "--data", str(data), "--workdir", f"{folder}/run"]
        command += ["--aug", "--dropout", "--epochs", str(EPOCHS), "--steps-per-epoch", str(STEPS)]
        command += ["--augment-on", "device", *more]
        environment = os.environ | one_gpu()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as process:
            assert process.stdout
            ends = [time.perf_counter() for line in process.stdout if line.startswith("epoch ")]
        if process.returncode:
            log.seek(0)
            last = "".join(log.read().strip().splitlines()[-1:])
            raise InputError(f"the run failed ({last}): leave it out by naming other parts with --only")
    return (ends[-1] - ends[0]) * len(ends) / (len(ends) - 1)


def _run(part: str, names: Sequence[str], data: Path, rounds: int) -> dict[str, Found]:
    """Seconds of the whole run as a user starts it, with its validations, checkpoints and curves.

    From the end of the first epoch, which compiles, to the end of the last, and as much again for that first epoch.
    """
    ours = _ours(names)
    found: dict[str, Found] = {part: {name: [] for name in ours}}
    for _ in range(rounds):
        for name in ours:
            found[part][name].append(run(data, ["--dtype", "bfloat16"] if name.endswith("bfloat16") else []))
    return found


def _floors(part: str, names: Sequence[str], data: Path, rounds: int) -> dict[str, Found]:
    """What an epoch's steps take at the least: their arithmetic, and the bytes that they move layer by layer."""
    found: dict[str, Found] = {part: {} for part in ("flop-rate", "byte-rate", "arithmetic", "bytes")}
    for name in _ours(names):
        with tempfile.TemporaryDirectory() as cache, working(name, data, Path(cache), ON_DEVICE) as ask:
            flop_rate, byte_rate, flops, moved = (ask(PARTS[part].asked) for part in found)
        found["flop-rate"][name], found["byte-rate"][name] = [flop_rate / 1e12], [byte_rate / 1e9]
        found["arithmetic"][name], found["bytes"][name] = [STEPS * flops / flop_rate], [STEPS * moved / byte_rate]
    return found


def _start(part: str, names: Sequence[str], data: Path, rounds: int) -> dict[str, Found]:
    return start(_ours(names), data, rounds, ("gpu-cold-start", "gpu-warm-start"))


def _seeds(part: str, names: Sequence[str], data: Path, rounds: int) -> dict[str, Found]:
    return take_turns(part, _ours(names), data, rounds)


def _ours(names: Sequence[str]) -> list[str]:
    return [name for name in names if name in GPU.ours]


GPU = Suite(
    ["jaxconv", "jaxconv-bfloat16"],
    {"keras-jax": ("keras", "scipy"), "pytorch": ("torch",), "pytorch-bfloat16": ("torch",)},
    {"floors": _floors, "net": take_turns, "augmented": take_turns, "seeds": _seeds, "start": _start, "run": _run},
)
