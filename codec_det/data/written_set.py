"""Data sets that programs make, written in COCO's format: whole, or not at all."""

from __future__ import annotations

import json
import logging
import shutil
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from ..errors import DatasetError

logger = logging.getLogger(__name__)

Record = dict[str, Any]


class Video(NamedTuple):
    """A sequence to be written.

    Attributes:
        frames: how many it has.
        fps: frames per second.
    """

    name: str
    frames: int
    fps: float


def write_set(
    folder: str | Path,
    pictures: Iterable[tuple[np.ndarray, list[Record]]],
    *,
    categories: Sequence[Record],
    info: Record,
    videos: Sequence[Video] = (),
) -> Path:
    """Write a data set: `folder/images/*.png` and `folder/annotations.json`.

    Frames of sequences are `folder/images/<sequence>/<frame>.png`.

    All is written into a sibling folder that is renamed when complete, so `folder` never holds half
    a set, and of several processes that write it at once the first wins and the others drop theirs.

    Args:
        folder: where to; must not exist, or be empty.
        pictures: (H, W, 3) uint8 RGB each, and its annotations less `id` and `image_id`; those of
            the first sequence, then of the next.
        categories, info: as in the file.
        videos: the sequences; empty: they are single pictures.

    Returns:
        The path of `annotations.json`.

    Raises:
        DatasetError: there is something in `folder` already.
    """
    folder = Path(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DatasetError(f"{folder} is not an empty folder; remove it, or choose another.")
    draft = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        (draft / "images").mkdir(parents=True)
        coco = _write_images(pictures, draft / "images", videos)
        coco |= {"categories": list(categories), "info": info}
        (draft / "annotations.json").write_text(json.dumps(coco))
        _move_into_place(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder / "annotations.json"


def _move_into_place(draft: Path, folder: Path) -> None:
    try:
        draft.rename(folder)
    except OSError:
        if not (folder / "annotations.json").exists():
            raise
        logger.info("Another process has written %s meanwhile; using that.", folder)


def _write_images(
    pictures: Iterable[tuple[np.ndarray, list[Record]]], folder: Path, videos: Sequence[Video]
) -> Record:
    """Write pictures as PNG files; the COCO dictionary that describes them."""
    images: list[Record] = []
    annotations: list[Record] = []
    places = [(v, f) for v, video in enumerate(videos, start=1) for f in range(video.frames)]
    for image_id, (image, objects) in enumerate(pictures, start=1):
        name, place = f"{image_id:06d}.png", {}
        if videos:
            video, frame = places[image_id - 1]
            name = f"{video:06d}/{frame:06d}.png"
            place = {"video_id": video, "frame_id": frame}
            (folder / name).parent.mkdir(exist_ok=True)
        ok, png = cv2.imencode(".png", image[:, :, ::-1])  # OpenCV expects BGR
        if not ok:
            raise OSError(f"OpenCV could not encode {folder / name} as PNG.")
        (folder / name).write_bytes(png.tobytes())
        height, width = image.shape[:2]
        size = {"height": height, "width": width}
        images.append({"id": image_id, "file_name": name, **size, **place})
        for annotation in objects:
            ids = {"id": len(annotations) + 1, "image_id": image_id}
            annotations.append({**ids, **annotation})
    coco: Record = {"images": images, "annotations": annotations}
    if videos:
        known = enumerate(videos, start=1)
        coco["videos"] = [{"id": i, "name": v.name, "fps": v.fps} for i, v in known]
    return coco
