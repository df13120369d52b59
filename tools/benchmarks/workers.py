"""The process of one contestant: `python -m tools.benchmarks.workers NAME DATA [--one-core]`.

All contestants train the chapter's net with dropout by RMSprop, on batches of 32 pictures with the book's augmentation.
`tools.benchmarks.protocol` describes the input and output of the process.
"""

import collections
import functools
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

from tools.benchmarks.contestants import Contestant, Jaxconv
from tools.benchmarks.peers import Keras, KerasGrain, Torch
from tools.benchmarks.protocol import BATCH, IMAGE_SIZE, serve

CONTESTANTS: dict[str, type[Contestant]] = {
    "jaxconv": Jaxconv,
    "keras-tensorflow": Keras,
    "keras-jax": Keras,
    "keras-grain": KerasGrain,
    "pytorch": Torch,
}


def measure(contestant: Contestant, what: str, count: int) -> float:
    """The seconds of `count` steps, predictions, passes of input, or epochs; or the peak memory so far in MB."""
    if what == "peak_mb":
        peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(peaks) / 1024  # from kB, Linux's unit
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, *IMAGE_SIZE, 3), dtype=np.uint8)
    batch = images, rng.integers(0, 2, BATCH).astype(np.int32)
    started = time.perf_counter()
    for _ in range(count):
        if what == "train_step":
            contestant.train_step(batch)
        elif what == "infer":
            contestant.infer(batch)
        elif what == "input":
            collections.deque(contestant.batches(), maxlen=0)
        else:
            contestant.epoch()
    return time.perf_counter() - started


if __name__ == "__main__":
    if "--one-core" in sys.argv:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    serve(lambda: functools.partial(measure, CONTESTANTS[sys.argv[1]](Path(sys.argv[2]))))
