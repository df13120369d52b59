"""What `tools.bench` compares: jaxconv and its peers on the same net, pictures and augmentation, a process each.

Each contestant does the work as its own users would write it: the chapter's net with dropout, RMSprop, batches of 32,
the book's augmentation. Its process reads what to measure from standard input, as JSON a line, and answers a number.
"""

import abc
import collections
import functools
import itertools
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxconv.machine import usable_cores

BATCH = 32
SIZE = (150, 150)
Batch = tuple[np.ndarray, np.ndarray]  # uint8[32, 150, 150, 3], int32[32]


class Contestant(abc.ABC):
    """One way to train the net on the folder's train and validation."""

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
        """A pass of augmented training batches, as every pass after the first."""

    @abc.abstractmethod
    def epoch(self) -> None:
        """Train on every picture once and validate, from the files to the metrics."""


class Jaxconv(Contestant):
    """This project."""

    def __init__(self, data: Path) -> None:
        from jaxconv import machine
        from jaxconv.compilation import use_cache
        from jaxconv.models import CatsDogsConvNet
        from jaxconv.train_step import create_state, learning_rates, rmsprop

        super().__init__(data)
        machine.keep_freed_memory()
        use_cache()
        optimizer = rmsprop(learning_rates("constant", 1e-4, 1))
        self.model = CatsDogsConvNet(dropout=0.5)
        self.state = create_state(self.model, (*SIZE, 3), optimizer, 0)

    def train_step(self, batch: Batch) -> None:
        import jax

        from jaxconv.streaming import compiled_train_step

        self.state, sums = compiled_train_step(self.state, {"image": batch[0], "label": batch[1]})
        jax.block_until_ready(sums)

    def infer(self, batch: Batch) -> None:
        import jax

        from jaxconv.streaming import compiled_eval_step

        mask = np.ones(len(batch[1]), bool)
        jax.block_until_ready(compiled_eval_step(self.state, {"image": batch[0], "label": batch[1], "mask": mask}))

    @functools.cached_property
    def train(self) -> Any:
        from jaxconv.records import SplitDirectory

        return SplitDirectory(self.data, "train", SIZE)

    def batches(self) -> Iterator[Any]:
        from jaxconv.augment import RandomAffine
        from jaxconv.batches import training_batches

        stream = training_batches(self.train, BATCH, seed=0, augment=RandomAffine(), whole_passes=True)
        return itertools.islice(stream, -(-len(self.train) // BATCH))

    def epoch(self) -> None:
        from jaxconv import metrics
        from jaxconv.records import SplitDirectory
        from jaxconv.streaming import evaluate, train_epoch

        self.__dict__.pop("train", None)  # to read the files anew
        stream = self.batches()
        self.state, sums, _ = train_epoch(self.state, itertools.islice(stream, -(-len(self.train) // BATCH)))
        metrics.total(sums)
        metrics.total(evaluate(self.state, SplitDirectory(self.data, "validation", SIZE), BATCH))


class Keras(Contestant):
    """Keras 3 on the backend that KERAS_BACKEND names, with the ImageDataGenerator of the book's code."""

    def __init__(self, data: Path) -> None:
        import keras
        from keras.src.legacy.preprocessing.image import ImageDataGenerator

        super().__init__(data)
        layers: list[Any] = [keras.Input((*SIZE, 3))]
        for features in (32, 64, 128, 128):
            layers += [keras.layers.Conv2D(features, 3, activation="relu"), keras.layers.MaxPooling2D(2)]
        layers += [keras.layers.Flatten(), keras.layers.Dropout(0.5), keras.layers.Dense(512, activation="relu")]
        self.model = keras.Sequential([*layers, keras.layers.Dense(1, activation="sigmoid")])
        optimizer = keras.optimizers.RMSprop(learning_rate=1e-4)
        self.model.compile(loss="binary_crossentropy", optimizer=optimizer, metrics=["accuracy"])
        self.augmented = ImageDataGenerator(
            rescale=1 / 255,
            rotation_range=40,
            width_shift_range=0.2,
            height_shift_range=0.2,
            shear_range=11.46,
            zoom_range=0.2,
            horizontal_flip=True,
        )
        self.plain = ImageDataGenerator(rescale=1 / 255)

    def train_step(self, batch: Batch) -> None:
        self.model.train_on_batch(batch[0].astype(np.float32) / 255, batch[1])

    def infer(self, batch: Batch) -> None:
        self.model.predict_on_batch(batch[0].astype(np.float32) / 255)

    def _flow(self, generator: Any, split: str) -> Any:
        options = {"target_size": SIZE, "batch_size": BATCH, "class_mode": "binary"}
        return generator.flow_from_directory(self.data / split, **options)

    def batches(self) -> Iterator[Any]:
        flow = self._flow(self.augmented, "train")
        return (flow[index] for index in range(len(flow)))

    def epoch(self) -> None:
        train, validation = self._flow(self.augmented, "train"), self._flow(self.plain, "validation")
        self.model.fit(train, validation_data=validation, epochs=1, verbose=0)


class KerasGrain(Keras):
    """Keras 3 with the loader of its own that Grain runs, which does not augment."""

    def batches(self) -> Iterator[Any]:
        from keras.utils import image_dataset_from_directory

        options = {"label_mode": "binary", "batch_size": BATCH, "image_size": SIZE, "format": "grain", "verbose": False}
        return iter(image_dataset_from_directory(self.data / "train", **options))


class Torch(Contestant):
    """PyTorch, channels last; decoded and warped by Pillow in a DataLoader worker a core."""

    def __init__(self, data: Path) -> None:
        import torch
        from torch import nn

        super().__init__(data)
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 32), (32, 64), (64, 128), (128, 128)):
            layers += [nn.Conv2d(inputs, outputs, 3), nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.Flatten(), nn.Dropout(0.5), nn.Linear(6272, 512), nn.ReLU(), nn.Linear(512, 1)]
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.net = nn.Sequential(*layers).to(self.device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.RMSprop(self.net.parameters(), lr=1e-4, alpha=0.9, eps=1e-7)
        self.loss, self.torch = nn.BCEWithLogitsLoss(), torch

    def _images(self, images: Any) -> Any:
        """As the net takes them: the layout in memory stays that of the pictures."""
        return self.torch.as_tensor(images).to(self.device).permute(0, 3, 1, 2).float() / 255

    def train_step(self, batch: Batch) -> None:
        self.net.train()
        self.optimizer.zero_grad()
        labels = self.torch.as_tensor(batch[1]).to(self.device).float()
        loss = self.loss(self.net(self._images(batch[0]))[:, 0], labels)
        loss.backward()
        self.optimizer.step()
        loss.item()  # waits for a GPU

    def infer(self, batch: Batch) -> None:
        self.net.eval()
        with self.torch.inference_mode():
            self.net(self._images(batch[0])).sum().item()  # likewise

    def _loader(self, split: str, augment: bool) -> Any:
        pictures = TorchPictures(self.data / split, augment)
        return self.torch.utils.data.DataLoader(pictures, BATCH, shuffle=augment, num_workers=usable_cores())

    def batches(self) -> Iterator[Any]:
        return iter(self._loader("train", True))

    def epoch(self) -> None:
        for batch in self._loader("train", True):
            self.train_step(batch)
        for batch in self._loader("validation", False):
            self.infer(batch)


class TorchPictures:
    """The pictures of a split as a PyTorch data set."""

    def __init__(self, folder: Path, augment: bool) -> None:
        self.files = [(path, label) for label, kind in enumerate(sorted(folder.iterdir())) for path in kind.iterdir()]
        self.augment = augment

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        from PIL import Image

        from jaxconv.augment import AffineRanges, draw_matrix

        path, label = self.files[index]
        image = Image.open(path).convert("RGB").resize(SIZE[::-1], Image.Resampling.NEAREST)
        if self.augment:
            (a, b, c), (d, e, f) = draw_matrix(*SIZE, AffineRanges(), np.random.default_rng())
            image = image.transform(image.size, Image.Transform.AFFINE, (e, d, f, b, a, c), Image.Resampling.BILINEAR)
        return np.array(image), label


CONTESTANTS: dict[str, type[Contestant]] = {
    "jaxconv": Jaxconv,
    "keras-tensorflow": Keras,
    "keras-jax": Keras,
    "keras-grain": KerasGrain,
    "pytorch": Torch,
}


def measure(contestant: Contestant, what: str, count: int) -> float:
    """The seconds of `count` steps, predictions, passes of input, or epochs; or the peak memory so far in MB."""
    if what == "peak_mb":
        peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(peaks) / 1024  # of kB, on Linux
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, *SIZE, 3), dtype=np.uint8)
    batch = images, rng.integers(0, 2, BATCH).astype(np.int32)
    started = time.perf_counter()
    for _ in range(count):
        if what == "train_step":
            contestant.train_step(batch)
        elif what == "infer":
            contestant.infer(batch)
        elif what == "input":
            collections.deque(contestant.batches(), maxlen=0)
        else:
            contestant.epoch()
    return time.perf_counter() - started


def serve() -> None:
    """Answer what standard input asks of a contestant: `python -m tools.contestants NAME DATA [--one-core]`."""
    name, data = sys.argv[1], Path(sys.argv[2])
    if "--one-core" in sys.argv:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a framework prints is no answer
    contestant = CONTESTANTS[name](data)
    for line in sys.stdin:
        print(json.dumps(measure(contestant, *json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    serve()
