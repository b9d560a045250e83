"""What a detector finds in the original pictures, as the truth to train a codec by.

Its own detections take the place of annotations (Lee, "Pseudo-Label", 2013). A codec so learns what
that detector looks at, where a distance of features asks for all of the picture alike.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import nn

from .errors import CodecDetError

PATIENCE = 200
"""Pictures in a row, from the start, in which a detector may find nothing."""


class OwnLabels:
    """Boxes and classes that a detector, as it was at the start, finds in pictures.

    It is no module: the copy of the detector that it keeps belongs to no checkpoint.

    Args:
        detector: a detectron2 meta-architecture that predicts boxes.
        score: least score of a detection that counts, 0 to 1.
    """

    def __init__(self, detector: nn.Module, score: float) -> None:
        self._detector = detector
        self._reference: nn.Module | None = None
        self.score = score
        # Pictures in which nothing was found, until something is.
        self._empty: int | None = 0

    def keep_reference(self) -> nn.Module:
        """Label by the detector as it is now, whatever it learns; returns the copy of it."""
        self._reference = copy.deepcopy(self._detector).eval().requires_grad_(False)
        return self._reference

    @torch.no_grad()
    def __call__(self, originals: Sequence[dict[str, Any]]) -> list[Instances]:
        """``gt_boxes`` and ``gt_classes`` of pictures, maybe none, in the detector's input.

        Args:
            originals: detector inputs of the original pictures. Without a call of
                :meth:`keep_reference` before, the detector is taken as it is at the first of these.

        Raises:
            CodecDetError: if nothing has been found in the first :data:`PATIENCE` pictures: a codec
                would learn to send nothing.
        """
        detector = self.keep_reference() if self._reference is None else self._reference
        # Without their sizes as they were taken, so that boxes are of the size that is looked at.
        found = detector([{"image": x["image"]} for x in originals])
        labels = [
            _as_truth(output["instances"], self.score, x["image"].shape[-2:])
            for output, x in zip(found, originals, strict=True)
        ]
        self._check(labels)
        return labels

    def _check(self, labels: list[Instances]) -> None:
        if self._empty is None:
            return
        self._empty = None if any(map(len, labels)) else self._empty + len(labels)
        if self._empty is not None and self._empty >= PATIENCE:
            raise CodecDetError(
                f"MODEL.DETECTOR.LABEL_SCORE is {self.score:g}, and in the first {self._empty} "
                "pictures the detector finds nothing with that score: check that MODEL.WEIGHTS is "
                "a detector of what these pictures show, or lower the score"
            )


def _as_truth(found: Instances, score: float, size: Sequence[int]) -> Instances:
    found = found[found.scores >= score]
    return Instances(tuple(size), gt_boxes=found.pred_boxes, gt_classes=found.pred_classes)


def build_own_labels(cfg: CfgNode, detector: nn.Module) -> OwnLabels | None:
    """The labels that a config asks for, if it does and something learns from them."""
    score = cfg.MODEL.DETECTOR.LABEL_SCORE
    return OwnLabels(detector, score) if score and cfg.MODEL.DETECTOR.LOSS_WEIGHT else None
