"""Look into a trained net with one picture: section 5.4 of *Deep Learning with Python* for your own run.

activations_<layer>.png      the map of each filter, for every convolution and pooling (5.4.1); of a net with more than
                             twelve of these, for twelve from the first to the last
filters.png                  the kernels of the first convolution
filter_patterns_<layer>.png  pictures that excite the filters of a later convolution, by gradient ascent (5.4.2)
gradcam.png                  the evidence for each of the two likeliest classes, by its place in the picture (5.4.3);
                             the method is Grad-CAM, which weighs the maps of the last convolution by gradients

    python -m tools.inspect runs/catsdogs-plain-seed0 data/cats_and_dogs_small/test/cats/cat.1700.jpg
    python -m tools.inspect runs/mnist-convnet-seed0 seven.png --layer Conv_1 --out figures

The default folder is in the run directory. Its name is the name of the picture and eight hexadecimal characters (a hash
of the path), so that pictures of one name in different folders do not share it. In the names of figures, a nested layer
has a hyphen in place of the slash.

Each map is scaled to its maximum; a map of zeros is crossed out. The picture is decoded and resized as in training,
without keeping its proportions. The nets of MNIST expect a white digit on black.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxconv.runtime import files
from jaxconv.runtime.cli import one_line_errors
from jaxconv.runtime.errors import InputError
from tools import net

if TYPE_CHECKING:
    import numpy as np

    from jaxconv.analysis.predictor import Predictor

PATTERNS = 32  # a grid of 8x4
LAYERS = 12  # whose maps are drawn


def inspect(predictor: "Predictor", image: "np.ndarray", layer: str | None, folder: Path) -> str:
    """Write all figures for an image, uint8[h, w, c], to a folder; returns the two likeliest classes as text.

    Raises:
        InputError: the net has no convolution, or no convolution with the name `layer`.
    """
    from jaxconv.analysis import interpret

    names = interpret.convolutions(predictor)
    layer = layer or names[-1]
    if layer not in names:
        raise InputError(f"--layer {layer} is no convolution of this net: give one of {', '.join(names)}")
    _write_layers(predictor, image, names[0], layer, folder)
    return _write_grad_cam(predictor, image, names[-1], folder)


def _write_layers(predictor: "Predictor", image: "np.ndarray", first: str, layer: str, folder: Path) -> None:
    """Write the activations of all layers, the kernels of the first, and the patterns of one."""
    from jaxconv.analysis import interpret, interpret_figures

    found = list(interpret.activations(predictor, image).items())
    for name, maps in (found[place] for place in spread(len(found))):
        rows, columns, filters = maps.shape
        silent = int((maps.max((0, 1)) == 0).sum())
        title = f"{name}: {filters} feature maps of {rows}x{columns}, {silent or 'none'} of them silent"
        interpret_figures.write_activations(maps, folder / f"activations_{file_name(name)}.png", title)
    kernels = interpret.kernels(predictor, first)
    title = f"{first}: {len(kernels)} kernels of {'x'.join(map(str, kernels.shape[1:]))}"
    interpret_figures.write_kernels(kernels, folder / "filters.png", title)
    filters = range(min(PATTERNS, len(interpret.kernels(predictor, layer))))
    patterns = interpret.maximize_activation(predictor, layer, filters)
    title = f"{layer}: pictures that excite its filters {filters[0]} to {filters[-1]}"
    interpret_figures.write_patterns(patterns, folder / f"filter_patterns_{file_name(layer)}.png", title)


def _write_grad_cam(predictor: "Predictor", image: "np.ndarray", layer: str, folder: Path) -> str:
    from jaxconv.analysis import interpret, interpret_figures

    probabilities = predictor.probabilities(image[None])[0]
    likeliest = probabilities.argsort()[::-1][:2]
    heat = interpret.grad_cam(predictor, image[None])[0]
    verdict = ", ".join(f"{predictor.class_names[i]} {probabilities[i]:.1%}" for i in likeliest)
    heats = {predictor.class_names[i]: heat[i] for i in likeliest}
    interpret_figures.write_grad_cam(image, heats, folder / "gradcam.png", f"Grad-CAM of {layer}: {verdict}")
    return verdict


def spread(layers: int) -> list[int]:
    """The places of at most `LAYERS` layers, from the first to the last."""
    if layers <= LAYERS:
        return [*range(layers)]
    return [round(step * (layers - 1) / (LAYERS - 1)) for step in range(LAYERS)]


def file_name(layer: str) -> str:
    """The name of a layer as a part of a file's name."""
    return layer.replace("/", "-")


def default_folder(run: Path, picture: Path) -> Path:
    """The folder for a picture's figures in a run directory. It depends on the path of the picture."""
    hashed = hashlib.sha256(os.fsencode(picture.resolve())).hexdigest()[:8]
    return run / "figures" / f"{picture.stem}-{hashed}"


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, draw, and print the prediction and the folder."""
    assert __doc__
    parser = net.parser("tools.inspect", __doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="a picture")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder (default: RUN/figures/<picture>-<hash>)")
    parser.add_argument("--layer", metavar="NAME", help="layer of the patterns (default: the last convolution)")
    arguments = parser.parse_args(argv)
    predictor = net.read(arguments)
    image = predictor.read_picture(arguments.file)
    folder = arguments.out or default_folder(arguments.run, arguments.file)
    try:
        verdict = inspect(predictor, image, arguments.layer, folder)
    except OSError as error:
        raise InputError(f"--out {folder} cannot be written ({error.strerror}): name another folder") from error
    print(files.printable(f"{arguments.file}: {verdict} (epoch {predictor.epoch:g}). The figures are in {folder}"))


if __name__ == "__main__":
    main()
