"""Bjøntegaard deltas: what one curve saves in bits, or gains in accuracy, over another.

BD-rate is the mean difference of log rate over the range of quality that both curves have, in
percent; below 0, the curve needs fewer bits than its anchor. BD-AP (or BD-PSNR) is the mean
difference of quality over the range of log rate that both have. Bjøntegaard, VCEG-M33, 2001.

Curves are interpolated by PCHIP, whose values between two points stay between theirs: a rising
curve rises everywhere. Akima's method and a cubic through all points can swing beyond them, and do
where accuracy levels off, so that noise in one point changes the figure by much more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
from bjontegaard import bd_psnr, bd_rate

from ..evaluation.metrics import BPP, Metric

# Curves are read with detectron2's configs, which the figures of points do not need.
if TYPE_CHECKING:
    from .curves import Curve

# Bjøntegaard's own cubic needs four, PCHIP only two: but a straight line says nothing of the curve
# between them. Published figures are of four or more.
MIN_POINTS = 3
# Shared by both curves, as a fraction of the range that either has. Below, a mean over what is
# shared says little of the curves.
MIN_OVERLAP = 0.25

METHOD = "pchip"


@dataclass(frozen=True)
class Delta:
    """A Bjøntegaard delta, or why there is none.

    Attributes:
        value: BD-rate in percent, or BD-quality in the unit of the quality; nan where refused.
        overlap: range that both curves have, as a fraction of what either has: of quality for
            BD-rate, of log rate for BD-quality. nan where not computed.
        refusal: why there is no value; "" where there is one.
    """

    value: float
    overlap: float
    refusal: str = ""

    @property
    def is_refused(self) -> bool:
        """Whether there is no value."""
        return bool(self.refusal)


@dataclass(frozen=True)
class Deltas:
    """Both Bjøntegaard deltas of a curve against an anchor.

    Attributes:
        rate: BD-rate in percent.
        quality: BD-AP in percentage points of box AP, or BD-PSNR in dB.
    """

    rate: Delta
    quality: Delta


def deltas(
    anchor_rate: Sequence[float],
    anchor_quality: Sequence[float],
    test_rate: Sequence[float],
    test_quality: Sequence[float],
    over: Metric = BPP,
) -> Deltas:
    """Both deltas of a curve of points in any order against another; rates are above 0.

    Args:
        over: what the rates are, for the words of refusals.
    """
    curves = [
        np.array(sorted(zip(rates, quality, strict=True)), dtype=np.float64).T.reshape(2, -1)
        for rates, quality in ((anchor_rate, anchor_quality), (test_rate, test_quality))
    ]
    refusal = _refuse_points(curves, over)
    if refusal:
        refused = Delta(math.nan, math.nan, refusal)
        return Deltas(refused, refused)
    (anchor_rates, anchor_values), (test_rates, test_values) = curves
    arguments = (anchor_rates, anchor_values, test_rates, test_values, METHOD)
    # Its warnings of little overlap are refusals here, or a column of the table.
    options = {"require_matching_points": False, "min_overlap": 0}
    by_rate = _overlap(np.log(anchor_rates), np.log(test_rates))
    by_quality = _overlap(anchor_values, test_values)
    refusal = _refuse_falling(curves, over) or _refuse_overlap(by_quality, "quality", curves, 1)
    rate = (
        Delta(math.nan, by_quality, refusal)
        if refusal
        else Delta(float(bd_rate(*arguments, **options)), by_quality)
    )
    refusal = _refuse_overlap(by_rate, "rate", curves, 0)
    quality = (
        Delta(math.nan, by_rate, refusal)
        if refusal
        else Delta(float(bd_psnr(*arguments, **options)), by_rate)
    )
    return Deltas(rate, quality)


def _refuse_points(curves: Sequence[np.ndarray], over: Metric) -> str:
    """Why nothing can be made of the points, in words; "" if something can."""
    for name, (rates, quality) in zip(("the anchor", "the curve"), curves, strict=True):
        known = int(np.isfinite(rates + quality).sum())
        if known < len(rates):
            return f"{name} has {len(rates) - known} of {len(rates)} points without a figure"
        if known < MIN_POINTS:
            return f"{name} has {known} of the {MIN_POINTS} points that are needed: add rates"
        if (rates <= 0).any():
            return (
                f"{name} has a point at {rates.min():g} {over.key}, and only rates above 0 have a "
                "logarithm"
            )
        if (np.diff(rates) <= 0).any():
            twice = rates[:-1][np.diff(rates) <= 0][0]
            return f"{name} has two points at {_in_words(twice, over)}"
    return ""


def _refuse_falling(curves: Sequence[np.ndarray], over: Metric) -> str:
    """Of BD-rate, which takes rate as a function of quality: it needs one rate for each quality."""
    for name, (rates, quality) in zip(("the anchor", "the curve"), curves, strict=True):
        falls = np.flatnonzero(np.diff(quality) <= 0)
        if falls.size:
            i = falls[0]
            return (
                f"{name} does not rise from {rates[i]:.{over.digits}f} to "
                f"{_in_words(rates[i + 1], over)} ({quality[i]:.2f} to {quality[i + 1]:.2f}): a "
                "quality would have more than one rate; leave out a point, or compare at equal rate"
            )
    return ""


def _in_words(value: float, over: Metric) -> str:
    return f"{value:.{over.digits}f} {over.key}"


def _overlap(anchor: np.ndarray, test: np.ndarray) -> float:
    shared = min(anchor.max(), test.max()) - max(anchor.min(), test.min())
    either = max(anchor.max(), test.max()) - min(anchor.min(), test.min())
    return float(max(shared, 0) / either) if either > 0 else 0.0


def _refuse_overlap(overlap: float, what: str, curves: Sequence[np.ndarray], row: int) -> str:
    if overlap >= MIN_OVERLAP:
        return ""
    (low, high), (test_low, test_high) = ((c[row].min(), c[row].max()) for c in curves)
    return (
        f"the curves share {overlap:.0%} of their range of {what}, and {MIN_OVERLAP:.0%} are "
        f"needed: the anchor has {low:.4g} to {high:.4g}, the curve {test_low:.4g} to "
        f"{test_high:.4g}"
    )


def bd(anchor: Curve, test: Curve, metric: str, seed: int | None = None) -> Deltas:
    """BD-rate and BD-quality of a curve against an anchor; of several coding scales, of the hulls.

    Args:
        metric: the quality, such as "AP" or "PSNR".
        seed: use this seed's runs alone, and their hull; None: the means over seeds.
    """
    refusal = _refuse_kinds(anchor, test) or _refuse_lossless((anchor, test), metric)
    if refusal:
        refused = Delta(math.nan, math.nan, refusal)
        return Deltas(refused, refused)
    return deltas(*_line(anchor, metric, seed), *_line(test, metric, seed), anchor.rate)


def _line(curve: Curve, metric: str, seed: int | None) -> tuple[list[float], list[float]]:
    """Rates and values of the points that count."""
    rates, values = curve.values(curve.rate.key, seed), curve.values(metric, seed)
    chosen = curve.choose(rates, values)
    return [rates[i] for i in chosen], [values[i] for i in chosen]


def _refuse_kinds(anchor: Curve, test: Curve) -> str:
    """Why rates do not compare; "" if they do."""
    if anchor.kind_of_rate == test.kind_of_rate:
        return ""
    return (
        f"the anchor's bits are {anchor.kind_of_rate}, the curve's {test.kind_of_rate}: evaluate "
        "the estimated ones again with MODEL.CODEC.BITSTREAM True"
    )


def _refuse_lossless(curves: Sequence[Curve], metric: str) -> str:
    """Of the mean PSNR, which lossless pictures have no part in; "" if there are none."""
    if metric != "PSNR" or not any(point.lossless for curve in curves for point in curve.points):
        return ""
    return "some pictures were coded without loss, which PSNR leaves out: compare by PSNR_MSE"


def common_seeds(anchor: Curve, test: Curve) -> list[int]:
    """Seeds that every point of both curves has; points that were not trained have every seed."""
    sets = [set(p.seeds) for curve in (anchor, test) for p in curve.points if p.is_trained]
    return sorted(set.intersection(*sets)) if sets else []


def bd_by_seed(anchor: Curve, test: Curve, metric: str) -> dict[int, Deltas]:
    """As :func:`bd`, of each seed that every point of both curves has."""
    seeds = common_seeds(anchor.hull(metric), test.hull(metric))
    return {seed: bd(anchor, test, metric, seed) for seed in seeds}


def bd_matrix(curves: Sequence[Curve], metric: str) -> dict[tuple[str, str], Deltas]:
    """As :func:`bd`, of all pairs, by (label of the anchor, label of the curve); no levels."""
    curves = [curve for curve in curves if not curve.is_level]
    return {
        (anchor.label, test.label): bd(anchor, test, metric)
        for anchor, test in permutations(curves, 2)
    }
