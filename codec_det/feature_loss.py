"""How far a detector's features of decoded pictures are from those of the originals.

Matching features trains a codec for a detector without labels (TransTIC, Chen et al. 2023;
Adapt-ICMH, Li et al. 2024: mean squared error over the FPN's p2 to p6). Levels are divided by the
mean square of the original's features, so that each counts alike.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor

from .errors import ConfigError

Features = dict[str, Tensor]
"""By level: (n, C, h, w)."""


class FeatureDistance:
    """Distance of features through a detector's backbone as it was at the start.

    It is no module: the copy that it keeps of a backbone that trains belongs to no checkpoint.

    Args:
        detector: a detectron2 meta-architecture with ``backbone`` and ``preprocess_image``, as all
            of its detectors have.
        names: levels to compare; empty: all that the backbone returns.
        weight: of the distance in the loss.

    Raises:
        ConfigError: if the detector has no backbone, or it returns no such level.
    """

    def __init__(self, detector: Any, names: Sequence[str] = (), weight: float = 1.0) -> None:
        if not (hasattr(detector, "backbone") and hasattr(detector, "preprocess_image")):
            raise ConfigError(
                f"MODEL.CODEC.FEATURE_WEIGHT is set, but the detector {type(detector).__name__} "
                "has no backbone whose features could be compared: set it to 0"
            )
        self.weight = weight
        self._detector = detector
        self._reference = detector.backbone
        known = list(self._reference.output_shape())
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"MODEL.CODEC.FEATURES names '{name}': the backbone returns {', '.join(known)}"
                )
        self.names = tuple(names) or tuple(known)

    def keep_reference(self) -> None:
        """Compare, from now on, through the backbone as it is now, whatever the detector learns."""
        self._reference = copy.deepcopy(self._detector.backbone).eval().requires_grad_(False)

    @contextmanager
    def watch(self) -> Iterator[list[Features]]:
        """Within it, the features that the detector computes are kept, if they can serve here."""
        seen: list[Features] = []
        if self._reference is not self._detector.backbone:
            yield seen
            return
        hook = self._reference.register_forward_hook(lambda _, __, out: seen.append(out))
        with hook:
            yield seen

    def __call__(
        self,
        originals: list[dict[str, Any]],
        decoded: list[dict[str, Any]],
        seen: Sequence[Features] = (),
    ) -> Tensor:
        """Mean over levels of squared difference ÷ mean square of the original's features.

        Args:
            originals, decoded: detector inputs of the same pictures.
            seen: of :meth:`watch`, while the detector was run on ``decoded``.
        """
        with torch.no_grad():
            wanted = self._features(originals)
        found = seen[0] if seen else self._features(decoded)
        distances = [
            (found[name] - wanted[name]).square().mean() / wanted[name].square().mean()
            for name in self.names
        ]
        return torch.stack(distances).mean()

    def _features(self, inputs: list[dict[str, Any]]) -> Features:
        return self._reference(self._detector.preprocess_image(inputs).tensor)


def build_feature_distance(cfg: CfgNode, detector: Any) -> FeatureDistance | None:
    """The distance that a config weighs, if it does; raises as :class:`FeatureDistance`."""
    codec = cfg.MODEL.CODEC
    if not codec.FEATURE_WEIGHT:
        return None
    return FeatureDistance(detector, codec.FEATURES, codec.FEATURE_WEIGHT)
