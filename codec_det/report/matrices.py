"""Bjøntegaard differences of all pairs of curves, as tables whose refusals are explained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..evaluation.metrics import Metric
from ..rate_accuracy.bjontegaard_deltas import Delta, bd_matrix
from ..rate_accuracy.curves import Curve
from .wording import text


def explanation(metric: Metric) -> str:
    """What the figures of :func:`bd_tables` are."""
    unit = f"{metric.unit_of_differences} of {metric.name}".removeprefix(" of ")
    return (
        "What the curve of a column needs or gains against that of its row (the anchor), by PCHIP "
        "over what both curves cover, from means over seeds. BD-rate: bits for equal "
        f"{metric.name}, negative is better. BD-{metric.key}: {unit} for equal bits, positive is "
        "better."
    )


def bd_tables(curves: Sequence[Curve], metric: Metric) -> tuple[list[dict[str, Any]], list[str]]:
    """BD-rate and BD-quality, and the reasons that their refused cells refer to by number from 1.

    Curves that have the metric nowhere are left out.
    """
    curves = [curve for curve in curves if not all(map(math.isnan, curve.values(metric.key)))]
    names = [curve.label for curve in curves if not curve.is_level]
    if len(names) < 2:
        return [], []
    deltas = bd_matrix(curves, metric.key)
    quality = f"BD-{metric.key} ({metric.unit_of_differences})".replace(" ()", "")
    reasons: dict[str, int] = {}
    tables = []
    for title, part, sign, unit, digits in (
        ("BD-rate (%)", "rate", -1, " %", 1),
        (quality, "quality", 1, "", metric.digits),
    ):
        rows = [
            {
                "name": anchor,
                "cells": [
                    _cell(getattr(deltas[anchor, name], part), sign, unit, digits, reasons)
                    if name != anchor
                    else {"text": "·", "tone": "self", "reason": 0}
                    for name in names
                ],
            }
            for anchor in names
        ]
        tables.append({"title": title, "corner": "anchor", "names": names, "rows": rows})
    return tables, list(reasons)


def _cell(
    delta: Delta, sign: int, unit: str, digits: int, reasons: dict[str, int]
) -> dict[str, Any]:
    if delta.is_refused:
        number = reasons.setdefault(delta.refusal, len(reasons) + 1)
        return {"text": "n/a", "tone": "refused", "reason": number}
    # What is shown as 0.0 is neither better nor worse.
    gain = sign * round(delta.value, digits)
    tone = "better" if gain > 0 else "worse" if gain < 0 else "even"
    return {
        "text": ("+" if delta.value > 0 else "") + text(delta.value, digits) + unit,
        "tone": tone,
        "reason": 0,
    }
