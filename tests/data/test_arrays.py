import numpy as np
import pytest
from jaxtyping import TypeCheckError

from jaxconv.data import arrays
from jaxconv.data.arrays import ArraySource
from jaxconv.data.records import Source


def test_pictures_in_memory_are_a_source_too():
    images, labels = np.arange(24, dtype=np.uint8).reshape(3, 2, 4, 1), np.array([1, 0, 1], np.int32)
    source = ArraySource(images, labels, ["no", "yes"])
    assert isinstance(source, Source)
    assert len(source) == 3
    np.testing.assert_array_equal(source[2]["image"], images[2])
    assert (source[2]["label"], type(source[2]["label"]), source.class_names) == (1, int, ["no", "yes"])
    changed = images.copy()
    changed[1, 1, 1] += 1
    others = [ArraySource(changed, labels, ["no", "yes"]), ArraySource(images, np.roll(labels, 1), ["no", "yes"])]
    others.append(ArraySource(images.reshape(3, 4, 2, 1), labels, ["no", "yes"]))
    assert len({other.fingerprint for other in [source, *others]}) == 4


@pytest.mark.parametrize(
    "images, labels, message",
    [
        (np.zeros((2, 4, 4, 1), np.float32), np.zeros(2, np.int32), r"images are float32\[2, 4, 4, 1\], not uint8"),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.int32), r"images are uint8\[2, 4, 4\], not uint8\[n, h, w, c\]"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros((2, 1), np.int32), r"labels are int32\[2, 1\], not int32\[2\]"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros(3, np.int32), r"labels are int32\[3\], not int32\[2\]"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.float32), r"labels are float32\[2\], not int32\[2\]"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 2], np.int32), "label 2 is the index of none of 2 classes"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.array([-1, 0], np.int32), "label -1 is the index of none of 2 classes"),
    ],
)
def test_arrays_that_are_no_labelled_pictures_are_refused(images, labels, message):
    """In the tests the annotations are checked too, and before; users have the arrays' own check."""
    with pytest.raises(ValueError, match=message):
        arrays._check_arrays(images, labels, 2)
    with pytest.raises((ValueError, TypeCheckError)):
        ArraySource(images, labels, ["a", "b"])
