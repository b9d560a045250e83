"""Objects by their place in the picture: whether a codec costs accuracy near the sides.

Sides cut objects, so that these are harder to find in any picture: compare with the same detector
on pictures that were not coded.
"""

from __future__ import annotations

import copy
import io
from collections import defaultdict
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from faster_coco_eval.core.faster_eval_api import COCOeval
from pycocotools.coco import COCO

MARGIN = 16
"""Pixels from a side of the original picture; a box that begins there is near that side."""

PLACES = {"side": 1, "inside": 2}
"""What stands in place of an object's area, for COCO's evaluation to tell objects apart by."""


def aps_by_place(truth: COCO, detections: Sequence[dict[str, Any]]) -> dict[str, float]:
    """ "APside" and "APinside": box AP (%) of objects near a side, and of all others.

    Objects of the other kind are left out as COCO leaves out those of other sizes: neither they nor
    what is found there counts. nan where there are no objects of a kind.

    Args:
        truth: the data set.
        detections: in COCO's format of results; at least one.
    """
    with redirect_stdout(io.StringIO()):
        found = truth.loadRes([dict(one) for one in detections])
        evaluation = COCOeval(by_place(truth), by_place(found), "bbox")
        evaluation.params.areaRng = [area_range(place) for place in PLACES]
        evaluation.params.areaRngLbl = list(PLACES)
        evaluation.evaluate()
        evaluation.accumulate()
    # Thresholds, recalls, classes, places and numbers of detections, of which the last is the most.
    precision = np.asarray(evaluation.eval["precision"])[..., -1]
    known = np.ma.masked_less(precision, 0)
    means = known.mean(axis=(0, 1, 2)).filled(np.nan) * 100
    return {f"AP{place}": float(ap) for place, ap in zip(PLACES, means, strict=True)}


def by_place(annotations: COCO) -> COCO:
    """The same, with one of :data:`PLACES` in place of each area."""
    marked = copy.copy(annotations)
    marked.anns = {i: {**a, "area": _place(annotations, a)} for i, a in annotations.anns.items()}
    marked.imgToAnns = defaultdict(list)
    for one in marked.anns.values():
        marked.imgToAnns[one["image_id"]].append(one)
    return marked


def area_range(place: str) -> list[float]:
    """What of :func:`by_place` is at a place, as COCO's evaluation takes it."""
    return [PLACES[place] - 0.5, PLACES[place] + 0.5]


def _place(annotations: COCO, annotation: dict[str, Any]) -> int:
    picture = annotations.imgs[annotation["image_id"]]
    x, y, width, height = annotation["bbox"]
    right, bottom = picture["width"] - x - width, picture["height"] - y - height
    return PLACES["side" if min(x, y, right, bottom) < MARGIN else "inside"]
