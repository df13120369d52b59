"""User-facing exceptions."""

import signal


class InputError(ValueError):
    """A run cannot go on for a reason outside the program: one line that names file, flag or step, and the cure."""


class Stopped(KeyboardInterrupt):
    """A signal ended the work after it was saved: one line that says how to go on."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"{signal.Signals(number).name}: {message}")
        self.exit_code = 128 + number
