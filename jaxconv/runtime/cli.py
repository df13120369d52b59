"""Parsing of flags, and the end of a command."""

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
    """Turn an `InputError` of a command into one line on standard error and exit code 2, without a traceback.

    An interrupt becomes one line too, with the exit code that a shell would give it. If its output is no longer read,
    as in `command | head`, the command ends silently.
    """

    @functools.wraps(main)
    def command(*args: Params.args, **kwargs: Params.kwargs) -> None:
        try:
            try:
                main(*args, **kwargs)
            finally:
                sys.stdout.flush()  # else a closed pipe would cause a message when the interpreter ends
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the rest is flushed there
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
    """Reports a mistake in one line. A command that has --low-memory keeps freed memory without this flag."""

    def parse_args(self, *arguments: Any, **options: Any) -> Any:
        """Parse the flags, and set the memory option before JAX starts."""
        parsed = super().parse_args(*arguments, **options)
        if not getattr(parsed, "low_memory", True):
            machine.keep_freed_memory()
        return parsed

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"error: {message}: --help lists the flags\n")


def bare_parser(command: str, docstring: str) -> argparse.ArgumentParser:
    """A parser that shows a module's docstring as its help, and reports a wrong flag in one line."""
    summary, _, details = docstring.partition("\n\n")
    return Parser(
        prog=f"python -m {command}",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_low_memory(flags: argparse.ArgumentParser) -> None:
    """Add the flag of commands that train or use a net."""
    flags.add_argument(
        "--low-memory",
        action="store_true",
        help="on a CPU, return freed memory to the operating system: slower, but needs less memory (README, Speed)",
    )


@functools.cache
def quiet_orbax() -> None:
    """Hide the tracebacks of Orbax's threads and tasks: a command reports a failure in one line.

    If a save fails, as on a full disk, threads later report that Orbax has closed its event loop.
    """
    for logger in ("absl", "asyncio"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook
