"""One step of training, of evaluation and of prediction: pure functions of a state and a batch.

Who calls them applies `compilation.jit`; inside another `jit`, `scan` or `grad` they are used as they are.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.training import train_state
from jaxtyping import Array, Float, Int, UInt8

from jaxconv import devices
from jaxconv.seeds import derive_seed

Sums = dict[str, Array]


class TrainState(train_state.TrainState):
    """Flax's state (step, params, optimizer state) and the key that every step's dropout key is folded from.

    Fields are `Any` because JAX also builds this class with shapes, shardings and other stand-ins for arrays.
    """

    step: Any
    params: Any
    dropout_key: Any

    @property
    def weights(self) -> Any:
        """Those to evaluate and to keep."""
        return self.params


class AveragedState(TrainState):
    """A state whose weights are an `average` of its params after each step, an exponential moving one of this `decay`.

    It is corrected for its beginning, as Adam's are: after the first step it is the params themselves. A class of its
    own, because a checkpoint has the fields of its state: those of other runs stay as they were.
    """

    average: Any
    decay: float = struct.field(pytree_node=False)

    def apply_gradients(self, *, grads: Any, **others: Any) -> "AveragedState":
        """The state after an update."""
        state = super().apply_gradients(grads=grads, **others)
        weight = (1 - self.decay) / -jnp.expm1(math.log(self.decay) * state.step.astype(jnp.float32))
        return state.replace(average=optax.incremental_update(state.params, self.average, weight))

    @property
    def weights(self) -> Any:
        """The average."""
        return self.average


@functools.cache  # a state with another optimizer, if only the same made again, is another program to compile
def rmsprop(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """RMSprop as the Keras of the book computes it: lr * g / (sqrt(v) + 1e-7), with v averaged at rate 0.9."""
    return optax.rmsprop(learning_rate, decay=0.9, eps=1e-7, eps_in_sqrt=False)


@functools.cache  # as `rmsprop`
def learning_rates(schedule: str, peak: float, steps: int) -> optax.Schedule:
    """The learning rate of each step of a run: "constant", or "cosine" after a linear rise over the first tenth."""
    if schedule == "cosine":
        cosine = optax.warmup_cosine_decay_schedule(peak / 10, peak, steps // 10, steps)
        return lambda step: cosine(jnp.float32(step))  # optax would mix its integers with floats
    return optax.constant_schedule(peak)


@functools.cache  # as `rmsprop`: equal models have one, not each its own
def _apply_of_equals(model: nn.Module) -> Callable[..., Any]:
    return model.apply


def _apply(model: nn.Module) -> Callable[..., Any]:
    try:
        return _apply_of_equals(model)
    except TypeError:  # with a list among its fields it has no hash
        return model.apply


def create_state(
    model: nn.Module,
    image_shape: tuple[int, ...],
    optimizer: optax.GradientTransformation,
    seed: int,
    ema: float | None = None,
) -> TrainState:
    """A fresh state for pictures of `image_shape` (height, width, channels); weights and dropout have own seeds.

    `ema` is the decay of the average of its weights, if they are to be averaged.
    """

    def create() -> TrainState:
        images = jnp.zeros((1, *image_shape), jnp.float32)
        variables = model.init(jax.random.key(derive_seed(seed, "weights")), images, train=False)
        dropout_key = jax.random.key(derive_seed(seed, "dropout"))
        params = variables["params"]
        fields = {"apply_fn": _apply(model), "params": params, "tx": optimizer, "dropout_key": dropout_key}
        if ema is None:
            state = TrainState.create(**fields)
        else:
            average = jax.tree.map(jnp.copy, params)  # a step donates the memory of both
            state = AveragedState.create(**fields, average=average, decay=ema)
        return state.replace(step=jnp.zeros((), jnp.int32))

    # Placed as a restored state is: to `jit` the two would else be different programs.
    return jax.jit(create, out_shardings=devices.everywhere())()


NO_UPDATES = optax.identity()  # one for all: a state with another is another program to compile


def evaluation_state(model: nn.Module, params: Any) -> TrainState:
    """A state of given weights, for `eval_step` alone."""
    params = jax.device_put(params, devices.everywhere())
    return TrainState.create(apply_fn=_apply(model), params=params, tx=NO_UPDATES, dropout_key=None)


def scale(images: UInt8[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Pictures stay uint8 until here; this is the one place that makes them float32 in [0, 1].

    Raises:
        ValueError: they are something else, which would be scaled twice.
    """
    if images.dtype != jnp.uint8:
        raise ValueError(f"images are {images.dtype}{list(images.shape)}, not uint8[n, h, w, c]")
    return images.astype(jnp.float32) / 255


def losses_and_predictions(
    logits: Float[Array, "n k"], labels: Int[Array, " n"]
) -> tuple[Float[Array, " n"], Int[Array, " n"]]:
    """Cross-entropy and predicted label of each picture: sigmoid for one logit, softmax for one a class.

    Raises:
        ValueError: labels are not one whole number a row of logits; (n, 1) beside (n,) would be broadcast to (n, n).
    """
    if logits.shape[:-1] != labels.shape or logits.ndim != 2 or not jnp.issubdtype(labels.dtype, jnp.integer):
        found = f"labels are {labels.dtype}{list(labels.shape)} beside logits {list(logits.shape)}"
        raise ValueError(f"{found}, not int32[n] beside [n, k]")
    if logits.shape[-1] == 1:
        logit = logits[:, 0]
        return optax.sigmoid_binary_cross_entropy(logit, labels.astype(jnp.float32)), (logit > 0).astype(jnp.int32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels), jnp.argmax(logits, -1).astype(jnp.int32)


def probabilities(logits: Float[Array, "n l"]) -> Float[Array, "n k"]:
    """Those of each class: of one logit of two classes, of more of as many."""
    if logits.shape[-1] == 1:
        return jax.nn.sigmoid(jnp.concatenate([-logits, logits], -1))
    return jax.nn.softmax(logits)


def train_step(state: TrainState, batch: dict[str, Array]) -> tuple[TrainState, Sums]:
    """One update on {"image": uint8[n, h, w, c], "label": int32[n]}.

    Returns the new state and float32 sums over the batch, measured with the weights and the dropout of this step as
    Keras does: loss, correct, count. Whoever jits it should donate the state.
    """
    images, labels = scale(batch["image"]), batch["label"]
    rngs = {"dropout": jax.random.fold_in(state.dropout_key, state.step)}

    def loss(params: Any) -> tuple[Array, tuple[Array, Array]]:
        logits = state.apply_fn({"params": params}, images, train=True, rngs=rngs)
        losses, predictions = losses_and_predictions(logits, labels)
        return losses.mean(), (losses, predictions)

    gradients, (losses, predictions) = jax.grad(loss, has_aux=True)(state.params)
    correct = jnp.sum(predictions == labels, dtype=jnp.float32)
    sums = {"loss": losses.sum(), "correct": correct, "count": jnp.float32(losses.size)}
    return state.apply_gradients(grads=gradients), sums


def eval_step(state: TrainState, batch: dict[str, Array]) -> Sums:
    """Sums over the rows of a batch where "mask": bool[n] is set, without dropout.

    loss, correct and count are float32 scalars; confusion is float32[k, k], rows the labels, columns the predictions.
    """
    logits = state.apply_fn({"params": state.weights}, scale(batch["image"]), train=False)
    losses, predictions = losses_and_predictions(logits, batch["label"])
    mask = batch["mask"].astype(jnp.float32)
    classes = max(2, logits.shape[-1])
    confusion = jnp.zeros((classes, classes)).at[batch["label"], predictions].add(mask)
    return {
        "loss": jnp.sum(losses * mask),
        "correct": jnp.trace(confusion),
        "count": mask.sum(),
        "confusion": confusion,
    }


def predict_step(state: TrainState, images: UInt8[Array, "n h w c"]) -> Float[Array, "n k"]:
    """The probability of each class, without dropout."""
    return probabilities(state.apply_fn({"params": state.weights}, scale(images), train=False))
