"""Ctrl-C and SIGTERM, delayed until the current work is saved."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType

from jaxconv.runtime.errors import Stopped


class Interrupts:
    """A context in which the first signal is only recorded. A second signal acts as it does outside.

    Only the main thread of a process receives signals: in another thread, this does nothing.
    """

    def __init__(self) -> None:
        self._received: int | None = None

    def __enter__(self) -> "Interrupts":
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:  # as for a shell's background jobs
                    self._before[number] = signal.signal(number, self._record)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _record(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        self._restore()

    def requested(self) -> bool:
        """Whether a signal came."""
        return self._received is not None

    def raise_if_requested(self, message: str) -> None:
        """Raise `Stopped` with the message if a signal came."""
        if self._received is not None:
            raise Stopped(self._received, message)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """End the process at an interrupt, with exit code 130, instead of waiting for the work of threads.

    Nothing outside this context is cleaned up, so temporary folders belong inside.
    """
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.stdout.flush()
        os._exit(130)  # a thread cannot be stopped, and a normal exit would wait for it
