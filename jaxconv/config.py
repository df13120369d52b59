"""The tree of settings: config.json, the defaults of the flags, and what `--resume` compares.

Every value is typed and bounded, and checked wherever it is made. A field also says what `--resume` does when it
differs from the run's: refuse (the default), allow it (`MAY_CHANGE`), or not look at it (`INFORMATIONAL`).
"""

import json
import math
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

FORMAT = 2  # the version of the run directory's layout; a directory of another version is refused
MAX_VALUES = 1 << 26  # height x width x channels of an image that a net is trained on

MAY_CHANGE = Meta(extra={"resume": "may change"})
INFORMATIONAL = Meta(extra={"resume": "informational"})

Positive = Annotated[int, Meta(ge=1, le=2**31 - 1, description="a whole number above 0")]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1, description="a whole number from 0 on")]
Rate = Annotated[float, Meta(gt=0, le=1e6, description="a number above 0 and up to 1e6, such as 1e-4")]
Between = Annotated[float, Meta(gt=0, lt=1, description="a number between 0 and 1, such as 0.999")]
Share = Annotated[float, Meta(ge=0, lt=1, description="a number from 0 up to, but not including, 1")]
Degrees = Annotated[float, Meta(ge=0, le=180, description="degrees from 0 to 180")]
ShearDegrees = Annotated[float, Meta(ge=0, lt=90, description="degrees from 0 up to, but not including, 90")]
Epochs = Annotated[int, Meta(ge=1, le=10**6, description="a whole number above 0"), MAY_CHANGE]  # may only grow

Schedule = Literal["constant", "cosine", "plateau"]
Filter = Literal["nearest", "bilinear"]
SPLITS = ("train", "validation", "test")
DOWNSAMPLE = ("max", "average", "stride", "none")  # in place of the poolings of MNIST's convnet
Kind = Literal["photos", "drawn", "MNIST", "arrays"]


class Setting(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the tree.

    Raises:
        ValueError: a field has a wrong type or is out of bounds; the message names the field and what it takes.
    """

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self), include_extras=True).items():
            value = getattr(self, name)
            value = value.item() if hasattr(value, "item") else value  # NumPy's numbers
            try:
                converted = msgspec.convert(msgspec.to_builtins(value), kind)
            except (msgspec.ValidationError, TypeError, RecursionError) as error:
                raise ValueError(f"{name} is {short(value)}: give {_wanted(kind) or error}") from None
            msgspec.structs.force_setattr(self, name, converted)  # as it is read again: 40 for a float is 40.0


class Augmentation(Setting, frozen=True, kw_only=True):
    """Ranges of the random transform of each training picture; each parameter is drawn uniformly.

    `shift` is a fraction of the side. The two axes are zoomed independently by factors in [1 - zoom, 1 + zoom]. `flip`
    mirrors every second picture.
    """

    rotation_deg: Degrees = 0.0
    shift: Share = 0.0
    shear_deg: ShearDegrees = 0.0
    zoom: Share = 0.0
    flip: bool = False


# Code 5-11. The book's software took its shear of 0.2 as radians, 11.46 degrees; later versions of Keras as degrees.
BOOK_AUGMENTATION = Augmentation(rotation_deg=40.0, shift=0.2, shear_deg=11.46, zoom=0.2, flip=True)


class Optimizer(Setting, frozen=True, kw_only=True):
    """RMSprop with its numbers, and the schedule of its learning rate.

    "constant" keeps the learning rate; "cosine" rises to it over the first tenth of all steps and falls to zero; with
    "plateau" it falls to a tenth once val_loss has not fallen for ten epochs.
    """

    name: Literal["rmsprop"] = "rmsprop"
    learning_rate: Rate = 1e-4
    decay: Between = 0.9
    eps: Rate = 1e-7
    schedule: Schedule = "constant"


class Training(Setting, frozen=True, kw_only=True):
    """How a net is trained.

    An epoch is `steps_per_epoch` batches of an endless stream or, with None, every picture once. With `patience` a run
    ends once val_loss has not fallen for so many epochs. `ema` is the decay of an exponential moving average of the
    weights, which then takes their place in validation, test and prediction. `label_smoothing` moves that share of each
    training target to all classes alike. A checkpoint is saved at the end of each epoch and, within it, after every
    `checkpoint_every` steps. `optimizer` is None where a run was given an optimizer of its own, named in `given`, as
    are its own loss and metrics.
    """

    epochs: Epochs = 30
    batch_size: Positive = 20
    steps_per_epoch: Positive | None = 100
    optimizer: Optimizer | None = Optimizer()
    augmentation: Augmentation | None = None
    label_smoothing: Share = 0.0
    ema: Between | None = None
    patience: Positive | None = None
    checkpoint_every: Annotated[Positive | None, MAY_CHANGE] = None
    given: dict[str, str] = {}

    def steps_of_an_epoch(self, pictures: int) -> int:
        """The number of steps with this many training pictures."""
        return self.steps_per_epoch or math.ceil(pictures / self.batch_size)

    @property
    def schedule(self) -> str:
        """The schedule of the learning rate; "constant" for an optimizer of the run's own."""
        return self.optimizer.schedule if self.optimizer else "constant"


class Model(Setting, frozen=True, kw_only=True):
    """A net: its name in `jaxconv.models.registry` and its options, or the name and the fields of a net of one's own.

    Nothing that a run directory says is imported: a net of one's own is given again to `analysis.predictor.Predictor`.
    """

    name: str
    options: dict[str, Any] = {}
    parameters: Annotated[int, INFORMATIONAL] = 0


class Data(Setting, frozen=True, kw_only=True):
    """The pictures of a run. Every tool needs this part.

    `image_shape` is (height, width, channels). `counts` and `fingerprint` are by split; a fingerprint is the SHA-256 of
    the names and contents of a split's pictures.
    """

    class_names: Annotated[list[str], Meta(min_length=2, description="the names of two classes or more")]
    image_shape: tuple[Positive, Positive, Annotated[int, Meta(ge=1, le=4)]]
    interpolation: Filter = "nearest"
    kind: Kind = "photos"
    path: Annotated[str | None, INFORMATIONAL] = None
    counts: dict[str, Positive] = {}
    fingerprint: dict[str, str] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        if math.prod(self.image_shape) > MAX_VALUES:
            raise ValueError(f"image_shape is {self.image_shape}: give at most {MAX_VALUES:,} values")
        if len(set(self.class_names)) < len(self.class_names):
            raise ValueError(f"class_names is {short(self.class_names)}: give each class a name of its own")

    @property
    def validated_on_test(self) -> bool:
        """Whether the validation pictures are the test pictures, which must then choose nothing."""
        return "test" in self.fingerprint and self.fingerprint["test"] == self.fingerprint.get("validation")


class Config(Setting, frozen=True, kw_only=True):
    """Everything that a run says of itself, as config.json has it.

    `experiment`, `variant` and `seed` are what runs are grouped by. `training` and `seed` are None for a net that was
    imported.
    """

    format: Literal[2] = 2
    experiment: Annotated[str, INFORMATIONAL]
    variant: Annotated[str, INFORMATIONAL]  # made from the settings
    seed: Seed | None
    model: Model
    data: Data
    training: Training | None
    versions: Annotated[dict[str, str], INFORMATIONAL] = {}
    commit: Annotated[str | None, INFORMATIONAL] = None
    device: Annotated[dict[str, Any], INFORMATIONAL] = {}

    @property
    def steps_of_an_epoch(self) -> int:
        """The number of steps of an epoch; 1 for an imported net, whose only checkpoint is that of step 0."""
        return self.training.steps_of_an_epoch(self.data.counts["train"]) if self.training else 1


def _wanted(kind: Any) -> str | None:
    """What a field takes, in words; None if only msgspec knows."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, parts))}"
    described = [part.description for part in parts if isinstance(part, Meta) and part.description]
    return next((wanted for wanted in [*described, *map(_wanted, parts)] if wanted), None)


def short(value: Any) -> str:
    """A value as it stands in config.json; long ones, such as fingerprints, by their beginning."""
    try:
        text = value if isinstance(value, str) else json.dumps(msgspec.to_builtins(value))
    except TypeError:
        text = repr(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
