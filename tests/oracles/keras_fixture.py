"""What Keras computes from given weights and batches: the oracle of tests/training/test_keras_parity.py.

    KERAS_BACKEND=jax python -m tests.oracles.keras_fixture tests/oracles/keras_parity.npz

Needs Keras (extra: bench). Weights and batches are drawn anew from a seed on both sides, so that the file holds
results alone, and of large arrays a sample.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxconv.runtime.cli import one_line_errors

SIDE, BATCH, STEPS, SAMPLE = 62, 2, 20, 200
LEARNING_RATE = 1e-5  # small enough that rounding does not decide a pixel of a pool within the twenty steps
SHAPES = [(3, 3, 3, 32), (3, 3, 32, 64), (3, 3, 64, 128), (3, 3, 128, 128), (512, 512), (512, 1)]


def initial_weights() -> list[np.ndarray]:
    """Kernel and bias of each layer of the net at 62x62, in Keras's order: float32, biases not zero."""
    rng = np.random.default_rng(0)
    weights = []
    for shape in SHAPES:
        limit = np.sqrt(6 / (np.prod(shape[:-2]) * (shape[-2] + shape[-1])))
        weights += [rng.uniform(-limit, limit, shape), rng.uniform(-0.01, 0.01, shape[-1])]
    return [weight.astype(np.float32) for weight in weights]


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    """A batch a step: uint8[2, 62, 62, 3] and int32[2]; noise, brighter in the upper or the lower half.

    Something to learn keeps two trainings that differ by rounding together; on noise alone they drift apart.
    """
    rng = np.random.default_rng(1)
    labels = np.tile(np.arange(BATCH) % 2, (STEPS, 1)).astype(np.int32)
    images = rng.integers(0, 128, (STEPS, BATCH, SIDE, SIDE, 3), dtype=np.uint8)
    upper = np.arange(SIDE)[:, None, None] < SIDE // 2
    images += np.where(upper == labels[..., None, None, None], np.uint8(127), np.uint8(0))
    return list(zip(images, labels, strict=True))


def sample(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The same 200 places of every array, of smaller ones all, one after the other."""
    rng = np.random.default_rng(2)
    parts = [np.asarray(array).ravel() for array in arrays]
    return np.concatenate([part[rng.permutation(part.size)[:SAMPLE]] for part in parts])


def by_keras() -> dict[str, Any]:
    """Logits, loss and gradients before the first step; the loss of each step; the weights after the last."""
    import jax
    import keras

    layers = [keras.Input((SIDE, SIDE, 3))]
    for features in (32, 64, 128, 128):
        layers += [keras.layers.Conv2D(features, 3, activation="relu"), keras.layers.MaxPooling2D(2)]
    layers += [keras.layers.Flatten(), keras.layers.Dense(512, activation="relu")]
    layers += [keras.layers.Dense(1, activation="sigmoid")]
    model = keras.Sequential(layers)
    model.set_weights(initial_weights())
    images, labels = batches()[0]
    scaled, targets = images.astype(np.float32) / 255, labels[:, None].astype(np.float32)

    def loss(weights: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
        probabilities, _ = model.stateless_call(weights, [], scaled)
        return keras.losses.BinaryCrossentropy()(targets, probabilities), probabilities

    weights = [variable.value for variable in model.trainable_variables]
    (first_loss, probabilities), gradients = jax.value_and_grad(loss, has_aux=True)(weights)
    model.compile(keras.optimizers.RMSprop(LEARNING_RATE), "binary_crossentropy")
    losses = [float(model.train_on_batch(x.astype(np.float32) / 255, y[:, None])) for x, y in batches()]
    return {
        "logits": np.log(probabilities / (1 - probabilities)),
        "loss": np.asarray(first_loss),
        "gradients": sample(gradients),
        "losses": np.array(losses, np.float32),
        "weights": sample(model.get_weights()),
        "version": np.array(keras.__version__),
    }


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the .npz file to write")
    np.savez_compressed(parser.parse_args(argv).file, **by_keras())


if __name__ == "__main__":
    main()
