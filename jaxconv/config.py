"""Typed settings of a run: they define config.json, the defaults of flags, and what `--resume` compares.

Every value is checked against its type and bounds when a setting is made. A field also says what `--resume` does if its
value differs from the value of the run: refuse (the default), allow it (`MAY_CHANGE`), or ignore it (`INFORMATIONAL`).
"""

import math
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta, Struct

from jaxconv.runtime.errors import short, wanted

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
Epochs = Annotated[int, Meta(ge=1, le=10**6, description="a whole number above 0"), MAY_CHANGE]  # to a larger one

Schedule = Literal["constant", "cosine", "plateau"]
Filter = Literal["nearest", "bilinear", "bicubic"]
SPLITS = ("train", "validation", "test")
DOWNSAMPLE = ("max", "average", "stride", "none")  # of MNIST's convnet
Kind = Literal["photos", "drawn", "MNIST", "arrays"]


class Setting(Struct, frozen=True, forbid_unknown_fields=True):
    """A group of settings.

    Raises:
        ValueError: a field has a wrong type or is out of bounds; the message has the field and its bounds.
    """

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self), include_extras=True).items():
            value = getattr(self, name)
            value = value.item() if hasattr(value, "item") else value  # NumPy's numbers
            try:
                converted = msgspec.convert(msgspec.to_builtins(value), kind)
            except (msgspec.ValidationError, TypeError, RecursionError) as error:
                raise ValueError(f"{name} is {short(value)}: give {wanted(kind) or error}") from None
            msgspec.structs.force_setattr(self, name, converted)  # as it will be read: 40 for a float is 40.0


class Augmentation(Setting, frozen=True, kw_only=True):
    """Ranges of the random transform of each training picture; each parameter is drawn uniformly.

    `shift` is a share of the side. Each axis is zoomed by a factor in [1 - zoom, 1 + zoom]. `flip` mirrors half.
    """

    rotation_deg: Degrees = 0.0
    shift: Share = 0.0
    shear_deg: ShearDegrees = 0.0
    zoom: Share = 0.0
    flip: bool = False


# Code 5-11. The book's software took its shear of 0.2 as radians, 11.46 degrees; later versions of Keras as degrees.
BOOK_AUGMENTATION = Augmentation(rotation_deg=40.0, shift=0.2, shear_deg=11.46, zoom=0.2, flip=True)


class Optimizer(Setting, frozen=True, kw_only=True):
    """RMSprop and the schedule of its learning rate.

    "constant" keeps the learning rate. "cosine" rises to it over the first tenth of all steps, and then falls to zero.
    "plateau" divides it by ten each time that val_loss has not improved for ten epochs.
    """

    name: Literal["rmsprop"] = "rmsprop"
    learning_rate: Rate = 1e-4
    decay: Between = 0.9
    eps: Rate = 1e-7
    schedule: Schedule = "constant"


class Training(Setting, frozen=True, kw_only=True):
    """How a net is trained.

    An epoch takes every picture once, or `steps_per_epoch` batches of an endless stream. With `patience`, training ends
    once val_loss has not improved for so many epochs. `ema` is the decay of an exponential moving average of the
    weights; validation, test and prediction then use the average. `label_smoothing` spreads this share of each training
    target evenly over all classes. With balanced `class_weights`, every class has the same weight in the loss, however
    many pictures it has. Checkpoints are saved after each epoch, and every `checkpoint_every` steps in it.
    With `fit(tx=...)`, `optimizer` is None. `given` has the names of a custom optimizer, loss and metrics.
    """

    epochs: Epochs = 30
    batch_size: Positive = 20
    steps_per_epoch: Positive | None = None
    optimizer: Optimizer | None = Optimizer()
    augmentation: Augmentation | None = None
    label_smoothing: Share = 0.0
    class_weights: Literal["balanced"] | None = None
    ema: Between | None = None
    patience: Positive | None = None
    checkpoint_every: Annotated[Positive | None, MAY_CHANGE] = None
    given: dict[str, str] = {}

    def steps_of_an_epoch(self, pictures: int) -> int:
        """The number of steps with this many training pictures."""
        return self.steps_per_epoch or math.ceil(pictures / self.batch_size)

    @property
    def schedule(self) -> str:
        """The schedule of the learning rate; "constant" for a custom optimizer."""
        return self.optimizer.schedule if self.optimizer else "constant"


class Model(Setting, frozen=True, kw_only=True):
    """A net: its name in `jaxconv.models.registry` and its options; of a custom net, its module, class and fields."""

    name: str
    options: dict[str, Any] = {}
    parameters: Annotated[int, INFORMATIONAL] = 0


class Data(Setting, frozen=True, kw_only=True):
    """The pictures of a run; `image_shape` is (height, width, channels).

    `counts` and `fingerprint` have a value for each split: the SHA-256 of the names and contents of its pictures.
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
            raise ValueError(f"class_names is {short(self.class_names)}: give each class a different name")

    @property
    def final_split(self) -> str:
        """The split of the final scores: test, or validation if there are no test pictures."""
        return "validation" if "validation" in self.counts and "test" not in self.counts else "test"

    @property
    def validated_on_test(self) -> bool:
        """Whether the validation pictures are the test pictures, by which nothing may be chosen."""
        return "test" in self.fingerprint and self.fingerprint["test"] == self.fingerprint.get("validation")


class Transfer(Setting, frozen=True, kw_only=True):
    """The weights that a net began with: the name of a pretrained net or of a run, and their SHA-256.

    Without training, the head was fitted to the training pictures or, with `augmentation`, to `views` versions of each.
    """

    weights: Annotated[str, INFORMATIONAL]
    sha256: str
    views: Positive = 1
    augmentation: Augmentation | None = None


class Config(Setting, frozen=True, kw_only=True):
    """The settings of a run, as saved in config.json.

    `training` and `seed` are None for an imported net; `training` alone, for a head fitted to frozen features.
    """

    format: Literal[2] = 2
    experiment: Annotated[str, INFORMATIONAL]
    variant: Annotated[str, INFORMATIONAL]  # made from the settings
    seed: Seed | None
    model: Model
    data: Data
    training: Training | None
    transfer: Transfer | None = None
    versions: Annotated[dict[str, str], INFORMATIONAL] = {}
    commit: Annotated[str | None, INFORMATIONAL] = None
    device: Annotated[dict[str, Any], INFORMATIONAL] = {}

    @property
    def trained(self) -> tuple[Training, int]:
        """The training and the seed."""
        assert self.training is not None and self.seed is not None
        return self.training, self.seed

    @property
    def steps_of_an_epoch(self) -> int:
        """The number of steps of an epoch; 1 for an imported net, whose only checkpoint has step 0."""
        return self.training.steps_of_an_epoch(self.data.counts["train"]) if self.training else 1
