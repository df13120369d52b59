"""Separate seeds for weights, order, augmentation and dropout, all from the seed of a run."""

import hashlib


def derive_seed(seed: int, purpose: str) -> int:
    """A seed in [0, 2**32) for one purpose of a run.

    It is hashed, because Grain's shuffle adds the number of the pass to its seed: with plain seeds, run 1 would repeat
    run 0 one pass later. Hashing also separates the purposes: turning one on changes no other.
    """
    return int.from_bytes(hashlib.sha256(f"{purpose}/{seed}".encode()).digest()[:4], "big")
