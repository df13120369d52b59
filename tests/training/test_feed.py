"""Batches on their way to the devices, and evaluation."""

import itertools

import jax
import numpy as np
import optax
import pytest
from sklearn.utils.class_weight import compute_class_weight

from jaxconv.config import BOOK_AUGMENTATION, Training
from jaxconv.data.arrays import ArraySource
from jaxconv.data.batches import training_batches
from jaxconv.data.records import read_splits
from jaxconv.training.feed import Feed, balanced_weights, evaluate
from jaxconv.training.state import create_state
from tests.nets import SmallNet


@pytest.fixture(scope="module")
def splits(photos):
    return read_splits(photos, (12, 12))


@pytest.fixture(scope="module")
def state():
    return create_state(SmallNet(), (12, 12, 3), optax.sgd(0.1), 0)


def test_evaluation_does_not_depend_on_the_batch_size(splits, state):
    one, other = (evaluate(state, splits.validation, size) for size in (2, 5))
    assert (one["acc"], one["confusion"]) == (other["acc"], other["confusion"])
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    assert one["acc"] == np.trace(one["confusion"]) / 5
    assert np.sum(one["confusion"]) == 5


def test_evaluation_has_the_state_s_own_metrics(splits, state):
    metric_fns = (("one", lambda logits, targets: targets.sum(-1)), ("dogs", lambda logits, targets: targets[:, 1]))
    found = evaluate(state.replace(metric_fns=metric_fns), splits.validation, 4)
    assert (found["one"], found["dogs"]) == (1.0, pytest.approx(0.4))


@pytest.mark.parametrize("steps_per_epoch, counts", [(2, [4, 4, 4]), (None, [4, 2, 4])])
def test_a_feed_begins_at_any_step(splits, steps_per_epoch, counts):
    """The batch of a step is the same bytes and one-hot targets wherever the feed begins."""
    training = Training(steps_per_epoch=steps_per_epoch, batch_size=4, augmentation=BOOK_AUGMENTATION)
    whole = jax.device_get(list(itertools.islice(Feed(splits.train, training, 3, 0), 5)))
    rest = jax.device_get(list(itertools.islice(Feed(splits.train, training, 3, 2), 3)))
    jax.tree.map(np.testing.assert_array_equal, whole[2:], rest)
    assert [len(batch["image"]) for batch in rest] == counts
    assert {batch["image"].dtype for batch in whole} == {np.dtype(np.uint8)}
    options = {"seed": 3, "whole_passes": steps_per_epoch is None}
    plain = next(training_batches(splits.train, 4, **options))
    np.testing.assert_array_equal(whole[0]["target"], np.eye(2, dtype=np.float32)[plain["label"]])


def test_balanced_classes_have_weights(splits):
    """scikit-learn's are the oracle."""
    labels = np.array([0, 2, 2, 1, 2, 2, 1, 2], np.int32)
    source = ArraySource(np.zeros((8, 4, 4, 1), np.uint8), labels, ["a", "b", "c"])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(balanced_weights(source), expected, rtol=1e-6)
    batch = jax.device_get(next(Feed(source, Training(batch_size=8, class_weights="balanced"), 0, 0)))
    np.testing.assert_array_equal(batch["weight"], balanced_weights(source)[batch["target"].argmax(1)])
    assert batch["weight"].mean() == pytest.approx(1)
    assert "weight" not in next(Feed(source, Training(batch_size=8), 0, 0))
    with pytest.raises(ValueError, match="d has no training pictures, and so no balanced weight"):
        balanced_weights(ArraySource(source.images, labels, ["a", "b", "c", "d"]))


def test_a_feed_counts_the_seconds_that_it_is_waited_for(splits):
    feed = Feed(splits.train, Training(batch_size=4), 0, 0)
    assert feed.waited == 0
    next(feed)
    assert feed.waited > 0


def test_a_feed_reads_nothing_from_the_devices(splits, monkeypatch):
    """A read for every step would stop the device there."""
    monkeypatch.setattr(jax, "device_get", None)
    assert len(list(itertools.islice(Feed(splits.train, Training(batch_size=4), 0, 0), 3))) == 3
