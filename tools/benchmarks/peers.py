"""Keras and PyTorch as contestants of `tools.bench`, each written as its users would write it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxconv.runtime.machine import usable_cores
from tools.benchmarks.contestants import Batch, Contestant
from tools.benchmarks.protocol import BATCH, IMAGE_SIZE


class Keras(Contestant):
    """Keras 3 on the backend that KERAS_BACKEND names, with the ImageDataGenerator of the book's code."""

    def __init__(self, data: Path) -> None:
        import keras
        from keras.src.legacy.preprocessing.image import ImageDataGenerator

        super().__init__(data)
        layers: list[Any] = [keras.Input((*IMAGE_SIZE, 3))]
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
        options = {"target_size": IMAGE_SIZE, "batch_size": BATCH, "class_mode": "binary"}
        return generator.flow_from_directory(self.data / split, **options)

    def batches(self) -> Iterator[Any]:
        flow = self._flow(self.augmented, "train")
        return (flow[index] for index in range(len(flow)))

    def epoch(self) -> None:
        train, validation = self._flow(self.augmented, "train"), self._flow(self.plain, "validation")
        self.model.fit(train, validation_data=validation, epochs=1, verbose=0)


class KerasGrain(Keras):
    """Keras 3 with Keras's Grain loader, which does not augment."""

    def batches(self) -> Iterator[Any]:
        from keras.utils import image_dataset_from_directory

        options = {
            "label_mode": "binary",
            "batch_size": BATCH,
            "image_size": IMAGE_SIZE,
            "format": "grain",
            "verbose": False,
        }
        return iter(image_dataset_from_directory(self.data / "train", **options))


class Torch(Contestant):
    """PyTorch, channels last; Pillow decodes and warps the pictures in one DataLoader worker a core."""

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
        """Floats in the net's order of axes. In memory, they keep the order of the pictures, channels last."""
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
            self.net(self._images(batch[0])).sum().item()  # waits for a GPU

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

        from jaxconv.config import BOOK_AUGMENTATION
        from jaxconv.data.augment import draw_matrix

        path, label = self.files[index]
        image = Image.open(path).convert("RGB").resize(IMAGE_SIZE[::-1], Image.Resampling.NEAREST)
        if self.augment:
            (a, b, c), (d, e, f) = draw_matrix(*IMAGE_SIZE, BOOK_AUGMENTATION, np.random.default_rng())
            image = image.transform(image.size, Image.Transform.AFFINE, (e, d, f, b, a, c), Image.Resampling.BILINEAR)
        return np.array(image), label
