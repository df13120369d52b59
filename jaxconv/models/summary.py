"""The table of layers that Keras users know: layer, output shape, parameters."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Shapes = list[tuple[str, tuple[int, ...]]]


def layer_shapes(model: nn.Module, image_shape: tuple[int, int, int]) -> tuple[Shapes, Any]:
    """The layers in the order of their calls, each with its output shape for a batch of one; and all variables.

    A layer is a module that calls no other module. In nested modules its name is a path, such as "Block_0/Conv_1".
    Nothing is computed: variables are `jax.ShapeDtypeStruct`s. `image_shape` is (height, width, channels).
    """
    calls: Shapes = []

    def record(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        before = len(calls)
        output = call(*args, **kwargs)
        path = context.module.path
        if context.method_name == "__call__" and path and len(calls) == before and hasattr(output, "shape"):
            calls.append(("/".join(path), output.shape))
        return output

    with nn.intercept_methods(record):
        images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        variables = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), images)
    return calls, variables


def count_params(params: Any) -> int:
    """The number of values in a tree of arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def at(tree: Any, name: str) -> Any:
    """The variables of a layer in a tree of variables; {} if the layer has none."""
    for part in name.split("/"):
        tree = tree.get(part, {})
    return tree


def summary(model: nn.Module, image_shape: tuple[int, int, int]) -> str:
    """The table as text: one line per layer, and the total below. `image_shape` is (height, width, channels)."""
    shapes, variables = layer_shapes(model, image_shape)
    rows, seen = [("layer", "output shape", "parameters")], set()
    for name, (_, *shape) in shapes:
        parameters = 0 if name in seen else count_params(at(variables["params"], name))  # a shared layer counts once
        seen.add(name)
        rows.append((name, f"({', '.join(['n', *map(str, shape)])})", f"{parameters:,}"))
    rows.append(("total", "", f"{count_params(variables['params']):,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])
