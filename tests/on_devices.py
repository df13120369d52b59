"""What test_devices asks of processes of eight virtual devices: `python tests/on_devices.py WHAT PHOTOS WORKDIR`.

Prints as JSON what came out with the first one, two, four and eight of the devices.
"""

import json
import os
import sys
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import numpy as np
import optax
from nets import SmallNet

from jaxconv import devices, fit, streaming, train_step
from jaxconv.augment import RandomAffine
from jaxconv.config import FitConfig
from jaxconv.models import CatsDogsConvNet
from jaxconv.records import read_splits
from jaxconv.runs import Run

SHAPE = (46, 46, 3)


def steps():
    """Three of plain gradient descent, which keeps differences of rounding small, and an evaluation."""
    rng = np.random.default_rng(0)
    state = train_step.create_state(CatsDogsConvNet(dropout=0.5), SHAPE, optax.sgd(0.05), 0)
    images, labels = rng.integers(0, 256, (3, 16, *SHAPE), dtype=np.uint8), rng.integers(0, 2, (3, 16), dtype=np.int32)
    found = {"losses": [], "shards": set()}
    for batch in zip(images, labels, strict=True):
        on_devices = devices.split(dict(zip(("image", "label"), batch, strict=True)))
        found["shards"] |= {shard.data.shape[0] for shard in on_devices["image"].addressable_shards}
        state, sums = streaming.compiled_train_step(state, on_devices)
        found["losses"].append(float(sums["loss"]) / 16)
    mask = np.arange(16) < 13
    sums = streaming.compiled_eval_step(state, devices.split({"image": images[0], "label": labels[0], "mask": mask}))
    placed = [leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state)]
    params = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(jax.device_get(state.params))])
    found |= {"evaluation": {name: np.asarray(value).tolist() for name, value in sums.items()}}
    return found | {"shards": sorted(found["shards"]), "whole": all(placed), "params": params[::97].tolist()}


def runs(photos, workdir, epochs):
    """A run of steps of eight pictures and of the two that are left."""
    splits = read_splits(photos, (12, 12))
    config = FitConfig(epochs=epochs, steps_per_epoch=None, batch_size=8, learning_rate=1e-5)
    return fit.fit(SmallNet(), splits, config, workdir, title="a test", augment=RandomAffine())


def main():
    what, photos, workdir = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if what == "default":  # as on a GPU
        jax.lax.platform_dependent = lambda *arguments, cpu, default: default(*arguments)
    local, found = jax.local_devices(), {}

    def take(count):
        jax.local_devices = lambda: local[:count]

    if what == "runs":
        Run.draw = Run.draw_tested = lambda *_: None  # figures would take longer than the runs
        for name, until in {"1": {2: 1}, "4": {2: 4}, "4, then 1": {1: 4, 2: 1}}.items():
            for epochs, count in until.items():
                take(count)
                found[name] = runs(photos, workdir / name, epochs)
    else:
        for count in (1, 2, 4, 8):
            take(count)
            found[count] = steps()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
