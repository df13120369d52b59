"""The settings of a run, from the net, the data, and what is given from Python."""

import dataclasses
from collections.abc import Mapping
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import msgspec
import optax

from jaxconv.config import Config, Data, Filter, Kind, Training
from jaxconv.data.records import SplitDirectory, Splits
from jaxconv.models import registry
from jaxconv.runs import directory
from jaxconv.runtime import sharding
from jaxconv.runtime.errors import InputError
from jaxconv.training.losses import Loss


@dataclasses.dataclass(frozen=True)
class Own:
    """What a run is given from Python: an optimizer, a loss, metrics. They are recorded by name and never rebuilt.

    A loss maps logits float[n, l] and targets float[n, k], one-hot or smoothed, to a value for each picture; so does a
    metric, of which the means over the validation and the test pictures are recorded.
    """

    tx: optax.GradientTransformation | None = None
    loss: Loss | None = None
    metrics: Mapping[str, Loss] = dataclasses.field(default_factory=dict)

    def names(self) -> dict[str, str]:
        """Where each is defined."""
        functions = {"tx": self.tx and self.tx.update, "loss": self.loss, **self.metrics}
        return {
            name: f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__name__)}"
            for name, function in functions.items()
            if function is not None
        }


NOTHING = Own()


def configure(
    model: nn.Module, data: Data, training: Training, seed: int, own: Own, *, experiment: str, variant: str
) -> Config:
    """The settings of a run.

    Raises:
        InputError: the devices cannot share a batch, or the test pictures would choose something.
        ValueError: the net has no logit for a class.
    """
    sharding.check_divides(training.batch_size)
    if data.validated_on_test and (training.patience is not None or training.schedule == "plateau"):
        chosen = "--patience and --schedule plateau go by val_loss"
        raise InputError(f"{chosen}, which is here that of the test pictures: leave them out")
    _check_logits(model, data)
    optimizer = None if own.tx else training.optimizer
    return Config(
        experiment=experiment,
        variant=variant,
        seed=seed,
        model=registry.describe(model, data.image_shape),
        data=data,
        training=msgspec.structs.replace(training, optimizer=optimizer, given=own.names()),
        **directory.environment(),
    )


def _check_logits(model: nn.Module, data: Data) -> None:
    """Raise ValueError where the net has no logit for a class: the loss would be that of something else."""
    apply, images = registry.Forward(model), jax.ShapeDtypeStruct((1, *data.image_shape), jnp.uint8)
    variables = jax.eval_shape(apply.init, jax.random.key(0), images)
    shape = jax.eval_shape(lambda variables, images: apply(variables, images, train=False), variables, images).shape
    logits, classes = shape[-1], len(data.class_names)
    if logits != classes and (logits, classes) != (1, 2):
        raise ValueError(f"a net of {logits} logits cannot tell {classes} classes apart")


def describe_data(splits: Splits, kind: Kind | None = None, path: str | None = None) -> Data:
    """What config.json says of the pictures; the kind and the folder of what `read_splits` reads are known."""
    train = splits.train
    folder = train if isinstance(train, SplitDirectory) else None
    return Data(
        class_names=list(train.class_names),
        image_shape=train[0]["image"].shape,
        interpolation=cast(Filter, folder.interpolation) if folder else "nearest",
        kind=kind or ("photos" if folder else "arrays"),
        path=path or (str(folder.root) if folder else None),
        counts={name: len(split) for name, split in splits._asdict().items()},
        fingerprint={name: split.fingerprint for name, split in splits._asdict().items()},
    )
