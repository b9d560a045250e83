"""What is in the cells of a sheet: pictures with objects on them, maps of bits, differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation.objects import NOTHING, Objects
from ..runs import CodedPicture, Original
from .colour_scales import BitScale, DifferenceScale, subtract
from .drawing import scale_bar, text_panel

NO_MAP = "no map: rate of a whole file"

# Pixels. Pictures are shown enlarged by a whole factor, so that their longer side has
# SIDE_MIN or more, or reduced to SIDE_MAX.
SIDE_MIN, SIDE_MAX = 384, 1024


def display_size(height: int, width: int) -> tuple[int, int]:
    """Height and width, in pixels, to show a picture at."""
    longest = max(height, width)
    if longest > SIDE_MAX:
        return max(1, height * SIDE_MAX // longest), max(1, width * SIDE_MAX // longest)
    factor = math.ceil(SIDE_MIN / longest)
    return height * factor, width * factor


@dataclass(frozen=True)
class Cell:
    """A picture, what is drawn on it, and the line below it.

    Attributes:
        solid: labelled objects.
        dashed: objects without labels; drawn first.
        labels: one per object of ``solid``, or of ``dashed`` where that is None.
    """

    picture: np.ndarray
    solid: Objects | None
    dashed: Objects
    labels: Sequence[str]
    caption: str

    @property
    def labelled(self) -> Objects:
        return self.dashed if self.solid is None else self.solid


def bit_row(original: Original, coded: Sequence[CodedPicture]) -> list[Cell]:
    """The scale, and where each run's bits go."""
    size = display_size(*original.picture.shape[:2])
    maps = [each.bit_map for each in coded if each.bit_map is not None]
    scale = BitScale([bit_map.density for bit_map in maps])
    first = scale_bar(scale, size) if maps else text_panel("no run has a map", size)
    cells = [_plain(first, f"image {original.image_id}: where the bits go")]
    for each in coded:
        if each.bit_map is None:
            cells.append(_plain(text_panel(NO_MAP, size), f"{each.bpp:.3f} bpp"))
            continue
        density, padding = each.bit_map.density, each.bit_map.padding_bits
        caption = f"estimated {each.bit_map.bits / density.size:.3f} bpp"
        caption += f", {padding / each.bit_map.bits:.0%} in the padding" if padding else ""
        cells.append(_plain(scale.draw(density, original.picture), caption))
    return cells


def difference_row(original: Original, coded: Sequence[CodedPicture]) -> list[Cell]:
    """The scale, and how far each run's picture is from the original."""
    differences = [subtract(each.picture, original.picture) for each in coded]
    scale = DifferenceScale(differences)
    bar = scale_bar(scale, display_size(*original.picture.shape[:2]))
    cells = [_plain(bar, f"image {original.image_id}: {scale.factor} x difference")]
    for difference in differences:
        size = np.abs(difference)
        caption = f"{scale.factor} x difference · mean {size.mean():.1f}, most {size.max()}"
        cells.append(_plain(scale.draw(difference), caption))
    return cells


def _plain(picture: np.ndarray, caption: str) -> Cell:
    return Cell(picture, None, NOTHING, (), caption)
