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

    So does an interrupt, with the exit code that a shell would give it.
    """

    @functools.wraps(main)
    def command(*args: Params.args, **kwargs: Params.kwargs) -> None:
        try:
            main(*args, **kwargs)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except BrokenPipeError:  # whoever read the output has enough of it, such as head
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
            sys.exit(128 + signal.SIGPIPE)
        except Stopped as stopped:
            print(stopped, file=sys.stderr)
            sys.exit(stopped.exit_code)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)

    return command
