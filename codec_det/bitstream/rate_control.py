"""Rate control: the level at which pictures of a model of variable rate fit into what there is.

A step of the level is about a hundredth of the rate, and the size of a file rises with its level,
but for a step here and there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from ..errors import CodecDetError
from .encoder import PictureAtLevels
from .expected import LEVEL_STEPS

# About what a step of the level adds to the logarithm of a size.
STEP = 0.01
# Of the limit's logarithm, left for what files differ from their estimates.
MARGIN = 0.003
MAX_GUESSES = 5
# Steps over which a slope holds.
NEAR = 16
# Between these steps, the logarithm of a picture's size is a straight line.
GRID = LEVEL_STEPS // 4


def best_within(picture: PictureAtLevels, max_bytes: int) -> bytes:
    """The file of the highest level that is not longer than ``max_bytes``.

    The level is found by estimates, which cost little; whole files are written only around it.

    Raises:
        CodecDetError: if the file is longer at level 0.
    """
    step = highest_within(picture.estimate, picture.highest, max_bytes)
    while step and len(picture.write(step)) > max_bytes:
        step -= 1
    data = picture.write(step)
    if len(data) > max_bytes:
        raise CodecDetError(
            f"cannot be coded with {max_bytes} bytes: at level 0 it takes {len(data)}, the least"
        )
    return data


def highest_within(size: Callable[[int], float], highest: int, limit: float) -> int:
    """About the highest step of 0 to ``highest`` whose size is within ``limit``; 0 if none is.

    Sizes are about exponential: after two tries their slope is known, and where it leads no further
    than :data:`NEAR`, that is taken. Where they are not, bisection takes over.

    Args:
        size: of a step, above 0, rising.
    """
    low, high, step, slope = -1, highest + 1, highest // 2, STEP
    for tries in itertools.count():
        room = math.log(limit / size(step)) - MARGIN
        low, high = (step, high) if room >= 0 else (low, step)
        if high - low == 1 or 0 <= room < STEP:
            break
        guess = step + math.floor(room / slope) if tries < MAX_GUESSES else (low + high) // 2
        guess = min(max(guess, low), high - 1)
        if tries and abs(guess - step) <= NEAR:
            return max(guess, 0)
        last, step = step, max(guess, low + 1)
        slope = max(math.log(size(step) / size(last)) / (step - last), STEP / 4)
    return max(low, 0)


def sizes_on_grid(picture: PictureAtLevels) -> np.ndarray:
    """(steps / GRID + 1,) estimated bytes of a picture from level 0 to the highest."""
    return np.array([picture.estimate(step) for step in range(0, picture.highest + 1, GRID)])


def mean_size(sizes: Sequence[np.ndarray], step: int) -> float:
    """Mean bytes of pictures at a step, from :func:`sizes_on_grid` of each."""
    logs = np.log(np.stack(sizes))
    below, rest = divmod(step, GRID)
    above = min(below + 1, logs.shape[1] - 1)
    share = rest / GRID
    return float(np.exp((1 - share) * logs[:, below] + share * logs[:, above]).mean())
