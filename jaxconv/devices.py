"""Every local device takes an equal share of each batch, and holds everything else whole."""

from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxconv.errors import InputError


def mesh() -> Mesh:
    """The local devices in a row, along which batches are split: the axis "batch"."""
    devices = jax.local_devices()
    return jax.make_mesh((len(devices),), ("batch",), axis_types=(AxisType.Auto,), devices=devices)


def everywhere() -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh(), PartitionSpec())


def split(batch: Any) -> Any:
    """Arrays on the devices, an equal share of the rows each.

    Rows that do not divide, as in the smaller last batch of a pass, are whole on every device, which then all do the
    same with them.
    """
    rows = len(jax.tree.leaves(batch)[0])
    divides = rows % len(jax.local_devices()) == 0
    share = NamedSharding(mesh(), PartitionSpec("batch"))
    return jax.device_put(batch, share if divides else everywhere())


def check_divides(batch_size: int) -> None:
    """Whether every device gets as many rows of a batch as the others.

    Raises:
        InputError: it does not; with the nearest sizes that would.
    """
    count = len(jax.local_devices())
    if batch_size % count:
        below, above = batch_size // count * count, -(-batch_size // count) * count
        would = " or ".join(str(size) for size in (below, above) if size)
        raise InputError(f"--batch-size {batch_size} does not divide by the {count} devices here: give {would}")
