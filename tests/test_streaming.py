"""An epoch of batches from the host."""

import itertools

import jax
import numpy as np
import pytest

from jaxconv import metrics
from jaxconv.batches import training_batches
from jaxconv.config import FitConfig
from jaxconv.models import CatsDogsConvNet
from jaxconv.records import read_splits
from jaxconv.streaming import Streaming, evaluate, train_epoch
from jaxconv.train_step import create_state, rmsprop


@pytest.fixture(scope="module")
def splits(photos):
    return read_splits(photos, (46, 46))


def new_state():
    return create_state(CatsDogsConvNet(), (46, 46, 3), rmsprop(1e-4), 0)


def test_evaluation_does_not_depend_on_the_batch_size(splits):
    state = new_state()
    one, other = (metrics.mean(metrics.total(evaluate(state, splits.validation, size))) for size in (2, 5))
    assert (one["acc"], one["confusion"]) == (other["acc"], other["confusion"])
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    assert one["acc"] == np.trace(one["confusion"]) / 5


def test_an_epoch_reads_nothing_from_the_device_and_feeds_it_bytes(splits, monkeypatch):
    """What keeps the host out of the way; a read for every step would stop the device there."""
    dtypes = []
    batches = training_batches(splits.train, 4, seed=0)
    stream = (dtypes.append(batch["image"].dtype) or batch for batch in batches)
    monkeypatch.setattr(jax, "device_get", None)
    state, sums, waited = train_epoch(new_state(), itertools.islice(stream, 3))
    assert len(sums) == 3 and len(evaluate(state, splits.validation, 4)) == 2
    assert waited > 0
    assert set(dtypes) == {np.dtype(np.uint8)}


@pytest.mark.parametrize("steps_per_epoch, counts", [(2, [4, 4]), (None, [4, 2])])
def test_epochs_begin_where_they_are_told(splits, steps_per_epoch, counts):
    """The second of two, and the first after one that is done, have the same batches."""
    config = FitConfig(epochs=2, steps_per_epoch=steps_per_epoch, batch_size=4, learning_rate=1e-4, seed=3)
    whole, rest = (Streaming(splits, config, done, None) for done in (0, 2))
    whole.train(new_state(), range(2))
    (expected, found) = (feed.train(new_state(), range(2, 4))[1] for feed in (whole, rest))
    assert found["count"].tolist() == counts
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("stopped_after", [1, 2])
def test_a_stretch_ends_after_the_step_that_is_under_way(splits, stopped_after):
    config = FitConfig(epochs=1, steps_per_epoch=4, batch_size=4, learning_rate=1e-4)
    asked = itertools.count(1)
    feed = Streaming(splits, config, 0, None, lambda: next(asked) >= stopped_after)
    state, sums, _ = feed.train(new_state(), range(4))
    assert int(state.step) == len(sums["loss"]) == stopped_after
