"""What every training run has to say about itself."""

import dataclasses
import importlib.util
import math
from collections.abc import Iterator

from jaxconv.errors import InputError

SCHEDULES = ("constant", "cosine", "plateau")


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """How long and how fast to train.

    An epoch is `steps_per_epoch` batches of an endless stream, or, with None, every picture once. The learning rate
    is constant, or with `schedule="cosine"` rises to its value over the first tenth of all steps and falls to zero, or
    with "plateau" falls to a tenth where val_loss has stopped falling, see `plateau`. With `patience` the run ends once
    val_loss has not fallen for so many epochs. With `ema`, the decay of an exponential moving average of the weights,
    it is the average that is validated, tested and taken for use. `tensorboard` writes event files.
    Checkpoints are saved at the end of each epoch, and in it after every `checkpoint_every` steps.

    Raises:
        InputError: a number that makes no run; named as its flag.
    """

    epochs: int
    steps_per_epoch: int | None
    batch_size: int
    learning_rate: float
    schedule: str = "constant"
    seed: int = 0
    checkpoint_every: int | None = None
    patience: int | None = None
    ema: float | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "steps_per_epoch", "batch_size", "checkpoint_every", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} is {value}: give a whole number above 0")
        if not 0 < self.learning_rate < float("inf"):
            raise InputError(f"--learning-rate is {self.learning_rate}: give a number above 0, such as 1e-4")
        if self.schedule not in SCHEDULES:
            raise InputError(f"--schedule is {self.schedule}: give one of {', '.join(SCHEDULES)}")
        if self.seed < 0:
            raise InputError(f"--seed is {self.seed}: give a whole number from 0 on")
        if self.ema is not None and not 0 < self.ema < 1:
            raise InputError(f"--ema is {self.ema}: give a number between 0 and 1, such as 0.999")
        if self.tensorboard and importlib.util.find_spec("tensorboardX") is None:
            raise InputError("--tensorboard needs tensorboardX: pip install -e '.[tensorboard]'")

    def steps_of_an_epoch(self, pictures: int) -> int:
        """The number of steps, with this many pictures to train on."""
        return self.steps_per_epoch or math.ceil(pictures / self.batch_size)

    def stretches(self, pictures: int, done: int) -> Iterator[range]:
        """The steps that follow the first `done`, counted from 0, in stretches that each end with a checkpoint."""
        steps = self.steps_of_an_epoch(pictures)
        every = self.checkpoint_every or steps
        while done < self.epochs * steps:
            in_epoch = done % steps
            end = done - in_epoch + min(steps, in_epoch - in_epoch % every + every)
            yield range(done, end)
            done = end
