"""The one kind of failure that a user can cause, and how a command ends when it happens."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

Params = ParamSpec("Params")


class InputError(ValueError):
    """Something outside the program is wrong: one line that names the file or flag and the cure."""


def one_line_errors(main: Callable[Params, None]) -> Callable[Params, None]:
    """A command whose `InputError` becomes one line on standard error and exit code 2, without a traceback."""

    @functools.wraps(main)
    def command(*args: Params.args, **kwargs: Params.kwargs) -> None:
        try:
            main(*args, **kwargs)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)

    return command
