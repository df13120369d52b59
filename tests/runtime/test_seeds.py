import numpy as np

from jaxconv.runtime.seeds import derive_seed


def test_purposes_and_seeds_share_nothing():
    seeds = [derive_seed(seed, purpose) for seed in range(200) for purpose in ("order", "augment", "weights")]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)
    # Grain adds the number of the pass to the seed: the distance between any two must be more than any run's passes.
    assert np.diff(np.sort(seeds)).min() > 1_000


def test_a_seed_is_the_same_on_every_machine():
    # The first eight digits of `printf order/0 | sha256sum`.
    assert derive_seed(0, "order") == 0x923F3A31
