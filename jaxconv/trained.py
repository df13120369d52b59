"""A trained net and what its use needs, all of it read from a run directory."""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from jaxconv import models
from jaxconv.checkpoints import restore_params
from jaxconv.compilation import jit
from jaxconv.errors import InputError
from jaxconv.records import FILTERS, decode_rgb
from jaxconv.train_step import TrainState, evaluation_state, predict_step
from jaxconv.workdir import read_config

compiled_predict_step = jit(predict_step)

BATCH = 32  # pictures; beyond it a CPU's memory for activations grows, not its speed


@dataclasses.dataclass(frozen=True)
class Trained:
    """A net of a run: `epoch` says of when, `image_shape` is (height, width, channels), `config` is its config.json."""

    workdir: Path
    config: dict[str, Any]
    model: nn.Module
    state: TrainState
    epoch: float

    @property
    def class_names(self) -> list[str]:
        """In label order."""
        return self.config["class_names"]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """What the net takes."""
        return tuple(self.config["image_shape"])

    def decode(self, data: bytes) -> UInt8[np.ndarray, "h w c"]:
        """A picture file's bytes as the net was trained to see them; raises what `records.decode_rgb` raises."""
        height, width, channels = self.image_shape
        picture: Image.Image = decode_rgb(data)
        if channels == 1:
            picture = picture.convert("L")
        resized = picture.resize((width, height), FILTERS[self.config["data"]["interpolation"]])
        return np.asarray(resized).reshape(self.image_shape)

    def predict(self, images: UInt8[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n k"]:
        """The probability of each class, in label order; in batches of one size, for any number of pictures."""
        return np.concatenate([*self.predictions(images), np.empty((0, len(self.class_names)), np.float32)])

    def predictions(self, images: Iterable[UInt8[np.ndarray, "h w c"]]) -> Iterator[Float[np.ndarray, "n k"]]:
        """`predict` of pictures that come one by one, a batch at a time."""
        batch = np.zeros((BATCH, *self.image_shape), np.uint8)
        count = 0
        for image in images:
            batch[count] = image
            count += 1
            if count == BATCH:
                yield np.asarray(compiled_predict_step(self.state, batch))
                count = 0
        if count:
            yield np.asarray(compiled_predict_step(self.state, batch))[:count]


def load(workdir: Path, *, best: bool | None = None) -> Trained:
    """The net of a run: that of its lowest val_loss, or with `best=False` that of its newest checkpoint.

    By itself it takes the best, unless the pictures that chose it are also those of the test, as with MNIST.

    Raises:
        InputError: there is no run, or none of a known net, or its checkpoint is damaged.
    """
    config = read_config(workdir)
    try:
        prints, image_shape = config["data"]["fingerprint"], tuple(config["image_shape"])
        model = models.build(config["model"])
        steps = config["steps_per_epoch"] or -(-config["data"]["counts"]["train"] // config["batch_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{workdir / 'config.json'} is of no run of a known net ({error}): name another run"
        ) from error
    best = prints["validation"] != prints["test"] if best is None else best
    params, step = restore_params(model, image_shape, workdir, best=best)
    return Trained(workdir, config, model, evaluation_state(model, params), step / steps)
