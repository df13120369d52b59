"""The train state: everything that the next step depends on, besides its batch."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Bool

from jaxconv.models.registry import Forward
from jaxconv.runtime import sharding
from jaxconv.runtime.seeds import derive_seed
from jaxconv.training.losses import Loss, cross_entropy

Metrics = tuple[tuple[str, Loss], ...]  # by name: functions of logits and targets, as losses are


class EpochSums(struct.PyTreeNode):
    """Sums over the steps of the current epoch, so that a checkpoint within an epoch is complete.

    `first_bad_step` is the first step, counted from 0, with a loss or gradient that was not finite; -1 if none was.
    """

    loss: Any  # float32, the sum over the pictures; Any because JAX also builds this class with stand-ins for arrays
    correct: Any  # int32, as count: float32 stops being exact at 2^24
    count: Any
    first_bad_step: Any

    @classmethod
    def zero(cls) -> "EpochSums":
        """The sums of no steps."""
        zero = jnp.zeros((), jnp.int32)
        return cls(jnp.zeros((), jnp.float32), zero, zero, jnp.full((), -1, jnp.int32))

    def mean(self) -> tuple[float, float]:
        """The mean loss and the accuracy."""
        sums = jax.device_get(self)
        return float(sums.loss) / int(sums.count), int(sums.correct) / int(sums.count)


class TrainState(struct.PyTreeNode):
    """Everything that the next step depends on, besides its batch.

    `collections` are the variables that the module has besides its params: {"batch_stats": ...} or {}. `average` is the
    exponential moving average of params and collections with the decay `ema`, or None. `apply_fn` is the net's
    `models.registry.Forward`. `loss_fn` and `metric_fns` map logits and targets to a value for each picture.
    `label_smoothing` changes only the training targets.
    """

    step: Any
    params: Any
    collections: Any
    opt_state: Any
    average: Any
    key: Any
    sums: EpochSums
    apply_fn: Forward = struct.field(pytree_node=False)
    tx: optax.GradientTransformation = struct.field(pytree_node=False)  # another object is compiled again
    loss_fn: Loss = struct.field(pytree_node=False, default=cross_entropy)
    metric_fns: Metrics = struct.field(pytree_node=False, default=())
    label_smoothing: float = struct.field(pytree_node=False, default=0.0)
    ema: float | None = struct.field(pytree_node=False, default=None)

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that evaluation, prediction and export use: the average, if there is one."""
        return self.average or {"params": self.params, **self.collections}


def create_state(
    model: nn.Module,
    image_shape: tuple[int, ...],
    tx: optax.GradientTransformation,
    seed: int,
    *,
    ema: float | None = None,
    variables: dict[str, Any] | None = None,
    **functions: Any,
) -> TrainState:
    """A new state for images of `image_shape` (height, width, channels). Weights and dropout have separate seeds.

    `variables` are the first values of params and collections; without them, these are random. `functions` are the
    fields `loss_fn`, `metric_fns` and `label_smoothing` of the state. Of the module's collections, only `batch_stats`
    is kept.
    """

    def create() -> TrainState:
        images = jnp.zeros((1, *image_shape), jnp.uint8)
        apply_fn = Forward(model)
        variables = apply_fn.init(jax.random.key(derive_seed(seed, "weights")), images)
        params = variables["params"]
        collections = {name: kept for name, kept in variables.items() if name == "batch_stats"}
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            collections=collections,
            opt_state=tx.init(params),
            # A copy, because a step donates the memory of params and average.
            average=None if ema is None else jax.tree.map(jnp.copy, {"params": params, **collections}),
            key=jax.random.key(derive_seed(seed, "dropout")),
            sums=EpochSums.zero(),
            apply_fn=apply_fn,
            tx=tx,
            ema=ema,
            **functions,
        )

    # Placed like a restored state, because `jit` would otherwise compile the step for each of the two.
    state = jax.jit(create, out_shardings=sharding.replicated())()
    return state if variables is None else _begin_with(state, variables)


def _begin_with(state: TrainState, variables: dict[str, Any]) -> TrainState:
    """The new state with other first values of params and collections."""
    # Copies, because a step donates the memory of the state, and the caller keeps the variables.
    placed = jax.tree.map(jnp.copy, jax.device_put(variables, sharding.replicated()))
    collections = {name: placed[name] for name in state.collections}
    average = None if state.average is None else jax.tree.map(jnp.copy, {"params": placed["params"], **collections})
    opt_state = jax.jit(state.tx.init, out_shardings=sharding.replicated())(placed["params"])
    return state.replace(params=placed["params"], collections=collections, average=average, opt_state=opt_state)


@functools.cache  # another transformation, even an equal one, would be compiled again
def _no_updates() -> optax.GradientTransformation:
    return optax.identity()


def evaluation_state(model: nn.Module, variables: dict[str, Any], **functions: Any) -> TrainState:
    """A state for evaluation and prediction only, from variables {"params": ..., "batch_stats": ...}."""
    placed = jax.device_put(variables, sharding.replicated())
    collections = {name: kept for name, kept in placed.items() if name != "params"}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=placed["params"],
        collections=collections,
        opt_state=_no_updates().init(placed["params"]),
        average=None,
        key=None,
        sums=EpochSums.zero(),
        apply_fn=Forward(model),
        tx=_no_updates(),
        **functions,
    )


def averaged(average: Any, new: Any, step: Array, decay: float) -> Any:
    """The exponential moving average after one more step, with the bias correction of Adam's moments.

    After the first step, it is `new`, up to rounding. Leaves that are not floating-point are taken from `new`.
    """
    weight = (1 - decay) / -jnp.expm1(math.log(decay) * step.astype(jnp.float32))

    def blend(old: Array, leaf: Array) -> Array:
        return old + weight.astype(leaf.dtype) * (leaf - old) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(blend, average, new)


@jax.jit
def is_sound(state: TrainState) -> Bool[Array, ""]:
    """Whether there is no NaN, and no infinity in weights. The state of an optimizer may have infinity."""

    def every(test: Any, tree: Any) -> Array:
        floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return jnp.array([test(leaf).all() for leaf in floats]).all()

    weights = (state.params, state.collections, state.average)
    return every(jnp.isfinite, weights) & every(lambda leaf: ~jnp.isnan(leaf), (state.opt_state, state.sums))
