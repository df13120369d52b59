"""A run that is killed anywhere goes on with --resume as if nothing had been: the same bits, and nothing left over."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SAME_THREADS: dict[int, dict] = {}  # what the first run with a number of threads came to
TIMES = {"seconds", "images_per_second", "data_wait"}
FLAGS = ["--aug", "--dropout", "--epochs", "3", "--steps-per-epoch", "5", "--batch-size", "4"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Twenty to train on, eight to validate and four to test: dark and bright noise."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for split, count in {"train": 20, "validation": 8, "test": 4}.items():
        for number in range(count):
            image = rng.integers(0, 128, (60, 50, 3), dtype=np.uint8) + np.uint8(127 * (number % 2))
            path = root / split / ("cats", "dogs")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return root


def start(workdir: Path, pictures: Path, *more: str, when: str = "never", **environment: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.run_killed", when, "experiments.catsdogs", *FLAGS]
    command += ["--data", str(pictures), "--workdir", str(workdir), *more]
    root = Path(__file__).parents[1]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=root, env=os.environ | environment, text=True, **pipes)


def outcome(workdir: Path) -> dict:
    """All that a run comes to, its times aside. The digest is of the whole state, and proved when it is read."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    saved = sorted((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
    assert len(saved) <= 3  # the two latest, of which the older one may be of an epoch's middle, and the best
    return {
        "rows": [{key: value for key, value in row.items() if key not in TIMES} for row in rows],
        "result": json.loads((workdir / "result.json").read_text()),
        "newest": saved[-1].name,
        "sha256": json.loads((saved[-1] / "metrics/metrics").read_text())["sha256"],
        "figures": {path.name for path in (workdir / "figures").iterdir()},
        "files": {path.name for path in workdir.iterdir()},
    }


@pytest.fixture(scope="module")
def whole(pictures, tmp_path_factory) -> tuple[dict, float]:
    """What an uninterrupted run comes to, and the seconds that it takes."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    started = time.monotonic()
    process = start(workdir, pictures)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return outcome(workdir), time.monotonic() - started


def goes_on(workdir: Path, pictures: Path, expected: dict) -> None:
    process = start(workdir, pictures, "--resume")
    _, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert outcome(workdir) == expected


def campaign(*cases):
    """The first case in every suite, the others when asked for."""
    return [case if index == 0 else pytest.param(case, marks=pytest.mark.campaign) for index, case in enumerate(cases)]


@pytest.mark.parametrize("case", campaign(*range(60)))
def test_killed_at_any_moment(case, whole, pictures, tmp_path, record_property):
    """Half of them by time, half at a file; half with checkpoints in the middle of epochs."""
    expected, seconds = whole
    rng = random.Random(case)
    when = f"seconds:{rng.uniform(0.3, 1) * seconds:.2f}" if case % 2 else f"event:{rng.randrange(100, 450)}"
    more = ("--checkpoint-every", "2") if case % 4 < 2 else ()
    process = start(tmp_path / "run", pictures, *more, when=when)
    process.communicate()
    assert process.returncode == -signal.SIGKILL or (process.returncode == 0 and case % 2)  # by time it may be too late
    done = len(list((tmp_path / "run/checkpoints").glob("[0-9]*")))
    record_property("moment", f"{when} {more}: exit code {process.returncode}, {done} checkpoints")
    goes_on(tmp_path / "run", pictures, expected)


@pytest.mark.campaign
@pytest.mark.parametrize("cores", [{0}, {0, 1}])
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_any_cores_do_the_same_with_as_many_threads(threads, cores, pictures, tmp_path_factory, tmp_path):
    """XLA divides sums among its threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        process = start(tmp_path / "run", pictures, NPROC=str(threads))
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    finally:
        os.sched_setaffinity(0, before)
    expected = SAME_THREADS.setdefault(threads, outcome(tmp_path / "run"))
    assert outcome(tmp_path / "run") == expected


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.campaign)])
def test_a_signal_saves_the_step_and_says_how_to_go_on(number, whole, pictures, tmp_path):
    """In the second epoch. Meanwhile nobody else gets the directory."""
    workdir = tmp_path / "run"
    process = start(workdir, pictures)
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    other = start(workdir, pictures, "--resume")
    assert other.communicate()[1] == (
        f"error: --workdir {workdir} is in use by another process: wait for it, or name another\n"
    )
    assert other.returncode == 2
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate()
    assert process.returncode == 128 + number
    where = f"steps are trained and saved in {workdir}: the same command with --resume goes on\n"
    assert errors.startswith(f"{number.name}: ") and errors.endswith(where) and errors.count("\n") == 1
    assert 5 <= int(errors.split()[1]) < 15  # of the second epoch
    assert not [path for path in workdir.rglob("*") if "tmp" in path.name or path.suffix == ".part"]
    goes_on(workdir, pictures, whole[0])


@pytest.mark.campaign
@pytest.mark.parametrize("case", range(20))
def test_a_signal_at_any_moment(case, whole, pictures, tmp_path, record_property):
    """Before the command's own code runs, Python may show the interrupt with a traceback."""
    number = (signal.SIGTERM, signal.SIGINT)[case % 2]
    process = start(tmp_path / "run", pictures)
    time.sleep(random.Random(case).uniform(0.2, whole[1]))
    process.send_signal(number)
    _, errors = process.communicate()
    record_property("moment", f"{number.name}: exit code {process.returncode}: {errors[-200:]}")
    assert process.returncode in (0, 128 + number, -number)
    assert process.returncode < 0 or errors.count("\n") == bool(process.returncode)
    goes_on(tmp_path / "run", pictures, whole[0])


@pytest.mark.skipif(os.getuid() != 0, reason="only the superuser mounts a small disk")
@pytest.mark.parametrize(
    "megabytes", [30, *(pytest.param(size, marks=pytest.mark.campaign) for size in range(4, 64, 3))]
)
def test_a_full_disk_is_named_and_what_was_there_stays(megabytes, whole, pictures, tmp_path, record_property):
    """A checkpoint takes some 15 MB, and up to three of them are there at once."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", disk], check=True)
    try:
        process = start(disk / "run", pictures)
        _, errors = process.communicate()
        record_property("found", f"{megabytes} MB: exit code {process.returncode}: {errors}")
        assert process.returncode == 2 or megabytes > 40
        if process.returncode:
            said = f"error: --workdir {disk / 'run'} cannot be written (No space left on device): "
            assert errors == f"{said}set it right and --resume, or name another\n"
            assert process.returncode == 2
        subprocess.run(["mount", "-o", "remount,size=500m", disk], check=True)
        goes_on(disk / "run", pictures, whole[0])
    finally:
        subprocess.run(["umount", disk], check=True)
