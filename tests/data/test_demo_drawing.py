import cv2
import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from jaxconv.data.demo_drawing import draw


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, np.ndarray]:
    """Of each class 300 pictures at 32x32, cats and dogs in turn."""
    labels = np.arange(600) % 2
    pictures = [draw(label, np.random.default_rng([7, number])) for number, label in enumerate(labels.tolist())]
    return np.stack([cv2.resize(p, (32, 32), interpolation=cv2.INTER_AREA) for p in pictures]), labels


@pytest.mark.parametrize("label", [0, 1])
def test_pictures_are_rgb_bytes_of_many_sizes(label: int) -> None:
    pictures = [draw(label, np.random.default_rng(number)) for number in range(50)]
    assert all(p.dtype == np.uint8 and p.ndim == 3 and p.shape[2] == 3 for p in pictures)
    sides = np.array([p.shape[:2] for p in pictures])
    assert sides.min() >= 120 and sides.max() <= 260
    assert np.ptp(sides, axis=0).min() > 60
    aspects = sides[:, 0] / sides[:, 1]
    assert aspects.min() < 0.85 and aspects.max() > 1.2


def test_a_picture_depends_on_label_and_generator_alone() -> None:
    first, other = (draw(0, np.random.default_rng(seed)) for seed in (1, 2))
    np.random.default_rng(0).random()
    np.testing.assert_array_equal(draw(0, np.random.default_rng(1)), first)
    assert first.shape != other.shape or (first != other).any()


def test_cat_and_dog_of_one_generator_differ_in_the_animal_alone() -> None:
    for seed in range(10):
        cat, dog = (draw(label, np.random.default_rng(seed)).astype(int) for label in (0, 1))
        assert cat.shape == dog.shape
        changed = (np.abs(cat - dog).max(axis=2) > 8).mean()
        assert 0.02 < changed < 0.6


def test_mean_colour_does_not_tell_the_classes_apart(sample: tuple[np.ndarray, np.ndarray]) -> None:
    pictures, labels = sample
    colours = pictures.mean(axis=(1, 2))
    gap = colours[labels == 0].mean(axis=0) - colours[labels == 1].mean(axis=0)
    assert np.all(np.abs(gap) < 0.3 * colours.std(axis=0))


@pytest.mark.parametrize("alpha", [10.0, 100.0, 1000.0])
def test_a_linear_model_is_not_enough(sample: tuple[np.ndarray, np.ndarray], alpha: float) -> None:
    pictures, labels = sample
    pixels = pictures.reshape(len(labels), -1) / 255
    accuracy = RidgeClassifier(alpha=alpha).fit(pixels[:420], labels[:420]).score(pixels[420:], labels[420:])
    assert accuracy < 0.75
