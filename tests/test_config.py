import pytest

from jaxconv.config import FitConfig
from jaxconv.errors import InputError


@pytest.mark.parametrize(
    "wrong, flag",
    [
        ({"epochs": 0}, "--epochs is 0"),
        ({"steps_per_epoch": -1}, "--steps-per-epoch is -1"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"learning_rate": 0.0}, "--learning-rate is 0.0"),
        ({"learning_rate": float("nan")}, "--learning-rate is nan"),
        ({"schedule": "square"}, "--schedule is square: give one of constant, cosine"),
        ({"seed": -1}, "--seed is -1"),
    ],
)
def test_numbers_that_make_no_run_are_named_as_their_flags(wrong, flag):
    numbers = {"epochs": 1, "steps_per_epoch": 1, "batch_size": 1, "learning_rate": 0.1} | wrong
    with pytest.raises(InputError, match=flag):
        FitConfig(**numbers)


def test_an_epoch_without_steps_is_every_picture_once():
    config = FitConfig(epochs=5, steps_per_epoch=None, batch_size=64, learning_rate=1e-3)
    assert [config.steps_of_an_epoch(pictures) for pictures in (60_000, 64, 65, 1)] == [938, 1, 2, 1]
    assert FitConfig(epochs=30, steps_per_epoch=100, batch_size=20, learning_rate=1e-4).steps_of_an_epoch(7) == 100
