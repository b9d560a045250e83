"""What the results say, in a sentence, and how many there are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..evaluation.metrics import metric_of
from ..rate_accuracy.curves import Curve, Point
from ..rate_accuracy.records import Result
from .points import short_rate, with_range
from .wording import text

# Against which regime the best is held: the first of these that is there.
_REFERENCES = ("T-FT", "baseline")


def headline(curves: Sequence[Curve], metric: str) -> str:
    """Which regime is best at the lowest rate in a metric, and by how much.

    Only curves of the reference's codec compete with it: the lowest rates of other codecs can be
    anywhere. Both rates are said, as they need not be the same.
    """
    what = metric_of(metric)
    curves = [curve for curve in curves if math.isfinite(curve.points[0].mean(metric))]
    compressed = [curve for curve in curves if not curve.is_level]
    if not compressed:
        level = with_range(curves[0].points[0], metric) if curves else "no figure"
        return f"Uncompressed pictures give a {what.name} of {level}."
    reference = _reference(compressed)
    codec = reference.codec
    of_same = (codec, reference.kind_of_rate)
    rivals = [one for one in compressed if (one.codec, one.kind_of_rate) == of_same]
    best = max(rivals, key=lambda curve: curve.points[0].mean(metric))
    of_codec = "" if len(rivals) == len(compressed) else f" of {codec}"
    name = best.label.replace(f", {codec}", "")
    sentence = f"At the lowest rate{of_codec}, {name} has a {what.name} of "
    sentence += _at_rate(best.points[0], metric)
    if best is not reference:
        gain = best.points[0].mean(metric) - reference.points[0].mean(metric)
        sentence += (
            f": {text(gain, what.digits)} more than {reference.label.replace(f', {codec}', '')}, "
            f"with {_at_rate(reference.points[0], metric)}"
        )
    elif len(rivals) > 1:
        sentence += f", the best of {len(rivals)} curves"
    levels = [curve for curve in curves if curve.is_level]
    if levels:
        level = text(levels[0].points[0].mean(metric), what.digits)
        sentence += f". Uncompressed pictures give {level}"
    return sentence + "."


def _reference(curves: Sequence[Curve]) -> Curve:
    for regime in _REFERENCES:
        for curve in curves:
            if curve.regime == regime:
                return curve
    return curves[0]


def _at_rate(point: Point, metric: str) -> str:
    return f"{with_range(point, metric)} at {short_rate(point)}"


def facts(results: Sequence[Result], curves: Sequence[Curve]) -> list[tuple[str, Any]]:
    """Counts and dates by name."""
    codecs = dict.fromkeys(curve.codec for curve in curves if not curve.is_level)
    seeds = {result.seed for result in results if result.is_trained}
    days = sorted(result.record["time"][:10] for result in results if "time" in result.record)
    pictures = {result.record["results"].get("rate", {}).get("images") for result in results} - {
        None
    }
    found = [
        ("Test set", results[0].dataset),
        ("Pictures", ", ".join(f"{count:.0f}" for count in sorted(pictures))),
        ("Runs", len(results)),
        ("Regimes", len({curve.regime for curve in curves})),
        ("Seeds", len(seeds)),
        ("Codecs", ", ".join(codecs)),
        ("Evaluated", " to ".join(dict.fromkeys((days[0], days[-1]))) if days else ""),
    ]
    return [(name, value) for name, value in found if value]
