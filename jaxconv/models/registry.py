"""Nets by name, and the input of a net: uint8 images."""

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
from jaxconv.models.efficientnet import EfficientNetLite0
from jaxconv.models.summary import count_params
from jaxconv.runtime.errors import InputError

MODELS: dict[str, type[nn.Module]] = {
    model.__name__: model for model in (CatsDogsConvNet, MnistConvNet, DenseNet, EfficientNetLite0)
}


def describe(model: nn.Module, image_shape: tuple[int, int, int]) -> Model:
    """The description of a net in config.json: its name, or the module and name of a custom class; and its options."""
    parameters = count_params(shapes(model, image_shape).get("params", {}))
    name = type(model).__name__ if _is_known(model) else f"{type(model).__module__}:{type(model).__qualname__}"
    return Model(name=name, options=options(model), parameters=parameters)


def options(model: nn.Module) -> dict[str, Any]:
    """The fields of a net as JSON. Other values are replaced by their type names."""
    kept = {field.name: getattr(model, field.name) for field in _fields(type(model))}
    if _is_known(model):
        kept["dtype"] = jnp.dtype(kept["dtype"]).name
    return {name: _in_json(value) for name, value in kept.items()}


def shapes(model: nn.Module, image_shape: tuple[int, int, int]) -> Any:
    """The variables of a net as `jax.ShapeDtypeStruct`s, for images of (height, width, channels)."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.uint8)
    return jax.eval_shape(Forward(model).init, jax.random.key(0), images)


def _is_known(model: nn.Module) -> bool:
    return MODELS.get(type(model).__name__) is type(model)


def _fields(model: type[nn.Module]) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(model) if field.name not in ("name", "parent")]


def _in_json(value: Any) -> Any:
    """The value after writing and reading it as JSON, which turns a tuple into a list."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        return type(value).__name__


def build(name: str, options: Mapping[str, Any]) -> nn.Module:
    """The net of this name.

    Raises:
        ValueError: the registry has no net of this name, or the net does not have these options.
    """
    if name not in MODELS:
        raise ValueError(f"model {name!r} is none of {', '.join(MODELS)}")
    if unknown := options.keys() - {field.name for field in _fields(MODELS[name])}:
        raise ValueError(f"model {name} has no option {', '.join(sorted(unknown))}")
    return MODELS[name](**options)


def build_custom(model: type[nn.Module], recorded: Model, image_shape: tuple[int, int, int]) -> nn.Module:
    """The net of a custom class with the recorded options.

    A field keeps its default if both are recorded in the same way, such as two functions.

    Raises:
        InputError: the class does not take the options, or gives a net with another number of parameters.
    """
    defaults = {field.name: _in_json(_default(field)) for field in _fields(model)}
    given = {name: value for name, value in recorded.options.items() if defaults.get(name, ...) != value}
    cure = "give the class of the run; fields that are not JSON must equal their defaults, or give jc.Predictor a net"
    try:
        net = model(**{name: _as_tuple(value) for name, value in given.items()})
        parameters = describe(net, image_shape).parameters
    except Exception as error:  # the class may raise anything
        raise InputError(f"{model.__name__} does not take the options in config.json ({error}): {cure}") from error
    if parameters != recorded.parameters:
        found = f"{parameters:,} parameters in place of {recorded.parameters:,}"
        raise InputError(f"{model.__name__} has {found} with the options in config.json: {cure}")
    return net


def _default(field: "dataclasses.Field[Any]") -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _as_tuple(value: Any) -> Any:
    """The value with tuples in place of lists, which would make a net unhashable."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def to_unit_floats(images: UInt8[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """float32 in [0, 1], as the chapter's nets see images."""
    return images.astype(jnp.float32) / 255


@dataclasses.dataclass(frozen=True, eq=False)
class Forward:
    """A net as a function of uint8 images: (variables, images, train=..., rngs=..., mutable=...) to logits.

    The method `normalize` of the net, a function of uint8 images, converts them to floats. Without this method, they
    are scaled to [0, 1]. Forwards of equal nets are equal, so that their steps are compiled once.

    Raises:
        ValueError: the images are not uint8[n, h, w, c]. Scaled images would be scaled twice.
    """

    model: nn.Module

    def __hash__(self) -> int:
        return hash(type(self.model))  # a net with a list among its fields has no hash

    def __eq__(self, other: object) -> bool:
        try:
            return isinstance(other, Forward) and bool(self.model == other.model)
        except (TypeError, ValueError):  # fields that cannot be compared, such as arrays
            return False

    def __call__(self, variables: Any, images: Array, **options: Any) -> Any:
        """Return the result of `model.apply`."""
        return self.model.apply(variables, self.normalize(images), **options)

    def init(self, key: Array, images: Array) -> Any:
        """Fresh variables."""
        return self.model.init(key, self.normalize(images), train=False)

    def normalize(self, images: Array) -> Float[Array, "n h w c"]:
        """The images as input of the net."""
        if images.dtype != jnp.uint8 or images.ndim != 4:
            raise ValueError(f"images are {images.dtype}{list(images.shape)}, not uint8[n, h, w, c]")
        return getattr(self.model, "normalize", to_unit_floats)(images)
