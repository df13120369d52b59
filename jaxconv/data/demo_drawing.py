"""One picture of a drawn cat or dog.

Cats and dogs have the same coats, backgrounds, poses and sizes, but different shapes: a cat has pointed ears, slit
pupils and whiskers, and a dog has hanging ears, round eyes and a long snout with a big nose. An animal is drawn in
separate coordinates (x to the right, y down, the head is about the unit circle). An affine map takes them to pixels.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int32, UInt8

Picture = UInt8[np.ndarray, "height width 3"]
Colour = Float[np.ndarray, "3"]  # RGB, 0 to 255
Points = Float[np.ndarray, "points 2"]  # x and y

FURS = [[45, 42, 45], [110, 112, 120], [235, 230, 222], [228, 196, 150], [205, 125, 55], [140, 90, 55], [85, 55, 40]]
IRISES = np.array([[130, 200, 80], [240, 200, 60], [100, 180, 225], [200, 130, 60]], float)
PINK, INK, WHITE = np.array([232, 135, 140.0]), np.array([35, 28, 30.0]), np.array([252, 250, 246.0])
SIDES = np.array([[-1.0, 1.0], [1.0, 1.0]])  # the factors of the left and the right one of a pair
CIRCLE = np.array([(np.cos(angle), np.sin(angle)) for angle in np.linspace(0, 2 * np.pi, 33)[:-1]])


@dataclass
class Sheet:
    """A picture to draw on, and the affine map from a drawing's coordinates to its pixels."""

    image: Picture
    to_pixels: Float[np.ndarray, "2 3"]

    def fill(self, outline: Points, paint: Colour | Picture) -> None:
        """Fill a closed outline with a colour, or with the pixels of another picture of the same size."""
        if paint.ndim == 1:
            cv2.fillPoly(self.image, [self._sixteenths(outline)], paint.tolist(), cv2.LINE_AA, shift=4)
            return
        mask = np.zeros(self.image.shape[:2], np.uint8)
        cv2.fillPoly(mask, [self._sixteenths(outline)], [255], cv2.LINE_AA, shift=4)
        share = mask * np.float32(1 / 255)
        cv2.blendLinear(paint, self.image, share, 1 - share, dst=self.image)

    def line(self, points: Points, colour: Colour, width: float, closed: bool = False) -> None:
        """Draw along the points. The width is in the drawing's coordinates, and at least one pixel."""
        pixels = max(1, round(width * abs(np.linalg.det(self.to_pixels[:, :2])) ** 0.5))
        cv2.polylines(self.image, [self._sixteenths(points)], closed, colour.tolist(), pixels, cv2.LINE_AA, shift=4)

    def _sixteenths(self, points: Points) -> Int32[np.ndarray, "points 2"]:
        return np.rint(16 * (points @ self.to_pixels[:, :2].T + self.to_pixels[:, 2])).astype(np.int32)


@dataclass
class Coat:
    """The colours of one animal: its fur as a picture over the whole sheet, a second colour, and colours of details."""

    fur: Picture
    marks: Colour
    muzzle: Colour
    edge: Colour
    whiskers: Colour


def draw(label: int, rng: np.random.Generator) -> Picture:
    """One picture, 120 to 260 pixels a side: a cat for label 0, a dog for label 1."""
    height = int(rng.integers(130, 241))
    width = round(np.clip(height * rng.uniform(0.7, 1.4), 120, 260))
    sheet = Sheet(_background(height, width, rng), _pose(height, width, rng))
    coat = _coat(sheet, rng)
    _body(sheet, coat, rng)
    (_cat, _dog)[label](sheet, coat, rng)
    return sheet.image


def _pose(height: int, width: int, rng: np.random.Generator) -> Float[np.ndarray, "2 3"]:
    radius = min(height, width) * rng.uniform(0.23, 0.33)
    angle = np.deg2rad(np.clip(rng.normal(0, 12), -30, 30))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.array([[rng.uniform(0.9, 1.1), rng.uniform(-0.08, 0.08)], [0, rng.uniform(0.9, 1.1)]])
    centre = rng.uniform([1.1 * radius, 1.3 * radius], [width - 1.1 * radius, height - 1.0 * radius])
    return np.column_stack([radius * turn @ stretch, centre])


def _background(height: int, width: int, rng: np.random.Generator) -> Picture:
    """Two colours that blend into each other, with a soft grain; often a floor and some objects."""
    corners = _colours(2, rng)[rng.integers(2, size=(2, 2))]
    grain = rng.normal(0, rng.uniform(2, 14), rng.integers(4, 40, 2))
    wall, bumps = (cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) for coarse in (corners, grain))
    image = np.clip(wall + bumps[..., None], 0, 255).astype(np.uint8)
    sheet = Sheet(image, np.array([[width, 0, 0], [0, height, 0.0]]))
    if rng.random() < 0.5:
        y = rng.uniform(0.5, 0.85)
        sheet.fill(np.array([[0, y], [1, y], [1, 1], [0, 1]]), _colours(1, rng)[0])
    for colour in _colours(int(rng.integers(6)), rng):
        things = CIRCLE * rng.uniform(0.03, 0.2, 2), rng.uniform(-0.2, 0.2, (3, 2))
        sheet.fill(rng.uniform(0, 1, 2) + things[rng.integers(2)], colour)
    return sheet.image


def _colours(count: int, rng: np.random.Generator) -> Float[np.ndarray, "{count} 3"]:
    """Muted colours, light and dark."""
    return rng.uniform(50, 215, (count, 1)) + rng.uniform(-40, 40, (count, 3))


def _coat(sheet: Sheet, rng: np.random.Generator) -> Coat:
    base, marks = np.array(FURS)[rng.choice(len(FURS), 2, replace=False)] * rng.uniform(0.75, 1.05, (2, 1))
    fur = Sheet(np.full_like(sheet.image, base), sheet.to_pixels)
    pattern = rng.choice(["plain", "stripes", "spots", "patches"])
    if pattern == "stripes":
        x = np.linspace(-3, 3, 25)
        wave = rng.uniform(-0.3, 0.3) * x - 0.25 * np.cos(3 * x)
        for y in np.arange(-2, 4, rng.uniform(0.28, 0.5)):
            fur.line(np.column_stack([x, y + wave]), marks, rng.uniform(0.06, 0.14))
    elif pattern != "plain":
        count, smallest, largest = (40, 0.06, 0.17) if pattern == "spots" else (7, 0.35, 0.8)
        for place in rng.uniform([-1.6, -1.6], [1.6, 3], (count, 2)):
            fur.fill(place + CIRCLE * rng.uniform(smallest, largest, 2), marks)
    muzzle = 0.5 * WHITE + 0.5 * (marks if rng.random() < 0.3 else base)
    return Coat(fur.image, marks, muzzle, edge=0.3 * base, whiskers=WHITE if base.mean() < 150 else 0.3 * base)


def _body(sheet: Sheet, coat: Coat, rng: np.random.Generator) -> None:
    wide = rng.uniform(0.8, 1.3)
    right = [[0.4, 0], [wide, 1.6], [1.2 * wide, 6]]
    _part(sheet, _symmetric(*right), coat.fur, coat.edge)
    if rng.random() < 0.4:  # a collar
        x = np.linspace(-0.62, 0.62, 12)
        sheet.line(np.column_stack([x, 1.18 - 0.3 * x**2]), _colours(1, rng)[0], 0.2)


def _cat(sheet: Sheet, coat: Coat, rng: np.random.Generator) -> None:
    look = np.array([rng.normal(0, 0.06), 0])  # how far the face is turned to a side
    tip, inside = np.array([rng.uniform(0.7, 1.0), rng.uniform(-1.6, -1.35)]), PINK * rng.uniform(0.4, 1)
    for side in SIDES:
        _part(sheet, side * _smooth([0.98, -0.1], tip, tip, tip, [0.12, -0.85], [0.4, -0.2]), coat.fur, coat.edge)
        sheet.fill(side * _smooth([0.84, -0.45], 0.9 * tip, 0.9 * tip, [0.38, -0.8]), inside)
    cheek = [1.15, rng.uniform(0.3, 0.5)]
    _part(sheet, _symmetric([0.5, -1.0], [0.98, -0.6], cheek, cheek, [0.6, 1.0]), coat.fur, coat.edge)
    iris, slit, lid = IRISES[rng.integers(len(IRISES))], rng.uniform(0.05, 0.09), rng.uniform(0.3, 0.42)
    for side in SIDES:
        eye = side * [0.43, -0.1] + look
        almond = _smooth([-0.32, 0.1], [-0.32, 0.1], [-0.1, -lid], [0.2, -lid], [0.3, -0.08], [0.2, 0.2], [-0.1, 0.25])
        _part(sheet, eye + side * almond, iris, INK)
        sheet.fill(eye + CIRCLE * [slit, 0.2], INK)
        sheet.fill(eye + [0.08, -0.1] + 0.05 * CIRCLE, WHITE)
        sheet.fill(side * ([0.17, 0.48] + CIRCLE * [0.25, 0.2]) + look, coat.muzzle)
        sheet.line(side * np.array([[0, 0.42], [0.03, 0.54], [0.14, 0.6], [0.28, 0.54]]) + look, INK, 0.035)
        for y in (0.3, 0.46, 0.62):
            end = [rng.uniform(1.2, 1.5), 2.2 * y - 0.6 + rng.normal(0, 0.06)]
            sheet.line(side * np.array([[0.25, y + 0.05], [0.8, 1.3 * y - 0.2], end]) + look, coat.whiskers, 0.015)
    sheet.fill(_smooth([-0.19, 0.24], [0.19, 0.24], [0, 0.48]) + look, PINK * rng.uniform(0.4, 1))


def _dog(sheet: Sheet, coat: Coat, rng: np.random.Generator) -> None:
    look = np.array([rng.normal(0, 0.08), 0])
    _part(sheet, [0, -0.05] + CIRCLE * [0.88, 1.0], coat.fur, coat.edge)
    iris = np.array([110, 65, 35]) * rng.uniform(0.5, 1.3)
    drop, flap = rng.uniform(0.5, 1.0), coat.marks if rng.random() < 0.5 else coat.fur
    for side in SIDES:
        eye = side * [0.36, -0.22] + look
        _part(sheet, eye + CIRCLE * [0.19, 0.2], WHITE, INK)
        sheet.fill(eye + [0, 0.02] + 0.15 * CIRCLE, iris)
        sheet.fill(eye + [0, 0.02] + 0.1 * CIRCLE, INK)
        sheet.fill(eye + [0.06, -0.05] + 0.05 * CIRCLE, WHITE)
        ear = _smooth([0.35, -0.98], [0.95, -1.05], [1.3, drop - 0.5], [1.2, drop], [0.85, drop], [0.75, -0.4])
        _part(sheet, side * ear, flap, coat.edge)
    jaw = rng.uniform(0.95, 1.2)
    if rng.random() < 0.6:
        _part(sheet, [0, jaw] + look + CIRCLE * [0.2, rng.uniform(0.25, 0.4)], PINK, 0.6 * PINK)
    _part(sheet, _symmetric([0.2, 0], [0.62, jaw - 0.4], [0.4, jaw], [0, jaw - 0.1]) + look, coat.muzzle, coat.edge)
    sheet.line(np.array([[0, 0.3], [0, jaw - 0.1]]) + look, INK, 0.035)
    sheet.fill(_symmetric([0.38, 0.12], [0.25, 0.5], [0, 0.56]) + look, INK * rng.uniform(0.7, 2.5))
    sheet.fill([0.08, 0.2] + look + CIRCLE * [0.08, 0.035], WHITE)


def _part(sheet: Sheet, outline: Points, paint: Colour | Picture, edge: Colour) -> None:
    sheet.fill(outline, paint)
    sheet.line(outline, edge, 0.045, closed=True)


def _symmetric(*right: object) -> Points:
    """The smooth closed curve of these corners, downwards on the right side, and their mirror images."""
    return _smooth(*right, *(np.array(right, float) * [-1, 1])[::-1])


def _smooth(*corners: object) -> Points:
    """The closed curve inside these corners, which are cut three times. A corner that is given twice stays sharper."""
    points = np.array(corners, float)
    for _ in range(3):
        following = np.concatenate([points[1:], points[:1]])
        points = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], 1).reshape(-1, 2)
    return points
