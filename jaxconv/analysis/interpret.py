"""Look into a trained net, as section 5.4 of the book does: activations, patterns that excite filters, and Grad-CAM.

A layer is named by its path in the net, such as "Conv_1", or "Block_0/Conv_1" in nested modules.

The chapter's nets compute relu after max pooling, because the two commute and the pooled maps are smaller. Here the
activations of their convolutions are shown after a relu, as the layers of the book compute them.
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

from jaxconv.analysis.predictor import Predictor
from jaxconv.models.efficientnet import ConvNorm
from jaxconv.models.layers import AveragePool, Conv, MaxPool
from jaxconv.models.summary import at, layer_shapes
from jaxconv.runtime.compilation import jit
from jaxconv.runtime.errors import InputError
from jaxconv.training.state import TrainState


def _forward(
    state: TrainState, images: Float[Array, "n h w c"], shifts: Mapping[str, Array] | None = None
) -> tuple[Float[Array, "n l"], dict[str, Array]]:
    """The logits, and the outputs of convolutions and poolings by layer, in the order of their calls.

    `shifts` are added to the outputs of these layers. The chapter's convolutions then apply their relu first, so that
    the shift comes after it.
    """
    outputs: dict[str, Array] = {}

    def record(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output, module = call(*args, **kwargs), context.module
        if context.method_name != "__call__" or not (
            isinstance(module, MaxPool | AveragePool) or _is_convolution(module.variables.get("params", {}))
        ):
            return output
        name = "/".join(module.path)
        if shifts and name in shifts:
            output = (nn.relu(output) if isinstance(module, Conv | ConvNorm) else output) + shifts[name]
        outputs[name] = output
        return output

    with nn.intercept_methods(record):
        logits: Any = state.apply_fn.model.apply(state.variables, images, train=False)
    return logits, outputs


def _is_convolution(params: Any) -> bool:
    """Whether a layer's parameters have the kernel of a convolution over rows and columns."""
    return getattr(params.get("kernel"), "ndim", 0) == 4


def activations(net: Predictor, image: UInt8[np.ndarray, "h w c"]) -> dict[str, Float[np.ndarray, "_ _ _"]]:
    """The maps of each convolution and pooling for a picture, after a relu: float32[rows, columns, filters].

    The layers are in the order of their calls.
    """
    _, outputs = _forward(net.state, net.state.apply_fn.normalize(jnp.asarray(image[None])))
    return {name: np.asarray(nn.relu(output[0]).astype(jnp.float32)) for name, output in outputs.items()}


def convolutions(net: Predictor) -> list[str]:
    """The names of the net's convolutions, in the order of their calls.

    Raises:
        InputError: the net has no convolution.
    """
    layers, _ = layer_shapes(net.model, net.image_shape)
    params = net.state.variables["params"]
    names = [name for name in dict.fromkeys(name for name, _ in layers) if _is_convolution(at(params, name))]
    if not names:
        model = type(net.model).__name__
        raise InputError(f"{net.workdir} holds a {model}, which has no convolutions to look into: name another run")
    return names


def kernels(net: Predictor, layer: str) -> Float[np.ndarray, "k h w c"]:
    """The weights of a convolution: one kernel per filter."""
    return np.moveaxis(np.asarray(at(net.state.variables["params"], layer)["kernel"]), -1, 0)


def maximize_activation(
    net: Predictor, layer: str, filters: Sequence[int], *, steps: int = 40, step_size: float = 0.01, seed: int = 0
) -> Float[np.ndarray, "n h w c"]:
    """Pictures that excite filters of a convolution, one per filter, by gradient ascent from grey noise (code 5-38).

    The ascent maximizes the mean of the filter's map before relu, so that a filter that is silent at first has a
    gradient too. Every step moves a picture by `step_size` (the root mean square over its pixels; 1 is the step from
    black to white). The gradient is smoothed by a few pixels first; without this, nets of few layers give noise. The
    values are not kept in [0, 1].
    """
    noise = jax.random.randint(jax.random.key(seed), (1, *net.image_shape), 128, 149, jnp.uint8)
    pictures = jnp.broadcast_to(net.state.apply_fn.normalize(noise), (len(filters), *net.image_shape))
    return np.asarray(_ascend(net.state, pictures, jnp.asarray(filters, jnp.int32), layer, steps, step_size))


def mean_activation(
    state: TrainState, pictures: Float[Array, "n h w c"], filters: Int32[Array, " n"], layer: str
) -> Float[Array, " n"]:
    """The mean of the map of filter `filters[i]` for picture i, before relu."""
    means = _forward(state, pictures)[1][layer].astype(jnp.float32).mean((1, 2))
    return jnp.take_along_axis(means, filters[:, None], 1)[:, 0]


def _smoother(size: int) -> Float[Array, "size size"]:
    """The binomial filter 1 4 6 4 1 as a matrix. It is positive definite: a smoothed gradient still points upwards."""
    return sum((math.comb(4, 2 + k) / 16 * jnp.eye(size, k=k) for k in range(-2, 3)), jnp.zeros((size, size)))


@functools.partial(jit, static_argnames=("layer", "steps", "step_size"))
def _ascend(state: TrainState, pictures: Array, filters: Array, layer: str, steps: int, step_size: float) -> Array:
    rows, columns = (_smoother(size) for size in pictures.shape[1:3])

    def step(pictures: Array, _: None) -> tuple[Array, None]:
        slope = jax.grad(lambda pictures: mean_activation(state, pictures, filters, layer).sum())(pictures)
        slope = jnp.einsum("ri,nijc,js->nrsc", rows, slope, columns)
        steepness = jnp.sqrt(jnp.square(slope).mean((1, 2, 3), keepdims=True))
        return pictures + step_size * slope / jnp.maximum(steepness, 1e-12), None

    return jax.lax.scan(step, pictures, None, steps)[0]


def grad_cam(net: Predictor, images: UInt8[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n k h w"]:
    """Heat maps of the evidence for each class in each picture: Grad-CAM of the last convolution.

    The evidence at a place is the sum of the layer's maps there, each weighted by the mean gradient of the class's
    logit (Selvaraju et al. 2017). The heat maps have the size of the picture and values in [0, 1], where 1 is the
    strongest evidence for the class in this picture. A map of zeros means that there is none. A net of one logit has
    the opposite evidence for the first of its two classes.

    Raises:
        InputError: the net has no convolution.
    """
    return np.asarray(_grad_cam(net.state, images, convolutions(net)[-1]))


@functools.partial(jit, static_argnames="layer")
def _grad_cam(state: TrainState, images: Array, layer: str) -> Array:
    pixels = state.apply_fn.normalize(images)

    def logits_and_maps(shift: Array) -> tuple[Array, Array]:
        logits, outputs = _forward(state, pixels, {layer: shift})
        return logits, outputs[layer]

    maps = jax.eval_shape(lambda: _forward(state, pixels)[1][layer])
    # The gradient is taken after the layer's relu. The relu of the net, after the pooling, would pass no gradient if
    # the map is zero, unlike the layers of the book. So all values are moved slightly above zero.
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
