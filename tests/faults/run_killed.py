"""Runs of experiments.folders, each in a process of its own that may be killed.

`python -m tests.faults.run_killed` imports all that a run needs and then forks for each run, which saves the run the
seconds of the imports. It reads lines of JSON: {"start": {...}} with the arguments of `run` is answered with the number
of a process, and {"wait": NUMBER} with its exit code, which is negative for a signal, or null if it is stopped.

`when` is "never", or one of these:

* "seconds:1.5": SIGKILL after this time;
* "event:200": SIGKILL just before files are opened, made, renamed or removed for the 200th time since the run
  directory was made, which may be while a metrics line, a checkpoint or a figure is written;
* "step:7": SIGSTOP after this step of training.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

from matplotlib.figure import Figure

import jaxconv.loop  # noqa: F401 (so that no run waits for it)
from experiments import folders, photos
from jaxconv.runs import figures
from jaxconv.runtime.files import write_whole
from jaxconv.runtime.progress import StepProgress
from tests.nets import SmallNet

EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.listdir", "os.scandir"}


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at_event(count: int, workdir: str) -> None:
    left, begun = count, False

    def hook(event: str, arguments: tuple) -> None:
        nonlocal left, begun
        begun = begun or (event == "os.mkdir" and str(arguments[0]) == workdir)
        if begun and event in EVENTS:
            left -= 1
            if left <= 0:
                kill()

    sys.addaudithook(hook)


def stop_after(last: int) -> None:
    done = StepProgress.done

    def stopping(self: StepProgress, step: int, loss: object) -> None:
        done(self, step, loss)
        if step == last:
            os.kill(os.getpid(), signal.SIGSTOP)

    StepProgress.done = stopping


def save(figure: Figure, path: Path) -> None:
    """Write a file in place of a figure, which takes longer to draw than the training."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, b"a figure")


def run(flags: list[str], when: str, output: str, environment: dict[str, str], cores: list[int] | None) -> None:
    """Train a small net; `output` is a path, to which .out and .err are added."""
    for file, suffix in ((sys.stdout, "out"), (sys.stderr, "err")):
        os.dup2(os.open(f"{output}.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), file.fileno())
    os.environ.update(environment)
    if cores:
        os.sched_setaffinity(0, cores)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as for a job in the foreground, wherever the tests run
    unit, _, number = when.partition(":")
    if unit == "seconds":
        timer = threading.Timer(float(number), kill)
        timer.daemon = True
        timer.start()
    elif unit == "event":
        kill_at_event(int(number), flags[flags.index("--workdir") + 1])
    elif unit == "step":
        stop_after(int(number))
    photos.net = lambda dropout, dtype, classes: SmallNet()
    figures.save = save
    folders.main(flags)


def main() -> None:
    for line in sys.stdin:
        ((what, argument),) = json.loads(line).items()
        if what == "start":
            sys.stdout.flush()
            answer = os.fork()
            if not answer:
                return run(**argument)
        else:
            _, status = os.waitpid(argument, os.WUNTRACED)
            answer = None if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
