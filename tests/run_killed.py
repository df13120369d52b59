"""A command that may end by SIGKILL: `python -m tests.run_killed WHEN MODULE FLAG...`.

WHEN is "never", "seconds:1.5", a time after the start, or "event:200", just before the 200th time that files are
opened, made, renamed or removed, counted once the run directory is made: while decoding, a metrics line, a checkpoint
or a figure is written.
"""

import os
import runpy
import signal
import sys
import threading

EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.listdir", "os.scandir"}


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    when, module, *flags = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as for a job in the foreground, wherever the tests run
    unit, _, number = when.partition(":")
    if unit == "seconds":
        timer = threading.Timer(float(number), kill)
        timer.daemon = True
        timer.start()
    elif unit == "event":
        workdir, left, begun = flags[flags.index("--workdir") + 1], int(number), False

        def hook(event: str, arguments: tuple) -> None:
            nonlocal left, begun
            begun = begun or (event == "os.mkdir" and str(arguments[0]) == workdir)
            if begun and event in EVENTS:
                left -= 1
                if left <= 0:
                    kill()

        sys.addaudithook(hook)
    sys.argv = [module, *flags]
    runpy.run_module(module, run_name="__main__")


if __name__ == "__main__":
    main()
