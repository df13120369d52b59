"""Make the settings of a run from its net, its data, and a custom optimizer, loss and metrics."""

import dataclasses
from collections.abc import Mapping
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import msgspec
import optax

from jaxconv.config import Config, Data, Filter, Kind, Training, Transfer
from jaxconv.data.records import SplitDirectory, Splits
from jaxconv.models import registry
from jaxconv.runs import directory
from jaxconv.runtime import sharding
from jaxconv.runtime.errors import InputError
from jaxconv.training.losses import Loss


@dataclasses.dataclass(frozen=True)
class Own:
    """A custom optimizer, loss and metrics. config.json records only their names.

    A loss maps logits float[n, l] and targets float[n, k] to a value for each picture, [n]. The targets are one-hot, or
    smoothed in training. A metric is such a function too; its means over the validation and the test pictures are
    recorded.
    """

    tx: optax.GradientTransformation | None = None
    loss: Loss | None = None
    metrics: Mapping[str, Loss] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError for a metric of a name that is taken."""
        if taken := self.metrics.keys() & {"loss", "acc", "confusion", "tx"}:
            raise ValueError(f"a metric cannot have the name {sorted(taken)[0]}: give it another")

    def names(self) -> dict[str, str]:
        """The qualified name of each function."""
        functions = {"tx": self.tx and self.tx.update, "loss": self.loss, **self.metrics}
        return {
            name: f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__name__)}"
            for name, function in functions.items()
            if function is not None
        }


NOTHING = Own()


def configure(
    model: nn.Module,
    data: Data,
    training: Training | None,
    seed: int,
    own: Own,
    *,
    experiment: str,
    variant: str,
    transfer: Transfer | None = None,
) -> Config:
    """The settings of a run; `training` is None for a head that is fitted to frozen features.

    Raises:
        InputError: the devices cannot share a batch equally, or patience or plateau would use the test pictures.
        ValueError: the net does not have one logit for each class, or a custom loss or metric does not give one value
            for each picture, or there is no optimizer.
    """
    _check_functions(model, data, own)
    if training is not None:
        training = _checked(training, data, own)
    return Config(
        experiment=experiment,
        variant=variant,
        seed=seed,
        model=registry.describe(model, data.image_shape),
        data=data,
        training=training,
        transfer=transfer,
        **directory.environment(),
    )


def _checked(training: Training, data: Data, own: Own) -> Training:
    """How the net is trained, with the names of the custom functions."""
    sharding.check_divides(training.batch_size)
    if data.validated_on_test and (training.patience is not None or training.schedule == "plateau"):
        chosen = "patience and the schedule plateau go by val_loss"
        raise InputError(f"{chosen}, and here the validation pictures are the test pictures: leave them out")
    if own.tx is None and training.optimizer is None:
        raise ValueError("there is no optimizer: give one in Training, or as tx")
    optimizer = None if own.tx else training.optimizer
    return msgspec.structs.replace(training, optimizer=optimizer, given=own.names())


def _check_functions(model: nn.Module, data: Data, own: Own) -> None:
    """Raise ValueError unless the net has one logit per class, and loss and metrics give one value per picture.

    Otherwise the scores would be wrong without an error.
    """
    apply, images = registry.Forward(model), jax.ShapeDtypeStruct((2, *data.image_shape), jnp.uint8)
    variables = registry.shapes(model, data.image_shape)
    logits = jax.eval_shape(lambda variables, images: apply(variables, images, train=False), variables, images)
    count, classes = logits.shape[-1], len(data.class_names)
    if count != classes and (count, classes) != (1, 2):
        raise ValueError(f"a net of {count} logits cannot tell {classes} classes apart")
    targets = jax.ShapeDtypeStruct((2, classes), jnp.float32)
    for name, function in {"loss": own.loss, **own.metrics}.items():
        shape = jax.eval_shape(function, logits, targets).shape if function else (2,)
        if shape != (2,):
            raise ValueError(f"{name} gives {list(shape)} for two pictures, not one value for each: [2]")


def describe_data(splits: Splits, kind: Kind | None = None, path: str | None = None) -> Data:
    """The description of the pictures in config.json. Of `read_splits`, the kind and the folder are known.

    Raises:
        ValueError: a split is empty, or the splits differ in their classes or image shapes.
    """
    train = splits.train
    named = splits.named()
    for name, split in named.items():
        if not len(split):
            raise ValueError(f"{name} has no pictures")
        if split.class_names != train.class_names or split[0]["image"].shape != train[0]["image"].shape:
            raise ValueError(f"{name} has other classes, or images of another shape, than train")
    folder = train if isinstance(train, SplitDirectory) else None
    return Data(
        class_names=list(train.class_names),
        image_shape=train[0]["image"].shape,
        interpolation=cast(Filter, folder.interpolation) if folder else "nearest",
        kind=kind or ("photos" if folder else "arrays"),
        path=path or (str(folder.root) if folder else None),
        counts={name: len(split) for name, split in named.items()},
        fingerprint={name: split.fingerprint for name, split in named.items()},
    )
