"""A sweep's grid as a table, and what is left of it."""

from __future__ import annotations

from collections import Counter

from tabulate import tabulate

from ..evaluation.results import kind_of_bits
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
    return "\n".join([*lines, *_kinds(progress)])


def _kinds(progress: Progress) -> list[str]:
    """What it means for curves if some points have estimated bits, and others real ones."""
    codecs = [point.cfg.MODEL.CODEC for point in progress.points if not point.prepares]
    counts = Counter(kind_of_bits(codec) for codec in codecs if codec.NAME != "identity")
    if len(counts) < 2:
        return []
    return [
        f"rates: estimated bits of {counts['estimated']} points, real bits of {counts['real']}; "
        "curves of both are drawn and marked, but BD figures are between rates of one kind "
        "(MODEL.CODEC.BITSTREAM true gives real ones)"
    ]
