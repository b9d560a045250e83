"""The data behind figures and tables: JSON-ready, and as CSV with all digits."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

from ..evaluation.metrics import metric_of
from .bootstrap import Resamples, interval
from .comparisons import Comparison, Figure
from .curves import Curve, Point, rate_axis
from .records import describe_origin


def describe(
    curves: Sequence[Curve],
    comparisons: Sequence[Comparison],
    resamples: Resamples | None,
    metrics: Sequence[str],
) -> dict[str, Any]:
    """Everything that figures and tables show, JSON-ready; what does not exist is None."""
    figures = [*metrics, curves[0].rate.key]
    data = {
        "dataset": curves[0].dataset,
        "rate_is": rate_axis(curves),
        "units": {key: metric_of(key).unit for key in figures},
        "curves": [_describe_curve(curve, resamples, figures) for curve in curves],
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


def _describe_curve(
    curve: Curve, resamples: Resamples | None, metrics: Sequence[str]
) -> dict[str, Any]:
    return {
        "label": curve.label,
        "regime": curve.regime,
        "codec": curve.codec,
        "details": list(curve.details),
        "kind_of_rate": curve.kind_of_rate,
        "points": [_describe_point(curve, point, resamples, metrics) for point in curve.points],
    }


def _describe_point(
    curve: Curve, point: Point, resamples: Resamples | None, metrics: Sequence[str]
) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for metric in metrics:
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
            **{metric: result.figure(metric) for metric in metrics},
            "lossless": result.lossless,
        }
        for result in point.results
    ]
    # The rate itself is no quality.
    hulls = curve.hulls_with(point, metrics[:-1]) if curve.of_scales else None
    place = {"name": point.name, "scale": point.scale, "hulls": hulls, "seeds": point.seeds}
    return {**place, **figures, "runs": runs}


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


def points_csv(data: dict[str, Any]) -> str:
    """Every operating point of what :func:`describe` gives."""
    rows = [
        {
            "dataset": data["dataset"],
            "curve": curve["label"],
            "regime": curve["regime"],
            "codec": curve["codec"],
            "details": ", ".join(curve["details"]),
            "rate": curve["kind_of_rate"],
            "operating_point": point["name"],
            "scale": point["scale"],
            "hulls": " ".join(point["hulls"] or []),
            "runs": len(point["runs"]),
            "seeds": " ".join(map(str, point["seeds"])),
            **_flatten({metric: point[metric] for metric in data["units"]}),
            "lossless": sum(run["lossless"] for run in point["runs"]),
        }
        for curve in data["curves"]
        for point in curve["points"]
    ]
    return _csv(rows)


def bd_csv(data: dict[str, Any]) -> str:
    """Every Bjøntegaard delta of what :func:`describe` gives."""
    return _csv([_flatten(one) for one in data["bjontegaard_deltas"]])


def _flatten(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings and intervals as single columns; by_seed as text."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if key == "by_seed":
            flat[prefix + key] = " ".join(f"{seed}:{one}" for seed, one in value.items())
        elif isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}_")
        elif key.startswith("interval"):
            low, high = value or (None, None)
            flat |= {f"{prefix}{key}_low": low, f"{prefix}{key}_high": high}
        else:
            flat[prefix + key] = value
    return flat


def _csv(rows: Iterable[dict[str, Any]]) -> str:
    rows = list(rows)
    file = io.StringIO()
    if rows:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return file.getvalue()
