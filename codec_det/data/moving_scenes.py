"""Sequences of the scenes of :mod:`codec_det.data.scenes`: what a fixed or moving camera sees.

Objects move in straight lines and turn back where the scene ends; some stand still. Light changes,
and every frame has noise of its own. The world's coordinates are those of the frame that a camera
takes which has not moved.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from .scenes import (
    CLASS_NAMES,
    DEFAULT_STYLE,
    MIN_SIDE,
    Annotation,
    Patch,
    SceneStyle,
    Shape,
    annotate,
    draw_background,
    outline_of,
    sample_colours,
    sample_shape,
    to_uint8,
)

CAMERAS = ("static", "moving")
"""A moving one is drawn for each sequence: it shakes, or it pans."""

LEAST_SEEN = 0.5
"""The part of an object's area that a frame must show for it to be annotated."""


@dataclass(frozen=True)
class Motion:
    """What moves in sequences. Pairs are (low, high) of a uniform distribution."""

    frames: int = 30
    camera: str = "static"
    """One of `CAMERAS`."""
    parked: float = 0.3
    """Share of objects that stand still."""
    speed: tuple[float, float] = (0.3, 2.5)
    """Of the other objects, in pixels per frame."""
    pan: tuple[float, float] = (0.4, 1.5)
    """Speed of a panning camera, in pixels per frame."""
    shake: tuple[float, float] = (0.3, 0.9)
    """Of a shaking camera: standard deviation of a step in either direction, in pixels."""
    light: tuple[float, float] = (0.0, 0.08)
    """Amplitude of the light's slow change, as a share of its mean."""
    light_period: tuple[float, float] = (40.0, 150.0)
    """Of that change, in frames."""


@dataclass(frozen=True)
class _Moving:
    """One object: at frame 0, with its velocity in pixels per frame, and its two colours."""

    shape: Shape
    velocity: np.ndarray
    low: np.ndarray
    high: np.ndarray
    colours: tuple[np.ndarray, np.ndarray]

    def at(self, time: int, camera: np.ndarray) -> Shape:
        """As a frame shows it, whose upper left corner is at ``camera`` (x, y) in the world."""
        start = np.array(self.shape.center)
        span = np.maximum(self.high - self.low, 1e-9)
        # A way that turns back at both ends repeats after twice the span.
        way = (start - self.low + self.velocity * time) % (2 * span)
        center = self.low + np.minimum(way, 2 * span - way) - camera
        along = np.array([math.cos(self.shape.direction), math.sin(self.shape.direction)])
        # The texture is of the picture's coordinates, and must stay on the object.
        phase = self.shape.phase - float(along @ (center - start)) / self.shape.period
        return replace(self.shape, center=tuple(center.tolist()), phase=phase % 1)


def camera_path(rng: np.random.Generator, motion: Motion) -> np.ndarray:
    """Where the frames' upper left corners are in the world: (frames, 2), x and y."""
    frames = motion.frames
    if motion.camera == "static":
        return np.zeros((frames, 2))
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * math.pi)
        step = rng.uniform(*motion.pan) * np.array([math.cos(angle), math.sin(angle)])
        return (np.arange(frames) - (frames - 1) / 2)[:, None] * step
    steps = rng.normal(0, rng.uniform(*motion.shake), (frames, 2))
    path = np.zeros((frames, 2))
    for time in range(1, frames):
        # The hand, or the mast, comes back.
        path[time] = 0.8 * path[time - 1] + steps[time]
    return path


def render_sequence(
    rng: np.random.Generator,
    height: int,
    width: int,
    motion: Motion,
    style: SceneStyle = DEFAULT_STYLE,
) -> Iterator[tuple[np.ndarray, list[Annotation]]]:
    """Draw the frames of one sequence.

    Args:
        rng: the only source of chance; the same state gives the same frames.
        height, width: in pixels, both at least `MIN_SIDE`.
        motion: what moves, and how.
        style: what to draw.

    Yields:
        Each frame, (height, width, 3) uint8 RGB, and the annotations of its objects as of
        `render_scene`, without outlines. Boxes are tight around what lies in the frame; objects of
        which less than `LEAST_SEEN` is to be seen have none.

    Raises:
        ValueError: the frame is too small to show a texture.
    """
    if min(height, width) < MIN_SIDE:
        raise ValueError(
            f"Size {height} x {width} is too small: sides are {MIN_SIDE} pixels or more."
        )
    path = camera_path(rng, motion)
    # Of the world that is ever seen, and a margin for interpolation.
    first = np.floor(path.min(axis=0)).astype(int) - 2
    right, bottom = (np.ceil(path.max(axis=0)).astype(int) - first + 2).tolist()
    world = draw_background(rng, height + bottom, width + right, style).astype(np.float32)
    objects = list(_sample_objects(rng, world, first, motion, style))
    grain = rng.uniform(*style.grain)
    amplitude, period = rng.uniform(*motion.light), rng.uniform(*motion.light_period)
    phase = rng.uniform(0, 2 * math.pi)
    for time in range(motion.frames):
        camera = path[time]
        image = _look(world, camera - first, height, width)
        annotations = _draw(image, [moving.at(time, camera) for moving in objects], objects)
        image *= 1 + amplitude * math.sin(2 * math.pi * time / period + phase)
        noise = rng.standard_normal((height, width, 1), dtype=np.float32)
        yield to_uint8(image + grain * noise), annotations


def _sample_objects(
    rng: np.random.Generator,
    world: np.ndarray,
    first: np.ndarray,
    motion: Motion,
    style: SceneStyle,
) -> Iterator[_Moving]:
    height, width, _ = world.shape
    for _ in range(rng.integers(*style.objects, endpoint=True)):
        shape = sample_shape(rng, int(rng.integers(len(CLASS_NAMES))) + 1, height, width, style)
        if shape is None:
            continue
        reach = outline_of(shape) - shape.center
        low, high = -reach.min(axis=0), np.array([width, height]) - reach.max(axis=0)
        angle, speed = rng.uniform(0, 2 * math.pi), rng.uniform(*motion.speed)
        speed *= rng.random() >= motion.parked
        around = world[Patch.of(shape, world.shape[:2]).window].mean(axis=(0, 1))
        yield _Moving(
            replace(shape, center=tuple((np.array(shape.center) + first).tolist())),
            speed * np.array([math.cos(angle), math.sin(angle)]),
            low + first,
            high + first,
            sample_colours(rng, around, style),
        )


def _look(world: np.ndarray, corner: np.ndarray, height: int, width: int) -> np.ndarray:
    """The part (height, width, 3) of the world whose upper left corner is at (x, y), a copy."""
    view = np.array([[1, 0, corner[0]], [0, 1, corner[1]]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(world, view, (width, height), flags=flags)


def _draw(image: np.ndarray, shapes: list[Shape], objects: list[_Moving]) -> list[Annotation]:
    """Paint objects, the rearmost first, onto a frame (H, W, 3) float32; what is seen of them."""
    height, width, _ = image.shape
    owner = np.zeros((height, width), dtype=np.intp)
    for number, (shape, moving) in enumerate(zip(shapes, objects, strict=True), start=1):
        patch = Patch.of(shape, owner.shape)
        patch.blend(image, shape, *moving.colours)
        owner[patch.window][patch.inside] = number
    seen = np.bincount(owner.ravel(), minlength=len(shapes) + 1)[1:]
    frame = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    annotations = []
    for shape, pixels in zip(shapes, seen, strict=True):
        whole = annotate(shape)
        if pixels < LEAST_SEEN * whole["area"]:
            continue
        area, inside = cv2.intersectConvexConvex(outline_of(shape).astype(np.float32), frame)
        low, high = inside.reshape(-1, 2).min(axis=0), inside.reshape(-1, 2).max(axis=0)
        box = np.round([*low, *(high - low)], 2).tolist()
        del whole["segmentation"]
        annotations.append({**whole, "bbox": box, "area": round(float(area), 2)})
    return annotations
