"""Timings that can be compared: two sides in turn, medians, and the spread of their ratio."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Comparison(NamedTuple):
    """Seconds of two ways to do the same, measured in turn.

    Attributes:
        ours, theirs: median seconds.
        ratio: theirs / ours, median over rounds: above 1, ours is faster.
        low, high: quartiles of the ratio over rounds.
        rounds: how often each was run.
    """

    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    rounds: int


def compare(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> Comparison:
    """Time two functions in turn, after a run of each to warm up.

    What else the machine does hits both sides of a round alike, and the order changes from round
    to round, so that their ratio is steadier than either time.
    """
    ours()
    theirs()
    seconds = np.empty((rounds, 2))
    for i in range(rounds):
        for side in (0, 1) if i % 2 else (1, 0):
            start = time.perf_counter()
            (ours, theirs)[side]()
            seconds[i, side] = time.perf_counter() - start
    ratios = seconds[:, 1] / seconds[:, 0]
    low, ratio, high = (float(q) for q in np.quantile(ratios, (0.25, 0.5, 0.75)))
    ours_seconds, theirs_seconds = (float(m) for m in np.median(seconds, axis=0))
    return Comparison(ours_seconds, theirs_seconds, ratio, low, high, rounds)
