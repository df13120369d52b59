"""User-facing exceptions, and the words of their messages."""

import json
import signal
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta


class InputError(ValueError):
    """Wrong input, files or flags: a one-line message for the user."""


class Stopped(KeyboardInterrupt):
    """A signal ended the work after it was saved: a one-line message on how to continue."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"{signal.Signals(number).name}: {message}")
        self.exit_code = 128 + number


def wanted(kind: Any) -> str | None:
    """The values that a field takes, in words; None if the field does not describe them."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, parts))}"
    described = [part.description for part in parts if isinstance(part, Meta) and part.description]
    return next((words for words in [*described, *map(wanted, parts)] if words), None)


def short(value: Any) -> str:
    """A value as in config.json; of a long value, such as a fingerprint, the beginning."""
    try:
        text = value if isinstance(value, str) else json.dumps(msgspec.to_builtins(value))
    except TypeError:
        text = repr(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
