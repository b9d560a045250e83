"""Points of curves as the page shows them: table rows, what hovering says, and what plotly draws.

A point's key is its place in the list that :func:`point_entries` makes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..evaluation.metrics import metric_of
from ..rate_accuracy.curves import UNCOMPRESSED, Curve, Point
from ..rate_accuracy.records import Result
from ..regimes import style_of
from .wording import DASH, TIMES, text

# matplotlib's markers, in plotly's words.
_SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "<": "triangle-left",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
    "p": "pentagon",
    "h": "hexagon",
    "H": "hexagon2",
    "8": "octagon",
    ">": "triangle-right",
    "d": "diamond-tall",
    "*": "star",
}
# Dashes, and what is added to the symbol, of the first, second, ... codec.
_CODEC_STYLES = (("solid", ""), ("dot", "-open"), ("dashdot", "-open-dot"), ("longdash", "-dot"))
_LEVEL_COLOUR = "#7F7F7F"


def css_colour(regime: str) -> str:
    """A regime's colour; black is the text's, so that it is seen on dark pages."""
    colour = style_of(regime)[0]
    return "var(--ink)" if colour == "#000000" else colour


def with_range(point: Point, metric: str) -> str:
    """Mean, and range over runs where there are several."""
    mean = text(point.mean(metric), metric_of(metric).digits)
    spread = range_text(point, metric)
    return f"{mean} ({spread})" if spread else mean


def short_rate(point: Point) -> str:
    """The mean rate with its unit, with one digit less than in tables."""
    rate = point.results[0].rate
    return f"{text(point.rate, rate.digits - 1)} {rate.key}"


def range_text(point: Point, metric: str) -> str:
    """Least to greatest of several runs; "" of one."""
    if len(point.results) == 1 or not math.isfinite(point.mean(metric)):
        return ""
    digits = metric_of(metric).digits
    low, high = (text(v, digits) for v in (point.low(metric), point.high(metric)))
    return f"{low}{DASH}{high}"


def run_name(result: Result, root: Path) -> str:
    """A run's folder, relative to that of all results."""
    assert result.folder is not None, "runs are read from folders"
    folder = result.folder
    relative = folder.relative_to(root) if folder.is_relative_to(root) else folder
    return relative.as_posix() if relative.parts else folder.resolve().name


def numbered(curves: Sequence[Curve]) -> Iterator[tuple[int, Curve, Point]]:
    """Every point with its key and curve."""
    pairs = [(curve, point) for curve in curves for point in curve.points]
    for key, (curve, point) in enumerate(pairs):
        yield key, curve, point


def point_title(curve: Curve, point: Point) -> str:
    """What to call a point by itself."""
    return curve.label if curve.is_level else f"{curve.label}, {point.name}"


def point_entries(
    curves: Sequence[Curve], root: Path, metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """What the page's scripts know of each point: figures, details and names of runs."""
    return [
        {
            "title": point_title(curve, point),
            "details": _details(curve, point, metrics),
            "runs": [run_name(result, root) for result in point.results],
            "figures": {metric: _figure(point, metric) for metric in metrics},
        }
        for _, curve, point in numbered(curves)
    ]


def _figure(point: Point, metric: str) -> dict[str, float | None]:
    """Rounded further than anyone reads; None where there is no figure."""
    values = (point.mean(metric), point.low(metric), point.high(metric))
    mean, low, high = (round(value, 5) if math.isfinite(value) else None for value in values)
    return {"mean": mean, "low": low, "high": high}


def _details(curve: Curve, point: Point, metrics: Sequence[str]) -> list[tuple[str, str]]:
    """What a point is, by name, in words."""
    records = [result.record for result in point.results]
    codec = records[0]["codec"]
    words = [
        ("regime", curve.regime),
        ("codec", _codec_words(codec) if not curve.is_level else "none"),
        ("operating point", point.name),
        ("rate", f"{curve.kind_of_rate} bits" if not curve.is_level else ""),
        ("target", _distinct(f"{r.get('target_bpp') or 0:g} bpp" for r in records if _aims(r))),
        ("β", _distinct(f"{r['beta']:.3g}" for r in records if _weighs_rate(r))),
        (
            f"seed: {metric_of(metrics[0]).name}",
            "; ".join(_seed_words(result, metrics[0]) for result in point.results),
        ),
        ("lossless", f"{point.lossless} pictures, which PSNR leaves out" * bool(point.lossless)),
        ("iteration", _distinct(str(r["iteration"]) for r in records if r.get("iteration"))),
        ("weights", _distinct(str(r.get("weights_sha256", ""))[:12] for r in records)),
    ]
    return [(name, value) for name, value in words if value]


def _codec_words(codec: dict[str, Any]) -> str:
    words = [str(codec["name"])]
    words += [f"quality {codec['quality']:g}"] if codec.get("quality") is not None else []
    words += [TIMES.join(map(str, codec["widths"]))] if codec.get("widths") else []
    words += [f"{key} {json.dumps(value)}" for key, value in codec.get("settings", {}).items()]
    return ", ".join(words)


def _weighs_rate(record: dict[str, Any]) -> bool:
    trains = "encoder" in record.get("config", {}).get("MODEL.CODEC.TRAINABLE", [])
    return trains and record.get("beta") is not None


def _aims(record: dict[str, Any]) -> bool:
    return _weighs_rate(record) and bool(record.get("target_bpp"))


def _seed_words(result: Result, metric: str) -> str:
    return f"{result.seed}: {text(result.figure(metric), metric_of(metric).digits)}"


def _distinct(words: Iterator[str]) -> str:
    return ", ".join(dict.fromkeys(words))


def series_entries(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """Each curve as plotly draws it: name, keys of its points, colour, symbol and dashes."""
    codecs = list(dict.fromkeys(_line(curve) for curve in curves if not curve.is_level))
    keys: dict[str, list[int]] = {}
    for key, curve, _ in numbered(curves):
        keys.setdefault(curve.label, []).append(key)
    return [_series(curve, keys[curve.label], codecs) for curve in curves]


def _line(curve: Curve) -> tuple[str, str]:
    """What shares dashes: a codec, and the kind of its bits."""
    return curve.codec, curve.kind_of_rate


def _series(curve: Curve, keys: list[int], codecs: list[tuple[str, str]]) -> dict[str, Any]:
    colour, marker = style_of(curve.regime)
    if curve.is_level and curve.regime == "baseline":
        colour = _LEVEL_COLOUR
    place = 0 if curve.is_level else codecs.index(_line(curve)) % len(_CODEC_STYLES)
    dash, variant = _CODEC_STYLES[place]
    return {
        "name": curve.label,
        "level": curve.is_level,
        "points": keys,
        "colour": colour,
        "symbol": _SYMBOLS[marker] + variant,
        "dash": "dash" if curve.is_level else dash,
    }


def table_rows(curves: Sequence[Curve], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """A row of the summary per point."""
    return [
        {
            "key": key,
            "order": place,
            "title": point_title(curve, point),
            "colour": css_colour(curve.regime),
            "regime": curve.regime,
            "codec": UNCOMPRESSED if curve.is_level else ", ".join([curve.codec, *curve.details]),
            "operating_point": "24 bpp" if curve.is_level else point.name,
            "seeds": ", ".join(map(str, point.seeds)) if point.is_trained else DASH,
            "figures": [_cell(point, metric) for metric in metrics],
        }
        for key, curve, point in numbered(curves)
        for place in [curves.index(curve)]
    ]


def _cell(point: Point, metric: str) -> dict[str, Any]:
    mean = point.mean(metric)
    return {
        "value": repr(mean) if math.isfinite(mean) else "",
        "mean": text(mean, metric_of(metric).digits),
        "spread": range_text(point, metric),
    }
