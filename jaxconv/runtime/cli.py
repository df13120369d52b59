"""How a command parses its flags and how it ends."""

import argparse
import functools
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec

from jaxconv.runtime import machine
from jaxconv.runtime.errors import InputError, Stopped

Params = ParamSpec("Params")


def one_line_errors(main: Callable[Params, None]) -> Callable[Params, None]:
    """A command whose `InputError` becomes one line on standard error and exit code 2, without a traceback.

    An interrupt becomes one line too, with the exit code that a shell would give it. Where the reader of its output
    has gone, as in `command | head`, the command ends without a word.
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


class Parser(argparse.ArgumentParser):
    """Reports a mistake in one line. A command with --low-memory keeps freed memory, unless the flag is given."""

    def parse_args(self, *arguments: Any, **options: Any) -> Any:
        """Before a command does anything else, as `keep_freed_memory` needs it."""
        parsed = super().parse_args(*arguments, **options)
        if not getattr(parsed, "low_memory", True):
            machine.keep_freed_memory()
        return parsed

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"error: {message}: --help lists the flags\n")


def bare_parser(command: str, docstring: str) -> argparse.ArgumentParser:
    """A parser that shows a module's docstring as its help, and says in one line what is wrong with a flag."""
    summary, _, details = docstring.partition("\n\n")
    return Parser(
        prog=f"python -m {command}",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_low_memory(flags: argparse.ArgumentParser) -> None:
    """The flag of the commands that train or use a net."""
    flags.add_argument(
        "--low-memory",
        action="store_true",
        help="on a CPU: return freed memory to the system after every step; slower (README, Speed)",
    )


@functools.cache
def quiet_orbax() -> None:
    """Keep the tracebacks of Orbax's threads and tasks from users: a command reports a failure in one line.

    Where a save fails, as on a full disk, threads complain at any later time of the event loop that Orbax has closed.
    """
    for logger in ("absl", "asyncio"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook
