"""COCO's AP, of boxes or masks, of a set in which pictures count any number of times.

Matching of detections with objects is within a picture, so that it is done once, by pycocotools.
What remains for a choice of pictures is to accumulate: pycocotools' sums of true and false
positives by falling score, each weighted by how many times its picture was drawn.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..evaluation.places import PLACES, area_range, by_place

# COCO's: the detections of a picture and class that have the highest scores.
_MAX_DETECTIONS = 100
# Places of COCO's IoU thresholds 0.50, 0.55, ...
_THRESHOLDS = {"AP50": 0, "AP75": 5}


@dataclass(frozen=True)
class _Class:
    """Detections of a class by falling score, and how many objects there are to find.

    Attributes:
        name: of the category.
        images: (detections,) int, place of the picture of each.
        hits: (thresholds, detections) bool, matched with an object.
        misses: (thresholds, detections) bool, not matched, and in no ignored region.
        objects: (images,) int, to be found in each picture.
    """

    name: str
    images: np.ndarray
    hits: np.ndarray
    misses: np.ndarray
    objects: np.ndarray


@dataclass(frozen=True)
class Matches:
    """What of a run's detections is right, at each of COCO's IoU thresholds.

    Attributes:
        image_ids: all pictures of the set, ascending.
        classes: those with objects.
        recalls: (101,), where precision is sampled.
    """

    image_ids: tuple[int, ...]
    classes: tuple[_Class, ...]
    recalls: np.ndarray

    def aps(self, weights: np.ndarray) -> dict[str, float]:
        """ "AP", "AP50", "AP75" and "AP-<class>" in percent where picture i counts ``weights[i]``
        times.

        It is what pycocotools gives for a set in which pictures are literally repeated, but for
        detections of one class with exactly the same score, whose order is then another one.

        Args:
            weights: (images,) whole numbers, 0 or more; in the order of ``image_ids``.

        Returns:
            nan where no picture with such objects counts.
        """
        weights = weights.astype(np.float64)
        by_class = {
            one.name: 100 * self._precision(one, weights)
            for one in self.classes
            if weights @ one.objects > 0
        }
        if not by_class:
            return dict.fromkeys(("AP", *_THRESHOLDS), np.nan)
        precision = np.stack(list(by_class.values()))
        return {
            "AP": float(precision.mean()),
            **{key: float(precision[:, i].mean()) for key, i in _THRESHOLDS.items()},
            **{f"AP-{name}": float(one.mean()) for name, one in by_class.items()},
        }

    def _precision(self, one: _Class, weights: np.ndarray) -> np.ndarray:
        """(thresholds, recalls): the best precision at each recall or above; 0 beyond the last."""
        drawn = weights[one.images]
        hits = np.cumsum(one.hits * drawn, axis=1)
        misses = np.cumsum(one.misses * drawn, axis=1)
        recall = hits / (weights @ one.objects)
        precision = hits / (misses + hits + np.spacing(1))
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        # What lies beyond the last detection finds this column.
        envelope = np.pad(envelope, ((0, 0), (0, 1)))
        places = [np.searchsorted(row, self.recalls, side="left") for row in recall]
        return np.take_along_axis(envelope, np.stack(places), axis=1)


def load_truth(path: str | Path) -> COCO:
    """Read annotations in COCO's format."""
    with redirect_stdout(io.StringIO()):  # pycocotools reports its progress
        return COCO(str(path))


def match(truth: COCO, results: str | Path, task: str = "bbox", area: str = "all") -> Matches:
    """Match the detections of a file, in COCO's results format, with the objects of a set.

    Args:
        task: "bbox" or "segm".
        area: "small", "medium" or "large": objects of COCO's sizes alone; "side" or "inside": of
            :data:`codec_det.evaluation.places.PLACES`.
    """
    found = json.loads(Path(results).read_bytes())
    if task == "segm":
        # As detectron2 does: else COCO takes the size of a mask to be that of its box.
        for one in found:
            one.pop("bbox", None)
    with redirect_stdout(io.StringIO()):
        detected = truth.loadRes(found)
        if area in PLACES:
            evaluation = COCOeval(by_place(truth), by_place(detected), task)
            limits = area_range(area)
        else:
            evaluation = COCOeval(truth, detected, task)
            limits = evaluation.params.areaRng[evaluation.params.areaRngLbl.index(area)]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [limits], [area]
        evaluation.params.maxDets = [_MAX_DETECTIONS]
        evaluation.evaluate()
    # pycocotools has made them unique and sorted.
    image_ids = [int(image_id) for image_id in evaluation.params.imgIds]
    by_class: dict[int, list] = {}
    for entry in evaluation.evalImgs:
        if entry is not None:
            by_class.setdefault(entry["category_id"], []).append(entry)
    places = {image_id: place for place, image_id in enumerate(image_ids)}
    names = {number: str(one.get("name", number)) for number, one in truth.cats.items()}
    classes = [_sort(names[number], entries, places) for number, entries in by_class.items()]
    return Matches(
        image_ids=tuple(image_ids),
        classes=tuple(one for one in classes if one.objects.any()),
        recalls=np.asarray(evaluation.params.recThrs),
    )


def _sort(name: str, entries: Sequence[dict[str, Any]], places: dict[int, int]) -> _Class:
    """A class's detections in all pictures, in pycocotools' order."""
    scores = np.concatenate([entry["dtScores"] for entry in entries])
    order = np.argsort(-scores, kind="mergesort")
    matched = np.concatenate([entry["dtMatches"] for entry in entries], axis=1)[:, order] != 0
    ignored = np.concatenate([entry["dtIgnore"] for entry in entries], axis=1)[:, order] != 0
    objects = np.zeros(len(places), dtype=np.int64)
    for entry in entries:
        objects[places[entry["image_id"]]] = np.count_nonzero(entry["gtIgnore"] == 0)
    images = np.repeat(
        [places[entry["image_id"]] for entry in entries],
        [len(entry["dtScores"]) for entry in entries],
    )
    return _Class(name, images[order], matched & ~ignored, ~matched & ~ignored, objects)
