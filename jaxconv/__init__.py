"""Small image classifiers from scratch in JAX.

files on disk -> records -> augmented batches -> train step -> metrics, checkpoints -> figures

Data runs one way: a module imports only from its left in that line. Only `fit` and `experiments` see everything.
"""
