import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxconv.config import Optimizer
from jaxconv.models import CatsDogsConvNet, layers
from jaxconv.models.registry import to_unit_floats
from jaxconv.runtime.compilation import jit
from jaxconv.training import optimizers, steps
from jaxconv.training.losses import cross_entropy
from jaxconv.training.state import create_state, evaluation_state
from jaxconv.training.steps import compiled_eval_step as eval_step
from jaxconv.training.steps import compiled_train_step as train_step
from tests.nets import SmallNet

SHAPE, SMALL = (46, 46, 3), (12, 12, 3)
LAYOUT = ("NHWC", "HWIO", "NHWC")


def random_batch(n: int, shape=SHAPE):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (n, *shape), dtype=np.uint8), rng.integers(0, 2, n).astype(np.int32)
    return {"image": images, "label": labels, "target": np.eye(2, dtype=np.float32)[labels], "mask": np.ones(n, bool)}


def rmsprop(learning_rate: float = 1e-4):
    return optimizers.make(Optimizer(learning_rate=learning_rate), 100)


def small_state(seed: int = 0, learning_rate: float = 1e-2, **options):
    return create_state(SmallNet(), SMALL, rmsprop(learning_rate), seed, **options)


def test_equal_models_are_one_program():
    """Else each run in a notebook would compile its own, and keep it."""
    counts = []
    for _ in range(2):
        train_step(create_state(SmallNet(), SMALL, rmsprop(), 0), random_batch(2, SMALL))
        counts.append(train_step.compiled._cache_size())
    assert counts[0] == counts[1]


@pytest.mark.parametrize("platform", ["cpu", "default"])
def test_a_step_equals_the_plain_formulation(platform, monkeypatch):
    """Value, gradient and update of JAX's own differentiation of a loss written without this package.

    By the formulations of a CPU, its kernel gradients in groups of three pictures; and by those of other platforms.
    """
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *arguments, **choices: choices[platform](*arguments))
    monkeypatch.setattr(layers, "GROUP_VALUES", 3 * (SHAPE[0] * SHAPE[1] * 3 + 44 * 44 * 32))
    state, batch = create_state(CatsDogsConvNet(), SHAPE, rmsprop(), 0), random_batch(6)
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
    after, value = jit(lambda state, batch: steps.train_step(state, batch))(state, batch)
    np.testing.assert_allclose([float(value), after.sums.mean()[0]], float(loss), rtol=1e-5)
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
    state, batch = small_state(), random_batch(8, SMALL)
    before = train_step.compiled._cache_size()
    losses = []
    for _ in range(25):
        state, loss = train_step(state, batch)
        losses.append(float(loss))
    assert losses[-1] < 0.9 * losses[0]
    assert train_step.compiled._cache_size() == before + 1
    assert int(state.step) == 25


def test_the_old_state_s_memory_is_given_to_the_new():
    state = small_state()
    old = state.params["Dense_0"]["kernel"]
    train_step(state, random_batch(8, SMALL))
    assert old.is_deleted()


def test_dropout_depends_on_the_key_of_the_seed_and_the_step_alone():
    batch = random_batch(8, SMALL)

    def losses(seed):
        state = small_state(learning_rate=1e-12)  # weights stay, so masks show
        state, found = state.replace(key=jax.random.clone(small_state(seed=seed).key)), []
        for _ in range(3):
            state, loss = train_step(state, batch)
            found.append(float(loss))
        return found

    first = losses(0)
    assert len(set(first)) == 3
    assert losses(0) == first
    assert not set(losses(1)) & set(first)


def test_seeds_make_other_weights():
    kernels = [small_state(seed=seed).params["Conv_0"]["kernel"] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[0] != kernels[2]).all()


def test_evaluation_counts_each_masked_row_once_without_dropout():
    state, batch = small_state(), random_batch(7, SMALL)
    before = eval_step.compiled._cache_size()
    whole = eval_step(state, batch | {"mask": np.ones(7, bool)})
    parts = [eval_step(state, batch | {"mask": np.arange(7) % 2 == part}) for part in (0, 1)]
    for name, total in whole.items():
        np.testing.assert_allclose(parts[0][name] + parts[1][name], total, rtol=1e-5)
    assert float(whole["confusion"].sum()) == 7
    assert eval_step.compiled._cache_size() == before + 1


def test_states_for_evaluation_share_one_compilation():
    model, batch = SmallNet(), random_batch(5, SMALL)
    states = [evaluation_state(model, jax.device_get(small_state(seed=seed).variables)) for seed in (0, 1)]
    before = eval_step.compiled._cache_size()
    losses = [float(eval_step(state, batch)["loss"]) for state in states]
    assert eval_step.compiled._cache_size() == before + 1
    assert losses[0] == pytest.approx(float(eval_step(small_state(seed=0), batch)["loss"])) != losses[1]


def test_the_confusion_matrix_has_labels_as_rows():
    state = small_state()
    bias = state.params["Dense_0"] | {"bias": jnp.array([1e3])}  # the head; always the second class
    state = state.replace(params=state.params | {"Dense_0": bias})
    batch = random_batch(8, SMALL) | {"label": np.array([0, 0, 0, 1, 1, 1, 1, 1], np.int32)}
    sums = eval_step(state, batch)
    assert sums["confusion"].tolist() == [[0, 3], [0, 5]]


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
    state, _ = train_step(create_state(model, (4, 4, 3), rmsprop(), 0), random_batch(2, (4, 4, 3)))
    assert int(state.sums.count) == 2


def test_the_steps_are_pure_functions_that_anybody_may_scan_differentiate_and_jit():
    """Which JAX refuses for a function that is jitted with compiler options, as the project's own are."""
    batch = {name: jnp.asarray(array) for name, array in random_batch(4, SMALL).items()}

    scanned, sums = jax.jit(lambda s: jax.lax.scan(lambda s, _: steps.train_step(s, batch), s, None, 3))(small_state())
    one_by_one, losses = small_state(), []
    for _ in range(3):
        one_by_one, each = train_step(one_by_one, batch)
        losses.append(each)
    np.testing.assert_allclose(sums, losses, rtol=1e-5)
    np.testing.assert_allclose(optax.tree.norm(scanned.params), optax.tree.norm(one_by_one.params), rtol=1e-6)

    def mean_loss(params):
        return steps.eval_step(scanned.replace(params=params), batch)["loss"] / 4

    gradients = jax.jit(jax.grad(mean_loss))(scanned.params)
    assert jax.tree.map(jnp.shape, gradients) == jax.tree.map(jnp.shape, scanned.params)
    assert all(float(jnp.abs(gradient).max()) > 0 for gradient in jax.tree.leaves(gradients))
    assert steps.predict_step(scanned, batch["image"]).shape == (4, 2)
    with pytest.raises(ValueError, match="compiler_options"):
        jax.jit(train_step)(small_state(), batch)


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
    images, targets = to_unit_floats(jnp.asarray(batch["image"])), jnp.asarray(batch["target"])
    params = Penalized().init(jax.random.key(0), images, train=False)["params"]

    def loss(params, weight):
        logits, penalty = Penalized().apply({"params": params}, images, train=True)
        return cross_entropy(logits, targets).mean() + weight * penalty

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
    images = jax.random.uniform(jax.random.key(0), (32, 12, 12, 3))
    targets = jax.nn.one_hot(jnp.arange(32) % 2, 2)
    model = BatchNormNet(conv)
    variables = model.init(jax.random.key(1), images, train=False)

    def loss(params):
        logits, changed = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
        return cross_entropy(logits, targets).mean(), changed

    plain = BatchNormNet(nn.Conv(8, (3, 3), padding="VALID"))

    def plain_loss(params):
        logits, changed = plain.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
        return cross_entropy(logits, targets).mean(), changed

    found = jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    expected = jax.jit(jax.value_and_grad(plain_loss, has_aux=True))(variables["params"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), found, expected)


def test_sums_of_the_epoch_are_in_the_state():
    """Loss, hits and pictures add up over the steps, and the first step that is not finite is known."""
    state, batch, losses = small_state(), random_batch(6, SMALL), []
    for _ in range(3):
        state, loss = train_step(state, batch)
        losses.append(float(loss))
    loss, acc = state.sums.mean()
    assert loss == pytest.approx(np.mean(losses), rel=1e-6)
    assert int(state.sums.count) == 18 and acc == int(state.sums.correct) / 18
    assert int(state.sums.first_bad_step) == -1
    state = steps.compiled_next_epoch(state)
    assert (int(state.step), int(state.sums.count), int(state.sums.first_bad_step)) == (3, 0, -1)


@pytest.mark.parametrize("place", ["params", "target"])
def test_the_first_step_that_is_not_finite_is_known(place):
    state, batch = small_state(), random_batch(6, SMALL)
    state, _ = train_step(state, batch)
    if place == "params":
        params = jax.tree.map(jnp.copy, state.params)
        params["Dense_0"]["bias"] = params["Dense_0"]["bias"].at[0].set(jnp.inf)
        state = state.replace(params=params)
    else:
        batch |= {"target": np.full((6, 2), np.nan, np.float32)}
    for _ in range(2):
        state, _ = train_step(state, batch)
    assert int(state.sums.first_bad_step) == 1


def test_label_smoothing_moves_the_training_loss_and_leaves_the_others_comparable():
    batch = random_batch(6, SMALL)
    plain, smooth = small_state(), small_state(label_smoothing=0.3)
    evaluations = [eval_step(state, batch) for state in (plain, smooth)]
    assert float(evaluations[0]["loss"]) == float(evaluations[1]["loss"])
    (plain, loss), (smooth, smoothed) = train_step(plain, batch), train_step(smooth, batch)
    assert abs(float(loss) - float(smoothed)) > 1e-4
    assert int(plain.sums.correct) == int(smooth.sums.correct)


def test_weights_multiply_the_losses_of_their_pictures():
    """Loss and update of plain gradient descent are sums over the pictures, each times its weight."""
    batch = random_batch(4, SMALL)

    def loss_and_update(*weights):
        state = create_state(SmallNet(), SMALL, optax.sgd(1.0), 0)
        before = jax.device_get(state.params)
        weighted = {"weight": np.array(weights, np.float32)} if weights else {}
        state, loss = train_step(state, batch | weighted)
        return loss, jax.tree.map(lambda new, old: np.asarray(new) - old, state.params, before)

    one, other, both = loss_and_update(2, 0, 0, 0), loss_and_update(0, 1, 3, 0), loss_and_update(2, 1, 3, 0)
    added = jax.tree.map(np.add, one, other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), added, both)
    jax.tree.map(np.testing.assert_array_equal, loss_and_update(1, 1, 1, 1), loss_and_update())


def test_a_loss_of_one_s_own_and_metrics():
    def squared(logits, targets):
        return jnp.square(jax.nn.sigmoid(logits[:, 0]) - targets[:, 1])

    batch = random_batch(6, SMALL)
    state = small_state(loss_fn=squared, metric_fns=(("squared", squared), ("nats", cross_entropy)))
    sums, plain = eval_step(state, batch), eval_step(small_state(), batch)
    assert float(sums["loss"]) == float(sums["squared"]) != float(plain["loss"])
    assert float(sums["nats"]) == float(plain["loss"])
    losses = []
    for _ in range(20):
        state, loss = train_step(state, batch)
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]


class Sowing(nn.Module):
    """Batch norm, and an L2 term that the net sows by itself."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(images).mean((1, 2))
        head = nn.Dense(2)
        x = head(x)
        self.sow("losses", "l2", 0.5 * (head.variables["params"]["kernel"] ** 2).sum())
        return x


def test_statistics_are_kept_and_sown_losses_are_added_not_kept():
    """The running mean by hand; the loss is the cross-entropy and the penalty."""
    batch = random_batch(6, SMALL)
    state = create_state(Sowing(), (12, 12, 3), optax.sgd(0.0), 0)
    assert set(state.collections) == {"batch_stats"}
    kernel, bias = (np.asarray(state.params["Dense_0"][name], np.float64) for name in ("kernel", "bias"))
    images = batch["image"].astype(np.float64) / 255
    mean, variance = images.mean((0, 1, 2)), images.var((0, 1, 2))
    logits = ((images - mean) / np.sqrt(variance + 1e-5)).mean((1, 2)) @ kernel + bias
    nats = np.log(np.exp(logits).sum(1)) - logits[np.arange(6), batch["label"]]
    after, loss = train_step(state, batch)
    assert float(loss) == pytest.approx(nats.mean() + 0.5 * (kernel**2).sum(), rel=1e-5)
    np.testing.assert_allclose(after.collections["batch_stats"]["BatchNorm_0"]["mean"], 0.1 * mean, rtol=1e-5)
    assert set(after.collections) == {"batch_stats"}
    evaluated = eval_step(create_state(Sowing(), (12, 12, 3), optax.sgd(0.0), 0), batch)
    logits = images.mean((1, 2)) / np.sqrt(1 + 1e-5) @ kernel + bias  # by fresh statistics, without the penalty
    nats = np.log(np.exp(logits).sum(1)) - logits[np.arange(6), batch["label"]]
    assert float(evaluated["loss"]) == pytest.approx(nats.sum(), rel=1e-5)
