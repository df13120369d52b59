"""`Predictor`: the trained net of a run directory, ready for new pictures."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, NoReturn

import flax.linen as nn
import numpy as np
from jaxtyping import Float, UInt8

from jaxconv.config import Config
from jaxconv.data.images import decode, quiet_pillow, reason
from jaxconv.models import registry
from jaxconv.runs.directory import CONFIG, read_config
from jaxconv.runs.history import uses_last
from jaxconv.runs.proof import settings_digest
from jaxconv.runs.variables import restore_variables
from jaxconv.runtime.errors import InputError
from jaxconv.runtime.machine import usable_cores
from jaxconv.training.state import evaluation_state
from jaxconv.training.steps import compiled_predict_step

BATCH = 32  # pictures; larger batches take more memory on a CPU, and are no faster
AHEAD = 128  # pictures that are decoded before their prediction: four batches

# Ways to show a picture to the net. The probabilities of several views are averaged.
VIEWS = {"plain": lambda image: image, "mirrored": lambda image: image[:, ::-1]}


class Prediction(NamedTuple):
    """The most probable class of a picture file, and its probability."""

    path: str
    class_name: str
    probability: float


class Predictor:
    """The trained net of a run.

    `best=True` takes the weights with the lowest val_loss, `best=False` the weights of the newest checkpoint. The
    default is the best, but the newest after a cosine schedule, and if the test pictures validated, as with MNIST.

    `model` is a custom net, or its class. The class gets its fields from config.json; a field with a value that is not
    JSON, such as a function, keeps its default.

    Attributes: `workdir`; `config`, the settings of the run; `model`; `state`, for `predict_step` and `eval_step`; and
    `epoch`, the epoch of the weights, which has a fraction if they were saved within an epoch.

    Raises InputError: the directory has no run, `model` is missing or another net, or the checkpoint is damaged.
    """

    def __init__(
        self, workdir: str | Path, *, best: bool | None = None, model: type[nn.Module] | nn.Module | None = None
    ) -> None:
        self.workdir = Path(workdir)
        self.config = read_config(self.workdir)
        self.model = _net(self.workdir, self.config, model)
        best = not uses_last(self.config) if best is None else best
        shapes = registry.shapes(self.model, self.image_shape)
        kept = {name: part for name, part in shapes.items() if name in ("params", "batch_stats")}
        settings = settings_digest(self.config)
        variables, step = restore_variables(self.workdir / "checkpoints", kept, settings, best=best)
        self.state = evaluation_state(self.model, variables)
        epoch, in_epoch = divmod(step, self.config.steps_of_an_epoch)
        self.epoch = epoch + in_epoch / self.config.steps_of_an_epoch if in_epoch else epoch

    @property
    def class_names(self) -> list[str]:
        """The class names in label order."""
        return self.config.data.class_names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape of the net's input: (height, width, channels)."""
        return self.config.data.image_shape

    def decode(self, data: bytes) -> UInt8[np.ndarray, "h w c"]:
        """Decode the bytes of a picture file and resize the picture as in training.

        Raises the exceptions of `images.decode`.
        """
        height, width, channels = self.image_shape
        return decode(data, (height, width), self.config.data.interpolation, channels)

    def probabilities(
        self, images: Iterable[UInt8[np.ndarray, "h w c"]], views: Sequence[str] = ("plain",)
    ) -> Float[np.ndarray, "n k"]:
        """The probability of each class, in label order, for any number of pictures.

        `views` are names in `VIEWS`, such as ("plain", "mirrored").

        Raises:
            ValueError: an image is not uint8, or has another shape than the net's.
        """
        return np.concatenate([*self.batches(images, views), np.empty((0, len(self.class_names)), np.float32)])

    def batches(
        self, images: Iterable[UInt8[np.ndarray, "h w c"]], views: Sequence[str] = ("plain",)
    ) -> Iterator[Float[np.ndarray, "n k"]]:
        """Yield the `probabilities` of a stream of pictures batch by batch. All batches have one size on the device."""
        pictures = iter(images)
        while taken := list(itertools.islice(pictures, BATCH)):
            for image in taken:
                if image.dtype != np.uint8 or image.shape != self.image_shape:
                    found = f"{image.dtype}{list(image.shape)}"
                    raise ValueError(f"an image is {found}, not uint8{list(self.image_shape)}")
            batch = np.zeros((len(views), BATCH, *self.image_shape), np.uint8)
            for view, name in enumerate(views):
                batch[view, : len(taken)] = [VIEWS[name](image) for image in taken]
            rows = [np.asarray(compiled_predict_step(self.state, view)) for view in batch]
            yield np.mean(rows, 0)[: len(taken)]

    def predict(self, paths: Iterable[str | Path]) -> list[Prediction]:
        """The most probable class of each picture file.

        Raises:
            InputError: a file is not a picture that can be decoded.
        """
        with quiet_pillow():
            return [
                Prediction(str(path), self.class_names[row.argmax()], float(row.max()))
                for path, row in self.predict_files(map(Path, paths), _refuse)
            ]

    def read_picture(self, path: Path) -> UInt8[np.ndarray, "h w c"]:
        """Read and `decode` a picture file.

        Raises:
            InputError: the file is not a picture that can be decoded.
        """
        try:
            with quiet_pillow():
                return self.decode(path.read_bytes())
        except MemoryError:  # not a fault of the file
            raise
        # Pillow's plugins raise OSError, ValueError, SyntaxError, struct.error and more on damaged files.
        except Exception as error:
            _refuse(path, error)

    def predict_files(
        self, paths: Iterable[Path], skip: Callable[[Path, Exception], None], *, invert: bool = False
    ) -> Iterator[tuple[Path, Float[np.ndarray, " k"]]]:
        """Yield each file with its probabilities, in order; with `invert`, those of its negative, white for black.

        For a file that cannot be decoded, call `skip`.
        """
        waiting: deque[Path] = deque()

        def images() -> Iterator[np.ndarray]:
            for path, job in self._decoding(paths):
                try:
                    image = job.result()
                except MemoryError:  # not a fault of the file
                    raise
                except Exception as error:  # as in `read_picture`
                    skip(path, error)
                    continue
                waiting.append(path)
                yield 255 - image if invert else image

        for batch in self.batches(images()):
            for row in batch:
                yield waiting.popleft(), row

    def _decoding(self, paths: Iterable[Path]) -> Iterator[tuple[Path, "Future[np.ndarray]"]]:
        """Decode in threads, before the prediction; Pillow releases the interpreter lock."""
        jobs: deque[tuple[Path, Future[np.ndarray]]] = deque()
        with ThreadPoolExecutor(usable_cores()) as pool:
            for path in paths:
                jobs.append((path, pool.submit(lambda path: self.decode(path.read_bytes()), path)))
                if len(jobs) == AHEAD:
                    yield jobs.popleft()
            yield from jobs


def _refuse(path: Path, error: Exception) -> NoReturn:
    raise InputError(f"{path} is no picture that can be decoded ({reason(error)}): name another file") from error


def _net(workdir: Path, config: Config, model: type[nn.Module] | nn.Module | None) -> nn.Module:
    if isinstance(model, type):
        return registry.build_custom(model, config.model, config.data.image_shape)
    if model is not None:
        return model
    name = config.model.name
    if name not in registry.MODELS:
        raise InputError(
            f"{workdir / CONFIG} names the net {name!r}, which is not one of jaxconv's: give its class with --model "
            "MODULE:CLASS (in Python, model=), or name another run"
        )
    try:
        net = registry.build(name, config.model.options)
        registry.shapes(net, config.data.image_shape)
        return net
    except (TypeError, ValueError) as error:
        raise InputError(f"{workdir / CONFIG} does not describe a net ({error}): name another run") from error
