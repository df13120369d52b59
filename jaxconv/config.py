"""What every training run has to say about itself."""

import dataclasses

from jaxconv.errors import InputError


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """How long and how fast to train. An epoch is `steps_per_epoch` batches of an endless stream.

    Raises:
        InputError: a number that makes no run; named as its flag.
    """

    epochs: int
    steps_per_epoch: int
    batch_size: int
    learning_rate: float
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "steps_per_epoch", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} is {getattr(self, name)}: give a whole number above 0")
        if not 0 < self.learning_rate < float("inf"):
            raise InputError(f"--learning-rate is {self.learning_rate}: give a number above 0, such as 1e-4")
        if self.seed < 0:
            raise InputError(f"--seed is {self.seed}: give a whole number from 0 on")
