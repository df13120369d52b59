"""The same training on the device as from the host."""

import itertools
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from scipy import ndimage

from jaxconv import augment, fit, resident
from jaxconv.augment import AffineRanges, RandomAffine
from jaxconv.batches import training_batches
from jaxconv.errors import InputError
from jaxconv.models import CatsDogsConvNet
from jaxconv.records import read_splits
from jaxconv.train_step import create_state, rmsprop


@pytest.fixture(scope="module")
def splits(photos):
    return read_splits(photos, (46, 46))


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("fill", ["nearest", "reflect", "constant"])
def test_warp_equals_the_host_s_and_scipy_s(fill, interpolation):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10, 61, 83, 3), dtype=np.uint8)
    matrices = np.stack([augment.draw_matrix(61, 83, AffineRanges(), rng) for _ in images])
    options = {"fill": fill, "interpolation": interpolation, "cval": 37.0}
    ours = jax.jit(lambda *arguments: resident.warp(*arguments, **options))(images, matrices.astype(np.float32))
    assert ours.dtype == np.uint8
    host = np.stack([augment.warp(*pair, **options) for pair in zip(images, matrices, strict=True)])
    order = {"nearest": 0, "bilinear": 1}[interpolation]
    scipy = (
        np.stack(
            [
                ndimage.affine_transform(image[..., c], m[:, :2], m[:, 2], order=order, mode=fill, cval=37.0)
                for image, m in zip(images, matrices, strict=True)
                for c in range(3)
            ]
        )
        .reshape(10, 3, 61, 83)
        .transpose(0, 2, 3, 1)
    )
    for expected in (host, scipy):
        difference = np.abs(np.asarray(ours).astype(int) - expected.astype(int)).max(-1)
        # A coordinate within rounding of a pixel's border or of the picture's edge may fall to either side.
        borders = interpolation == "nearest" or fill == "constant"
        assert (difference > 1).sum() <= (len(images) * 2 if borders else 0)
        assert (difference > 0).mean() < 0.05


@pytest.mark.parametrize("whole_passes, first_step", [(False, 0), (True, 0), (True, 3)])
def test_plans_say_the_batches_of_the_host(splits, whole_passes, first_step):
    options = {"seed": 5, "whole_passes": whole_passes, "first_step": first_step}
    host = list(itertools.islice(training_batches(splits.train, 4, augment=RandomAffine(), **options), 5))
    plans = next(resident.training_plans(splits.train, 4, 5, augment=RandomAffine(), **options))
    pictures = resident.place(splits.train)
    batches = [jax.tree.map(lambda x, i=i: x[i], plan) for plan in plans for i in range(len(plan["index"]))]
    assert len(batches) == 5
    for batch, expected in zip(batches, host, strict=True):
        taken = jax.jit(resident._take)(pictures, batch)
        np.testing.assert_array_equal(taken["label"], expected["label"])
        assert np.abs(np.asarray(taken["image"], int) - expected["image"].astype(int)).max() <= 1


@pytest.mark.parametrize("whole_passes", [False, True])
def test_an_epoch_is_the_host_s_and_one_dispatch_a_size(splits, whole_passes):
    """Without augmentation the pictures are equal to the bit, and so are all sums to rounding."""
    options = {"seed": 0, "augment": None, "whole_passes": whole_passes, "first_step": 0}
    model, before = CatsDogsConvNet(dropout=0.5), resident.train_steps._cache_size()
    states = [create_state(model, (46, 46, 3), rmsprop(1e-4), 0) for _ in range(2)]
    stream = training_batches(splits.train, 4, **options)
    plans = resident.training_plans(splits.train, 4, 4, **options)
    train, validation = resident.place(splits.train), resident.place(splits.validation)
    for epoch in (1, 2):
        states[0], expected, _ = fit.train_epoch(states[0], stream, 4, epoch)
        states[1], row, speed = resident.train_epoch(states[1], train, plans)
        assert row == pytest.approx(expected, rel=1e-4)
        assert speed["images_per_second"] > 0
    assert resident.train_steps._cache_size() - before == (2 if whole_passes else 1)
    host, device = fit.evaluate(states[0], splits.validation, 2), resident.evaluate(states[1], validation, 2)
    assert device["loss"] == pytest.approx(host["loss"], rel=1e-4)
    assert device["confusion"] == host["confusion"]


@pytest.mark.parametrize(
    "wish, platform, limit, expected",
    [
        (None, "cpu", None, "host"),
        ("device", "cpu", None, "device"),
        (None, "gpu", 2**20, "device"),
        ("host", "gpu", 2**20, "host"),
        (None, "gpu", 2**16, "host"),
    ],
)
def test_pictures_go_to_an_accelerator_that_has_room(splits, monkeypatch, capsys, wish, platform, limit, expected):
    """Fourteen pictures of 46x46 are 89 kB."""
    device = SimpleNamespace(platform=platform, memory_stats=lambda: limit and {"bytes_limit": limit})
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert resident.choose(wish, splits) == expected
    said = "the pictures take 0.1 MB, and there is room for 0.0 MB on the device: they are fed from the host\n"
    assert capsys.readouterr().out == (said if limit == 2**16 else "")


def test_a_wish_for_which_there_is_no_room_is_an_error(splits, monkeypatch):
    """Of the host's memory here, through which the pictures go."""
    monkeypatch.setattr(resident, "available_memory", lambda: 100_000)
    with pytest.raises(InputError, match=r"--augment-on device: the pictures take 0.1 MB, .* leave it out"):
        resident.choose("device", splits)
