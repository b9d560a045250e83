"""Curves against an anchor: Bjøntegaard deltas, how certain they are, and the data behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .bjontegaard_deltas import Delta, Deltas, bd, bd_by_seed
from .bootstrap import Interval, Resamples, interval
from .curves import Curve, Point
from .records import METRICS, describe_origin


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
    return [
        _compare(anchor, curve, metric, resamples)
        for curve in curves
        if not curve.is_level and curve is not anchor
        for metric in metrics
    ]


def _compare(anchor: Curve, curve: Curve, metric: str, resamples: Resamples | None) -> Comparison:
    both: Deltas = bd(anchor, curve, metric)
    seeds = bd_by_seed(anchor, curve, metric)
    rate = quality = None
    if resamples and not (both.rate.is_refused and both.quality.is_refused):
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


def describe(
    curves: Sequence[Curve], comparisons: Sequence[Comparison], resamples: Resamples | None
) -> dict[str, Any]:
    """Everything that figures and tables show, JSON-ready; what does not exist is None."""
    record = next((c for c in curves if not c.is_level), curves[0]).points[0].results[0].record
    data = {
        "dataset": record["dataset"],
        "rate_is": record.get("rate_is"),
        "units": {"AP": "%", "AP50": "%", "PSNR": "dB", "bpp": "bits per pixel"},
        "curves": [_describe_curve(curve, resamples) for curve in curves],
        "bjontegaard_deltas": [
            {
                "anchor": one.anchor,
                "curve": one.curve,
                "metric": one.metric,
                "rate_percent": _describe_figure(one.rate),
                "quality": _describe_figure(one.quality),
            }
            for one in comparisons
        ],
    }
    return _without_nan(data)


def _describe_curve(curve: Curve, resamples: Resamples | None) -> dict[str, Any]:
    return {
        "label": curve.label,
        "regime": curve.regime,
        "codec": curve.codec,
        "details": list(curve.details),
        "kind_of_rate": curve.kind_of_rate,
        "points": [_describe_point(point, resamples) for point in curve.points],
    }


def _describe_point(point: Point, resamples: Resamples | None) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for metric in METRICS:
        figures[metric] = {
            "mean": point.mean(metric),
            "low": point.low(metric),
            "high": point.high(metric),
        }
        if resamples:
            over_sets = interval(resamples.of_point(point, metric))
            figures[metric]["interval_95"] = [over_sets.low, over_sets.high]
    runs = [
        {
            "seed": result.seed,
            "run": describe_origin(result),
            **{metric: result.figure(metric) for metric in METRICS},
        }
        for result in point.results
    ]
    return {"name": point.name, "seeds": point.seeds, **figures, "runs": runs}


def _describe_figure(figure: Figure) -> dict[str, Any]:
    over_sets = figure.interval
    return {
        "value": figure.delta.value,
        "refusal": figure.delta.refusal or None,
        "overlap": figure.delta.overlap,
        "by_seed": {str(seed): delta.value for seed, delta in figure.by_seed.items()},
        "interval_95": [over_sets.low, over_sets.high] if over_sets else None,
        "resamples_used": over_sets.used if over_sets else None,
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value
