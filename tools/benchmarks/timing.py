"""Timings that can be compared: sides in turn, medians, and the spread of their ratio."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from tqdm import tqdm


class TimeRatio(NamedTuple):
    """Two figures of the same kind, such as seconds of two ways to do the same.

    Attributes:
        own, reference: medians over rounds.
        ratio: own / reference, median over rounds: of seconds, below 1 is faster.
        low, high: quartiles of the ratio over rounds.
        rounds: how often each was measured.
    """

    own: float
    reference: float
    ratio: float
    low: float
    high: float
    rounds: int


def in_turn(
    sides: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    synchronize: Callable[[], None] = lambda: None,
    label: str = "",
) -> dict[str, np.ndarray]:
    """Time functions in turn, after a run of each to warm up.

    What else the machine does hits all sides of a round alike, and another side begins each round,
    so that ratios are steadier than times.

    Args:
        sides: functions by name.
        rounds: how often each is timed.
        synchronize: waits for work that has been started, before the clock is read.
        label: of the progress bar; "": none.

    Returns:
        (rounds,) seconds by name.
    """
    names = list(sides)
    for name in tqdm(names, f"{label}, first runs", leave=False, disable=not label):
        sides[name]()
    seconds = {name: np.empty(rounds) for name in names}
    for i in tqdm(range(rounds), label, leave=False, disable=not label):
        first = (i + 1) % len(names)
        for name in names[first:] + names[:first]:
            synchronize()
            start = time.perf_counter()
            sides[name]()
            synchronize()
            seconds[name][i] = time.perf_counter() - start
    return seconds


def compare(own: np.ndarray, reference: np.ndarray) -> TimeRatio:
    """Medians, and the ratio with its quartiles, of figures (rounds,) that were taken in turn."""
    low, ratio, high = (float(q) for q in np.quantile(own / reference, (0.25, 0.5, 0.75)))
    return TimeRatio(float(np.median(own)), float(np.median(reference)), ratio, low, high, len(own))
