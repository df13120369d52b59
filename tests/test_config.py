"""The tree of settings: bounds, what `--resume` compares, and JSON."""

import json
from typing import get_type_hints

import msgspec
import numpy as np
import pytest

from jaxconv.config import BOOK_AUGMENTATION, Augmentation, Config, Data, Model, Optimizer, Setting, Training

DATA = Data(
    class_names=["cats", "dogs"],
    image_shape=(150, 150, 3),
    counts={"train": 7, "validation": 2, "test": 2},
    fingerprint={"train": "a" * 64, "validation": "b" * 64, "test": "c" * 64},
)
CONFIG = Config(
    experiment="catsdogs",
    variant="plain",
    seed=0,
    model=Model(name="CatsDogsConvNet", options={"dropout": 0.5}),
    data=DATA,
    training=Training(steps_per_epoch=100, augmentation=BOOK_AUGMENTATION),
    versions={"jax": "0.10.2"},
)


def changed(**parts):
    """CONFIG with other values in its parts."""
    new = {name: msgspec.structs.replace(getattr(CONFIG, name), **values) for name, values in parts.items()}
    return msgspec.structs.replace(CONFIG, **new)


@pytest.mark.parametrize(
    "setting, values, message",
    [
        (Training, {"epochs": 0}, "epochs is 0: give a whole number above 0"),
        (Training, {"epochs": 1.5}, "epochs is 1.5: give a whole number above 0"),
        (Training, {"batch_size": "8"}, "batch_size is 8: give a whole number above 0"),
        (Training, {"steps_per_epoch": 0}, "steps_per_epoch is 0: give a whole number above 0"),
        (Training, {"patience": -1}, "patience is -1: give a whole number above 0"),
        (Training, {"checkpoint_every": 0}, "checkpoint_every is 0: give a whole number above 0"),
        (Training, {"ema": 1.0}, "ema is 1.0: give a number between 0 and 1, such as 0.999"),
        (Training, {"ema": float("nan")}, "ema is NaN: give a number between 0 and 1"),
        (Training, {"label_smoothing": 1.0}, "label_smoothing is 1.0: give a number from 0 up to"),
        (Optimizer, {"learning_rate": 0.0}, "learning_rate is 0.0: give a number above 0 and up to 1e6, such as 1e-4"),
        (Optimizer, {"learning_rate": float("inf")}, "learning_rate is Infinity: give a number above 0"),
        (Optimizer, {"learning_rate": float("nan")}, "learning_rate is NaN: give a number above 0"),
        (Optimizer, {"schedule": "linear"}, "schedule is linear: give one of constant, cosine, plateau"),
        (Augmentation, {"shift": 1.0}, "shift is 1.0: give a number from 0 up to, but not including, 1"),
        (Augmentation, {"zoom": -0.1}, "zoom is -0.1: give a number from 0 up to"),
        (Augmentation, {"shear_deg": 90.0}, "shear_deg is 90.0: give degrees from 0 up to, but not including, 90"),
        (Augmentation, {"rotation_deg": 181.0}, "rotation_deg is 181.0: give degrees from 0 to 180"),
        (Data, {"class_names": ["cats"], "image_shape": (2, 2, 3)}, "class_names is .*: give the names of two classes"),
        (
            Data,
            {"class_names": ["a", "a"], "image_shape": (2, 2, 3)},
            "class_names is .*: give each class a different name",
        ),
        (Data, {"class_names": ["a", "b"], "image_shape": (2**20, 2**20, 3)}, "image_shape is .*: give at most"),
        (Data, {"class_names": ["a", "b"], "image_shape": (2, 2, 5)}, "image_shape is .*: give"),
        (Data, {"class_names": ["a", "b"], "image_shape": (2, 2, 3), "kind": "films"}, "kind is films: give one of"),
    ],
)
def test_wrong_values_fail_at_construction_and_are_named(setting, values, message):
    with pytest.raises(ValueError, match=message):
        setting(**values)


def test_what_is_written_is_read_again():
    assert msgspec.convert(json.loads(json.dumps(msgspec.to_builtins(CONFIG))), Config) == CONFIG
    imported = msgspec.structs.replace(CONFIG, training=None, seed=None)
    assert msgspec.json.decode(msgspec.json.encode(imported), type=Config) == imported
    assert imported.steps_of_an_epoch == 1


def test_values_are_kept_as_they_are_read_again():
    """Else the digest of a run's settings would be another after reading: 40 is written, and 40.0 read."""
    augmentation = Augmentation(rotation_deg=40, shift=np.float32(0.5))
    assert repr(augmentation.rotation_deg) == "40.0" and type(augmentation.shift) is float
    again = msgspec.json.decode(msgspec.json.encode(augmentation), type=Augmentation)
    assert json.dumps(msgspec.to_builtins(again)) == json.dumps(msgspec.to_builtins(augmentation))
    assert type(Training(epochs=np.int64(3)).epochs) is int
    with pytest.raises(ValueError, match="epochs is -1: give"):
        Training(epochs=np.int64(-1))


def test_an_epoch_is_so_many_steps_or_every_picture_once():
    """By default every picture once, as Keras users expect."""
    assert CONFIG.steps_of_an_epoch == 100
    assert changed(training={"steps_per_epoch": None, "batch_size": 2}).steps_of_an_epoch == 4
    assert Training().steps_per_epoch is None
    assert [Training(batch_size=20).steps_of_an_epoch(pictures) for pictures in (1, 20, 2001)] == [1, 1, 101]
    assert CONFIG.trained == (CONFIG.training, 0)


def test_every_setting_has_a_bound_in_words():
    """So that a wrong value is answered by what to give."""
    for setting in (Training, Optimizer, Augmentation):
        for name, kind in get_type_hints(setting, include_extras=True).items():
            if "int" in str(kind) or "float" in str(kind):
                assert "description" in str(kind) or "above 0" in str(kind), (setting, name)
    assert issubclass(Training, Setting)
