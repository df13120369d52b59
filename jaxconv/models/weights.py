"""Weights that pass from one net to another."""

import hashlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxconv.models.registry import Forward
from jaxconv.runtime.errors import InputError
from jaxconv.runtime.seeds import derive_seed


def adopt(model: nn.Module, image_shape: tuple[int, int, int], variables: dict[str, Any], seed: int) -> dict[str, Any]:
    """First variables of a net: those of another net wherever name and shape agree, and else random ones.

    The names of the layers with random variables are printed.

    Raises:
        InputError: the nets have no layer in common.
    """
    images = jnp.zeros((1, *image_shape), jnp.uint8)
    fresh = flatten_dict(Forward(model).init(jax.random.key(derive_seed(seed, "weights")), images))
    given = flatten_dict(variables)
    kept = {name for name in fresh if name in given and given[name].shape == fresh[name].shape}
    if not kept:
        raise InputError("--init-from names a run of another net: its layers have other names or shapes")
    if anew := sorted({"/".join(name[1:-1]) for name in fresh.keys() - kept}):
        print(f"layers that begin with random weights: {', '.join(anew)}", flush=True)
    return dict(unflatten_dict({name: given[name] if name in kept else fresh[name] for name in fresh}))


def checksum(variables: dict[str, Any]) -> str:
    """The SHA-256 of the names and values of variables."""
    found = hashlib.sha256()
    for name, values in sorted(flatten_dict(variables, sep="/").items()):
        found.update(name.encode() + np.ascontiguousarray(values).tobytes())
    return found.hexdigest()
