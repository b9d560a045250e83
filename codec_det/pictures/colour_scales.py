"""Numbers of a picture as colours: where its bits went, and how far it is from the original.

A scale is made for all pictures that are to compare. Pictures are (H, W, 3) uint8 RGB.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import matplotlib
import numpy as np
from PIL import Image

# Perceptually uniform, and from dark to bright in grey as well.
COLOUR_MAP = "viridis"
# Share of the colour in what is seen; the rest is the picture in grey, to know places by.
OPACITY = 0.7
# The grey of no difference.
MIDDLE = 128
# Share of the values that may lie beyond the end of the difference's scale.
CLIPPED = 0.01


class Scale(ABC):
    """What colours mean.

    Attributes:
        title: what they show, with its unit.
        low, high: values of the first and the last colour.
    """

    title: str
    low: float
    high: float

    @abstractmethod
    def colours(self, values: np.ndarray) -> np.ndarray:
        """(...) to (..., 3) uint8 RGB; values beyond the ends get the colours there."""


class BitScale(Scale):
    """Bits per pixel, from 0 to the most of any of some maps.

    Args:
        densities: each (H, W), bits per pixel.
    """

    title = "bits per pixel"

    def __init__(self, densities: Sequence[np.ndarray]) -> None:
        self.low = 0.0
        self.high = max((float(density.max()) for density in densities), default=0.0) or 1.0

    def colours(self, values: np.ndarray) -> np.ndarray:
        return self._blend(values, np.array(0.5))

    def draw(self, density: np.ndarray, picture: np.ndarray) -> np.ndarray:
        """A map (H, W) over its picture in grey."""
        grey = np.asarray(Image.fromarray(picture).convert("L"), dtype=np.float64) / 255
        # As bright on the whole as what the scale's own colours are blended with.
        return self._blend(density, np.clip(grey - grey.mean() + 0.5, 0, 1)[..., None])

    def _blend(self, values: np.ndarray, grey: np.ndarray) -> np.ndarray:
        colours = matplotlib.colormaps[COLOUR_MAP](values / self.high)[..., :3]
        return np.rint(255 * (OPACITY * colours + (1 - OPACITY) * grey)).astype(np.uint8)


class DifferenceScale(Scale):
    """Decoded minus original, each colour channel by itself, amplified around grey.

    The factor is a power of two, the largest that leaves all but a few values of all pictures
    within the range.

    Args:
        differences: each (H, W, 3), of :func:`subtract`.

    Attributes:
        factor: 1, 2, 4, ... 128.
    """

    title = "decoded minus original, of 255"

    def __init__(self, differences: Sequence[np.ndarray]) -> None:
        far = [float(np.quantile(np.abs(d), 1 - CLIPPED)) for d in differences]
        reach = max(far, default=0.0)
        self.factor = 2 ** min(7, max(0, math.floor(math.log2((MIDDLE - 1) / max(reach, 0.5)))))
        self.low, self.high = -(MIDDLE - 1) / self.factor, (MIDDLE - 1) / self.factor

    def colours(self, values: np.ndarray) -> np.ndarray:
        return np.repeat(self.draw(values)[..., None], 3, axis=-1)

    def draw(self, difference: np.ndarray) -> np.ndarray:
        """Grey where nothing differs, brighter where the decoded picture is brighter."""
        return np.clip(np.rint(MIDDLE + self.factor * difference), 0, 255).astype(np.uint8)


def subtract(decoded: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Decoded minus original, (H, W, 3), -255 to 255."""
    return decoded.astype(np.int16) - original
