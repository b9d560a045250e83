"""What a receiver finds in pictures: as COCO's results, and drawn."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances
from PIL import Image

from ..errors import DatasetError
from ..evaluation.objects import NOTHING, Objects
from ..files import special_kind
from ..pictures.visualization import Sheet, class_colour
from ..runs import CodedPicture, Original

ImageIds = dict[str, list[int]]
MASK_OPACITY = 0.45


def choose_image_ids(
    names: Mapping[Path, str], annotations: Path | None
) -> tuple[dict[Path, int], str]:
    """An image id for each coded file, and where they are from, in words.

    With ``annotations`` in COCO's format, a file's is that of the image there whose name is, but
    for the suffix, the file's, with the folders that are part of it or else without folders; else
    the number in its name, if all names are numbers, as COCO's are, and none twice; else its place,
    from 1.

    Args:
        names: of the files, without suffix; see :class:`.file_batch.Batch`.

    Raises:
        DatasetError: if the annotations cannot be read, or lack a file.
    """
    if annotations is not None:
        known = _read_image_ids(annotations)
        ids = {path: _look_up(path, name, known, annotations) for path, name in names.items()}
        return ids, f"'{annotations}'"
    if all(path.stem.isascii() and path.stem.isdecimal() for path in names):
        numbers = [int(path.stem) for path in names]
        if len(set(numbers)) == len(numbers):
            return dict(zip(names, numbers, strict=True)), "the numbers in the files' names"
    return {path: i for i, path in enumerate(names, 1)}, "1, 2, ... in the order of the files"


def _read_image_ids(annotations: Path) -> tuple[ImageIds, ImageIds]:
    """Image ids by file name without suffix: with the folders that are part of it, and without."""
    exact: ImageIds = {}
    by_stem: ImageIds = {}
    kind = special_kind(annotations)
    if kind:
        raise DatasetError(f"the annotations '{annotations}' are {kind}, not a file")
    try:
        for image in json.loads(annotations.read_bytes())["images"]:
            path = Path(image["file_name"])
            exact.setdefault(path.with_suffix("").as_posix(), []).append(int(image["id"]))
            by_stem.setdefault(path.stem, []).append(int(image["id"]))
    except OSError as error:
        raise DatasetError(
            f"cannot read the annotations '{annotations}' ({error.strerror}): check the path"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"'{annotations}' is not in COCO's format ({error!r}): it needs a list of images, each "
            "with file_name and id"
        ) from None
    return exact, by_stem


def _look_up(path: Path, name: str, known: tuple[ImageIds, ImageIds], annotations: Path) -> int:
    exact, by_stem = known
    ids = exact.get(name) or by_stem.get(path.stem, [])
    if len(ids) != 1:
        count = f"{len(ids)} images" if ids else "no image"
        raise DatasetError(
            f"'{annotations}' has {count} called '{path.stem}' but for the suffix, where '{path}' "
            "needs one: leave out that file, or the annotations"
        )
    return ids[0]


def to_results(
    instances: Instances, image_id: int, categories: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Detections of a picture in COCO's format: boxes, and masks where the detector gives them.

    Args:
        instances: on the CPU.
        categories: of a :class:`codec_det.deploy.receiver.Receiver`.
    """
    results = instances_to_coco_json(instances, image_id)
    return [{**each, "category_id": categories[each["category_id"]]["id"]} for each in results]


class DetectionSheet(Sheet):
    """Draws one decoded picture at a time, with what was found in it: there is no original.

    Args:
        categories: of a :class:`.receiver.Receiver`.
        threshold: detections of lower scores are not drawn.
    """

    def __init__(self, categories: Sequence[dict[str, Any]], threshold: float) -> None:
        super().__init__([], [category["name"] for category in categories], threshold)

    def draw_one(
        self, picture: np.ndarray, found: Objects, masks: np.ndarray | None = None
    ) -> Image.Image:
        """The picture, enlarged if small, with boxes, names and scores, and masks if there are any.

        Args:
            picture: (H, W, 3), uint8 RGB.
            masks: (n, H, W) bool, of what was found.
        """
        if masks is not None:
            picture = self._tint(picture, found, masks)
        unknown = math.nan
        original = Original(0, picture, NOTHING)
        cell = self._coded(CodedPicture(picture, found, unknown, unknown, unknown), original)
        return self._panel(cell, self._column_width([replace(cell, caption="")]))

    def _tint(self, picture: np.ndarray, found: Objects, masks: np.ndarray) -> np.ndarray:
        """The picture with the classes' colours over masks: the best detection's on top."""
        tinted = picture.copy()
        for i in np.argsort(found.scores, kind="stable"):
            if found.scores[i] >= self.threshold:
                colour = np.array(class_colour(int(found.classes[i])))
                shown = (1 - MASK_OPACITY) * picture[masks[i]] + MASK_OPACITY * colour
                tinted[masks[i]] = shown.round().astype(np.uint8)
        return tinted
