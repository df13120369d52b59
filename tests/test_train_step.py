import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from nets import SmallNet

from jaxconv import layers
from jaxconv import train_step as steps
from jaxconv.compilation import jit
from jaxconv.models import CatsDogsConvNet
from jaxconv.streaming import compiled_eval_step as eval_step
from jaxconv.streaming import compiled_train_step as train_step
from jaxconv.train_step import (
    create_state,
    evaluation_state,
    learning_rates,
    losses_and_predictions,
    probabilities,
    rmsprop,
    scale,
)
from jaxconv.trained import compiled_predict_step as predict_step

SHAPE = (46, 46, 3)
LAYOUT = ("NHWC", "HWIO", "NHWC")


def random_batch(n: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (n, *SHAPE), dtype=np.uint8),
        "label": rng.integers(0, 2, n).astype(np.int32),
    }


def new_state(dropout: float = 0.0, seed: int = 0, learning_rate: float = 1e-4):
    return create_state(CatsDogsConvNet(dropout=dropout), SHAPE, rmsprop(learning_rate), seed)


def test_rmsprop_is_the_book_s_formula():
    """Three steps by hand, gradients tiny enough that the place of epsilon shows."""
    lr, rho, eps = 1e-3, 0.9, 1e-7
    optimizer, weight = rmsprop(lr), jnp.float32(1.0)
    state = optimizer.init(weight)
    w, v = 1.0, 0.0
    for g in (1e-6, -3e-6, 2e-6):
        update, state = optimizer.update(jnp.float32(g), state, weight)
        weight = optax.apply_updates(weight, update)
        v = rho * v + (1 - rho) * g**2
        w -= lr * g / (np.sqrt(v) + eps)
    assert abs(float(weight) - w) < 2e-7
    inside = 1.0 - lr * 1e-6 / np.sqrt(0.1e-12 + eps)
    assert abs(w - inside) > 1e-4


def test_learning_rates_by_hand():
    assert {learning_rates("constant", 1e-3, 100)(step) for step in (0, 50, 99)} == {1e-3}
    cosine = learning_rates("cosine", 0.2, 100)
    for step, expected in {0: 0.02, 5: 0.11, 10: 0.2, 55: 0.1, 100: 0.0}.items():
        assert float(cosine(step)) == pytest.approx(expected, abs=1e-7)
    assert float(learning_rates("cosine", 0.2, 3)(0)) == pytest.approx(0.2)  # too short for a rise


def test_sigmoid_loss_and_prediction_by_hand():
    losses, predictions = losses_and_predictions(jnp.array([[2.0], [-1.0], [0.0]]), jnp.array([1, 1, 0]))
    np.testing.assert_allclose(losses, [np.log(1 + np.exp(-2)), np.log(1 + np.e), np.log(2)], rtol=1e-6)
    assert predictions.tolist() == [1, 0, 0]  # a logit of exactly 0 is no dog, as Keras rounds 0.5 down


def test_softmax_loss_and_prediction_by_hand():
    losses, predictions = losses_and_predictions(jnp.array([[0.0, 0.0, 3.0], [0.0, 0.0, 0.0]]), jnp.array([2, 1]))
    np.testing.assert_allclose(losses, [np.log(1 + 2 * np.exp(-3)), np.log(3)], rtol=1e-6)
    assert predictions.tolist() == [2, 0]


def test_labels_of_another_shape_are_an_error_not_a_broadcast():
    with pytest.raises(Exception, match=r"labels|shape"):
        losses_and_predictions(jnp.zeros((4, 1)), jnp.zeros((4, 1), jnp.int32))


@pytest.mark.parametrize(
    "logits, labels",
    [
        ((4, 1), jnp.zeros((4, 1), jnp.int32)),
        ((4, 1), jnp.zeros(3, jnp.int32)),
        ((4, 3), jnp.zeros(4)),
        ((4,), jnp.zeros(4, jnp.int32)),
    ],
)
def test_so_it_is_where_annotations_are_not_checked(logits, labels):
    with pytest.raises(ValueError, match=r"labels are \w+\[.*\] beside logits \[.*\], not int32\[n\] beside \[n, k\]"):
        losses_and_predictions.__wrapped__(jnp.zeros(logits), labels)


def test_pictures_that_are_scaled_already_are_refused():
    with pytest.raises(ValueError, match=r"images are float32\[1, 2, 2, 3\], not uint8\[n, h, w, c\]"):
        scale.__wrapped__(jnp.zeros((1, 2, 2, 3)))


def test_equal_models_are_one_program():
    """Else each run in a notebook would compile its own, and keep it."""
    batch = {"image": np.zeros((2, 12, 12, 3), np.uint8), "label": np.zeros(2, np.int32)}
    counts = []
    for _ in range(2):
        state = create_state(SmallNet(), (12, 12, 3), rmsprop(1e-4), 0)
        train_step(state, batch)
        counts.append(train_step.compiled._cache_size())
    assert counts[0] == counts[1]


def test_the_average_of_the_weights_is_optax_s():
    """Its own code, told apart from the weights by a decay at which both keep moving."""
    state = create_state(SmallNet(), (12, 12, 3), rmsprop(1e-2), 0, ema=0.8)
    batch = {"image": random_batch(4)["image"][:, :12, :12], "label": random_batch(4)["label"]}
    jax.tree.map(np.testing.assert_array_equal, state.average, state.params)
    average = optax.ema(0.8)
    expected, kept = None, average.init(state.params)
    for _ in range(4):
        state, _ = train_step(state, batch)
        with jax.numpy_dtype_promotion("standard"):
            expected, kept = average.update(jax.tree.map(jnp.copy, state.params), kept)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7), state.average, expected)
    batch |= {"mask": np.ones(4, bool)}
    averaged = evaluation_state(SmallNet(), jax.device_get(state.average))
    assert float(eval_step(state, batch)["loss"]) == float(eval_step(averaged, batch)["loss"])
    plain = evaluation_state(SmallNet(), jax.device_get(state.params))
    assert float(eval_step(plain, batch)["loss"]) != float(eval_step(averaged, batch)["loss"])
    np.testing.assert_array_equal(predict_step(state, batch["image"]), predict_step(averaged, batch["image"]))


def test_pictures_are_scaled_in_one_place():
    np.testing.assert_array_equal(scale(jnp.array([0, 255], jnp.uint8).reshape(1, 1, 2, 1)).ravel(), [0.0, 1.0])


@pytest.mark.parametrize("platform", ["cpu", "default"])
def test_a_step_equals_the_plain_formulation(platform, monkeypatch):
    """Value, gradient and update of JAX's own differentiation of a loss written without this package.

    By the formulations of a CPU, its kernel gradients in groups of three pictures; and by those of other platforms.
    """
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *arguments, **choices: choices[platform](*arguments))
    monkeypatch.setattr(layers, "GROUP_VALUES", 3 * (SHAPE[0] * SHAPE[1] * 3 + 44 * 44 * 32))
    state, batch = new_state(), random_batch(6)
    params = jax.tree.map(np.asarray, state.params)

    def plain(params):
        x = batch["image"].astype(np.float32) / 255
        for layer in range(4):
            p = params[f"Conv_{layer}"]
            x = jax.lax.conv_general_dilated(x, p["kernel"], (1, 1), "VALID", dimension_numbers=LAYOUT)
            x = jax.nn.relu(x + p["bias"][None, None, None])
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = x.reshape(len(x), -1)
        x = jax.nn.relu(x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"][None])
        logit = (x @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"][None])[:, 0]
        sign = 1.0 - 2.0 * batch["label"].astype(np.float32)
        return jnp.logaddexp(0.0, sign * logit).mean()

    loss, gradients = jax.jit(jax.value_and_grad(plain))(params)
    after, sums = jit(lambda state, batch: steps.train_step(state, batch))(state, batch)
    np.testing.assert_allclose(float(sums["loss"]) / 6, float(loss), rtol=1e-5)
    velocity = jax.tree.map(lambda g: 0.1 * g**2, gradients)
    expected = jax.tree.map(lambda p, g, v: p - 1e-4 * g / (np.sqrt(v) + 1e-7), params, gradients, velocity)
    # A first step of RMSprop is about the sign of the gradient: compare where that is sure.
    sure = jax.tree.map(lambda g: np.abs(g) > 1e-5 * np.abs(g).max(), gradients)
    jax.tree.map(
        lambda a, e, s: np.testing.assert_allclose(np.asarray(a)[s], np.asarray(e)[s], atol=3e-6),
        after.params,
        expected,
        sure,
    )


def test_the_loss_falls_on_one_batch_and_nothing_is_compiled_again():
    state, batch = new_state(), random_batch(8)
    before = train_step.compiled._cache_size()
    losses = []
    for _ in range(25):
        state, sums = train_step(state, batch)
        losses.append(float(sums["loss"]) / float(sums["count"]))
    assert losses[-1] < 0.9 * losses[0]
    assert train_step.compiled._cache_size() == before + 1
    assert int(state.step) == 25


def test_the_old_state_s_memory_is_given_to_the_new():
    state = new_state()
    old = state.params["Dense_0"]["kernel"]
    train_step(state, random_batch(8))
    assert old.is_deleted()


def test_dropout_depends_on_seed_and_step_alone():
    batch = random_batch(8)

    def losses(seed):
        state, found = new_state(dropout=0.5, seed=seed, learning_rate=1e-12), []  # weights stay, so masks show
        for _ in range(3):
            state, sums = train_step(state, batch)
            found.append(float(sums["loss"]))
        return found

    first = losses(0)
    assert len(set(first)) == 3
    assert losses(0) == first


def test_seeds_make_other_weights():
    kernels = [new_state(seed=seed).params["Conv_0"]["kernel"] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[0] != kernels[2]).all()


def test_evaluation_counts_each_masked_row_once_without_dropout():
    state, batch = new_state(dropout=0.5), random_batch(7)
    before = eval_step.compiled._cache_size()
    whole = eval_step(state, batch | {"mask": np.ones(7, bool)})
    parts = [eval_step(state, batch | {"mask": np.arange(7) % 2 == part}) for part in (0, 1)]
    for name, total in whole.items():
        np.testing.assert_allclose(parts[0][name] + parts[1][name], total, rtol=1e-5)
    assert float(whole["count"]) == 7
    assert eval_step.compiled._cache_size() == before + 1


def test_states_for_evaluation_share_one_compilation():
    model, batch = CatsDogsConvNet(), random_batch(5) | {"mask": np.ones(5, bool)}
    states = [evaluation_state(model, jax.device_get(new_state(seed=seed).params)) for seed in (0, 1)]
    before = eval_step.compiled._cache_size()
    losses = [float(eval_step(state, batch)["loss"]) for state in states]
    assert eval_step.compiled._cache_size() == before + 1
    assert losses[0] == pytest.approx(float(eval_step(new_state(seed=0), batch)["loss"])) != losses[1]


def test_the_confusion_matrix_has_labels_as_rows():
    state = new_state()
    bias = state.params["Dense_1"] | {"bias": jnp.array([1e3])}  # always the second class
    state = state.replace(params=state.params | {"Dense_1": bias})
    batch = random_batch(8) | {"label": np.array([0, 0, 0, 1, 1, 1, 1, 1], np.int32), "mask": np.ones(8, bool)}
    sums = eval_step(state, batch)
    assert sums["confusion"].tolist() == [[0, 3], [0, 5]]
    assert float(sums["correct"]) == 5


def test_probabilities_by_hand():
    np.testing.assert_allclose(probabilities(jnp.array([[0.0], [np.log(3)]])), [[0.5, 0.5], [0.25, 0.75]], rtol=1e-6)
    np.testing.assert_allclose(probabilities(jnp.log(jnp.array([[1.0, 2.0, 5.0]]))), [[0.125, 0.25, 0.625]], rtol=1e-6)


class ListNet(nn.Module):
    """Flax makes tuples of the lists it is given, but for those that are set later."""

    features: list

    @nn.compact
    def __call__(self, images, *, train):
        x = images.reshape(len(images), -1)
        for features in self.features:
            x = nn.Dense(features)(x)
        return x


def test_models_without_a_hash_are_trained_too():
    model = ListNet([4, 1])
    state = create_state(model, (4, 4, 3), rmsprop(1e-4), 0)
    batch = {"image": np.zeros((2, 4, 4, 3), np.uint8), "label": np.zeros(2, np.int32)}
    _, sums = train_step(state, batch)
    assert float(sums["count"]) == 2


def test_the_steps_are_pure_functions_that_anybody_may_scan_differentiate_and_jit():
    """Which JAX refuses for a function that is jitted with compiler options, as the project's own are."""
    batch = {"image": random_batch(4)["image"][:, :12, :12], "label": random_batch(4)["label"]}
    batch = {name: jnp.asarray(array) for name, array in batch.items()} | {"mask": jnp.ones(4, bool)}

    def state():
        return create_state(SmallNet(), (12, 12, 3), rmsprop(1e-3), 0)

    scanned, sums = jax.jit(lambda s: jax.lax.scan(lambda s, _: steps.train_step(s, batch), s, None, 3))(state())
    one_by_one, losses = state(), []
    for _ in range(3):
        one_by_one, each = train_step(one_by_one, batch)
        losses.append(each["loss"])
    np.testing.assert_allclose(sums["loss"], losses, rtol=1e-5)
    np.testing.assert_allclose(optax.tree.norm(scanned.params), optax.tree.norm(one_by_one.params), rtol=1e-6)

    def mean_loss(params):
        return steps.eval_step(scanned.replace(params=params), batch)["loss"] / 4

    gradients = jax.jit(jax.grad(mean_loss))(scanned.params)
    assert jax.tree.map(jnp.shape, gradients) == jax.tree.map(jnp.shape, scanned.params)
    assert all(float(jnp.abs(gradient).max()) > 0 for gradient in jax.tree.leaves(gradients))
    assert steps.predict_step(scanned, batch["image"]).shape == (4, 2)
    with pytest.raises(ValueError, match="compiler_options"):
        jax.jit(train_step)(state(), batch)


class Penalized(nn.Module):
    """A net with an L2 term on its large dense kernel, which reads the kernel beside its use in the layer."""

    @nn.compact
    def __call__(self, images, *, train):
        head = layers.Dense(64)
        x = head(layers.max_pool(layers.Conv(8)(images)).reshape(len(images), -1))
        return layers.Dense(1)(nn.relu(x)), 0.3 * (head.variables["params"]["kernel"] ** 2).sum()


def test_a_penalty_on_the_weights_in_the_loss_has_its_gradient():
    """It is 2 c w on top of the gradient without it, whatever of the package is in the net."""
    batch = random_batch(32)
    images, labels = scale(jnp.asarray(batch["image"])), jnp.asarray(batch["label"])
    params = Penalized().init(jax.random.key(0), images, train=False)["params"]

    def loss(params, weight):
        logits, penalty = Penalized().apply({"params": params}, images, train=True)
        return losses_and_predictions(logits, labels)[0].mean() + weight * penalty

    without, with_penalty = (jit(jax.grad(loss))(params, weight) for weight in (0.0, 1.0))
    added = jax.tree.map(lambda a, b: a - b, with_penalty, without)
    np.testing.assert_allclose(added["Dense_0"]["kernel"], 0.6 * params["Dense_0"]["kernel"], atol=1e-6)
    assert float(jnp.abs(without["Dense_0"]["kernel"]).max()) > 1e-4
    for name, parts in added.items():
        rest = {key: part for key, part in parts.items() if (name, key) != ("Dense_0", "kernel")}
        jax.tree.map(lambda part: np.testing.assert_allclose(part, 0.0, atol=1e-6), rest)


class BatchNormNet(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        x = layers.max_pool(nn.relu(nn.BatchNorm(use_running_average=not train)(self.conv(images))))
        return layers.Dense(1)(x.reshape(len(x), -1))

    conv: nn.Module


@pytest.mark.parametrize("conv", [layers.Conv(8), nn.Conv(8, (3, 3), padding="VALID")])
def test_a_net_with_batch_norm_has_the_gradients_of_a_plain_jit(conv):
    """The statistics are those of the whole batch, by this package's layers and by Flax's, with the project's `jit`."""
    images, labels = jax.random.uniform(jax.random.key(0), (32, 12, 12, 3)), jnp.arange(32) % 2
    model = BatchNormNet(conv)
    variables = model.init(jax.random.key(1), images, train=False)

    def loss(params):
        logits, changed = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
        return losses_and_predictions(logits, labels)[0].mean(), changed

    plain = BatchNormNet(nn.Conv(8, (3, 3), padding="VALID"))

    def plain_loss(params):
        logits, changed = plain.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
        return losses_and_predictions(logits, labels)[0].mean(), changed

    found = jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    expected = jax.jit(jax.value_and_grad(plain_loss, has_aux=True))(variables["params"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), found, expected)
