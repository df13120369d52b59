"""Work on a batch: all at once, or on a CPU a few rows at a time, so that what is worked on stays in its caches."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax
from jaxtyping import Array, Key

# Of the pictures that are worked on together, found by measurement: 2 of 150x150, 16 of 28x28.
CHUNK_ROWS, CHUNK_VALUES = 16, 140_000

Loss = Callable[[dict[str, Any], Any, Key[Array, ""]], tuple[Array, tuple[Any, dict[str, Any]]]]


def summed(function: Callable[[Any], Any], batch: Any) -> Any:
    """What `function` of a batch returns, which is sums over its rows; on a CPU, added up chunk by chunk."""

    def one_by_one(batch: Any) -> Any:
        return _add_up(lambda chunk: (function(chunk), ()), _chunks(batch))[0]

    return lax.platform_dependent(batch, cpu=one_by_one, default=function)


def mapped(function: Callable[[Array], Array], rows: Array) -> Array:
    """What `function` of rows returns, which is a row for each of them; on a CPU, put together from chunks."""

    def one_by_one(rows: Array) -> Array:
        return lax.map(function, _chunks(rows)).reshape(len(rows), -1)

    return lax.platform_dependent(rows, cpu=one_by_one, default=function)


def summed_gradients(loss: Loss, params: Any, batch: Any, key: Key[Array, ""]) -> tuple[Any, Any]:
    """The gradient of a loss summed over the batch, and the other sums that `loss` returns.

    `loss(variables, chunk, key)` takes {"params": params} and a few rows of the batch, and returns
    (summed loss, (sums, state)), where state is what `apply(variables, ..., mutable=["factors"])` returns. On a CPU
    the chunks come one after the other, so that their activations stay in the cache; elsewhere all at once. Every chunk
    has its own key, so that dropout is the same either way. `loss` may use the kernel of a `layers.Dense` through one
    call of that layer alone: what else it does with it has no gradient on a CPU.
    """
    chunks = _chunks(batch)
    keys = jax.random.split(key, len(jax.tree.leaves(chunks)[0]))

    def one_by_one(params: Any, chunks: Any, keys: Array) -> Any:
        """Adding up a large kernel's gradient for every chunk takes longer than many a layer: keep its factors."""
        first = jax.tree.map(lambda x: x[0], (chunks, keys))
        _, (_, state) = jax.eval_shape(loss, {"params": params}, *first)
        factors = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), state.get("factors", {}))
        leaves, layers = flatten_dict(params), {path[:-1] for path in flatten_dict(factors)}
        kernels = {(*layer, "kernel"): leaves[*layer, "kernel"] for layer in layers}
        others = {path: leaf for path, leaf in leaves.items() if path not in kernels}

        def gradients(chunk: Any) -> Any:
            def of(others: Any, factors: Any) -> tuple[Array, Any]:
                total, (sums, _) = loss({"params": unflatten_dict(others | kernels), "factors": factors}, *chunk)
                return total, sums

            (gradient, factored), sums = jax.grad(of, argnums=(0, 1), has_aux=True)(others, factors)
            return (gradient, sums), factored

        (gradient, sums), factored = _add_up(gradients, (chunks, keys))
        pairs = flatten_dict(factored)
        for layer in layers:
            both, dtype = (pairs[*layer, "inputs"], pairs[*layer, "outputs"]), leaves[*layer, "kernel"].dtype
            gradient[*layer, "kernel"] = jnp.einsum("cni,cno->io", *both, preferred_element_type=dtype)
        return unflatten_dict({path: gradient[path] for path in leaves}), sums

    def at_once(params: Any, chunks: Any, keys: Array) -> Any:
        def total(params: Any) -> tuple[Array, Any]:
            totals, (sums, _) = jax.vmap(loss, (None, 0, 0))({"params": params}, chunks, keys)
            return totals.sum(), jax.tree.map(lambda x: x.sum(0), sums)

        return jax.grad(total, has_aux=True)(params)

    return lax.platform_dependent(params, chunks, keys, cpu=one_by_one, default=at_once)


def _chunks(batch: Any) -> Any:
    """The batch with a leading axis of chunks, of the largest size that the limits and the batch allow."""
    leaves = jax.tree.leaves(batch)
    rows = len(leaves[0])
    limit = min(CHUNK_ROWS, CHUNK_VALUES * rows // sum(leaf.size for leaf in leaves))
    size = max((size for size in range(1, limit + 1) if rows % size == 0), default=1)
    return jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), batch)


def _add_up(function: Callable[[Any], tuple[Any, Any]], chunks: Any) -> tuple[Any, Any]:
    """`function` of one chunk after the other: the sum of what it returns first, and all of what it returns second."""
    shapes, _ = jax.eval_shape(function, jax.tree.map(lambda x: x[0], chunks))
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

    def add(sums: Any, chunk: Any) -> tuple[Any, Any]:
        new, kept = function(chunk)
        return jax.tree.map(jnp.add, sums, new), kept

    return lax.scan(add, zeros, chunks)
