"""One step of training, evaluation and prediction: pure functions of a state and a batch.

The compiled functions have the compiler options of this project. JAX does not allow these inside another `jit`, `scan`
or `grad`; use the plain functions there.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, UInt8

from jaxconv.runtime.compilation import jit
from jaxconv.training.losses import predictions, probabilities
from jaxconv.training.state import EpochSums, TrainState, averaged

Batch = dict[str, Array]


def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Float[Array, ""]]:
    """One update on {"image": uint8[n, h, w, c], "target": float32[n, k]}, and optionally "weight": float32[n].

    The weights multiply the losses of the pictures. Returns the new state and the mean loss of the batch, which
    includes the `losses` that the net sows. The sums of the new state have the loss and the accuracy before the update
    and with dropout, as in Keras.
    """
    images, targets = batch["image"], batch["target"]
    smoothed = optax.smooth_labels(targets, state.label_smoothing) if state.label_smoothing else targets
    rngs = {"dropout": jax.random.fold_in(state.key, state.step)}

    def loss(params: Any) -> tuple[Array, tuple[Array, Any]]:
        variables = {"params": params, **state.collections}
        mutable = [*state.collections, "losses"]
        logits, changed = state.apply_fn(variables, images, train=True, rngs=rngs, mutable=mutable)
        sown = sum(jax.tree.leaves(changed.pop("losses", {})), jnp.zeros(()))
        losses = state.loss_fn(logits, smoothed) * batch.get("weight", 1.0)
        return losses.mean() + sown, (logits, changed)

    (value, (logits, collections)), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
    updates, opt_state = state.tx.update(gradients, state.opt_state, state.params)
    params, step = optax.apply_updates(state.params, updates), state.step + 1
    average = state.average
    if state.ema is not None:
        average = averaged(average, {"params": params, **collections}, step, state.ema)
    finite = jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(gradients))
    correct = predictions(logits) == targets.argmax(-1).astype(jnp.int32)
    sums, n = state.sums, len(images)
    sums = EpochSums(
        loss=sums.loss + value * jnp.float32(n),
        correct=sums.correct + correct.sum(dtype=jnp.int32),
        count=sums.count + jnp.int32(n),
        first_bad_step=jnp.where(~finite & (sums.first_bad_step < 0), state.step, sums.first_bad_step),
    )
    changed = {"params": params, "collections": collections, "opt_state": opt_state, "average": average, "sums": sums}
    return state.replace(step=step, **changed), value


def eval_step(state: TrainState, batch: Batch) -> dict[str, Array]:
    """Sums over the rows of {"image", "label": int32[n], "mask": bool[n]} in which the mask is true, without dropout.

    "loss" and the metrics of the state are float32 scalars. "confusion" is float32[k, k], with a row for each label and
    a column for each prediction. The loss is computed without label smoothing.
    """
    logits = state.apply_fn(state.variables, batch["image"], train=False)
    labels, mask = batch["label"], batch["mask"].astype(jnp.float32)
    classes = max(2, logits.shape[-1])
    targets = jax.nn.one_hot(labels, classes)
    sums = {name: jnp.sum(metric(logits, targets) * mask) for name, metric in state.metric_fns}
    confusion = jnp.zeros((classes, classes)).at[labels, predictions(logits)].add(mask)
    return sums | {"loss": jnp.sum(state.loss_fn(logits, targets) * mask), "confusion": confusion}


def predict_step(state: TrainState, images: UInt8[Array, "n h w c"]) -> Float[Array, "n k"]:
    """The probability of each class, without dropout."""
    return probabilities(state.apply_fn(state.variables, images, train=False))


def next_epoch(state: TrainState) -> TrainState:
    """The state with the sums of a new epoch."""
    return state.replace(sums=EpochSums.zero())


compiled_train_step = jit(train_step, donate_argnums=0)
compiled_eval_step = jit(eval_step)
compiled_predict_step = jit(predict_step)
compiled_next_epoch = jit(next_epoch, donate_argnums=0)  # keeps the state on its devices
