"""The failure that a user can cause, the end that a user can wish, and how a command ends when they happen."""

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import ParamSpec

Params = ParamSpec("Params")


class InputError(ValueError):
    """A run cannot go on for a reason outside the program: one line that names file, flag or step, and the cure."""


class Stopped(KeyboardInterrupt):
    """Work was ended by a signal, after what was under way had been saved: one line that says how to go on."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"{signal.Signals(number).name}: {message}")
        self.exit_code = 128 + number


def one_line_errors(main: Callable[Params, None]) -> Callable[Params, None]:
    """A command whose `InputError` becomes one line on standard error and exit code 2, without a traceback.

    So does an interrupt, with the exit code that a shell would give it. Where whoever reads its output has read
    enough, as in `command | head`, it ends without a word.
    """

    @functools.wraps(main)
    def command(*args: Params.args, **kwargs: Params.kwargs) -> None:
        try:
            try:
                main(*args, **kwargs)
            finally:
                sys.stdout.flush()  # or a closed pipe would be met when the interpreter ends, with a complaint
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is flushed there
            sys.exit(128 + signal.SIGPIPE)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except Stopped as stopped:
            print(stopped, file=sys.stderr)
            sys.exit(stopped.exit_code)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)

    return command
