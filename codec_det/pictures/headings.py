"""What columns of pictures are called: no two alike."""

from __future__ import annotations

from collections.abc import Sequence

from ..levels import name_level
from ..rate_accuracy.curves import describe_scale
from ..rate_accuracy.operating_points import name_differences, operating_point
from ..rate_accuracy.records import Result
from ..runs import Run


def column_headings(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Title and subtitle of each run: regime, codec and operating point; the folder if need be.

    Runs of one codec that start from other weights, or were trained for another rate, say so, and
    so do those that code pictures smaller than they were taken, or at one level of several.
    """
    points = [operating_point(Result(run.describe())) for run in runs]
    headings = []
    for run, point in zip(runs, points, strict=True):
        of_codec = [p for other, p in zip(runs, points, strict=True) if other.codec == run.codec]
        name = name_differences(of_codec)[of_codec.index(point)]
        scale = run.cfg.MODEL.CODEC.SCALE
        words = ["uncompressed"] if run.codec == "identity" else [run.codec, name]
        words += ["gates"] if run.cfg.MODEL.CODEC.GATED else []
        words += [describe_scale(scale)] if scale < 1 else []
        level = "" if run.level is None else name_level(run.level)
        words += [level] if level and level not in name.split(", ") else []
        headings.append((run.regime, ", ".join(words)))
    return [
        (f"{title} ({run.folder.name})" if headings.count((title, codec)) > 1 else title, codec)
        for run, (title, codec) in zip(runs, headings, strict=True)
    ]
