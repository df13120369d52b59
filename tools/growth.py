"""How jaxconv's cost grows: time and memory with the number of pictures, images a second with threads.

    python -m tools.growth --data data/cats_and_dogs_small
    python -m tools.growth --sizes 2000 --epochs 20     # on drawn pictures: is memory flat?

Sets larger than the one given are its pictures linked again under other names. Every row comes from a process of its
own. "beyond" is the memory that the process holds after its last epoch less what it held with its programs compiled
and no picture read, and less the decoded pictures. The last set is measured again with only 1 GB left to the process
(`ulimit -v`); more than 7,400 pictures are then decoded again every time.
"""

import itertools
import multiprocessing
import os
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from experiments.command import bare_parser
from jaxconv.errors import InputError, one_line_errors
from jaxconv.workdir import write_json
from tools.bench import drawn_pictures, machine
from tools.turns import BATCH

SIZES = (2_000, 8_000, 25_000)
THREADS = (0, 1, 2, 4, 8)
LIMIT = 10**9
IMAGE_SIZE = (150, 150)
Row = dict[str, Any]


def link_pictures(source: Path, folder: Path, count: int) -> None:
    """Make folder/train of `count` pictures, as many of each class: links to those of source/train, again and again."""
    from jaxconv.records import list_classes

    for number, (name, pictures) in enumerate(zip(*(found := list_classes(source / "train")), strict=True)):
        (folder / "train" / name).mkdir(parents=True)
        copies = count // len(found[0]) + (number < count % len(found[0]))
        for copy, picture in enumerate(itertools.islice(itertools.cycle(pictures), copies)):
            (folder / "train" / name / f"{copy:06}{picture.suffix}").symlink_to(picture.resolve())


def _prepare() -> Any:
    """The state, with the train step compiled."""
    import jax
    import numpy as np

    from jaxconv import machine
    from jaxconv.compilation import use_cache
    from jaxconv.models import CatsDogsConvNet
    from jaxconv.streaming import compiled_train_step
    from jaxconv.train_step import create_state, learning_rates, rmsprop

    machine.keep_freed_memory()
    use_cache()
    optimizer = rmsprop(learning_rates("constant", 1e-4, 1))
    state = create_state(CatsDogsConvNet(dropout=0.5), (*IMAGE_SIZE, 3), optimizer, 0)
    batch = {"image": np.zeros((BATCH, *IMAGE_SIZE, 3), np.uint8), "label": np.zeros(BATCH, np.int32)}
    return jax.block_until_ready(compiled_train_step(state, batch)[0])


def train(folder: Path, epochs: int, limit: int | None = None) -> Row:
    """Epochs on every picture of folder/train, but for those that fill no batch; memory in MB.

    `limit` is how many bytes the process may still take once its programs are compiled.
    """
    import psutil

    from jaxconv import metrics
    from jaxconv.augment import RandomAffine
    from jaxconv.batches import training_batches
    from jaxconv.records import SplitDirectory
    from jaxconv.streaming import train_epoch

    process, state = psutil.Process(), _prepare()
    before = process.memory_info()
    if limit is not None:
        _, hard = process.rlimit(psutil.RLIMIT_AS)
        process.rlimit(psutil.RLIMIT_AS, (before.vms + limit, hard))
    started = time.perf_counter()
    source = SplitDirectory(folder, "train", IMAGE_SIZE)
    row: Row = {"pictures": len(source), "limited": limit is not None, "read": time.perf_counter() - started}
    decoded = source.decoded_bytes / 1e6
    row |= {"decoded": decoded, "seconds": [], "waited": [], "beyond": []}
    stream = training_batches(source, BATCH, seed=0, augment=RandomAffine())
    for _ in range(epochs):
        started = time.perf_counter()
        state, sums, waited = train_epoch(state, itertools.islice(stream, len(source) // BATCH))
        metrics.total(sums)
        row["seconds"].append(time.perf_counter() - started)
        row["waited"].append(waited / row["seconds"][-1])
        row["beyond"].append((process.memory_info().rss - before.rss) / 1e6 - decoded)
    return row


def feed(folder: Path, threads: int) -> Row:
    """Images a second of a pass of the input alone, and of a pass of training fed by it; nothing is made beforehand."""
    from jaxconv import metrics
    from jaxconv.augment import RandomAffine
    from jaxconv.batches import training_batches
    from jaxconv.records import SplitDirectory
    from jaxconv.streaming import train_epoch

    state, source = _prepare(), SplitDirectory(folder, "train", IMAGE_SIZE)
    new_stream = partial(training_batches, source, BATCH, seed=0, augment=RandomAffine(), threads=threads)
    started, steps = time.perf_counter(), max(1, len(source) // BATCH)
    deque(itertools.islice(new_stream(), steps), maxlen=0)
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    _, sums, waited = train_epoch(state, itertools.islice(new_stream(), steps))
    totals = metrics.add({}, metrics.of_steps(sums)) | {"seconds": time.perf_counter() - started, "waited": waited}
    speed = metrics.speed(totals)
    return {"threads": threads, "input": steps * BATCH / seconds} | speed


def apart(function: Any, *arguments: Any) -> Row:
    """The row that a function measures, in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


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


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = bare_parser("tools.growth", __doc__)
    parser.add_argument("--data", type=Path, help="folder with the folder train (default: drawn pictures)")
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES, metavar="N", help="(default: 2000 8000 25000)")
    parser.add_argument("--threads", nargs="*", type=int, default=THREADS, metavar="N", help="(default: 0 1 2 4 8)")
    parser.add_argument("--epochs", type=int, default=2, help="a size (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write every figure there too")
    arguments = parser.parse_args(argv)
    if arguments.epochs < 1 or min(arguments.sizes, default=BATCH) < BATCH or min(arguments.threads, default=0) < 0:
        raise InputError(f"--epochs must be at least 1, each of --sizes at least {BATCH}, each of --threads at least 0")
    data = arguments.data or drawn_pictures()
    if not (data / "train").is_dir():
        raise InputError(f"--data {data} has no folder train: name a folder of train/<class>/*")
    sizes, feeds = [], []
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            link_pictures(data, Path(folder, str(size)), size)
            sizes.append(apart(train, Path(folder, str(size)), arguments.epochs))
        if arguments.sizes and os.path.exists("/proc/self/statm"):  # only Linux limits a process's memory
            sizes.append(apart(train, Path(folder, str(size)), arguments.epochs, LIMIT))
        print(table_of_sizes(sizes), flush=True)
        feeds = [apart(partial(feed, data), threads) for threads in arguments.threads]
        print(table_of_threads(feeds), flush=True)
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    if arguments.json:
        write_json(arguments.json, {"machine": machine(), "data": str(data), "sizes": sizes, "threads": feeds})


if __name__ == "__main__":
    main()
