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
        ({"seed": -1}, "--seed is -1"),
    ],
)
def test_numbers_that_make_no_run_are_named_as_their_flags(wrong, flag):
    numbers = {"epochs": 1, "steps_per_epoch": 1, "batch_size": 1, "learning_rate": 0.1} | wrong
    with pytest.raises(InputError, match=flag):
        FitConfig(**numbers)
