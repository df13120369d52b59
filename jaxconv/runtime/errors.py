"""User-facing exceptions."""

import signal


class InputError(ValueError):
    """Wrong input, files or flags: a one-line message for the user."""


class Stopped(KeyboardInterrupt):
    """A signal ended the work after it was saved: a one-line message on how to continue."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"{signal.Signals(number).name}: {message}")
        self.exit_code = 128 + number
