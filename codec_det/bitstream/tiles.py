"""Transforms tile by tile: as of whole pictures, in memory that does not grow with them.

A tile is computed with a margin, as wide as what its outputs depend on beyond it, and the margin's
outputs are dropped. At the sides of the picture there is none, so that what a transform does there
is done. The tiles of a picture depend on its size alone; one that is no larger than a tile is
computed whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import NamedTuple

import numpy as np

# Of a tile without its margin; 0.8 megapixels where a position has 16x16 pixels. Smaller ones spend
# more on margins, larger ones take more memory and are no faster.
POSITIONS = 3 * 2**10


class Tiling(NamedTuple):
    """How the maps that a transform takes and gives lie on one grid of positions.

    Attributes:
        inputs: samples of the input per position, in each direction.
        outputs: the same of every output.
        margin: positions beyond its own that an output depends on; None: all.
    """

    inputs: int
    outputs: tuple[int, ...]
    margin: int | None


def by_tiles(
    transform: Callable[[np.ndarray], Sequence[np.ndarray]],
    x: np.ndarray,
    tiling: Tiling,
    share: int = 1,
) -> Sequence[np.ndarray]:
    """``transform(x)``: maps (..., H, W) to one or several.

    Args:
        share: of :data:`POSITIONS`: their part that a tile has is 1 ÷ share.
    """
    positions = POSITIONS // share
    size = [-(-side // tiling.inputs) for side in x.shape[-2:]]
    if tiling.margin is None or prod(size) <= positions:
        return transform(x)
    results: list[np.ndarray] = []
    for tile in _tiles(size, positions):
        wide = [
            slice(max(part.start - tiling.margin, 0), part.stop + tiling.margin) for part in tile
        ]
        parts = transform(x[_samples(wide, tiling.inputs)])
        if not results:
            results = [
                _empty(part, x.shape, scale, tiling.inputs)
                for part, scale in zip(parts, tiling.outputs, strict=True)
            ]
        own = [
            slice(part.start - around.start, part.stop - around.start)
            for part, around in zip(tile, wide, strict=True)
        ]
        for result, part, scale in zip(results, parts, tiling.outputs, strict=True):
            result[_samples(tile, scale)] = part[_samples(own, scale)]
    return results


def _tiles(size: Sequence[int], positions: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the tiles of a grid: as few, and as square, as may be."""
    counts = [1, 1]
    while prod(sides := [-(-side // n) for side, n in zip(size, counts, strict=True)]) > positions:
        counts[sides.index(max(sides))] += 1
    rows, columns = (
        [slice(side * i // n, side * (i + 1) // n) for i in range(n)]
        for side, n in zip(size, counts, strict=True)
    )
    return ((row, column) for row in rows for column in columns)


def _samples(tile: Sequence[slice], scale: int) -> tuple:
    """Of maps with so many samples per position, an index of those of a tile."""
    return (..., *(slice(part.start * scale, part.stop * scale) for part in tile))


def _empty(part: np.ndarray, shape: Sequence[int], scale: int, inputs: int) -> np.ndarray:
    """For all of an output of which ``part`` is a tile's, from an input of this shape."""
    sides = (-(-side * scale // inputs) for side in shape[-2:])
    return np.empty((*part.shape[:-2], *sides), part.dtype)
