"""Scenes of striped and barred discs, squares and triangles, to draw a detection set from.

Coordinates are COCO's: continuous, in pixels, x to the right, y down; the pixel in the upper left
corner covers [0, 1] x [0, 1], so its centre is at (0.5, 0.5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import cv2
import numpy as np

OUTLINES = {"disc": 0, "square": 4, "triangle": 3}  # number of corners; 0 is a circle
TEXTURES = {"striped": math.pi / 2, "barred": 0.0}  # direction in which the colours alternate
CLASS_NAMES = tuple(f"{texture} {outline}" for outline in OUTLINES for texture in TEXTURES)
"""Category `i` (1 to 6) is `CLASS_NAMES[i - 1]`."""

MIN_SIDE = 32  # pixels; below it not even two objects of MIN_DIAMETER find room
MIN_DIAMETER = 12.0  # pixels; about two periods of texture, the least that shows which one it is
PLACEMENT_TRIES = 12  # after that an object finds no room and is left out

Annotation = dict[str, Any]


@dataclass(frozen=True)
class SceneStyle:
    """What scenes look like. Pairs are (low, high) of a uniform distribution.

    Lengths in pixels do not grow with the picture, because a codec's filters do not either.
    """

    objects: tuple[int, int] = (1, 4)
    diameter: tuple[float, float] = (1 / 4.5, 1 / 2.2)
    """Of the disc of equal area, as a fraction of the picture's short side."""
    period: tuple[float, float] = (6.0, 9.0)
    """Of the texture, in pixels: kept at moderate rates, blurred to its mean colour at low ones."""
    tilt: float = math.radians(15)
    """Largest tilt of a texture; at 45 degrees striped and barred would be the same."""
    contrast: tuple[float, float] = (45.0, 100.0)
    """Between an object's two colours, in 8-bit levels of luma: codecs of 20 to 30 dB lose it."""
    tint: float = 20.0
    """Largest difference, in levels of any one channel, of hue between an object's two colours."""
    min_background_distance: float = 55.0
    """Between an object's mean colour and what lies around it, in RGB levels (Euclidean)."""
    max_hidden: float = 0.25
    """The largest part of any object that others may hide; what would hide more is not drawn."""
    noise_cells: tuple[int, ...] = (64, 32, 16, 8, 4)
    """Octaves of background noise, in pixels per cell; equal power per octave, as in nature."""
    noise: tuple[float, float] = (3.0, 9.0)
    """Standard deviation of one octave of background noise, in 8-bit levels."""
    grain: tuple[float, float] = (1.0, 3.0)
    """Standard deviation of the sensor-like grain over everything, in 8-bit levels."""
    clutter: tuple[int, int] = (4, 10)
    """Plain strokes, curves and blobs behind the objects, per 128 x 128 pixels."""


DEFAULT_STYLE = SceneStyle()


@dataclass(frozen=True)
class Shape:
    """One object: outline, pose and texture, without colours."""

    category_id: int
    diameter: float
    center: tuple[float, float]  # x, y
    angle: float  # of the outline, radians
    period: float
    tilt: float  # of the texture, radians
    phase: float  # in periods

    @property
    def corners(self) -> int:
        return tuple(OUTLINES.values())[(self.category_id - 1) // len(TEXTURES)]

    @property
    def direction(self) -> float:
        """In which the texture's colours alternate, radians."""
        return tuple(TEXTURES.values())[(self.category_id - 1) % len(TEXTURES)] + self.tilt

    @property
    def radius(self) -> float:
        """Of the circumscribed circle; outlines of equal diameter have equal area."""
        if self.corners == 0:
            return self.diameter / 2
        return self.diameter * math.sqrt(
            math.pi / (2 * self.corners * math.sin(2 * math.pi / self.corners))
        )


def outline_of(shape: Shape) -> np.ndarray:
    """Corners (N, 2) of the outline, x and y; a circle has 48, which keeps its box exact."""
    corners = shape.corners or 48
    angle = shape.angle if shape.corners else 0.0
    theta = angle + np.arange(corners) * (2 * math.pi / corners)
    return np.array(shape.center) + shape.radius * np.stack([np.cos(theta), np.sin(theta)], axis=1)


def coverage_of(shape: Shape, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Coverage in [0, 1] of the pixels with centres x (1, W), y (H, 1): edges are anti-aliased."""
    dx, dy = x - shape.center[0], y - shape.center[1]
    if shape.corners == 0:
        distance = np.hypot(dx, dy) - shape.radius
    else:
        half = math.pi / shape.corners
        normals = shape.angle + half + np.arange(shape.corners) * 2 * half
        distance = np.maximum.reduce([dx * math.cos(a) + dy * math.sin(a) for a in normals])
        distance = distance - shape.radius * math.cos(half)
    return np.clip(0.5 - distance, 0, 1)


def texture_of(shape: Shape, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Share in [0, 1] of the first of the two colours, at pixel centres x (1, W), y (H, 1).

    Striped lies down and barred stands up. Either is half one colour and half the other, so a blur
    leaves the same mean colour; and they are of one frequency, so neither is easier to keep.
    """
    along = x * math.cos(shape.direction) + y * math.sin(shape.direction)
    return (_square_wave(along, shape.period, shape.phase) + 1) / 2


def _square_wave(position: np.ndarray, period: float, phase: float) -> np.ndarray:
    """A wave of -1 and 1 whose edges are ramps one pixel wide, so that nothing aliases."""
    triangle = np.abs((position / period + phase) % 1 - 0.5) - 0.25
    return np.clip(2 * period * triangle, -1, 1)


def draw_background(
    rng: np.random.Generator, height: int, width: int, style: SceneStyle
) -> np.ndarray:
    """A random colour gradient with noise of several octaves and plain clutter: (H, W, 3) uint8."""
    start, end = rng.uniform(40, 215, (2, 3))
    angle = rng.uniform(0, 2 * math.pi)
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    mix = 0.5 + 0.35 * (math.cos(angle) * x + math.sin(angle) * y)[..., None]
    image = (start + (end - start) * mix).astype(np.float32)
    for cell in style.noise_cells:
        if cell <= min(height, width):
            image += rng.uniform(*style.noise) * _noise_octave(rng, height, width, cell)
    image = to_uint8(image)
    count = rng.integers(*style.clutter, endpoint=True) * height * width / 128**2
    for _ in range(math.ceil(count)):
        _draw_clutter(rng, image)
    return image


def _noise_octave(rng: np.random.Generator, height: int, width: int, cell: int) -> np.ndarray:
    """Smooth noise (H, W, 3) of about unit variance, mostly of luma, as natural textures are."""
    rows, columns = height // cell + 3, width // cell + 3
    luma = rng.standard_normal((rows, columns, 1), dtype=np.float32)
    chroma = rng.standard_normal((rows, columns, 3), dtype=np.float32)
    grid = luma + 0.45 * chroma
    fine = cv2.resize(grid, (columns * cell, rows * cell), interpolation=cv2.INTER_CUBIC)
    top, left = rng.integers(cell, size=2) + cell // 2
    return fine[top : top + height, left : left + width]


def _draw_clutter(rng: np.random.Generator, image: np.ndarray) -> None:
    """Draw a stroke, a curve or a translucent blob onto the picture: of no class, to be dropped."""
    height, width = image.shape[:2]
    short = min(height, width)
    colour = tuple(rng.uniform(0, 255, 3).tolist())
    x, y = int(rng.integers(width)), int(rng.integers(height))
    thickness = int(rng.integers(1, 3, endpoint=True))
    kind = rng.integers(3)
    if kind == 0:
        dx, dy = (rng.uniform(-0.6, 0.6, 2) * short).astype(int).tolist()
        cv2.line(image, (x, y), (x + dx, y + dy), colour, thickness, cv2.LINE_AA)
        return
    axes = (rng.uniform(0.04, 0.22, 2) * short).astype(int).tolist()
    angle, start, sweep = rng.uniform([0, 0, 60], [180, 360, 220]).tolist()
    if kind == 1:
        cv2.ellipse(
            image, (x, y), axes, angle, start, start + sweep, colour, thickness, cv2.LINE_AA
        )
        return
    layer = image.copy()
    cv2.ellipse(layer, (x, y), axes, angle, 0, 360, colour, -1, cv2.LINE_AA)
    opacity = rng.uniform(0.3, 0.8)
    cv2.addWeighted(layer, opacity, image, 1 - opacity, 0, dst=image)


def sample_shape(
    rng: np.random.Generator, category_id: int, height: int, width: int, style: SceneStyle
) -> Shape | None:
    """A random object that lies wholly in the picture; None where it is too large to."""
    short = min(height, width)
    low, high = (max(MIN_DIAMETER, fraction * short) for fraction in style.diameter)
    shape = Shape(
        category_id=category_id,
        diameter=rng.uniform(low, high),
        center=(0.0, 0.0),
        angle=rng.uniform(0, 2 * math.pi),
        period=rng.uniform(*style.period),
        tilt=rng.uniform(-style.tilt, style.tilt),
        phase=rng.uniform(),
    )
    polygon = outline_of(shape)
    first, last = -polygon.min(axis=0), np.array([width, height]) - polygon.max(axis=0)
    if np.any(first > last):
        return None
    x, y = rng.uniform(first, last).tolist()
    return replace(shape, center=(x, y))


def sample_colours(
    rng: np.random.Generator, around: np.ndarray, style: SceneStyle
) -> tuple[np.ndarray, np.ndarray]:
    """Two RGB colours, drawn alike for all classes; their mean differs from what is around."""
    means = rng.uniform(45, 210, (32, 3))
    # All but one draw in a thousand of a grey surround are far enough within 32; argmax is then 0.
    mean = means[np.argmax(np.linalg.norm(means - around, axis=1) >= style.min_background_distance)]
    step = rng.uniform(*style.contrast) + rng.uniform(-style.tint, style.tint, 3)
    return mean + step / 2, mean - step / 2


class Patch(NamedTuple):
    """Where an object is in a picture.

    Attributes:
        window: rows and columns (h, w) around it.
        x, y: centres of its pixels, (1, w) and (h, 1).
        alpha: coverage, (h, w) in [0, 1].
        inside: (h, w), whether a pixel is the object's.
    """

    window: tuple[slice, slice]
    x: np.ndarray
    y: np.ndarray
    alpha: np.ndarray
    inside: np.ndarray

    @classmethod
    def of(cls, shape: Shape, size: tuple[int, ...]) -> Patch:
        """Of a shape, any part of which may lie out of the picture of a size (H, W)."""
        reach = math.ceil(shape.radius) + 1
        left, top = (max(0, int(c) - reach) for c in shape.center)
        right, bottom = (max(0, int(c) + reach + 1) for c in shape.center)
        window = np.s_[top:bottom, left:right]
        rows, columns = (len(range(*s.indices(n))) for s, n in zip(window, size, strict=True))
        x = np.arange(left, left + columns)[None, :] + 0.5
        y = np.arange(top, top + rows)[:, None] + 0.5
        alpha = coverage_of(shape, x, y)
        return cls(window, x, y, alpha, alpha > 0.5)

    def blend(self, image: np.ndarray, shape: Shape, first: np.ndarray, second: np.ndarray) -> None:
        """Paint the shape's texture of two colours (3,) onto a picture (H, W, 3) float32."""
        colours = second + (first - second) * texture_of(shape, self.x, self.y)[..., None]
        image[self.window] += (colours - image[self.window]) * self.alpha[..., None]


def _paint(
    rng: np.random.Generator,
    image: np.ndarray,
    owner: np.ndarray,
    shape: Shape,
    areas: list[int],
    style: SceneStyle,
) -> bool:
    """Paint an object unless it would hide too much of another, or lie too much upon one.

    image: (H, W, 3) float32, changed. owner: (H, W) number of the object seen at a pixel, from 1,
    or 0; changed. areas: pixels of every object painted so far, as if alone; one is appended.
    """
    patch = Patch.of(shape, owner.shape)
    area = int(patch.inside.sum())

    seen = np.bincount(owner.ravel(), minlength=len(areas) + 1)[1:]
    covered = np.bincount(owner[patch.window][patch.inside], minlength=len(areas) + 1)[1:]
    full = np.array(areas, dtype=int)
    if covered.sum() > style.max_hidden * area:
        return False
    if np.any(seen - covered < (1 - style.max_hidden) * full):
        return False

    around = image[patch.window].mean(axis=(0, 1))
    patch.blend(image, shape, *sample_colours(rng, around, style))
    owner[patch.window][patch.inside] = len(areas) + 1
    areas.append(area)
    return True


def annotate(shape: Shape) -> Annotation:
    """The COCO annotation of an object's whole outline, parts hidden by later objects included.

    The class is a matter of the whole outline, and `max_hidden` keeps the hidden part small.
    """
    polygon = np.round(outline_of(shape), 2)
    x, y = polygon.T
    area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    return {
        "category_id": shape.category_id,
        "bbox": np.round([x.min(), y.min(), np.ptp(x), np.ptp(y)], 2).tolist(),
        "area": round(float(area), 2),
        "iscrowd": 0,
        "segmentation": [polygon.ravel().tolist()],
    }


def to_uint8(image: np.ndarray) -> np.ndarray:
    """8-bit levels, rounded, of any shape."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def render_scene(
    rng: np.random.Generator, height: int, width: int, style: SceneStyle = DEFAULT_STYLE
) -> tuple[np.ndarray, list[Annotation]]:
    """Draw one picture.

    Args:
        rng: the only source of chance; the same state gives the same picture.
        height, width: in pixels, both at least `MIN_SIDE`.
        style: what to draw.

    Returns:
        The picture, (height, width, 3) uint8 RGB, and the annotations of its objects in COCO's
        format, less `id` and `image_id`, from the rearmost object to the frontmost. Boxes
        (x, y, w, h) are tight around the outline and lie within the picture.

    Raises:
        ValueError: the picture is too small to show a texture.
    """
    if min(height, width) < MIN_SIDE:
        raise ValueError(
            f"Size {height} x {width} is too small: sides are {MIN_SIDE} pixels or more."
        )
    image = draw_background(rng, height, width, style).astype(np.float32)
    owner = np.zeros((height, width), dtype=np.intp)
    areas: list[int] = []
    annotations: list[Annotation] = []
    for _ in range(rng.integers(*style.objects, endpoint=True)):
        # The class is drawn once, not per try, or outlines that fit easily would be more frequent.
        category_id = int(rng.integers(len(CLASS_NAMES))) + 1
        for _ in range(PLACEMENT_TRIES):
            shape = sample_shape(rng, category_id, height, width, style)
            if shape and _paint(rng, image, owner, shape, areas, style):
                annotations.append(annotate(shape))
                break
    grain = rng.standard_normal((height, width, 1), dtype=np.float32)
    return to_uint8(image + rng.uniform(*style.grain) * grain), annotations
