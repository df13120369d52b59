"""Training on batches that the host makes, each on its way to the devices while they work on the one before."""

import time
from collections.abc import Iterator

import jax
from tqdm import tqdm

from jaxconv import devices
from jaxconv.augment import RandomAffine
from jaxconv.batches import Batch, evaluation_batches, training_batches
from jaxconv.config import FitConfig
from jaxconv.records import Source, Splits
from jaxconv.train_step import Sums, TrainState, eval_step, train_step


class Streaming:
    """A source of epochs for one seed, from the epoch after `done` on."""

    def __init__(self, splits: Splits, config: FitConfig, done: int, augment: RandomAffine | None) -> None:
        self._batch_size, self._steps = config.batch_size, config.steps_of_an_epoch(len(splits.train))
        self._stream = training_batches(
            splits.train,
            config.batch_size,
            seed=config.seed,
            augment=augment,
            whole_passes=config.steps_per_epoch is None,
            first_step=done * self._steps,
        )

    def train(self, states: list[TrainState], epoch: int) -> tuple[list[TrainState], list[list[Sums]], float]:
        """`train_epoch` of the one state."""
        (state,) = states
        state, sums, waited = train_epoch(state, self._stream, self._steps, epoch)
        return [state], [sums], waited

    def evaluate(self, states: list[TrainState], source: Source) -> list[list[Sums]]:
        """`evaluate` of the one state."""
        (state,) = states
        return [evaluate(state, source, self._batch_size)]


def train_epoch(
    state: TrainState, stream: Iterator[Batch], steps: int, epoch: int
) -> tuple[TrainState, list[Sums], float]:
    """The state after an epoch's steps, the sums of each, and the seconds that this loop stood waiting for a batch."""
    sums: list[Sums] = []
    waited = 0.0
    for _ in tqdm(range(steps), f"epoch {epoch}", unit="step", leave=False, disable=None):
        asked = time.perf_counter()
        batch = next(stream)
        waited += time.perf_counter() - asked
        state, step_sums = train_step(state, devices.split(batch))
        sums.append(step_sums)
        # One step ahead of the device is enough to keep it busy; more would only pile up batches.
        jax.block_until_ready(sums[-2:][0])
    return state, sums, waited


def evaluate(state: TrainState, source: Source, batch_size: int) -> list[Sums]:
    """The sums of batches that have every picture exactly once."""
    return [eval_step(state, devices.split(batch)) for batch in evaluation_batches(source, batch_size)]
