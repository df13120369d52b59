import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxconv.training.losses import cross_entropy, predictions, probabilities


def one_hot(labels, classes):
    return jax.nn.one_hot(jnp.array(labels), classes)


def test_sigmoid_loss_and_prediction_by_hand():
    logits = jnp.array([[2.0], [-1.0], [0.0]])
    expected = [np.log(1 + np.exp(-2)), np.log(1 + np.e), np.log(2)]
    np.testing.assert_allclose(cross_entropy(logits, one_hot([1, 1, 0], 2)), expected, rtol=1e-6)
    assert predictions(logits).tolist() == [1, 0, 0]  # a logit of exactly 0 is no dog, as Keras rounds 0.5 down


def test_softmax_loss_and_prediction_by_hand():
    logits = jnp.array([[0.0, 0.0, 3.0], [0.0, 0.0, 0.0]])
    expected = [np.log(1 + 2 * np.exp(-3)), np.log(3)]
    np.testing.assert_allclose(cross_entropy(logits, one_hot([2, 1], 3)), expected, rtol=1e-6)
    assert predictions(logits).tolist() == [2, 0]


def test_smoothed_targets_by_hand():
    """A tenth of the target is shared by all classes; the sigmoid's loss is that of its two probabilities."""
    smoothed = optax.smooth_labels(one_hot([1], 2), 0.1)
    expected = -0.95 * np.log(1 / (1 + np.exp(-2))) - 0.05 * np.log(1 / (1 + np.exp(2)))
    np.testing.assert_allclose(cross_entropy(jnp.array([[2.0]]), smoothed), [expected], rtol=1e-6)
    shares = np.exp([0.0, 1.0, 3.0]) / np.exp([0.0, 1.0, 3.0]).sum()
    found = cross_entropy(jnp.array([[0.0, 1.0, 3.0]]), optax.smooth_labels(one_hot([2], 3), 0.3))
    np.testing.assert_allclose(found, [-(np.array([0.1, 0.1, 0.8]) * np.log(shares)).sum()], rtol=1e-6)


@pytest.mark.parametrize(
    "logits, targets, message",
    [
        ((4, 1), (3, 2), r"targets are \[3, 2\] beside logits \[4, 1\], not \[n, k\] beside"),
        ((4, 3), (4, 2), r"targets are \[4, 2\] beside logits \[4, 3\]"),
        ((4,), (4, 2), r"targets are \[4, 2\] beside logits \[4\]"),
        ((4, 1), (4, 3), "one logit cannot tell 3 classes apart"),
    ],
)
def test_shapes_that_do_not_fit_are_an_error_not_a_broadcast(logits, targets, message):
    """Also where annotations are not checked."""
    with pytest.raises(ValueError, match=message):
        cross_entropy.__wrapped__(jnp.zeros(logits), jnp.zeros(targets))


def test_probabilities_by_hand():
    np.testing.assert_allclose(probabilities(jnp.array([[0.0], [np.log(3)]])), [[0.5, 0.5], [0.25, 0.75]], rtol=1e-6)
    np.testing.assert_allclose(probabilities(jnp.log(jnp.array([[1.0, 2.0, 5.0]]))), [[0.125, 0.25, 0.625]], rtol=1e-6)
