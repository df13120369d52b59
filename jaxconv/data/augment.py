"""Random affine augmentation: draw one matrix, and warp the picture with it once.

Random numbers and matrix are computed as in Keras's ImageDataGenerator (code 5-11), with rows as the first axis.
"""

import dataclasses
import math

import cv2
import grain
import numpy as np
from jaxtyping import Float, Float64, Shaped

from jaxconv.config import BOOK_AUGMENTATION, Augmentation
from jaxconv.data.records import Record

BORDERS = {"nearest": cv2.BORDER_REPLICATE, "reflect": cv2.BORDER_REFLECT, "constant": cv2.BORDER_REPLICATE}
INTERPOLATIONS = ("nearest", "bilinear")


def affine_matrix(
    height: int,
    width: int,
    *,
    rotation_deg: float = 0.0,
    shift_rows: float = 0.0,
    shift_cols: float = 0.0,
    shear_deg: float = 0.0,
    zoom_rows: float = 1.0,
    zoom_cols: float = 1.0,
) -> Float64[np.ndarray, "2 3"]:
    """The matrix that maps an output pixel (row, col, 1) to its input pixel.

    It is rotation @ shift @ shear @ zoom about the centre ((height - 1) / 2, (width - 1) / 2), with shifts in pixels.
    So zoom < 1 enlarges, a positive shift moves the content up or left, and a positive rotation turns it clockwise on
    the screen.
    """
    theta, shear = math.radians(rotation_deg), math.radians(shear_deg)
    rotate = np.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]])
    linear = rotate @ np.array([[1.0, -math.sin(shear)], [0.0, math.cos(shear)]]) @ np.diag([zoom_rows, zoom_cols])
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    offset = centre + rotate @ np.array([shift_rows, shift_cols]) - linear @ centre
    return np.column_stack([linear, offset])


def draw_matrix(height: int, width: int, ranges: Augmentation, rng: np.random.Generator) -> Float64[np.ndarray, "2 3"]:
    """One random transform, including the flip, as a matrix. The numbers are drawn in ImageDataGenerator's order."""
    matrix = affine_matrix(
        height,
        width,
        rotation_deg=rng.uniform(-ranges.rotation_deg, ranges.rotation_deg),
        shift_rows=rng.uniform(-ranges.shift, ranges.shift) * height,
        shift_cols=rng.uniform(-ranges.shift, ranges.shift) * width,
        shear_deg=rng.uniform(-ranges.shear_deg, ranges.shear_deg),
        zoom_rows=rng.uniform(1 - ranges.zoom, 1 + ranges.zoom),
        zoom_cols=rng.uniform(1 - ranges.zoom, 1 + ranges.zoom),
    )
    if rng.random() < 0.5 and ranges.flip:
        matrix = matrix @ np.array([[1.0, 0.0, 0.0], [0.0, -1.0, width - 1.0], [0.0, 0.0, 1.0]])
    return matrix


def warp(
    image: Shaped[np.ndarray, "h w c"],
    matrix: Float[np.ndarray, "2 3"],
    *,
    fill: str = "nearest",
    interpolation: str = "bilinear",
    cval: float = 0.0,
) -> Shaped[np.ndarray, "h w c"]:
    """Warp a picture (uint8 or float32, 1 to 4 channels) with `matrix`; same shape and dtype.

    `fill` chooses the pixels outside the picture: the `nearest` edge pixel, the mirrored picture (`reflect`, with the
    edge pixel repeated), or the `constant` cval. All three are defined as in SciPy's `affine_transform`.

    Raises:
        ValueError: unknown `fill` or `interpolation`, or an image of another dtype or number of channels.
    """
    if fill not in BORDERS or interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"fill={fill!r} must be one of {', '.join(BORDERS)} and "
            f"interpolation={interpolation!r} one of {', '.join(INTERPOLATIONS)}"
        )
    if image.dtype not in (np.uint8, np.float32) or not 1 <= image.shape[2] <= 4:
        raise ValueError(f"an image is uint8 or float32 with 1 to 4 channels, not {image.dtype}{list(image.shape)}")
    height, width, _ = image.shape
    if interpolation == "bilinear":
        # OpenCV's points are (x, y) = (col, row), so both axes of the matrix are swapped.
        swapped = np.ascontiguousarray(matrix[::-1, [1, 0, 2]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped = cv2.warpAffine(image, swapped, (width, height), flags=flags, borderMode=BORDERS[fill])
    else:
        # Rounding the coordinates here chooses the same pixel as SciPy at every tie.
        rows, cols = np.floor(_coordinates(matrix, height, width) + 0.5).astype(np.float32)
        warped = cv2.remap(image, cols, rows, cv2.INTER_NEAREST, borderMode=BORDERS[fill])
    warped = warped.reshape(image.shape)  # OpenCV removes the axis of a single channel
    if fill == "constant":
        # OpenCV blends cval into the edge pixels. SciPy's "constant" fills each pixel whose coordinate is outside.
        rows, cols = _coordinates(matrix, height, width)
        warped[(rows < 0) | (rows > height - 1) | (cols < 0) | (cols > width - 1)] = cval
    return warped


def _coordinates(matrix: Float[np.ndarray, "2 3"], height: int, width: int) -> Float64[np.ndarray, "2 h w"]:
    """The input (row, col) of every output pixel."""
    rows, cols = np.arange(height)[:, None], np.arange(width)
    return matrix[:, 0, None, None] * rows + matrix[:, 1, None, None] * cols + matrix[:, 2, None, None]


@dataclasses.dataclass(frozen=True)
class RandomAffine(grain.transforms.RandomMap):
    """Warps the image of each record with a new random matrix: nearest fill, bilinear, one resampling."""

    ranges: Augmentation = BOOK_AUGMENTATION

    def random_map(self, element: Record, rng: np.random.Generator) -> Record:
        """Transform the image of a record; its label stays."""
        image = element["image"]
        matrix = draw_matrix(image.shape[0], image.shape[1], self.ranges, rng)
        return {"image": warp(image, matrix), "label": element["label"]}
