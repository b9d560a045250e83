"""Bjøntegaard differences of all pairs of curves, as tables whose refusals are explained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..rate_accuracy.bjontegaard_deltas import Delta, bd_matrix
from ..rate_accuracy.curves import Curve
from .wording import text

EXPLANATION = (
    "What the curve of a column needs or gains against that of its row (the anchor), by PCHIP over "
    "what both curves cover, from means over seeds. BD-rate: bits for equal box AP, negative is "
    "better. BD-AP: percentage points of box AP for equal bits, positive is better."
)


def bd_tables(curves: Sequence[Curve]) -> tuple[list[dict[str, Any]], list[str]]:
    """BD-rate and BD-AP tables, and the reasons their refused cells refer to by number from 1."""
    names = [curve.label for curve in curves if not curve.is_level]
    if len(names) < 2:
        return [], []
    deltas = bd_matrix(curves, "AP")
    reasons: dict[str, int] = {}
    tables = []
    for title, part, sign, unit in (
        ("BD-rate (%)", "rate", -1, " %"),
        ("BD-AP (percentage points)", "quality", 1, ""),
    ):
        rows = [
            {
                "name": anchor,
                "cells": [
                    _cell(getattr(deltas[anchor, name], part), sign, unit, reasons)
                    if name != anchor
                    else {"text": "·", "tone": "self", "reason": 0}
                    for name in names
                ],
            }
            for anchor in names
        ]
        tables.append({"title": title, "corner": "anchor", "names": names, "rows": rows})
    return tables, list(reasons)


def _cell(delta: Delta, sign: int, unit: str, reasons: dict[str, int]) -> dict[str, Any]:
    if delta.is_refused:
        number = reasons.setdefault(delta.refusal, len(reasons) + 1)
        return {"text": "n/a", "tone": "refused", "reason": number}
    # What is shown as 0.0 is neither better nor worse.
    gain = sign * round(delta.value, 1)
    tone = "better" if gain > 0 else "worse" if gain < 0 else "even"
    return {
        "text": ("+" if delta.value > 0 else "") + text(delta.value, 1) + unit,
        "tone": tone,
        "reason": 0,
    }
