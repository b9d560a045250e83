"""Coding scale: pictures are coded smaller than they were taken.

A camera shrinks a picture of h x w to ⌈s·h⌉ x ⌈s·w⌉ before it codes it, and the receiver's detector
takes the decoded size. Bits per pixel stay those of the picture that was taken. MPEG's common test
conditions for coding for machines have 100, 75, 50 and 25 %, and compare codecs by the best of them
at every rate. Needs numpy and Pillow alone, as a camera does.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from PIL import Image

MAX_DENOMINATOR = 10**6
MIN_SCALE = 1 / MAX_DENOMINATOR


def as_ratio(scale: float | Fraction) -> Fraction:
    """A coding scale as files have it: the ratio next to it of denominators up to a million.

    0.1 is one tenth, which no float is.
    """
    return Fraction(scale).limit_denominator(MAX_DENOMINATOR)


def coded_size(height: int, width: int, scale: float | Fraction) -> tuple[int, int]:
    """Height and width that a picture is coded at, in pixels; ``scale`` is MIN_SCALE to 1."""
    ratio = as_ratio(scale)
    rows, columns = (-(-side * ratio // 1) for side in (height, width))
    return rows, columns


def shrink(picture: np.ndarray, scale: float | Fraction) -> np.ndarray:
    """A picture (H, W, 3) uint8 at its coded size, bilinear with antialiasing."""
    height, width = picture.shape[:2]
    size = coded_size(height, width, scale)
    if size == (height, width):
        return picture
    small = Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(small)
