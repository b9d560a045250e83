"""Curves against an anchor: Bjøntegaard deltas, and how certain they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from .bjontegaard_deltas import Delta, Deltas, bd, bd_by_seed
from .bootstrap import Interval, Resamples, interval
from .curves import Curve


@dataclass(frozen=True)
class Figure:
    """A Bjøntegaard delta and its uncertainty.

    Attributes:
        delta: of the means over seeds.
        by_seed: the delta of each seed that every point of both curves has; refused ones too.
        interval: over resampled test sets; None where there are none.
    """

    delta: Delta
    by_seed: dict[int, Delta]
    interval: Interval | None

    @property
    def seeds(self) -> list[float]:
        """The deltas of single seeds, without refused ones."""
        return [delta.value for delta in self.by_seed.values() if not delta.is_refused]


@dataclass(frozen=True)
class Comparison:
    """A curve against the anchor, in one metric.

    Attributes:
        rate: BD-rate in percent.
        quality: BD-AP in percentage points, or BD-PSNR in dB.
    """

    anchor: str
    curve: str
    metric: str
    rate: Figure
    quality: Figure


def compare(
    curves: Sequence[Curve], anchor: Curve, metrics: Sequence[str], resamples: Resamples | None
) -> list[Comparison]:
    """Every curve but levels and the anchor itself against the anchor, in each metric."""
    pairs = [
        (curve, metric)
        for curve in curves
        if not curve.is_level and curve is not anchor
        for metric in metrics
    ]
    # A delta takes milliseconds, which hundreds of resamples make seconds.
    progress = tqdm(pairs, "Bjøntegaard deltas", unit="curve", disable=resamples is None)
    return [_compare(anchor, curve, metric, resamples) for curve, metric in progress]


def _compare(anchor: Curve, curve: Curve, metric: str, resamples: Resamples | None) -> Comparison:
    both: Deltas = bd(anchor, curve, metric)
    seeds = bd_by_seed(anchor, curve, metric)
    rate = quality = None
    if resamples and resamples.figures and not (both.rate.is_refused and both.quality.is_refused):
        rate, quality = map(interval, resamples.of_bd(anchor, curve, metric))
    return Comparison(
        anchor.label,
        curve.label,
        metric,
        _figure(both.rate, {seed: one.rate for seed, one in seeds.items()}, rate),
        _figure(both.quality, {seed: one.quality for seed, one in seeds.items()}, quality),
    )


def _figure(delta: Delta, by_seed: dict[int, Delta], over_sets: Interval | None) -> Figure:
    # Without any resample that gives a figure, nothing was drawn for these runs.
    known = over_sets if over_sets and over_sets.used and not delta.is_refused else None
    return Figure(delta, by_seed, known)
