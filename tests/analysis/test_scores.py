"""Scores against scikit-learn, and against values computed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from jaxconv.analysis import scores

TWO = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]])  # right, wrong, right, wrong
OF_TWO = np.array([0, 0, 1, 1])


def predictions(classes: int, count: int, seed: int, decimals: int = 1):
    """Probabilities with many ties, and labels that hold every class."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % classes)
    logits = rng.normal(size=(count, classes)).round(decimals) + 1.0 * np.eye(classes)[labels]
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(1, keepdims=True), labels


@settings(max_examples=40, deadline=None)
@given(classes=st.integers(2, 5), count=st.integers(10, 60), seed=st.integers(0, 10_000), decimals=st.integers(0, 2))
def test_scores_equal_those_of_scikit_learn(classes, count, seed, decimals):
    probabilities, labels = predictions(classes, count, seed, decimals)
    found = scores.summarize(probabilities, labels)
    predicted = probabilities.argmax(1)
    auc = (
        oracle.roc_auc_score(labels, probabilities[:, 1])
        if classes == 2
        else oracle.roc_auc_score(labels, probabilities, multi_class="ovr")
    )
    brier = oracle.brier_score_loss(labels, probabilities[:, 1] if classes == 2 else probabilities)
    assert found["auc"] == pytest.approx(auc, abs=1e-12)
    if classes == 2:  # float32 is what a net gives
        narrow = np.float32(probabilities)
        assert scores.roc_auc(narrow, labels) == pytest.approx(oracle.roc_auc_score(labels, narrow[:, 1]), abs=1e-12)
    assert found["brier_score"] == pytest.approx(brier, abs=1e-12)
    assert found["loss"] == pytest.approx(oracle.log_loss(labels, probabilities), abs=1e-12)
    assert found["accuracy"] == oracle.accuracy_score(labels, predicted)
    assert found["confusion"] == oracle.confusion_matrix(labels, predicted).tolist()
    of_classes = oracle.precision_recall_fscore_support(labels, predicted, zero_division=np.nan)
    np.testing.assert_allclose(found["precision"], of_classes[0], rtol=1e-12)
    np.testing.assert_allclose(found["recall"], of_classes[1], rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(classes=st.integers(2, 5), count=st.integers(10, 60), seed=st.integers(0, 10_000), bins=st.integers(1, 20))
def test_the_calibration_error_follows_its_definition(classes, count, seed, bins):
    probabilities, labels = predictions(classes, count, seed)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    expected = 0.0
    for number in range(bins):
        inside = (confidence > number / bins) & (confidence <= (number + 1) / bins)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert scores.calibration_error(probabilities, labels, bins) == pytest.approx(expected, abs=1e-12)


def test_a_confidence_just_above_a_bound_is_in_the_bin_above():
    """Times the number of bins, it is rounded to the bound: the two pictures would share a bin."""
    above = np.nextafter(1 / 3, 1)
    assert above * 3 == 1
    probabilities = np.array([[above, 1 / 3, 1 / 3], [0.3, 0.2, 0.1]])
    apart, together = ((1 - above) + 0.3) / 2, abs(1 - above - 0.3) / 2
    assert scores.calibration_error(probabilities, np.array([0, 1]), 3) == pytest.approx(apart, abs=1e-12)
    assert scores.calibration_error(probabilities, np.array([0, 1]), 2) == pytest.approx(together, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 5), order=st.randoms(use_true_random=False))
def test_the_order_of_the_pictures_changes_nothing(seed, classes, order):
    probabilities, labels = predictions(classes, 30, seed)
    shuffled = list(range(30))
    order.shuffle(shuffled)
    found, again = (
        scores.summarize(*p) for p in ((probabilities, labels), (probabilities[shuffled], labels[shuffled]))
    )
    for name, value in found.items():
        np.testing.assert_allclose(again[name], value, rtol=1e-12)


def test_hand_values():
    found = scores.summarize(TWO, OF_TWO)
    assert found["accuracy"] == 0.5
    assert found["loss"] == pytest.approx(-math.log(0.9 * 0.4 * 0.8 * 0.3) / 4)
    assert found["auc"] == 0.75  # of the four pairs of a dog and a cat, 0.3 against 0.6 alone is the wrong way round
    assert found["brier_score"] == pytest.approx((0.1**2 + 0.6**2 + 0.2**2 + 0.7**2) / 4)
    # Four bins of one picture each: 0.9 right, 0.6 wrong, 0.8 right, 0.7 wrong.
    assert found["calibration_error"] == pytest.approx((0.1 + 0.6 + 0.2 + 0.7) / 4)
    assert (found["confusion"], found["recall"], found["precision"]) == ([[1, 1], [1, 1]], [0.5, 0.5], [0.5, 0.5])


def test_wilsons_interval_follows_its_formula():
    for correct, count in ((0, 10), (7, 10), (10, 10), (821, 1000)):
        share, z = correct / count, 1.959963984540054
        middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
        half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
        assert scores.wilson_interval(correct, count) == pytest.approx((middle - half, middle + half), abs=1e-12)


def test_mistakes_are_sorted_by_confidence():
    assert scores.mistakes(TWO, OF_TWO) == [(3, 1, 0, 0.7), (1, 0, 1, 0.6)]
    assert scores.mistakes(TWO, TWO.argmax(1)) == []


def test_the_share_of_an_empty_set_is_nan():
    always_first = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0]])
    found = scores.summarize(always_first, np.array([0, 1]))
    assert found["precision"][0] == 0.5 and found["recall"][:2] == [1.0, 0.0]
    assert np.isnan([*found["precision"][1:], found["recall"][2], found["auc"]]).all()


def test_a_probability_that_was_rounded_to_zero_has_a_finite_loss():
    saturated = np.array([[1, 0]], np.float32)
    assert scores.log_loss(saturated, np.array([1])) == pytest.approx(126 * math.log(2), rel=1e-6)
    assert scores.log_loss(saturated, np.array([0])) == 0


def test_a_perfect_net_has_perfect_scores():
    found = scores.summarize(np.eye(3, dtype=np.float32), np.arange(3))
    perfect = {"accuracy": 1, "loss": 0, "auc": 1, "calibration_error": 0, "brier_score": 0}
    assert {name: found[name] for name in perfect} == perfect


def test_no_pictures_have_no_scores():
    with pytest.raises(ValueError, match="there are no pictures"):
        scores.summarize(TWO[:0], OF_TWO[:0])
