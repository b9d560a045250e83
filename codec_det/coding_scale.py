"""Coding scale: pictures are coded smaller than they were taken.

A camera shrinks a picture of h x w to ⌈s·h⌉ x ⌈s·w⌉ before it codes it, and the receiver's detector
takes the decoded size. Bits per pixel stay those of the picture that was taken. MPEG's common test
conditions for coding for machines have 100, 75, 50 and 25 %, and compare codecs by the best of them
at every rate. Needs numpy and Pillow alone, as a camera does.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image


def coded_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Height and width that a picture is coded at, in pixels; ``scale`` is in (0, 1]."""
    # 0.1 · 30 is a little more than 3.
    rows, columns = (math.ceil(round(side * scale, 6)) for side in (height, width))
    return rows, columns


def shrink(picture: np.ndarray, scale: float) -> np.ndarray:
    """A picture (H, W, 3) uint8 at its coded size, bilinear with antialiasing."""
    height, width = picture.shape[:2]
    size = coded_size(height, width, scale)
    if size == (height, width):
        return picture
    small = Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(small)
