"""What a receiver finds in pictures: as COCO's results, and drawn."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DatasetError
from ..evaluation.objects import NOTHING, Objects
from ..pictures.visualization import Sheet
from ..runs import CodedPicture, Original


def choose_image_ids(
    paths: Sequence[Path], annotations: Path | None
) -> tuple[dict[Path, int], str]:
    """An image id for each coded file, and where they are from, in words.

    With ``annotations`` in COCO's format, a file's is that of the image there whose name is, but
    for the suffix, the file's; else the number in its name, if all names are numbers, as COCO's
    are, and none twice; else its place, from 1.

    Raises:
        DatasetError: if the annotations cannot be read, or lack a file.
    """
    if annotations is not None:
        by_stem = _read_image_ids(annotations)
        return {path: _look_up(path, by_stem, annotations) for path in paths}, f"'{annotations}'"
    if all(path.stem.isascii() and path.stem.isdecimal() for path in paths):
        numbers = [int(path.stem) for path in paths]
        if len(set(numbers)) == len(numbers):
            return dict(zip(paths, numbers, strict=True)), "the numbers in the files' names"
    return {path: i for i, path in enumerate(paths, 1)}, "1, 2, ... in the order of the files"


def _read_image_ids(annotations: Path) -> dict[str, list[int]]:
    """Image ids by file name without folder and suffix."""
    by_stem: dict[str, list[int]] = {}
    try:
        for image in json.loads(annotations.read_bytes())["images"]:
            by_stem.setdefault(Path(image["file_name"]).stem, []).append(int(image["id"]))
    except OSError as error:
        raise DatasetError(
            f"cannot read the annotations '{annotations}' ({error.strerror}): check the path"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"'{annotations}' is not in COCO's format ({error!r}): it needs a list of images, each "
            "with file_name and id"
        ) from None
    return by_stem


def _look_up(path: Path, by_stem: dict[str, list[int]], annotations: Path) -> int:
    ids = by_stem.get(path.stem, [])
    if len(ids) != 1:
        count = f"{len(ids)} images" if ids else "no image"
        raise DatasetError(
            f"'{annotations}' has {count} called '{path.stem}' but for the suffix, where '{path}' "
            "needs one: leave out that file, or the annotations"
        )
    return ids[0]


def to_results(objects: Objects, categories: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Detections in COCO's format, without the picture that they are of.

    Args:
        categories: of a :class:`codec_det.deploy.receiver.Receiver`.
    """
    return [
        {
            "category_id": categories[number]["id"],
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "score": score,
        }
        for (x0, y0, x1, y1), number, score in zip(
            objects.boxes.tolist(), objects.classes.tolist(), objects.scores.tolist(), strict=True
        )
    ]


class DetectionSheet(Sheet):
    """Draws one decoded picture at a time, with what was found in it: there is no original.

    Args:
        categories: of a :class:`.receiver.Receiver`.
        threshold: detections of lower scores are not drawn.
    """

    def __init__(self, categories: Sequence[dict[str, Any]], threshold: float) -> None:
        super().__init__([], [category["name"] for category in categories], threshold)

    def draw_one(self, picture: np.ndarray, found: Objects) -> Image.Image:
        """The picture (H, W, 3), uint8 RGB, enlarged if small, with boxes, names and scores."""
        unknown = math.nan
        original = Original(0, picture, NOTHING)
        cell = self._coded(CodedPicture(picture, found, unknown, unknown, unknown), original)
        return self._panel(cell, self._column_width([replace(cell, caption="")]))
