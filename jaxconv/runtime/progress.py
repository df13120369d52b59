"""Progress bar, log lines and remaining time."""

import sys
import time
from typing import Any

from tqdm import tqdm

LINE_EVERY = 30.0  # seconds
ESTIMATE_AFTER = 5, 3.0  # steps and seconds, not counting the first step, which may compile


class StepProgress:
    """Reports the steps of a run of `total` steps; `step` of them are done."""

    def __init__(self, step: int, total: int, steps_of_an_epoch: int) -> None:
        self._total, self._steps_of_an_epoch = total, steps_of_an_epoch
        self._bar: tqdm | None = None
        self._first: tuple[int, float] | None = None  # the first reported step, and its time
        self._estimated = False
        self._said = time.monotonic()

    def done(self, step: int, loss: Any) -> None:
        """Report that `step` steps are done. `loss`, of the last step, is waited for only if it is printed."""
        now = time.monotonic()
        self._first = self._first or (step, now)
        self._estimate(step, now)
        in_epoch = (step - 1) % self._steps_of_an_epoch + 1
        epoch = (step - 1) // self._steps_of_an_epoch + 1
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = tqdm(desc=f"epoch {epoch}", total=self._steps_of_an_epoch, unit="step", leave=False)
            self._bar.update(in_epoch - self._bar.n)
        elif now - self._said >= LINE_EVERY:
            print(f"epoch {epoch}: step {in_epoch} of {self._steps_of_an_epoch}, loss {float(loss):.4f}", flush=True)
            self._said = now

    def end(self) -> None:
        """Remove the bar before a line is printed."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._said = time.monotonic()

    def _estimate(self, step: int, now: float) -> None:
        assert self._first
        steps, seconds = step - self._first[0], now - self._first[1]
        if not self._estimated and steps >= ESTIMATE_AFTER[0] and seconds >= ESTIMATE_AFTER[1]:
            self._estimated = True
            left = self._total - step
            if (expected := left * seconds / steps) >= LINE_EVERY:
                tqdm.write(f"{left:,} steps to go, about {duration(expected)} and the validations", file=sys.stdout)
                sys.stdout.flush()


def duration(seconds: float) -> str:
    """A rough time in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
