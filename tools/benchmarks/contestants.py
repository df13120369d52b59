"""The interface of a contestant in `tools.bench`, and jaxconv as a contestant."""

import abc
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.benchmarks.protocol import BATCH, IMAGE_SIZE

if TYPE_CHECKING:
    from jaxconv.training.state import TrainState

Batch = tuple[np.ndarray, np.ndarray]  # images uint8[32, 150, 150, 3] and labels int32[32], each 0 or 1


class Contestant(abc.ABC):
    """One way to train the chapter's net on the train and validation folders of `data`."""

    def __init__(self, data: Path) -> None:
        self.data = data

    @abc.abstractmethod
    def train_step(self, batch: Batch) -> None:
        """One update, finished when this returns."""

    @abc.abstractmethod
    def infer(self, batch: Batch) -> None:
        """The predictions of a batch, finished when this returns."""

    @abc.abstractmethod
    def batches(self) -> Iterator[Any]:
        """A pass of augmented training batches, such as any pass after the first."""

    @abc.abstractmethod
    def epoch(self) -> None:
        """Train on every picture once and validate, from the files to the metrics."""


def new_state() -> "TrainState":
    """The chapter's net with dropout and RMSprop, in a process set up as jaxconv's commands set up theirs."""
    from jaxconv.config import Optimizer
    from jaxconv.models import CatsDogsConvNet
    from jaxconv.runtime import machine
    from jaxconv.runtime.compilation import use_cache
    from jaxconv.training import optimizers
    from jaxconv.training.state import create_state

    machine.keep_freed_memory()
    use_cache()
    tx = optimizers.make(Optimizer(learning_rate=1e-4), 1)
    return create_state(CatsDogsConvNet(dropout=0.5), (*IMAGE_SIZE, 3), tx, seed=0)


class Jaxconv(Contestant):
    """This project."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self.state = new_state()
        self.one_hot = np.eye(2, dtype=np.float32)

    def train_step(self, batch: Batch) -> None:
        import jax

        from jaxconv.training.steps import compiled_train_step

        images, labels = batch
        self.state, loss = compiled_train_step(self.state, {"image": images, "target": self.one_hot[labels]})
        jax.block_until_ready(loss)

    def infer(self, batch: Batch) -> None:
        import jax

        from jaxconv.training.steps import compiled_eval_step

        images, labels = batch
        mask = np.ones(len(labels), bool)
        jax.block_until_ready(compiled_eval_step(self.state, {"image": images, "label": labels, "mask": mask}))

    @functools.cached_property
    def train(self) -> Any:
        """The training pictures."""
        from jaxconv.data.records import SplitDirectory

        return SplitDirectory(self.data, "train", IMAGE_SIZE)

    def batches(self) -> Iterator[Any]:
        from jaxconv.data.augment import RandomAffine
        from jaxconv.data.batches import training_batches

        stream = training_batches(self.train, BATCH, seed=0, augment=RandomAffine(), whole_passes=True)
        return itertools.islice(stream, -(-len(self.train) // BATCH))

    def epoch(self) -> None:
        import jax

        from jaxconv.config import BOOK_AUGMENTATION, Training
        from jaxconv.data.records import SplitDirectory
        from jaxconv.training.feed import Feed, evaluate
        from jaxconv.training.steps import compiled_next_epoch, compiled_train_step

        self.__dict__.pop("train", None)  # the files are read anew
        training = Training(steps_per_epoch=None, batch_size=BATCH, augmentation=BOOK_AUGMENTATION)
        feed, loss = Feed(self.train, training, seed=0, first_step=0), None
        for batch in itertools.islice(feed, training.steps_of_an_epoch(len(self.train))):
            before, (self.state, loss) = loss, compiled_train_step(self.state, batch)
            jax.block_until_ready(before)  # one step ahead of the devices, as in jaxconv.loop
        self.state.sums.mean()
        evaluate(self.state, SplitDirectory(self.data, "validation", IMAGE_SIZE), BATCH)
        self.state = compiled_next_epoch(self.state)
