"""How long points took, by their logs, and how long others like them will take."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median

from .points import StudyPoint

LOG_FILE = "log.txt"
_START = "Rank of current process: 0"
_TIME = re.compile(r"\[(\d\d/\d\d \d\d:\d\d:\d\d)\]")


def measured_seconds(folder: Path) -> float | None:
    """Seconds that a run took by its log, all its stretches together; None where it has no log.

    Loading the libraries, before the first line, is not in it.
    """
    stretches: list[list[datetime]] = []
    try:
        with (folder / LOG_FILE).open(encoding="utf-8", errors="replace") as file:
            for line in file:
                found = _TIME.match(line)
                if not found:
                    continue
                if _START in line or not stretches:
                    stretches.append([])
                # Logs leave out the year; this one has a 29th of February.
                stretches[-1].append(datetime.strptime(f"2000/{found[1]}", "%Y/%m/%d %H:%M:%S"))
    except FileNotFoundError:
        return None
    year = timedelta(days=366)
    return sum(((times[-1] - times[0]) % year).total_seconds() for times in stretches) or None


def estimated_seconds(
    points: Sequence[StudyPoint], measured: Mapping[str, float | None]
) -> dict[str, float]:
    """By name, the median of what points took with the same config file, codec and iterations.

    Args:
        measured: seconds that finished points took, by name.

    Returns:
        Nothing for a point of whose kind none has finished.
    """
    by_kind: dict[tuple, list[float]] = {}
    for point in points:
        seconds = measured.get(point.name)
        if seconds is not None:
            by_kind.setdefault(_kind(point), []).append(seconds)
    medians = {kind: median(seconds) for kind, seconds in by_kind.items()}
    return {point.name: medians[_kind(point)] for point in points if _kind(point) in medians}


def _kind(point: StudyPoint) -> tuple[str, str, int]:
    cfg = point.cfg
    return point.config_file, cfg.MODEL.CODEC.NAME, cfg.SOLVER.MAX_ITER


def in_words(seconds: float) -> str:
    """Hours, minutes and seconds, as in 1:05:00."""
    return str(timedelta(seconds=round(seconds)))
