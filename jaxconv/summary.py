"""The table of layers that Keras users know: layer, output shape, parameters."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def layer_shapes(model: nn.Module, image_shape: tuple[int, int, int]) -> tuple[list[tuple[str, tuple[int, ...]]], Any]:
    """The layers in the order of their calls, each with the shape of its output for a batch of one, and the params.

    Nothing is computed: params are `jax.ShapeDtypeStruct`s. `image_shape` is (height, width, channels).
    """
    shapes: list[tuple[str, tuple[int, ...]]] = []

    def record(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output = call(*args, **kwargs)
        if context.method_name == "__call__" and len(context.module.path) == 1:
            shapes.append((context.module.path[0], output.shape))
        return output

    with nn.intercept_methods(record):
        images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        variables = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), images)
    return shapes, variables["params"]


def count_params(params: Any) -> int:
    """The number of weights and biases in a tree of arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def summary(model: nn.Module, image_shape: tuple[int, int, int]) -> str:
    """The table as text, one line a layer and the total below; `image_shape` is (height, width, channels)."""
    shapes, params = layer_shapes(model, image_shape)
    rows = [("layer", "output shape", "parameters")]
    for name, (_, *shape) in shapes:
        rows.append((name, f"({', '.join(['n', *map(str, shape)])})", f"{count_params(params.get(name, {})):,}"))
    rows.append(("total", "", f"{count_params(params):,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])
