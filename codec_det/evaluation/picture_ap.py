"""COCO's box AP of single pictures."""

from __future__ import annotations

import io
import math
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

if TYPE_CHECKING:
    from .objects import Objects


def box_ap(truth: Objects, found: Objects) -> float:
    """COCO's box AP in percent over one picture; nan where it has no objects.

    Only classes that are in the picture count, as COCO defines it.
    """
    with redirect_stdout(io.StringIO()):  # pycocotools reports its progress
        evaluation = COCOeval(_coco(truth), _coco(found), "bbox")
        # Of all sizes, and the usual 100 detections: what else COCO reports takes most of the time.
        parameters = evaluation.params
        parameters.areaRng, parameters.areaRngLbl = parameters.areaRng[:1], ["all"]
        parameters.maxDets = parameters.maxDets[-1:]
        evaluation.evaluate()
        evaluation.accumulate()
    # By IoU threshold, recall and class; -1 where the picture has no object of a class.
    precision = evaluation.eval["precision"]
    counted = precision[precision > -1]
    return 100 * float(counted.mean()) if counted.size else math.nan


def _coco(objects: Objects) -> COCO:
    """One picture's objects as pycocotools takes annotations, and the results it has loaded."""
    coco = COCO()
    extents = objects.boxes[:, 2:] - objects.boxes[:, :2]
    coco.dataset = {
        "images": [{"id": 1}],
        "categories": [{"id": c} for c in sorted(set(objects.classes.tolist()))],
        "annotations": [
            {
                "id": number,  # from 1: to COCOeval, 0 means no match
                "image_id": 1,
                "category_id": int(objects.classes[i]),
                "bbox": [*objects.boxes[i, :2].tolist(), *extents[i].tolist()],
                "area": float(extents[i].prod()),
                "iscrowd": int(objects.crowd[i]),
                "score": float(objects.scores[i]),
            }
            for number, i in enumerate(range(len(extents)), start=1)
        ],
    }
    coco.createIndex()
    return coco
