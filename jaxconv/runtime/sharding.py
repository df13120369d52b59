"""Data parallelism: each local device has an equal share of a batch, and a copy of everything else."""

from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxconv.runtime.errors import InputError


def mesh() -> Mesh:
    """The local devices in a row, along the axis "batch"."""
    devices = jax.local_devices()
    return jax.make_mesh((len(devices),), ("batch",), axis_types=(AxisType.Auto,), devices=devices)


def replicated() -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh(), PartitionSpec())


def shard_batch(batch: Any) -> Any:
    """Put a tree of arrays on the devices, split by rows.

    If the rows cannot be shared equally, as in the smaller last batch of a pass, every device gets a copy and does the
    same work.
    """
    rows = len(jax.tree.leaves(batch)[0])
    divides = rows % len(jax.local_devices()) == 0
    return jax.device_put(batch, NamedSharding(mesh(), PartitionSpec("batch")) if divides else replicated())


def check_divides(batch_size: int) -> None:
    """Check that the devices can share a batch equally.

    Raises:
        InputError: they cannot; the message has the nearest sizes that they can share.
    """
    count = len(jax.local_devices())
    if batch_size % count:
        below, above = batch_size // count * count, -(-batch_size // count) * count
        would = " or ".join(str(size) for size in (below, above) if size)
        raise InputError(f"--batch-size {batch_size} does not divide by the {count} devices here: give {would}")
