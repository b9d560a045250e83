"""What a section of the benchmark found, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .timing import TimeRatio


@dataclass(frozen=True)
class BenchmarkRow:
    """One comparison.

    Attributes:
        what, against: the two sides.
        comparison: of them; in seconds or MiB, so that less is better.
        unit: "s", "s/picture" or "MiB".
        target: the largest ratio that is aimed at; None: none.
    """

    what: str
    against: str
    comparison: TimeRatio
    unit: str = "s"
    target: float | None = None

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "what": self.what,
            "against": self.against,
            "unit": self.unit,
            **self.comparison._asdict(),
            "target": self.target,
        }


@dataclass(frozen=True)
class BenchmarkCurve:
    """How a time grows.

    Attributes:
        what: takes the time.
        of: what grows, such as "pixels".
        sizes: of that.
        seconds: medians, one for each size.
    """

    what: str
    of: str
    sizes: Sequence[int]
    seconds: Sequence[float]

    @property
    def exponent(self) -> float:
        """The slope in log-log scales by least squares: 1 is growth in proportion."""
        return float(np.polyfit(np.log(self.sizes), np.log(self.seconds), 1)[0])

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "exponent": self.exponent}


@dataclass(frozen=True)
class BenchmarkResult:
    """All that a section found; ``notes`` are figures by name that are no comparisons."""

    rows: Sequence[BenchmarkRow] = ()
    curves: Sequence[BenchmarkCurve] = ()
    notes: dict[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "comparisons": [row.record() for row in self.rows],
            "growth": [curve.record() for curve in self.curves],
            "notes": self.notes,
        }


HEADINGS = ("", "median", "against", "median", "ratio", "quartiles", "target")


def table(result: BenchmarkResult) -> str:
    """Lines for people."""
    lines = []
    if result.rows:
        cells = [HEADINGS, *(_cells(row) for row in result.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(HEADINGS))]
        lines += ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    for curve in result.curves:
        pairs = zip(curve.sizes, curve.seconds, strict=True)
        points = ", ".join(f"{size:,}: {seconds:.3f} s" for size, seconds in pairs)
        lines.append(f"{curve.what} grows with {curve.of}^{curve.exponent:.2f} ({points})")
    lines += [f"{name}: {value}" for name, value in result.notes.items()]
    return "\n".join(line.rstrip() for line in lines)


def _cells(row: BenchmarkRow) -> tuple[str, ...]:
    c = row.comparison
    target = "" if row.target is None else f"<= {row.target:g}"
    if row.target is not None and c.ratio > row.target:
        target += " missed"
    return (
        row.what,
        _quantity(c.own, row.unit),
        row.against,
        _quantity(c.reference, row.unit),
        f"{c.ratio:.3f}",
        f"{c.low:.3f} to {c.high:.3f}",
        target,
    )


def _quantity(value: float, unit: str) -> str:
    return f"{value:.0f} {unit}" if unit == "MiB" else f"{value:.4f} {unit}"
