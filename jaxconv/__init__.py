"""Small image classifiers from scratch in JAX.

files on disk -> records -> augmented batches -> train step -> metrics, checkpoints -> figures

Data runs one way: a module imports only from its left in that line. Only `fit` and `experiments` see everything.

On a CPU a notebook calls `keep_freed_memory` first: its nets then train 1.3 times as fast (tools/benchmarks/README.md).
"""

from jaxconv.machine import keep_freed_memory as keep_freed_memory
