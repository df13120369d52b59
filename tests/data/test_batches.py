import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxconv.data.augment import RandomAffine
from jaxconv.data.batches import batch_positions, evaluation_batches, training_batches


class Numbers:
    """Records whose picture is their number."""

    fingerprint = ""

    def __init__(self, n: int) -> None:
        self.n, self.class_names = n, ["even", "odd"]

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int):
        image = np.zeros((8, 10, 3), np.uint8)
        image[2:6, 3:8] = index
        return {"image": image, "label": int(index)}


def take(count, *arguments, **options):
    return list(itertools.islice(training_batches(*arguments, **options), count))


def labels(batches):
    return np.concatenate([batch["label"] for batch in batches])


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 40), batch=st.integers(1, 12), seed=st.integers(0, 2**40))
def test_every_record_comes_once_a_pass_in_another_order(n, batch, seed):
    batches = take(-(-3 * n // batch), Numbers(n), batch, seed=seed, threads=0)
    assert all(len(b["label"]) == batch for b in batches)
    passes = labels(batches)[: 3 * n].reshape(3, n)
    assert (np.sort(passes) == np.arange(n)).all()
    if n > 10:
        assert len({tuple(row) for row in passes}) == 3


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 40), batch=st.integers(1, 12), seed=st.integers(0, 2**40))
def test_whole_passes_end_with_what_is_left(n, batch, seed):
    steps = -(-n // batch)
    batches = take(3 * steps, Numbers(n), batch, seed=seed, whole_passes=True, threads=0)
    assert [len(b["label"]) for b in batches] == 3 * [*[batch] * (steps - 1), n - batch * (steps - 1)]
    passes = labels(batches).reshape(3, n)
    assert (np.sort(passes) == np.arange(n)).all()
    if n > 10:
        assert len({tuple(row) for row in passes}) == 3


@pytest.mark.parametrize("threads", [0, 2])
def test_whole_passes_can_begin_anywhere_and_augment_each_anew(threads):
    options = {"seed": 0, "augment": RandomAffine(), "whole_passes": True, "threads": threads}
    whole, rest = take(12, Numbers(20), 6, **options), take(4, Numbers(20), 6, first_step=7, **options)
    for one, other in zip(whole[7:], rest, strict=False):
        np.testing.assert_array_equal(one["image"], other["image"])
    images = {}
    for batch in whole:
        for image, label in zip(batch["image"], batch["label"], strict=True):
            images.setdefault(int(label), []).append(image)
    assert all(len(versions) == 3 for versions in images.values())
    assert sum((a != b).any() and (b != c).any() for a, b, c in images.values()) >= 18


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_the_number_of_threads_changes_no_byte(threads):
    options = {"seed": 3, "augment": RandomAffine()}
    expected = take(12, Numbers(20), 6, threads=0, **options)
    actual = take(12, Numbers(20), 6, threads=threads, **options)
    for one, other in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["label"], other["label"])


def test_batches_are_uint8_and_int32():
    (batch,) = take(1, Numbers(20), 6, seed=0)
    assert (batch["image"].shape, batch["image"].dtype) == ((6, 8, 10, 3), np.uint8)
    assert (batch["label"].shape, batch["label"].dtype) == ((6,), np.int32)


def test_the_stream_can_begin_anywhere():
    whole = take(9, Numbers(20), 6, seed=0, augment=RandomAffine())
    rest = take(4, Numbers(20), 6, seed=0, augment=RandomAffine(), first_step=5)
    for one, other in zip(whole[5:], rest, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])


def test_augmentation_does_not_move_the_order_and_differs_each_pass():
    plain = take(10, Numbers(20), 4, seed=0)
    augmented = take(10, Numbers(20), 4, seed=0, augment=RandomAffine())
    np.testing.assert_array_equal(labels(plain), labels(augmented))
    images = {}
    for batch in augmented:
        for image, label in zip(batch["image"], batch["label"], strict=True):
            images.setdefault(int(label), []).append(image)
    assert all(len(versions) == 2 for versions in images.values())
    assert sum((a != b).any() for a, b in images.values()) >= 18  # number 0 is black whatever is done to it


def test_two_seeds_share_nothing():
    """Not even shifted by a pass, which Grain's own seeds would."""
    passes = {seed: labels(take(6, Numbers(40), 40, seed=seed)).reshape(6, 40) for seed in (0, 1)}
    assert not {tuple(row) for row in passes[0]} & {tuple(row) for row in passes[1]}


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 40), batch=st.integers(1, 12))
def test_evaluation_sees_every_record_exactly_once_in_order(n, batch):
    batches = list(evaluation_batches(Numbers(n), batch, threads=0))
    assert all(b["image"].shape == (batch, 8, 10, 3) and b["mask"].dtype == np.bool_ for b in batches)
    seen = np.concatenate([b["label"][b["mask"]] for b in batches])
    np.testing.assert_array_equal(seen, np.arange(n))
    assert all(b["mask"].all() for b in batches[:-1])


@pytest.mark.parametrize("whole_passes", [False, True])
def test_the_records_of_any_batch_are_known(whole_passes):
    batches = take(9, Numbers(20), 6, seed=5, augment=RandomAffine(), whole_passes=whole_passes)
    for step, batch in enumerate(batches):
        assert batch_positions(20, 6, step, seed=5, whole_passes=whole_passes) == batch["label"].tolist()
