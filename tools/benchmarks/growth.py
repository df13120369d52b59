"""The part `growth` of `tools.bench`: the cost of jaxconv against the number of pictures and of threads.

Larger sets than the given one are repeated links to its pictures. Every row comes from a separate process.
"""

import itertools
import multiprocessing
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tools.benchmarks.protocol import BATCH, IMAGE_SIZE

if TYPE_CHECKING:
    from jaxconv.data.batches import Batch
    from jaxconv.training.state import TrainState

SIZES = (2_000, 8_000, 25_000)
EPOCHS = 2  # of each size
LIMIT = 10**9  # bytes; the last size is measured once more with only this memory left
THREADS = (0, 1, 2, 4, 8)
Row = dict[str, Any]


def measure(data: Path) -> dict[str, list[Row]]:
    """Measure and print both tables; returns their rows."""
    sizes: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            link_pictures(data, Path(folder, str(size)), size)
            sizes.append(apart(train, Path(folder, str(size)), EPOCHS))
        if sys.platform == "linux":  # no other system limits a process's memory
            sizes.append(apart(train, Path(folder, str(size)), EPOCHS, LIMIT))
    print(table_of_sizes(sizes), flush=True)
    threads = [apart(feed, data, count) for count in THREADS]
    print(table_of_threads(threads), flush=True)
    return {"sizes": sizes, "threads": threads}


def link_pictures(source: Path, folder: Path, count: int) -> None:
    """Fill folder/train with `count` links to the pictures of source/train, equally many for each class."""
    from jaxconv.data.layout import list_split

    listing = list_split(source, "train")
    classes = len(listing.class_names)
    (folder / "validation").mkdir(parents=True)  # without it, some of the training pictures would be held out
    for number, (name, pictures) in enumerate(zip(listing.class_names, listing.files, strict=True)):
        (folder / "train" / name).mkdir(parents=True)
        copies = count // classes + (number < count % classes)
        for copy, picture in enumerate(itertools.islice(itertools.cycle(pictures), copies)):
            (folder / "train" / name / f"{copy:06}{picture.suffix}").symlink_to(picture.resolve())


def apart(function: Callable[..., Row], *arguments: Any) -> Row:
    """The row that a function returns in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def train(folder: Path, epochs: int, limit: int | None = None) -> Row:
    """Epochs on the pictures of folder/train, without the pictures that do not fill a batch; memory in MB.

    "beyond" is the memory after each epoch, less the decoded pictures and the memory before the first picture was read,
    with compiled programs. From then on, the process may allocate `limit` more bytes.
    """
    import psutil

    from jaxconv.data.records import SplitDirectory

    process, state = psutil.Process(), _compiled_state()
    before = process.memory_info()
    if limit is not None:
        _, hard = process.rlimit(psutil.RLIMIT_AS)
        process.rlimit(psutil.RLIMIT_AS, (before.vms + limit, hard))
    started = time.perf_counter()
    source = SplitDirectory(folder, "train", IMAGE_SIZE)
    row: Row = {"pictures": len(source), "limited": limit is not None, "read": time.perf_counter() - started}
    decoded = source.decoded_bytes / 1e6
    row |= {"decoded": decoded, "seconds": [], "waited": [], "beyond": []}
    stream = _stream(source)
    for _ in range(epochs):
        started = time.perf_counter()
        state, waited = _train_steps(state, stream, len(source) // BATCH)
        row["seconds"].append(time.perf_counter() - started)
        row["waited"].append(waited / row["seconds"][-1])
        row["beyond"].append((process.memory_info().rss - before.rss) / 1e6 - decoded)
    return row


def feed(folder: Path, threads: int) -> Row:
    """Images a second in a pass of the input alone, and in a pass of training; each starts with no batch ready."""
    from jaxconv.data.records import SplitDirectory

    state, source = _compiled_state(), SplitDirectory(folder, "train", IMAGE_SIZE)
    steps = max(1, len(source) // BATCH)
    started = time.perf_counter()
    deque(itertools.islice(_stream(source, threads), steps), maxlen=0)
    alone = time.perf_counter() - started
    started = time.perf_counter()
    _, waited = _train_steps(state, _stream(source, threads), steps)
    seconds, images = time.perf_counter() - started, steps * BATCH
    speeds = {"input": images / alone, "images_per_second": images / seconds, "data_wait": waited / seconds}
    return {"threads": threads} | speeds


def _compiled_state() -> "TrainState":
    """The state after one step, which compiles the step."""
    import numpy as np

    from tools.benchmarks.contestants import new_state

    batch: Batch = {"image": np.zeros((BATCH, *IMAGE_SIZE, 3), np.uint8), "label": np.zeros(BATCH, np.int32)}
    return _train_steps(new_state(), iter([batch]), 1)[0]


def _stream(source: Any, threads: int | None = None) -> "Iterator[Batch]":
    from jaxconv.data.augment import RandomAffine
    from jaxconv.data.batches import training_batches

    return training_batches(source, BATCH, seed=0, augment=RandomAffine(), threads=threads)


def _train_steps(state: "TrainState", stream: "Iterator[Batch]", steps: int) -> "tuple[TrainState, float]":
    """The state after some steps, and the seconds spent waiting for batches.

    jaxconv's `Feed` does the same, but chooses the number of threads.
    """
    import jax
    import numpy as np

    from jaxconv.runtime import sharding
    from jaxconv.training.steps import compiled_train_step

    one_hot, waited, loss = np.eye(2, dtype=np.float32), 0.0, None
    for _ in range(steps):
        asked = time.perf_counter()
        batch = next(stream)
        waited += time.perf_counter() - asked
        placed = sharding.shard_batch({"image": batch["image"], "target": one_hot[batch["label"]]})
        before, (state, loss) = loss, compiled_train_step(state, placed)
        jax.block_until_ready(before)  # one step ahead of the devices, as in jaxconv.loop
    jax.block_until_ready(loss)
    return state, waited


def table_of_sizes(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = ["| pictures | reading | an epoch | images/s | waiting for data | decoded pictures | beyond |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for row in rows:
        seconds, name = median(row["seconds"]), f"{row['pictures']:,}{', 1 GB left' if row['limited'] else ''}"
        cells = [name, f"{row['read']:.1f} s", f"{seconds:.1f} s", f"{row['pictures'] // BATCH * BATCH / seconds:.0f}"]
        cells += [f"{median(row['waited']):.1%}", f"{row['decoded']:.0f} MB", f"{row['beyond'][-1]:.0f} MB"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def table_of_threads(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = ["| threads | input alone, images/s | training, images/s | waiting for data |", "|---|---|---|---|"]
    for row in rows:
        speeds = f"{row['input']:,.0f} | {row['images_per_second']:.0f} | {row['data_wait']:.1%}"
        lines.append(f"| {row['threads']} | {speeds} |")
    return "\n".join(lines)
