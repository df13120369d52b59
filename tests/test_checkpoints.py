import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxconv.checkpoints import Checkpoints, restore_params
from jaxconv.models import DenseNet
from jaxconv.train_step import TrainState


def state_of(value: float) -> TrainState:
    """A small state with all that a real one has, its weights at `value`."""
    params = {"kernel": jnp.full((3, 2), value)}
    state = TrainState.create(
        apply_fn=print, params=params, tx=optax.rmsprop(0.1), dropout_key=jax.random.key(int(value))
    )
    return state.replace(step=jnp.int32(value))


def leaves(state: TrainState) -> list[jax.Array]:
    return jax.tree.leaves(state.replace(dropout_key=jax.random.key_data(state.dropout_key)))


@pytest.mark.parametrize(
    "val_losses, kept",
    [
        ([0.5, 0.9, 0.7], {1, 3}),  # the best and the latest
        ([0.9, 0.5], {2}),
        ([0.9, 0.9], {2}),
    ],
)
def test_the_latest_and_the_best_stay(tmp_path, val_losses, kept):
    with Checkpoints(tmp_path / "checkpoints", state_of(0)) as checkpoints:
        assert (checkpoints.latest_step, checkpoints.best_step) == (0, 0)
        for epoch, val_loss in enumerate(val_losses, 1):
            checkpoints.save(epoch, state_of(epoch), {"val_loss": val_loss})
    assert {int(path.name) for path in (tmp_path / "checkpoints").iterdir()} == kept
    with Checkpoints(tmp_path / "checkpoints", state_of(0)) as checkpoints:
        assert checkpoints.latest_step == len(val_losses)
        assert checkpoints.best_step == min(kept)


def test_later_epochs_can_be_forgotten_where_more_are_kept(tmp_path):
    with Checkpoints(tmp_path / "checkpoints", state_of(0), latest=2) as checkpoints:
        for epoch, val_loss in enumerate([0.1, 0.9, 0.8, 0.7], 1):
            checkpoints.save(epoch, state_of(epoch), {"val_loss": val_loss})
        checkpoints.wait()
        assert {int(path.name) for path in (tmp_path / "checkpoints").iterdir()} == {1, 3, 4}
        checkpoints.forget_after(3)
        assert checkpoints.latest_step == 3
        checkpoints.save(4, state_of(5), {"val_loss": 0.6})
        checkpoints.wait()
        assert int(checkpoints.restore(4).step) == 5


def test_everything_of_a_state_comes_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved = state_of(7)
    shapes = jax.eval_shape(lambda: state_of(0))
    with Checkpoints("relative/checkpoints", shapes) as checkpoints:
        checkpoints.save(1, saved, {"val_loss": 0.5})
        restored = checkpoints.restore(checkpoints.best_step)
    for one, other in zip(leaves(saved), leaves(restored), strict=True):
        np.testing.assert_array_equal(one, other)
    assert jax.random.uniform(restored.dropout_key) == jax.random.uniform(saved.dropout_key)


def test_weights_come_back_without_their_optimizer(tmp_path):
    model, images = DenseNet(), jnp.zeros((1, 4, 5, 1))
    saved = {}
    for epoch in (1, 2):
        params = model.init(jax.random.key(epoch), images, train=False)["params"]
        state = TrainState.create(
            apply_fn=model.apply, params=params, tx=optax.adam(0.1), dropout_key=jax.random.key(0)
        ).replace(step=jnp.int32(epoch))
        with Checkpoints(tmp_path / "checkpoints", state) as checkpoints:
            checkpoints.save(epoch, state, {"val_loss": 1.0})
        saved = params
    restored = restore_params(model, (4, 5, 1), tmp_path)
    jax.tree.map(np.testing.assert_array_equal, restored, jax.device_get(saved))


def test_a_step_is_saved_once(tmp_path):
    with Checkpoints(tmp_path / "checkpoints", state_of(0)) as checkpoints:
        checkpoints.save(2, state_of(2), {"val_loss": 0.5})
        with pytest.raises(RuntimeError, match="step 1 is older than the newest checkpoint"):
            checkpoints.save(1, state_of(1), {"val_loss": 0.5})
