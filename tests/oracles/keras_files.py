"""Nets as Keras saves them, and what it predicts with them: the oracle of tests/tools/test_import_keras.py.

    KERAS_BACKEND=jax python -m tests.oracles.keras_files tests/oracles/keras3.zip dense
    python -m tests.oracles.keras_files tests/oracles/keras2.zip dense --package tf_keras

For each net there are NAME.keras, NAME.weights.h5, NAME.h5 (a model), NAME-weights.h5 (Keras 2 alone writes weights so)
and NAME.npy, the predictions. Needs Keras (extra: bench) or tf_keras, which is Keras 2. Weights are multiples of 1/64,
so that the archive is small.
"""

import argparse
import importlib
import io
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxconv.runtime.cli import one_line_errors

SHAPES = {"catsdogs": (46, 46, 3), "catsdogs-dropout": (50, 46, 3), "mnist": (18, 20, 1), "dense": (2, 3, 1)}


def images(name: str) -> np.ndarray:
    """uint8[3, h, w, c]: noise."""
    return np.random.default_rng(1).integers(0, 256, (3, *SHAPES[name]), dtype=np.uint8)


def build(keras: Any, name: str) -> Any:
    """The net as the book writes it."""
    layers, shape = keras.layers, SHAPES[name]
    if name == "dense":
        hidden, last = 512, (10, "softmax")
        net = [layers.Input((int(np.prod(shape)),))]
    else:
        catsdogs = name.startswith("catsdogs")
        features, hidden = ((32, 64, 128, 128), 512) if catsdogs else ((32, 64, 64), 64)
        last = (1, "sigmoid") if catsdogs else (10, "softmax")
        net = [layers.Input(shape)]
        for count in features:
            net += [layers.Conv2D(count, (3, 3), activation="relu"), layers.MaxPooling2D((2, 2))]
        net = [*(net if catsdogs else net[:-1]), layers.Flatten()]
        net += [layers.Dropout(0.5)] if name == "catsdogs-dropout" else []
    units, activation = last
    return keras.Sequential([*net, layers.Dense(hidden, activation="relu"), layers.Dense(units, activation=activation)])


def draw_weights(net: Any) -> None:
    """From a seed; biases too, so that they count."""
    rng = np.random.default_rng(0)
    for layer in net.layers:
        drawn = []
        for shape in (weight.shape for weight in layer.weights):
            limit = 0.2 if len(shape) == 1 else np.sqrt(6 / (np.prod(shape[:-2]) * (shape[-2] + shape[-1])))
            drawn.append(np.round(64 * rng.uniform(-limit, limit, shape)).astype(np.float32) / 64)
        layer.set_weights(drawn)


def pack(file: Path, package: str, names: Sequence[str]) -> None:
    """Write the archive."""
    keras = importlib.import_module(package)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            net = build(keras, name)
            draw_weights(net)
            for kind in (".keras", ".h5"):
                net.save(f"{folder}/{name}{kind}")
            net.save_weights(f"{folder}/{name}.weights.h5")
            if package == "tf_keras":
                net.save_weights(f"{folder}/{name}-weights.h5")
            scaled = images(name).astype(np.float32) / 255
            predictions = io.BytesIO()
            np.save(predictions, net.predict(scaled.reshape(3, -1) if name == "dense" else scaled, verbose=0))
            archive.writestr(f"{name}.npy", predictions.getvalue())
        for path in sorted(Path(folder).iterdir()):
            archive.write(path, path.name)


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the .zip file to write")
    parser.add_argument("nets", nargs="+", choices=SHAPES, help="which nets")
    parser.add_argument("--package", choices=("keras", "tf_keras"), default="keras", help="(default: %(default)s)")
    arguments = parser.parse_args(argv)
    pack(arguments.file, arguments.package, arguments.nets)


if __name__ == "__main__":
    main()
