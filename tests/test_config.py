import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        ({"schedule": "square"}, "--schedule is square: give one of constant, cosine, plateau"),
        ({"seed": -1}, "--seed is -1"),
        ({"checkpoint_every": 0}, "--checkpoint-every is 0"),
        ({"patience": 0}, "--patience is 0: give a whole number above 0"),
        ({"ema": 0.0}, "--ema is 0.0: give a number between 0 and 1"),
        ({"ema": 1.0}, "--ema is 1.0"),
        ({"ema": float("nan")}, "--ema is nan"),
    ],
)
def test_numbers_that_make_no_run_are_named_as_their_flags(wrong, flag):
    numbers = {"epochs": 1, "steps_per_epoch": 1, "batch_size": 1, "learning_rate": 0.1} | wrong
    with pytest.raises(InputError, match=flag):
        FitConfig(**numbers)


def test_what_tensorboard_needs_is_named_where_it_is_missing(monkeypatch):
    numbers = {"epochs": 1, "steps_per_epoch": 1, "batch_size": 1, "learning_rate": 0.1}
    assert FitConfig(**numbers, tensorboard=True).tensorboard
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert not FitConfig(**numbers).tensorboard
    with pytest.raises(InputError, match=r"--tensorboard needs tensorboardX: pip install -e '.\[tensorboard\]'"):
        FitConfig(**numbers, tensorboard=True)


def test_an_epoch_without_steps_is_every_picture_once():
    config = FitConfig(epochs=5, steps_per_epoch=None, batch_size=64, learning_rate=1e-3)
    assert [config.steps_of_an_epoch(pictures) for pictures in (60_000, 64, 65, 1)] == [938, 1, 2, 1]
    assert FitConfig(epochs=30, steps_per_epoch=100, batch_size=20, learning_rate=1e-4).steps_of_an_epoch(7) == 100


@pytest.mark.parametrize(
    "every, done, stretches",
    [
        (None, 0, [range(0, 5), range(5, 10)]),
        (2, 0, [range(0, 2), range(2, 4), range(4, 5), range(5, 7), range(7, 9), range(9, 10)]),
        (2, 3, [range(3, 4), range(4, 5), range(5, 7), range(7, 9), range(9, 10)]),
        (None, 6, [range(6, 10)]),
        (7, 0, [range(0, 5), range(5, 10)]),
        (2, 10, []),
    ],
)
def test_stretches_end_with_epochs_and_where_a_checkpoint_is_due(every, done, stretches):
    config = FitConfig(epochs=2, steps_per_epoch=5, batch_size=1, learning_rate=0.1, checkpoint_every=every)
    assert list(config.stretches(3, done)) == stretches


@given(
    epochs=st.integers(1, 5),
    steps=st.integers(1, 12),
    every=st.none() | st.integers(1, 15),
    share=st.floats(0, 1),
)
def test_stretches_from_anywhere_have_each_step_once_and_the_same_ends(epochs, steps, every, share):
    config = FitConfig(epochs=epochs, steps_per_epoch=steps, batch_size=1, learning_rate=0.1, checkpoint_every=every)
    done = int(share * epochs * steps)
    whole, rest = (list(config.stretches(1, start)) for start in (0, done))
    assert [step for stretch in rest for step in stretch] == [*range(done, epochs * steps)]
    assert [stretch.stop for stretch in rest] == [stretch.stop for stretch in whole if stretch.stop > done]
    assert {epoch * steps for epoch in range(1, epochs + 1)} <= {stretch.stop for stretch in whole}
