"""Logistic regression on features; scikit-learn's is the oracle."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.preprocessing import StandardScaler

from jaxconv.training import linear_head


def clouds(count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clouds of 8 features of different scales, one of them constant."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(classes, 8))
    labels = rng.integers(0, classes, count)
    features = (centres[labels] + 1.5 * rng.normal(size=(count, 8))) * 10.0 ** np.arange(-3, 5) + 3
    features[:, 2] = 7
    return features.astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("l2", [1.0, 1e-3])
def test_a_head_has_the_logits_of_scikit_learn(classes, l2):
    features, labels = clouds(200, classes)
    (head,) = linear_head.fit(features, labels, classes, [l2])
    scaler = StandardScaler().fit(features.astype(np.float64))
    standard = scaler.transform(features.astype(np.float64))
    standard[:, 2] = 0
    oracle = LogisticRegression(C=1 / (l2 * 200), tol=1e-8, max_iter=10_000).fit(standard, labels)
    found = head.logits(features)
    assert (head.kernel.shape, head.bias.shape, head.l2) == ((8, classes), (classes,), l2)
    expected = oracle.predict_proba(standard)
    probabilities = np.exp(found - found.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    if classes > 2:  # of two classes, scikit-learn penalizes one vector of weights in place of two
        np.testing.assert_allclose(probabilities, expected, atol=2e-3)
    else:
        (halved,) = linear_head.fit(features, labels, classes, [2 * l2])
        gap = halved.logits(features)
        np.testing.assert_allclose(gap[:, 1] - gap[:, 0], oracle.decision_function(standard), atol=1e-2)


def test_the_penalty_is_chosen_by_the_validation_loss():
    (train, labels), (validation, validation_labels) = clouds(60, 3), clouds(300, 3, seed=1)
    chosen = linear_head.choose(train, labels, validation, validation_labels, 3)
    losses = {
        head.l2: linear_head.log_loss(head.logits(validation), validation_labels)
        for head in linear_head.fit(train, labels, 3, linear_head.PENALTIES)
    }
    assert chosen.l2 == min(losses, key=losses.get) and 1e-4 < chosen.l2 < 1


def test_the_loss_is_the_mean_cross_entropy():
    logits, labels = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 4
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert linear_head.log_loss(logits, labels) == pytest.approx(sklearn_log_loss(labels, probabilities))
