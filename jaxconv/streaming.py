"""Training on batches that the host makes, each on its way to the devices while they work on the one before."""

import itertools
import time
from collections.abc import Callable, Iterator

import jax
from tqdm import tqdm

from jaxconv import devices, metrics
from jaxconv.augment import RandomAffine
from jaxconv.batches import Batch, evaluation_batches, training_batches
from jaxconv.compilation import jit
from jaxconv.config import FitConfig
from jaxconv.metrics import StepSums
from jaxconv.records import Source, Splits
from jaxconv.train_step import Sums, TrainState, eval_step, train_step

compiled_train_step = jit(train_step, donate_argnums=0)
compiled_eval_step = jit(eval_step)


class Streaming:
    """A source of training, from the step after `done` on.

    Once `stopped` is true a stretch ends after the step that is under way.
    """

    def __init__(
        self,
        splits: Splits,
        config: FitConfig,
        done: int,
        augment: RandomAffine | None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._stopped = stopped
        self._steps = config.steps_of_an_epoch(len(splits.train))
        self._stream = training_batches(
            splits.train,
            config.batch_size,
            seed=config.seed,
            augment=augment,
            whole_passes=config.steps_per_epoch is None,
            first_step=done,
        )

    def train(self, state: TrainState, stretch: range) -> tuple[TrainState, StepSums, float]:
        """The state after a stretch, the sums of its steps, and the seconds that were waited for batches."""
        epoch, step = divmod(stretch.start, self._steps)
        batches = self._until_stopped(len(stretch))
        bar = tqdm(batches, f"epoch {epoch + 1}", self._steps, initial=step, unit="step", leave=False, disable=None)
        state, sums, waited = train_epoch(state, iter(bar))
        return state, metrics.of_steps(sums), waited

    def _until_stopped(self, count: int) -> Iterator[Batch]:
        for batch in itertools.islice(self._stream, count):
            yield batch
            if self._stopped():
                return


def train_epoch(state: TrainState, batches: Iterator[Batch]) -> tuple[TrainState, list[Sums], float]:
    """The state after a step for each batch, their sums, and the seconds that this loop stood waiting for a batch."""
    sums: list[Sums] = []
    waited = 0.0
    while True:
        asked = time.perf_counter()
        batch = next(batches, None)
        waited += time.perf_counter() - asked
        if batch is None:
            return state, sums, waited
        state, step_sums = compiled_train_step(state, devices.split(batch))
        sums.append(step_sums)
        # One step ahead of the device is enough to keep it busy; more would only pile up batches.
        jax.block_until_ready(sums[-2:][0])


def evaluate(state: TrainState, source: Source, batch_size: int) -> list[Sums]:
    """The sums of batches that have every picture exactly once."""
    return [compiled_eval_step(state, devices.split(batch)) for batch in evaluation_batches(source, batch_size)]
