"""What runs logged while they trained, thinned for drawing."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..rate_accuracy.curves import UNCOMPRESSED, Curve
from ..regimes import order_of, style_of
from .points import css_colour, run_name, short_rate

METRICS_FILE = "metrics.json"
MAX_POINTS = 60  # of a line; a small plot is a few hundred pixels wide

_LEADING = ("total_loss", "bpp", "beta", "psnr")
_TITLES = {"total_loss": "total loss", "beta": "β", "bpp": "bits per pixel", "psnr": "PSNR (dB)"}


def read_metrics(path: Path) -> dict[int, dict[str, float]]:
    """The finite figures that detectron2 logged, by iteration; of one logged twice, the later.

    Lines cut short are passed over; without a file there are none.
    """
    found: dict[int, dict[str, float]] = {}
    if not path.is_file():
        return found
    for line in path.read_text(errors="replace").splitlines():
        try:
            logged = json.loads(line)
        except ValueError:
            continue
        if isinstance(logged, dict) and isinstance(logged.get("iteration"), int):
            figures = {
                key: value
                for key, value in logged.items()
                if isinstance(value, (int, float)) and math.isfinite(value)
            }
            found.setdefault(logged["iteration"], {}).update(figures)
    return found


def training_lines(logged: dict[int, dict[str, float]]) -> dict[str, Any]:
    """Iterations, and each shown key's value at them or None; at most MAX_POINTS of each.

    Evaluations are left out: they are logged under names with a slash.
    """
    iterations = [i for i in sorted(logged) if "total_loss" in logged[i]]
    if not iterations:
        return {}
    keys = {key for i in iterations for key in logged[i] if _is_shown(key)}
    places = np.linspace(0, len(iterations) - 1, min(MAX_POINTS, len(iterations)))
    chosen = [iterations[round(place)] for place in places]
    values = {key: [_rounded(logged[i].get(key)) for i in chosen] for key in sorted(keys)}
    return {"iteration": chosen, "values": values}


def _is_shown(key: str) -> bool:
    return key in _LEADING or key.startswith("loss_")


def _rounded(value: float | None) -> float | None:
    """To four significant digits."""
    return None if value is None else float(f"{value:.4g}")


def training_runs(curves: Sequence[Curve], root: Path) -> list[dict[str, Any]]:
    """Lines of every run that logged training, with name, regime, colour and operating point."""
    runs = []
    for curve in curves:
        for place, point in enumerate(curve.points, start=1):
            for result in point.results:
                assert result.folder is not None, "runs are read from folders"
                lines = training_lines(read_metrics(result.folder / METRICS_FILE))
                if lines:
                    colour = style_of(curve.regime)[0]
                    runs.append(
                        {
                            "name": run_name(result, root),
                            "regime": curve.regime,
                            "colour": colour,
                            "point": str(0 if curve.is_level else place),
                            **lines,
                        }
                    )
    return runs


def training_section(runs: Sequence[dict[str, Any]], curves: Sequence[Curve]) -> dict[str, Any]:
    """What the template shows around the lines: panels, regimes, operating points by rank."""
    keys = {key for run in runs for key in run["values"]}
    regimes = {run["regime"] for run in runs}
    ordered = [key for key in _LEADING if key in keys] + sorted(keys - set(_LEADING))
    return {
        "panels": [
            {
                "key": key,
                "title": _TITLES.get(key, key.replace("_", " ")),
                "scale": "log" if key == "beta" else "linear",
            }
            for key in ordered
        ],
        "regimes": [
            (regime, css_colour(regime)) for regime in sorted(regimes, key=_place_of_regime)
        ],
        "operating_points": _ranks(runs, curves),
    }


def _place_of_regime(regime: str) -> tuple[int, str]:
    return order_of(regime)


def _ranks(runs: Sequence[dict[str, Any]], curves: Sequence[Curve]) -> list[tuple[str, str]]:
    """Which points of their curves were trained, from the lowest rate, and at what rates they are.

    Operating points are called differently in different regimes; their order is what they share.
    Rank 0 is of uncompressed pictures.
    """
    ranks = sorted({int(run["point"]) for run in runs})
    found = [(str(rank), _rank_name(rank, curves)) for rank in ranks if rank]
    return found + ([("0", UNCOMPRESSED)] if 0 in ranks else [])


def _rank_name(rank: int, curves: Sequence[Curve]) -> str:
    points = [c.points[rank - 1] for c in curves if not c.is_level and len(c.points) >= rank]
    trained = sorted((point for point in points if point.is_trained), key=lambda p: p.rate)
    extremes = dict.fromkeys(short_rate(point) for point in (trained[0], trained[-1]))
    return f"{rank}{' (lowest rate)' if rank == 1 else ''}: {' to '.join(extremes)}"
