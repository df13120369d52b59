"""Ctrl-C and SIGTERM, put off until a good moment."""

import signal
import threading
from types import FrameType, TracebackType

from jaxconv.errors import Stopped


class Interrupts:
    """A context in which the first signal is only noted; a second one acts as it does outside.

    Only the main thread of a process hears signals: in another one this does nothing.
    """

    def __init__(self) -> None:
        self._noted: int | None = None

    def __enter__(self) -> "Interrupts":
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:  # as for a shell's background jobs
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = number
        self._restore()

    def noted(self) -> bool:
        """Whether there was a signal."""
        return self._noted is not None

    def act(self, message: str) -> None:
        """Raise `Stopped`, with what to say, if there was a signal."""
        if self._noted is not None:
            raise Stopped(self._noted, message)
