"""What a trained net sees, as section 5.4 of the book shows it: responses, the filters' patterns, and Grad-CAM.

The nets compute relu after max pooling; the two commute. So every response is shown after a relu, as the book's layers
give it.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, UInt8

from jaxconv.compilation import jit
from jaxconv.errors import InputError
from jaxconv.layers import AveragePool, Conv, MaxPool
from jaxconv.summary import layer_shapes
from jaxconv.train_step import TrainState, scale
from jaxconv.trained import Trained


def _forward(
    state: TrainState, images: Float[Array, "n h w c"], shifts: Mapping[str, Array] | None = None
) -> tuple[Float[Array, "n l"], dict[str, Array]]:
    """Logits, and what convolutions and poolings give, by name.

    Where `shifts` names a layer, its relu is taken at once, and the shift added to that before it goes on.
    """
    outputs: dict[str, Array] = {}

    def record(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output = call(*args, **kwargs)
        if not isinstance(context.module, Conv | MaxPool | AveragePool):
            return output
        name = context.module.path[-1]
        outputs[name] = nn.relu(output) + shifts[name] if shifts and name in shifts else output
        return outputs[name]

    with nn.intercept_methods(record):
        return state.apply_fn({"params": state.params}, images, train=False), outputs


def responses(net: Trained, image: UInt8[np.ndarray, "h w c"]) -> dict[str, Float[np.ndarray, "_ _ _"]]:
    """What each convolution and pooling makes of a picture: its maps, float32[rows, columns, filters], none below 0.

    The layers are in the order of their calls.
    """
    _, outputs = _forward(net.state, scale(jnp.asarray(image[None])))
    names = [name for name, _ in layer_shapes(net.model, net.image_shape)[0] if name in outputs]
    return {name: np.asarray(nn.relu(outputs[name][0]).astype(jnp.float32)) for name in names}


def convolutions(net: Trained) -> list[str]:
    """The names of the net's convolutions, in the order of their calls.

    Raises:
        InputError: it has none.
    """
    names = [name for name, _ in layer_shapes(net.model, net.image_shape)[0] if name.startswith(Conv.__name__)]
    if not names:
        model = type(net.model).__name__
        raise InputError(f"{net.workdir} holds a {model}, which has no convolutions to look into: name another run")
    return names


def kernels(net: Trained, layer: str) -> Float[np.ndarray, "k 3 3 c"]:
    """The weights of a convolution, a kernel a filter."""
    return np.moveaxis(np.asarray(net.state.params[layer]["kernel"]), -1, 0)


def patterns(
    net: Trained, layer: str, filters: Sequence[int], *, steps: int = 40, step_size: float = 0.01, seed: int = 0
) -> Float[np.ndarray, "n h w c"]:
    """For each of a convolution's filters a picture that excites it, by gradient ascent from grey noise (code 5-38).

    What rises is the mean over the map before relu, so that a filter that is silent at first climbs too. Every step
    moves a picture by `step_size` (root mean square; 1 is from black to white), along the gradient smoothed by a few
    pixels, without which nets of few layers give noise. The values are not kept in [0, 1].
    """
    noise = jax.random.uniform(jax.random.key(seed), net.image_shape, minval=128 / 255, maxval=148 / 255)
    pictures = jnp.broadcast_to(noise, (len(filters), *net.image_shape))
    return np.asarray(_ascend(net.state, pictures, jnp.asarray(filters, jnp.int32), layer, steps, step_size))


def excitement(
    state: TrainState, pictures: Float[Array, "n h w c"], filters: Int32[Array, " n"], layer: str
) -> Float[Array, " n"]:
    """The mean response, before relu, of filter `filters[i]` of the layer to picture i."""
    means = _forward(state, pictures)[1][layer].astype(jnp.float32).mean((1, 2))
    return jnp.take_along_axis(means, filters[:, None], 1)[:, 0]


def _smoother(size: int) -> Float[Array, "size size"]:
    """The binomial filter 1 4 6 4 1 as a matrix. It is positive definite: a smoothed gradient still leads upwards."""
    return sum((math.comb(4, 2 + k) / 16 * jnp.eye(size, k=k) for k in range(-2, 3)), jnp.zeros((size, size)))


@functools.partial(jit, static_argnames=("layer", "steps", "step_size"))
def _ascend(state: TrainState, pictures: Array, filters: Array, layer: str, steps: int, step_size: float) -> Array:
    rows, columns = (_smoother(size) for size in pictures.shape[1:3])

    def step(pictures: Array, _: None) -> tuple[Array, None]:
        slope = jax.grad(lambda pictures: excitement(state, pictures, filters, layer).sum())(pictures)
        slope = jnp.einsum("ri,nijc,js->nrsc", rows, slope, columns)
        steepness = jnp.sqrt(jnp.square(slope).mean((1, 2, 3), keepdims=True))
        return pictures + step_size * slope / jnp.maximum(steepness, 1e-12), None

    return jax.lax.scan(step, pictures, None, steps)[0]


def grad_cam(net: Trained, images: UInt8[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n k h w"]:
    """Where in each picture the last convolution finds what speaks for each class (Selvaraju et al. 2017).

    Each map is in [0, 1], stretched to the size of the picture: 1 is the strongest evidence for that class there, and
    a map that is 0 all over says that there is none. Of one logit of two classes the first has the opposite evidence.

    Raises:
        InputError: the net has no convolution.
    """
    return np.asarray(_grad_cam(net.state, images, convolutions(net)[-1]))


@functools.partial(jit, static_argnames="layer")
def _grad_cam(state: TrainState, images: Array, layer: str) -> Array:
    pixels = scale(images)

    def logits_and_maps(shift: Array) -> tuple[Array, Array]:
        logits, outputs = _forward(state, pixels, {layer: shift})
        return logits, outputs[layer]

    maps = jax.eval_shape(lambda: _forward(state, pixels)[1][layer])
    # The gradient is that behind the layer's relu. The net's own relu comes after the pooling: for it to pass the
    # gradient where the map is silent, as the book's layers do, all is a trifle above zero.
    trifle = jnp.full(maps.shape, 1e-30, maps.dtype)
    logits, pull_back, maps = jax.vjp(logits_and_maps, trifle, has_aux=True)
    ones = jnp.eye(logits.shape[1], dtype=logits.dtype)[:, None] * jnp.ones((1, *logits.shape), logits.dtype)
    (slopes,) = jax.vmap(pull_back)(ones)
    weights = slopes.astype(jnp.float32).mean((2, 3))
    evidence = jnp.einsum("nhwc,knc->nkhw", (maps - trifle).astype(jnp.float32), weights)
    if logits.shape[1] == 1:
        evidence = jnp.concatenate([-evidence, evidence], 1)
    heat = jax.image.resize(nn.relu(evidence), (*evidence.shape[:2], *images.shape[1:3]), "bilinear")
    return heat / jnp.maximum(heat.max((2, 3), keepdims=True), jnp.finfo(jnp.float32).tiny)
