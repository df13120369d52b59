"""A run that ends anywhere continues with --resume as if nothing had happened: the same bits, and nothing left over."""

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from PIL import Image

from jaxconv.runs import directory, history
from jaxconv.runs.checkpoints import Checkpoints
from jaxconv.runs.proof import settings_digest
from jaxconv.training import optimizers
from jaxconv.training.state import create_state
from tests.nets import SmallNet

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked, stopped and killed")
EPOCHS, STEPS = 3, 5
FLAGS = ["--image-size", "46", "--aug", "--epochs", f"{EPOCHS}", "--steps-per-epoch", f"{STEPS}", "--batch-size", "4"]
ENOUGH = 1000  # kB that hold a run
TIMES = {"seconds", "images_per_second", "data_wait"}


class Ended(NamedTuple):
    """How a process ended, and what it said on standard error."""

    code: int
    errors: str


class Runs:
    """Processes that each train a net on the same pictures; `tests.faults.run_killed` forks them."""

    def __init__(self, folder: Path) -> None:
        self._pictures, self._folder, self._count = pictures(folder / "pictures"), folder, 0
        command = [sys.executable, "-m", "tests.faults.run_killed"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.server = subprocess.Popen(command, cwd=Path(__file__).parents[2], text=True, **pipes)

    def _ask(self, **what) -> int | None:
        assert self.server.stdin and self.server.stdout
        self.server.stdin.write(json.dumps(what) + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())

    def start(
        self, workdir: Path, *more: str, when: str = "never", cores: list[int] | None = None, **environment: str
    ) -> tuple[int, Callable[[], Ended | None]]:
        """Start a process.

        Returns:
            Its number, and a function that waits until it ends, or returns None once it is stopped.
        """
        self._count += 1
        output, flags = self._folder / f"{self._count}", [*FLAGS, "--data", self._pictures, "--workdir", workdir, *more]
        arguments = {"flags": [*map(str, flags)], "when": when, "output": str(output)}
        number = self._ask(start=arguments | {"environment": environment, "cores": cores})

        def wait() -> Ended | None:
            code = self._ask(wait=number)
            return None if code is None else Ended(code, output.with_suffix(".err").read_text())

        return number, wait

    def run(self, workdir: Path, *more: str, **options) -> Ended:
        """Start a process and wait for it."""
        return self.start(workdir, *more, **options)[1]()


def pictures(root: Path) -> Path:
    """Twenty to train on, eight to validate and four to test: dark and bright noise."""
    rng = np.random.default_rng(0)
    for split, count in {"train": 20, "validation": 8, "test": 4}.items():
        for number in range(count):
            image = rng.integers(0, 128, (60, 50, 3), dtype=np.uint8) + np.uint8(127 * (number % 2))
            path = root / split / ("cats", "dogs")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return root


def saved(workdir: Path) -> list[int]:
    """The steps of the complete checkpoints."""
    return sorted(int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit())


def outcome(workdir: Path) -> dict:
    """All that a run leaves, its times aside."""
    steps = saved(workdir)
    assert len(steps) <= 3  # the two latest, of which the older one may be of an epoch's middle, and the best
    return {
        "rows": [{key: value for key, value in row.items() if key not in TIMES} for row in history.read_rows(workdir)],
        "result": history.read_result(workdir),
        "newest": steps[-1],
        "figures": {path.name for path in (workdir / "figures").iterdir()},
        "files": {path.name for path in workdir.iterdir()},
        "checkpoints": {path.name for path in (workdir / "checkpoints").iterdir()} - {*map(str, steps)},
        "state": state_digest(workdir),
    }


def state_digest(workdir: Path) -> str:
    """The SHA-256 of all values of the newest checkpoint."""
    config = directory.read_config(workdir)
    tx = optimizers.make(config.training.optimizer, EPOCHS * STEPS)
    template = jax.eval_shape(lambda: create_state(SmallNet(), config.data.image_shape, tx, config.seed))
    with Checkpoints(workdir / "checkpoints", template, settings_digest(config)) as checkpoints:
        state = checkpoints.restore_newest().state
    values = [*jax.tree.leaves(state.replace(key=None)), jax.random.key_data(state.key)]
    return hashlib.sha256(b"".join(np.asarray(value).tobytes() for value in values)).hexdigest()


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Iterator[Runs]:
    runs = Runs(tmp_path_factory.mktemp("runs"))
    yield runs
    runs.server.communicate()  # closes its input, which ends it


@pytest.fixture(scope="module")
def whole(runs, tmp_path_factory) -> tuple[dict, float]:
    """What an uninterrupted run leaves, and the seconds that it takes once its programs are compiled."""
    folder = tmp_path_factory.mktemp("whole")
    assert runs.run(folder / "run") == (0, "")
    expected, started = outcome(folder / "run"), time.monotonic()
    assert runs.run(folder / "again") == (0, "")
    seconds = time.monotonic() - started
    assert outcome(folder / "again") == expected
    return expected, seconds


@contextlib.contextmanager
def killed_at_a_file(runs: Runs, folder: Path, seconds: float, case: int) -> Iterator[tuple[Path, str]]:
    """Half of the runs save in the middle of epochs."""
    more = ("--checkpoint-every", "2") if case % 2 else ()
    when = f"event:{random.Random(case).randrange(1, 400 if more else 180)}"
    assert runs.run(folder / "run", *more, when=when).code == -signal.SIGKILL
    yield folder / "run", f"{when} {more}"


@contextlib.contextmanager
def killed_at_a_moment(runs: Runs, folder: Path, seconds: float, case: int) -> Iterator[tuple[Path, str]]:
    """It may be too late, when the run is complete."""
    when = f"seconds:{random.Random(case).uniform(0.2, 1) * seconds:.2f}"
    more = ("--checkpoint-every", "2") if case % 2 else ()
    ended = runs.run(folder / "run", *more, when=when)
    assert ended.code in (-signal.SIGKILL, 0)
    yield folder / "run", f"{when} {more}: {ended}"


@contextlib.contextmanager
def signalled_in_the_second_epoch(runs: Runs, folder: Path, seconds: float, case: int) -> Iterator[tuple[Path, str]]:
    """The step is finished and saved, and the message says how to continue. Nobody else gets the directory before."""
    workdir, number = folder / "run", (signal.SIGTERM, signal.SIGINT)[case]
    process, wait = runs.start(workdir, when="step:7")
    assert wait() is None
    in_use = f"error: --workdir {workdir} is in use by another process: wait for it, or name another\n"
    assert runs.run(workdir, "--resume") == (2, in_use)
    os.kill(process, number)
    os.kill(process, signal.SIGCONT)
    where = f"steps are trained and saved in {workdir}: add --resume (in Python, resume=True) to continue\n"
    assert wait() == (128 + number, f"{number.name}: 7 {where}")
    assert saved(workdir)[-1] == 7
    assert not [path for path in workdir.rglob("*") if "tmp" in path.name or path.suffix == ".part"]
    yield workdir, number.name


@contextlib.contextmanager
def signalled_at_a_moment(runs: Runs, folder: Path, seconds: float, case: int) -> Iterator[tuple[Path, str]]:
    """Before training begins it ends at once, unless Python swallows the interrupt in a callback of its own."""
    number = (signal.SIGTERM, signal.SIGINT)[case % 2]
    process, wait = runs.start(folder / "run")
    time.sleep(random.Random(case).uniform(0.05, seconds))
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)
    ended = wait()
    assert ended.code in (0, 128 + number, -number)
    swallowed = number == signal.SIGINT and ended.errors.startswith("Exception ignored in")
    assert ended.code < 0 or swallowed or ended.errors.count("\n") == bool(ended.code)
    yield folder / "run", f"{number.name}: {ended}"


@contextlib.contextmanager
def full_disk(runs: Runs, folder: Path, seconds: float, case: int) -> Iterator[tuple[Path, str]]:
    """`case` is the size of the disk in kB. The message names the cause, and what was there stays."""
    if os.getuid() != 0:
        pytest.skip("only the superuser mounts a small disk")
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={case}k", "tmpfs", disk], check=True)
    try:
        ended = runs.run(disk / "run")
        assert ended.code == 2 or case > ENOUGH
        if ended.code:
            said = f"error: --workdir {disk / 'run'} cannot be written (No space left on device): "
            assert ended == (2, f"{said}fix this and add --resume, or choose another\n")
        subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
        yield disk / "run", f"{case} kB: {ended}"
    finally:
        subprocess.run(["umount", disk], check=True)


CASES = {  # of each fault, the cases of every run of the tests, and those of a campaign
    killed_at_a_file: ([0, 1], range(2, 32)),
    killed_at_a_moment: ([0], range(1, 30)),
    signalled_in_the_second_epoch: ([0], [1]),
    signalled_at_a_moment: ([1], [0, *range(2, 20)]),
    full_disk: ([800], range(60, 1340, 80)),
}
FAULTS = [
    pytest.param(fault, case, id=f"{fault.__name__}-{case}", marks=[pytest.mark.campaign] if campaign else [])
    for fault, both in CASES.items()
    for campaign, cases in enumerate(both)
    for case in cases
]


@pytest.mark.parametrize("fault, case", FAULTS)
def test_a_run_that_ends_anywhere_continues_to_the_same_bits(
    fault: Callable, case: int, runs, whole, tmp_path, record_property
):
    expected, seconds = whole
    with fault(runs, tmp_path, seconds, case) as (workdir, found):
        record_property("moment", f"{found}, {saved(workdir)} saved")
        assert runs.run(workdir, "--resume") == (0, "")
        assert outcome(workdir) == expected


@pytest.mark.campaign
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_any_cores_do_the_same_with_as_many_threads(threads, runs, tmp_path):
    """XLA divides sums among its threads."""
    found = []
    for cores in ([0], [0, 1]):
        workdir = tmp_path / f"{len(cores)} cores"
        assert runs.run(workdir, cores=cores, NPROC=str(threads)) == (0, "")
        found.append(outcome(workdir))
    assert found[0] == found[1]
