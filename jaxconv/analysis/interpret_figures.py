"""Draw the results of `interpret`, as section 5.4 of the book does."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from jaxconv.runs.figures import save


def write_activations(maps: Float[np.ndarray, "h w k"], path: str | os.PathLike[str], title: str) -> None:
    """Draw the feature maps of a layer. One that is zero everywhere, a silent one, is grey and crossed out."""
    from matplotlib import colormaps

    largest = maps.max((0, 1))
    tiles = colormaps["viridis"](np.moveaxis(maps / np.maximum(largest, np.finfo(np.float32).tiny), -1, 0))[..., :3]
    tiles[largest == 0] = 0.8
    note = "Each feature map is scaled to its own maximum"
    note += "; those crossed out are silent: 0 everywhere" if (largest == 0).any() else ""
    _write_grid(tiles, path, f"{title}\n{note}", crossed=(largest == 0).tolist())


def write_kernels(kernels: Float[np.ndarray, "k h w c"], path: str | os.PathLike[str], title: str) -> None:
    """Draw kernels as small pictures. Grey is 0, and the largest weight of each kernel has the full contrast."""
    largest = np.abs(kernels).max((1, 2, 3), keepdims=True)
    tiles = 0.5 + kernels / np.maximum(largest, np.finfo(np.float32).tiny) / 2
    _write_grid(_rgb(tiles), path, f"{title}\nGrey is 0; the largest weight of each kernel has the full contrast")


def write_patterns(patterns: Float[np.ndarray, "n h w c"], path: str | os.PathLike[str], title: str) -> None:
    """Draw pictures from gradient ascent, all with the same mean and contrast, as the book does (code 5-37)."""
    axes = (1, 2, 3)
    contrast = np.maximum(patterns.std(axes, keepdims=True), 1e-5)
    tiles = 0.5 + 0.15 * (patterns - patterns.mean(axes, keepdims=True)) / contrast
    _write_grid(_rgb(tiles.clip(0, 1)), path, title)


def overlay(image: UInt8[np.ndarray, "h w c"], heat: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A picture in grey under a heat map in [0, 1]. The hotter a place is, the more the map covers it."""
    from matplotlib import colormaps

    grey = np.repeat(image.mean(-1, keepdims=True) / 255, 3, -1)
    cover = 0.75 * np.sqrt(heat)[..., None]
    return (255 * (grey * (1 - cover) + colormaps["inferno"](heat)[..., :3] * cover)).round().astype(np.uint8)


def write_grad_cam(
    image: UInt8[np.ndarray, "h w c"],
    heats: Mapping[str, Float[np.ndarray, "h w"]],
    path: str | os.PathLike[str],
    title: str,
) -> None:
    """Draw the picture, and beside it for each class in `heats` the heat map in [0, 1] and its overlay."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 2.75 * len(heats) + 0.5), layout="constrained")
    grid = figure.subplot_mosaic([["picture", f"evidence {row}", f"overlay {row}"] for row in range(len(heats))])
    grid["picture"].imshow(_rgb(image[None] / 255)[0])
    grid["picture"].set_title("picture", fontsize=10)
    for row, (name, heat) in enumerate(heats.items()):
        shown = grid[f"evidence {row}"].imshow(heat, cmap="inferno", vmin=0, vmax=1)
        grid[f"evidence {row}"].set_title(f"{'' if heat.any() else 'no '}evidence for {name}", fontsize=10)
        grid[f"overlay {row}"].imshow(overlay(image, heat))
        grid[f"overlay {row}"].set_title("overlay", fontsize=10)
    for axes in grid.values():
        axes.set_axis_off()
    label = "evidence, relative to this class's maximum"
    figure.colorbar(shown, ax=[*grid.values()], shrink=0.6, aspect=30, ticks=[0, 0.5, 1], label=label)
    figure.suptitle(title, fontsize=11)
    save(figure, Path(path))


def _rgb(tiles: np.ndarray) -> np.ndarray:
    """Pictures of three channels; those of another number become grey."""
    return tiles if tiles.shape[-1] == 3 else np.repeat(tiles.mean(-1, keepdims=True), 3, -1)


def _write_grid(
    tiles: Float[np.ndarray, "n h w 3"], path: str | os.PathLike[str], title: str, crossed: Sequence[bool] = ()
) -> None:
    """Draw tiles in [0, 1] row by row, each below its number from 0 on: 8 columns for up to 64 tiles, or 16."""
    from matplotlib.figure import Figure

    columns = 8 if len(tiles) <= 64 else 16
    side, gap, head, width = 11 / columns - 0.1, 0.1, 0.25 + 0.2 * len(title.splitlines()), 11.1  # inches
    high = side * tiles.shape[1] / tiles.shape[2]
    height = head + -(-len(tiles) // columns) * (high + 2 * gap)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))  # one for all tiles, because each Axes takes time
    axes.set_axis_off()
    axes.text(width / 2, head / 2 + 0.03, title, fontsize=11, ha="center", va="center")
    for index, tile in enumerate(tiles):
        left = gap + index % columns * (side + gap)
        top = head + gap + index // columns * (high + 2 * gap)
        right, bottom = left + side, top + high
        axes.imshow(tile, extent=(left, right, bottom, top), aspect="auto", zorder=2)
        # Without a frame, white pixels would be lost on the white page.
        axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color="0.8", linewidth=0.8)
        axes.text((left + right) / 2, top - 0.02, str(index), fontsize=9, color="0.25", ha="center", va="bottom")
        if any(crossed[index : index + 1]):
            for down in ((top, bottom), (bottom, top)):
                axes.plot([left, right], down, color="0.5", linewidth=0.8, zorder=3)
    axes.set(xlim=(0, width), ylim=(height, 0))
    save(figure, Path(path))
