"""The same training on the device as from the host."""

import threading
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from nets import SmallNet
from scipy import ndimage

from jaxconv import augment, metrics, resident
from jaxconv.augment import AffineRanges, RandomAffine
from jaxconv.batches import training_batches
from jaxconv.config import FitConfig
from jaxconv.errors import InputError
from jaxconv.models import CatsDogsConvNet, DenseNet
from jaxconv.records import read_splits
from jaxconv.resident import Resident
from jaxconv.streaming import Streaming
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


def config(steps_per_epoch, **options):
    return FitConfig(
        **{"epochs": 3, "steps_per_epoch": steps_per_epoch, "batch_size": 4, "learning_rate": 1e-4} | options
    )


@pytest.mark.parametrize("steps_per_epoch, done", [(5, 0), (None, 0), (None, 2)])
def test_plans_say_the_batches_of_the_host(splits, steps_per_epoch, done):
    """Of six pictures a pass is two steps."""
    steps, options = steps_per_epoch or 2, {"seed": 5, "whole_passes": steps_per_epoch is None}
    stream = training_batches(splits.train, 4, augment=RandomAffine(), first_step=done * steps, **options)
    epochs = [*resident.training_plans(splits.train, config(steps_per_epoch, seed=5), done * steps, RandomAffine())]
    assert len(epochs) == 3 - done
    pictures = resident.place(splits.train)
    for plans in epochs:
        batches = [jax.tree.map(lambda x, i=i: x[i], plan) for plan in plans for i in range(len(plan["index"]))]
        assert len(batches) == steps
        for batch, expected in zip(batches, stream, strict=False):
            taken = jax.jit(resident._take)(pictures, batch)
            np.testing.assert_array_equal(taken["label"], expected["label"])
            assert np.abs(np.asarray(taken["image"], int) - expected["image"].astype(int)).max() <= 1


@pytest.mark.parametrize("count", [1, 5, 8])
def test_evaluation_plans_have_each_picture_once(count):
    plan = resident.evaluation_plan(count, 4)
    assert plan["index"].shape == (-(-count // 4), 4)
    assert plan["index"][plan["mask"]].tolist() == [*range(count)]
    assert (plan["index"] < count).all()


def scores(sums):
    return metrics.mean(metrics.total(sums))


@pytest.mark.parametrize("steps_per_epoch", [4, None])
def test_an_epoch_is_the_host_s_and_one_dispatch_a_size(splits, steps_per_epoch):
    """Without augmentation the pictures are equal to the bit, and so are all sums to rounding."""
    how, before = config(steps_per_epoch), resident.train_steps.compiled._cache_size()
    states = [[create_state(CatsDogsConvNet(dropout=0.5), (46, 46, 3), rmsprop(1e-4), 0)] for _ in range(2)]
    host = Streaming(splits, how, 0, None)
    with Resident(splits, [how], 0, None) as device:
        for stretch in how.stretches(6, 0):
            if stretch.start == 2 * len(stretch):
                break
            states[0], expected, _ = host.train(states[0], stretch)
            states[1], sums, waited = device.train(states[1], stretch)
            jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4), sums, expected)
            assert waited >= 0
        assert resident.train_steps.compiled._cache_size() - before == (1 if steps_per_epoch else 2)
        expected, found = (
            scores(feed.evaluate(state, splits.validation)[0])
            for feed, state in zip((host, device), states, strict=True)
        )
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert found["confusion"] == expected["confusion"]


@pytest.mark.parametrize("model", [SmallNet(), DenseNet()])
def test_seeds_together_are_each_alone(splits, model):
    """Plain gradient descent keeps differences of rounding small; RMSprop's first steps would not."""
    optimizer, configs = optax.sgd(0.01), [config(2, seed=seed) for seed in (0, 7)]
    states = [create_state(model, (46, 46, 3), optimizer, how.seed) for how in configs]
    alone = []
    for how, state in zip(configs, states, strict=True):
        with Resident(splits, [how], 0, RandomAffine()) as feed:
            alone.append([*feed.train([jax.tree.map(jnp.copy, state)], range(2))[:2]])
    with Resident(splits, configs, 0, RandomAffine()) as feed:
        together, sums, _ = feed.train(states, range(2))
    for index, ((expected,), (expected_sums,)) in enumerate(alone):
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5), sums[index], expected_sums)
        assert int(together[index].step) == 2
        jax.tree.map(
            lambda one, other: np.testing.assert_allclose(one, other, atol=1e-6),
            together[index].params,
            expected.params,
        )


def test_plans_are_drawn_in_a_thread_that_ends(splits):
    before = threading.active_count()
    with Resident(splits, [config(2)], 0, None):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


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
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert resident.choose(wish, splits) == expected
    said = "the pictures take 0.1 MB, and there is room for 0.0 MB on the device: they are fed from the host\n"
    assert capsys.readouterr().out == (said if limit == 2**16 else "")


def test_a_wish_for_which_there_is_no_room_is_an_error(splits, monkeypatch):
    """Of the host's memory here, through which the pictures go."""
    monkeypatch.setattr(resident, "available_memory", lambda: 100_000)
    with pytest.raises(
        InputError,
        match=r"--augment-on device: the pictures take 0.1 MB, .* make room, or begin a run with --augment-on host",
    ):
        resident.choose("device", splits)
