"""What every training run has to say about itself."""

import dataclasses
import math

from jaxconv.errors import InputError

SCHEDULES = ("constant", "cosine")


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """How long and how fast to train.

    An epoch is `steps_per_epoch` batches of an endless stream, or, with None, every picture once. The learning rate
    is constant, or with `schedule="cosine"` rises to its value over the first tenth of all steps and falls to zero.

    Raises:
        InputError: a number that makes no run; named as its flag.
    """

    epochs: int
    steps_per_epoch: int | None
    batch_size: int
    learning_rate: float
    schedule: str = "constant"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "steps_per_epoch", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} is {value}: give a whole number above 0")
        if not 0 < self.learning_rate < float("inf"):
            raise InputError(f"--learning-rate is {self.learning_rate}: give a number above 0, such as 1e-4")
        if self.schedule not in SCHEDULES:
            raise InputError(f"--schedule is {self.schedule}: give one of {', '.join(SCHEDULES)}")
        if self.seed < 0:
            raise InputError(f"--seed is {self.seed}: give a whole number from 0 on")

    def steps_of_an_epoch(self, pictures: int) -> int:
        """The number of steps, with this many pictures to train on."""
        return self.steps_per_epoch or math.ceil(pictures / self.batch_size)
