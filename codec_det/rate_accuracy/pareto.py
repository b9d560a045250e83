"""The best of several curves at every rate: their Pareto front.

MPEG's evaluation of coding for machines has each codec code pictures at 100, 75, 50 and 25 % of
their size, and compares codecs by the Pareto front of all these points; so do Le et al., "Image
Coding for Machines: an End-to-End Learned Approach" (ICASSP 2021). Every point of the front has
been measured, which is not so of the points between on an upper convex hull.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def pareto_front(rates: Sequence[float], values: Sequence[float]) -> list[int]:
    """Places of the points that no other is better than, by rising rate.

    Better is a greater value at no higher rate, or a lower rate at no smaller value. Both rise from
    one point of the front to the next. Points without a figure (nan) are on no front.
    """
    known = [
        i for i, pair in enumerate(zip(rates, values, strict=True)) if not math.isnan(sum(pair))
    ]
    front: list[int] = []
    for i in sorted(known, key=lambda i: (rates[i], -values[i])):
        if not front or values[i] > values[front[-1]]:
            front.append(i)
    return front
