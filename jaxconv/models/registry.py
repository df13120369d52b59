"""Nets by name, and how a net sees uint8 images."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from jaxconv.config import Model
from jaxconv.models.convnets import CatsDogsConvNet, DenseNet, MnistConvNet
from jaxconv.models.summary import count_params

MODELS: dict[str, type[nn.Module]] = {model.__name__: model for model in (CatsDogsConvNet, MnistConvNet, DenseNet)}


def describe(model: nn.Module, image_shape: tuple[int, int, int]) -> Model:
    """What config.json says of a net: its name, or that of its class's module and class, and its options."""
    parameters = count_params(shapes(model, image_shape).get("params", {}))
    name = type(model).__name__ if _is_known(model) else f"{type(model).__module__}:{type(model).__qualname__}"
    return Model(name=name, options=options(model), parameters=parameters)


def options(model: nn.Module) -> dict[str, Any]:
    """The fields of a net in JSON's types, from which `build` makes a net of the registry again.

    A value that JSON does not have, as a net of one's own may have one, is there by its type.
    """
    fields = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    kept = {name: value for name, value in fields.items() if name not in ("name", "parent")}
    if _is_known(model):
        kept["dtype"] = jnp.dtype(kept["dtype"]).name
    return {name: _in_json(value) for name, value in kept.items()}


def shapes(model: nn.Module, image_shape: tuple[int, int, int]) -> Any:
    """The variables of a net as `jax.ShapeDtypeStruct`s, for images of (height, width, channels)."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.uint8)
    return jax.eval_shape(Forward(model).init, jax.random.key(0), images)


def _is_known(model: nn.Module) -> bool:
    return MODELS.get(type(model).__name__) is type(model)


def _in_json(value: Any) -> Any:
    """The value as JSON gives it back, in which a tuple is a list."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        return type(value).__name__


def build(name: str, options: Mapping[str, Any]) -> nn.Module:
    """The net of this name.

    Raises:
        ValueError: the registry has none of this name, or the net has no such options.
    """
    if name not in MODELS:
        raise ValueError(f"model {name!r} is none of {', '.join(MODELS)}")
    known = {field.name for field in dataclasses.fields(MODELS[name])} - {"name", "parent"}
    if unknown := options.keys() - known:
        raise ValueError(f"model {name} has no option {', '.join(sorted(unknown))}")
    return MODELS[name](**options)


def to_unit_floats(images: UInt8[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """float32 in [0, 1], as the chapter's nets see images."""
    return images.astype(jnp.float32) / 255


@dataclasses.dataclass(frozen=True, eq=False)
class Forward:
    """A net as a function of uint8 images: (variables, images, train=..., rngs=..., mutable=...) to logits.

    The net's own `normalize`, a function of uint8 images, makes them floats; without one they become [0, 1]. Forwards
    of equal nets are equal, so that their steps are compiled once.

    Raises:
        ValueError: the images are not uint8[n, h, w, c]; scaled images would be scaled twice.
    """

    model: nn.Module

    def __hash__(self) -> int:
        return hash(type(self.model))  # a net with a list among its fields has no hash

    def __eq__(self, other: object) -> bool:
        try:
            return isinstance(other, Forward) and bool(self.model == other.model)
        except (TypeError, ValueError):  # fields that cannot be compared, as arrays
            return False

    def __call__(self, variables: Any, images: Array, **options: Any) -> Any:
        """What `model.apply` returns."""
        return self.model.apply(variables, self.normalize(images), **options)

    def init(self, key: Array, images: Array) -> Any:
        """Fresh variables."""
        return self.model.init(key, self.normalize(images), train=False)

    def normalize(self, images: Array) -> Float[Array, "n h w c"]:
        """Images as the net takes them."""
        if images.dtype != jnp.uint8 or images.ndim != 4:
            raise ValueError(f"images are {images.dtype}{list(images.shape)}, not uint8[n, h, w, c]")
        return getattr(self.model, "normalize", to_unit_floats)(images)
