import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxconv.training.state import averaged, create_state, evaluation_state
from jaxconv.training.steps import compiled_eval_step as eval_step
from jaxconv.training.steps import compiled_predict_step as predict_step
from jaxconv.training.steps import compiled_train_step as train_step
from tests.nets import BatchNormNet, SmallNet

rng = np.random.default_rng(0)
LABELS = rng.integers(0, 2, 4).astype(np.int32)
BATCH = {
    "image": rng.integers(0, 256, (4, 12, 12, 3), dtype=np.uint8),
    "label": LABELS,
    "target": np.eye(2, dtype=np.float32)[LABELS],
    "mask": np.ones(4, bool),
}


def test_the_average_of_the_weights_is_optax_s():
    """Its own code, told apart from the weights by a decay at which both keep moving."""
    state = create_state(SmallNet(), (12, 12, 3), optax.sgd(0.1), 0, ema=0.8)
    jax.tree.map(np.testing.assert_array_equal, state.average, {"params": state.params})
    average = optax.ema(0.8)
    expected, kept = None, average.init(state.params)
    for _ in range(4):
        state, _ = train_step(state, BATCH)
        with jax.numpy_dtype_promotion("standard"):
            expected, kept = average.update(jax.tree.map(jnp.copy, state.params), kept)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7), state.average["params"], expected)
    used = evaluation_state(SmallNet(), jax.device_get(state.average))
    assert float(eval_step(state, BATCH)["loss"]) == float(eval_step(used, BATCH)["loss"])
    plain = evaluation_state(SmallNet(), jax.device_get({"params": state.params}))
    assert float(eval_step(plain, BATCH)["loss"]) != float(eval_step(used, BATCH)["loss"])
    np.testing.assert_array_equal(predict_step(state, BATCH["image"]), predict_step(used, BATCH["image"]))


def test_whole_numbers_are_not_averaged():
    old, new = {"count": jnp.int32(3), "mean": jnp.float32(1.0)}, {"count": jnp.int32(4), "mean": jnp.float32(2.0)}
    first, third = (averaged(old, new, jnp.int32(step), 0.9) for step in (1, 3))
    assert first == new
    assert int(third["count"]) == 4
    np.testing.assert_allclose(third["mean"], 1 + 0.1 / (1 - 0.9**3), rtol=1e-5)


def test_a_state_begins_with_given_variables_and_leaves_them_to_the_caller():
    net, shape, tx = BatchNormNet(), (12, 12, 3), optax.rmsprop(0.1)
    variables = create_state(net, shape, tx, 5).variables
    state, fresh = (
        create_state(net, shape, tx, 0, ema=0.9, variables=variables),
        create_state(net, shape, tx, 0, ema=0.9),
    )
    jax.tree.map(np.testing.assert_array_equal, state.params, variables["params"])
    jax.tree.map(np.testing.assert_array_equal, state.variables, variables)
    assert jax.tree.structure(state) == jax.tree.structure(fresh)
    jax.tree.map(lambda leaf: leaf.delete(), (state.params, state.collections, state.average))  # as a step does
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))
