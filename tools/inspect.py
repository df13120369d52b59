"""What a trained net sees in a picture: section 5.4 of *Deep Learning with Python*, of your own run.

activations_<layer>.png      the map of each filter, of every convolution and pooling (5.4.1)
filters.png                  the first convolution's kernels
filter_patterns_<layer>.png  pictures that excite filters of a later convolution, by gradient ascent (5.4.2)
gradcam.png                  where the picture speaks for each of the two likeliest classes (5.4.3, Grad-CAM)

    python -m tools.inspect runs/catsdogs-plain-seed0 data/cats_and_dogs_small/test/cats/cat.1700.jpg
    python -m tools.inspect runs/mnist-convnet-seed0 seven.png --layer Conv_1 --out figures

Each map is as bright as it gets at its own largest value; one that is 0 all over is crossed out. The picture is decoded
and squashed to the size that the net was trained on. MNIST's nets expect a white digit on black.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxconv.errors import InputError, one_line_errors
from tools import files, net

if TYPE_CHECKING:
    import numpy as np

    from jaxconv.trained import Trained

PATTERNS = 32  # a grid of 8x4


def inspect(trained: "Trained", image: "np.ndarray", layer: str | None, folder: Path) -> str:
    """Write all figures to `folder`; returns what the net takes the picture for. `image` is uint8[h, w, c].

    Raises:
        InputError: the net has no convolutions, or none of the name `layer`.
    """
    from jaxconv import insight, insight_figures

    names = insight.convolutions(trained)
    layer = layer or names[-1]
    if layer not in names:
        raise InputError(f"--layer {layer} is no convolution of this net: give one of {', '.join(names)}")
    for name, maps in insight.responses(trained, image).items():
        rows, columns, filters = maps.shape
        silent = int((maps.max((0, 1)) == 0).sum())
        title = f"{name}: {filters} maps of {rows}x{columns}, {silent or 'none'} of them silent"
        insight_figures.write_responses(maps, folder / f"activations_{name}.png", title)
    kernels = insight.kernels(trained, names[0])
    title = f"{names[0]}: {len(kernels)} kernels of {'x'.join(map(str, kernels.shape[1:]))}"
    insight_figures.write_kernels(kernels, folder / "filters.png", title)
    filters = range(min(PATTERNS, insight.kernels(trained, layer).shape[0]))
    title = f"{layer}: pictures that excite its filters {filters[0]} to {filters[-1]}"
    path = folder / f"filter_patterns_{layer}.png"
    insight_figures.write_patterns(insight.patterns(trained, layer, filters), path, title)
    probabilities = trained.predict(image[None])[0]
    likeliest = probabilities.argsort()[::-1][:2]
    heat = insight.grad_cam(trained, image[None])[0]
    verdict = ", ".join(f"{trained.class_names[i]} {probabilities[i]:.1%}" for i in likeliest)
    heats = {trained.class_names[i]: heat[i] for i in likeliest}
    insight_figures.write_grad_cam(image, heats, folder / "gradcam.png", f"Grad-CAM of {names[-1]}: {verdict}")
    return verdict


def read_picture(trained: "Trained", path: Path) -> "np.ndarray":
    """A picture file as the net takes it.

    Raises:
        InputError: it cannot be read or decoded.
    """
    from jaxconv.records import quiet_pillow, reason

    try:
        with quiet_pillow():
            return trained.decode(path.read_bytes())
    except MemoryError:  # no fault of the file
        raise
    # Pillow's plugins raise OSError, ValueError, SyntaxError, struct.error and more on damaged files.
    except Exception as error:
        raise InputError(f"{path} is no picture that can be decoded ({reason(error)}): name another file") from error


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    assert __doc__
    parser = net.parser("tools.inspect", __doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="a picture")
    parser.add_argument("--out", type=Path, metavar="DIR", help="(default: figures/<FILE's name> in the run directory)")
    parser.add_argument("--layer", metavar="NAME", help="of the patterns (default: the last convolution)")
    arguments = parser.parse_args(argv)
    trained = net.read(arguments)
    image = read_picture(trained, arguments.file)
    folder = arguments.out or arguments.run / "figures" / arguments.file.stem
    try:
        verdict = inspect(trained, image, arguments.layer, folder)
    except OSError as error:
        raise InputError(f"--out {folder} cannot be written ({error.strerror}): name another folder") from error
    print(files.printable(f"{arguments.file}: {verdict} (epoch {trained.epoch:g}). The figures are in {folder}"))


if __name__ == "__main__":
    main()
