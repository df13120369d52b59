"""What test_sharding asks of processes of eight virtual devices.

    python -m tests.runtime.on_devices WHAT PHOTOS WORKDIR

Prints as JSON what came out with the first one, two, four and eight of the devices.
"""

import json
import os
import sys
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import msgspec
import numpy as np
import optax

import jaxconv as jc
from jaxconv.models import CatsDogsConvNet
from jaxconv.runs.writer import RunWriter
from jaxconv.runtime import sharding
from jaxconv.training.state import create_state
from jaxconv.training.steps import compiled_eval_step, compiled_train_step
from tests.nets import SmallNet

SHAPE = (46, 46, 3)


def steps():
    """Three of plain gradient descent, which keeps differences of rounding small, and an evaluation."""
    rng = np.random.default_rng(0)
    state = create_state(CatsDogsConvNet(dropout=0.5), SHAPE, optax.sgd(0.05), 0)
    images, labels = rng.integers(0, 256, (3, 16, *SHAPE), dtype=np.uint8), rng.integers(0, 2, (3, 16), dtype=np.int32)
    found = {"losses": [], "shards": set()}
    for image, label in zip(images, labels, strict=True):
        batch = sharding.shard_batch({"image": image, "target": np.eye(2, dtype=np.float32)[label]})
        found["shards"] |= {shard.data.shape[0] for shard in batch["image"].addressable_shards}
        state, loss = compiled_train_step(state, batch)
        found["losses"].append(float(loss))
    mask = np.arange(16) < 13
    batch = {"image": images[0], "label": labels[0], "mask": mask}
    sums = compiled_eval_step(state, sharding.shard_batch(batch))
    placed = [leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state)]
    params = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(jax.device_get(state.params))])
    found |= {"evaluation": {name: np.asarray(value).tolist() for name, value in sums.items()}}
    return found | {"shards": sorted(found["shards"]), "whole": all(placed), "params": params[::97].tolist()}


def runs(photos, workdir, epochs, resume):
    """A run of steps of eight pictures and of the two that are left."""
    splits = jc.read_splits(photos, (12, 12))
    training = jc.Training(
        epochs=epochs,
        steps_per_epoch=None,
        batch_size=8,
        optimizer=jc.Optimizer(learning_rate=1e-5),
        augmentation=jc.BOOK_AUGMENTATION,
    )
    return msgspec.to_builtins(jc.fit(SmallNet(), splits, training, workdir, resume=resume).result)


def main():
    what, photos, workdir = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if what == "default":  # as on a GPU
        jax.lax.platform_dependent = lambda *arguments, cpu, default: default(*arguments)
    local, found = jax.local_devices(), {}

    def take(count):
        jax.local_devices = lambda: local[:count]

    if what == "runs":
        RunWriter.draw_curves = RunWriter.write_final_figures = lambda *_: None
        for name, until in {"1": {2: 1}, "4": {2: 4}, "4, then 1": {1: 4, 2: 1}}.items():
            for epochs, count in until.items():
                take(count)
                found[name] = runs(photos, workdir / name, epochs, resume=(workdir / name).exists())
    else:
        for count in map(int, sys.argv[4:]):
            take(count)
            found[count] = steps()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
