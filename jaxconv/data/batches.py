"""Batches from records, by Grain: an endless training stream, and evaluation batches with each picture exactly once."""

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from grain.sources import RandomAccessDataSource

from jaxconv.runtime.machine import usable_cores
from jaxconv.runtime.seeds import derive_seed

Batch = dict[str, np.ndarray]


class Positions:
    """A source of records {"index": int} with the position of each record."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, int]:
        return {"index": index}


def training_batches(
    source: RandomAccessDataSource[Any],
    batch_size: int,
    *,
    seed: int,
    augment: grain.transforms.RandomMap | None = None,
    whole_passes: bool = False,
    first_step: int = 0,
    threads: int | None = None,
) -> Iterator[Batch]:
    """An endless stream of {"image": uint8[n, h, w, c], "label": int32[n]}, starting with the batch of `first_step`.

    Every pass has each record once, in a new order. A batch may have records of two passes. With `whole_passes`, each
    pass ends with a batch of the remaining records, which may be smaller. The batch of step k depends only on (seed,
    k), not on the number of threads (default: one per core, at most 16; 0: none). `augment` does not change the order.
    """
    dataset = grain.MapDataset.source(source).shuffle(seed=derive_seed(seed, "order"))
    if not whole_passes:
        dataset = dataset.repeat()
    if augment is not None:
        dataset = dataset.random_map(augment, seed=derive_seed(seed, "augment"))
    dataset = dataset.batch(batch_size, drop_remainder=not whole_passes, batch_fn=_collate)
    if whole_passes:
        dataset = dataset.repeat()
    stream = iter(dataset.to_iter_dataset(_read_options(threads)))
    stream.set_state({"next_index": first_step})
    return stream


def batch_positions(count: int, batch_size: int, step: int, *, seed: int, whole_passes: bool) -> list[int]:
    """The positions, among `count` records, of the batch of `step` (from 0) in the stream of `training_batches`."""
    options: dict[str, Any] = {"seed": seed, "whole_passes": whole_passes, "first_step": step, "threads": 0}
    return next(training_batches(Positions(count), batch_size, **options))["index"].tolist()


def evaluation_batches(
    source: RandomAccessDataSource[Any], batch_size: int, *, threads: int | None = None
) -> Iterator[Batch]:
    """Every record once, in order: batches as above with a "mask": bool[n]. The last batch is padded to n rows."""

    def pad(batch: Batch) -> Batch:
        missing = batch_size - len(next(iter(batch.values())))
        padded = {name: np.concatenate([rows, np.repeat(rows[:1], missing, axis=0)]) for name, rows in batch.items()}
        return padded | {"mask": np.arange(batch_size) < batch_size - missing}

    dataset = grain.MapDataset.source(source).batch(batch_size, batch_fn=_collate).map(pad)
    return iter(dataset.to_iter_dataset(_read_options(threads)))


def _collate(records: Sequence[Mapping[str, Any]]) -> Batch:
    """Each field of the records as one array. Numbers must be whole, and become int32."""
    columns = {name: [record[name] for record in records] for name in records[0]}
    return {
        name: np.stack(rows) if isinstance(rows[0], np.ndarray) else np.array([*map(operator.index, rows)], np.int32)
        for name, rows in columns.items()
    }


def _read_options(threads: int | None) -> grain.ReadOptions:
    """Options for Grain, whose default of 500 elements would keep 500 batches in memory. 16 threads is its default."""
    threads = threads if threads is not None else min(16, usable_cores())
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
