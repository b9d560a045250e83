"""Objects in pictures: what is annotated, and what was found.

Boxes are (n, 4) x0, y0, x1, y1 in pixels of the original picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.structures import BoxMode, Instances


@dataclass(frozen=True)
class Objects:
    """What is in a picture, or what was found in it.

    Attributes:
        boxes: (n, 4) float.
        classes: (n,) int, contiguous from 0.
        scores: (n,) float in [0, 1]; of ground truth, 1.
        crowd: (n,) bool, regions of many objects; of detections, False.
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    crowd: np.ndarray

    @classmethod
    def found(cls, instances: Instances) -> Objects:
        """Detections on any device."""
        instances = instances.to("cpu")
        return cls(
            boxes=instances.pred_boxes.tensor.double().numpy(),
            classes=instances.pred_classes.numpy(),
            scores=instances.scores.double().numpy(),
            crowd=np.zeros(len(instances), dtype=bool),
        )

    def above(self, threshold: float) -> Objects:
        """Those with at least this score."""
        keep = self.scores >= threshold
        return Objects(self.boxes[keep], self.classes[keep], self.scores[keep], self.crowd[keep])


NOTHING = Objects(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, bool))


def ground_truth(entry: dict[str, Any]) -> Objects:
    """The annotated objects of a data set entry."""
    annotations = entry.get("annotations", [])
    boxes = [
        BoxMode.convert(list(a["bbox"]), a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations
    ]
    return Objects(
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        classes=np.array([a["category_id"] for a in annotations], dtype=np.int64),
        scores=np.ones(len(annotations)),
        crowd=np.array([bool(a.get("iscrowd", 0)) for a in annotations], dtype=bool),
    )
