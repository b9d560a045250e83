"""Sequences from single pictures: a window that moves over each, and zooms, with its boxes.

So that real texture can be tested where there is no video. What moves is the camera alone.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .coco_format import check_coco_format, read_json
from .image_io import read_image
from .scenes import MIN_SIDE, to_uint8
from .written_set import Video, write_set

Record = dict[str, Any]

LEAST_SEEN = 0.5
"""The part of a box that must lie in a frame, or it is dropped."""


@dataclass(frozen=True)
class Movement:
    """How the window moves.

    Attributes:
        frames: of each sequence.
        share: height and width of frames, as a share of the picture's; below 1.
        pan: the most pixels per frame in either direction, 0 or more.
        zoom: the most by which the window grows or shrinks from the first frame to the last, 1 or
            more.
        noise: standard deviation of the noise that each frame has of its own, in 8-bit levels.
        fps: frames per second that the set tells.
    """

    frames: int = 30
    share: float = 0.7
    pan: float = 1.5
    zoom: float = 1.15
    noise: float = 1.0
    fps: float = 25.0


def sequences_from_stills(
    json_file: str | Path,
    image_root: str | Path,
    folder: str | Path,
    movement: Movement,
    count: int | None = None,
    seed: int = 0,
) -> Path:
    """Write a set of sequences, one of each picture of a set in COCO's format, with boxes alone.

    Args:
        folder: where to; must not exist, or be empty.
        count: of so many pictures, spread evenly over the set; None, or more than it has: all.
        seed: not negative; equal seeds give equal frames.

    Returns:
        The path of its annotations.

    Raises:
        DatasetError: if either set cannot be read or written, or a picture is too small.
    """
    check_coco_format(json_file, image_root)
    coco = read_json(Path(json_file))
    images = sorted(coco["images"], key=lambda image: image["id"])
    if count is not None and count < len(images):
        # Neighbours often show the same scene.
        images = [images[i * len(images) // count] for i in range(count)]
    objects = defaultdict(list)
    for annotation in coco["annotations"]:
        objects[annotation["image_id"]].append(annotation)

    def frames() -> Iterator[tuple[np.ndarray, list[Record]]]:
        for image in images:
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(image["id"],)))
            picture = read_image(Path(image_root) / image["file_name"], "RGB")
            yield from move_over(rng, picture, objects[image["id"]], movement)

    videos = [Video(image["file_name"], movement.frames, movement.fps) for image in images]
    info = {"description": f"windows that move over the pictures of {json_file}", "seed": seed}
    return write_set(folder, frames(), categories=coco["categories"], info=info, videos=videos)


def move_over(
    rng: np.random.Generator, picture: np.ndarray, objects: list[Record], movement: Movement
) -> Iterator[tuple[np.ndarray, list[Record]]]:
    """The frames of one sequence.

    Args:
        picture: (H, W, 3) uint8 RGB.
        objects: its annotations.

    Yields:
        Each frame, of even height and width, and what lies in it: boxes clipped to it.
    """
    height, width = (
        max(MIN_SIDE, 2 * round(movement.share * side / 2)) for side in picture.shape[:2]
    )
    for corner, scale in _path(rng, picture.shape[:2], (height, width), movement):
        view = np.array([[scale, 0, corner[0]], [0, scale, corner[1]]])
        # Pixels are centred at halves.
        view[:, 2] += (scale - 1) / 2
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        frame = cv2.warpAffine(
            picture.astype(np.float32),
            view,
            (width, height),
            flags=flags,
            borderMode=cv2.BORDER_REPLICATE,
        )
        noise = rng.standard_normal((height, width, 1), dtype=np.float32)
        seen = (_carry(one, corner, scale, (height, width)) for one in objects)
        yield to_uint8(frame + movement.noise * noise), [one for one in seen if one]


def _path(
    rng: np.random.Generator, whole: tuple[int, ...], size: tuple[int, int], movement: Movement
) -> Iterator[tuple[np.ndarray, float]]:
    """Upper left corner (x, y) of the window in the picture, and its scale, at each frame."""
    steps = max(movement.frames - 1, 1)
    extent, room = np.array(size[::-1], float), np.array(whole[1::-1], float)
    most = min(movement.zoom, float((room / extent).min()))
    first, last = rng.uniform(1, max(most, 1), 2).tolist()
    scales = np.linspace(first, last, movement.frames)
    # Centres at which the window is within the picture at either end.
    reach = extent * max(first, last) / 2
    low, high = reach, np.maximum(room - reach, reach)
    start = rng.uniform(low, high)
    way = rng.uniform(-1, 1, 2) * movement.pan * steps
    end = np.clip(start + way, low, high)
    for time, scale in enumerate(scales):
        center = start + (end - start) * (time / steps)
        yield center - extent * scale / 2, float(scale)


def _carry(
    annotation: Record, corner: np.ndarray, scale: float, size: tuple[int, int]
) -> Record | None:
    """An annotation as a frame shows it; None where most of its box lies outside."""
    x, y, width, height = annotation["bbox"]
    low = (np.array([x, y]) - corner) / scale
    high = low + np.array([width, height]) / scale
    inside = np.clip([low, high], 0, size[::-1])
    seen = float(np.prod(inside[1] - inside[0]))
    whole = width * height / scale**2
    if not whole or seen < LEAST_SEEN * whole:
        return None
    box = np.round([*inside[0], *(inside[1] - inside[0])], 2).tolist()
    area = annotation["area"] / scale**2 * seen / whole
    kept = {"category_id": annotation["category_id"], "iscrowd": annotation.get("iscrowd", 0)}
    return {**kept, "bbox": box, "area": round(area, 2) if math.isfinite(area) else seen}
