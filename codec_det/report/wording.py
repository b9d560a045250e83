"""Figures in words, for people."""

from __future__ import annotations

import math

# Typographic signs, which look too much like others to be written out in code.
MINUS, DASH, TIMES = "\N{MINUS SIGN}", "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"


def text(value: float, digits: int) -> str:
    """A figure with a real minus sign; a dash where there is none."""
    return f"{value:.{digits}f}".replace("-", MINUS) if math.isfinite(value) else DASH
