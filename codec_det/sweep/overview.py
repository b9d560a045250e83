"""A sweep's grid as a table, and what is left of it."""

from __future__ import annotations

from collections import Counter

from tabulate import tabulate

from .duration import in_words
from .progress import Progress
from .state import Status


def table(progress: Progress) -> str:
    """Name, config file, state and, of points that are to run, estimated time of every point."""
    estimates = progress.estimates()
    rows = []
    for point in progress.points:
        state = progress.states[point.name]
        seconds = None if state.done else estimates.get(point.name)
        time = "" if state.done else "?" if seconds is None else in_words(seconds)
        rows.append((point.name, point.config_file, str(state), time))
    return tabulate(
        rows,
        headers=("point", "config", "state", "estimate"),
        colalign=("left", "left", "left", "right"),
        disable_numparse=True,
    )


def summary(progress: Progress) -> str:
    """How many points are in which state, and how long those that are not done will take."""
    counts = Counter(state.status for state in progress.states.values())
    parts = [f"{counts[status]} {status.value}" for status in Status if counts[status]]
    lines = [f"{len(progress.points)} points: {', '.join(parts)}"]
    if progress.left:
        lines.append(f"time, one after the other: {progress.time_left()}")
    return "\n".join(lines)
