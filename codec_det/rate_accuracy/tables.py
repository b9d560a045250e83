"""Tables of rate–accuracy curves, for terminals, Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from ..evaluation.metrics import Metric, metric_of
from .bootstrap import LEVEL, Interval, Resamples, interval
from .comparisons import Comparison, Figure
from .curves import UNCOMPRESSED, Curve, Point

ABSENT = "-"


@dataclass(frozen=True)
class Table:
    """Cells of text.

    Attributes:
        title: what it shows, in a sentence.
        columns: headings.
        rows: each as long as ``columns``.
        words: columns from the left that are words; those after it are figures.
        notes: what the cells leave unsaid, a sentence each.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """For a terminal."""
        body = [self._body("simple"), ""] if self.rows else []
        return "\n".join([self.title, "", *body, *self.notes]).rstrip() + "\n"

    def markdown(self) -> str:
        """For a README."""
        body = [self._body("pipe")] if self.rows else []
        notes = ["\n".join(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n\n".join([self.title, *body, *notes]) + "\n"

    def latex(self) -> str:
        """A tabular with the rules of LaTeX's package booktabs; title and notes are comments."""
        comments = [f"% {text}" for text in (self.title, *self.notes)]
        body = [self._body("latex_booktabs")] if self.rows else []
        return "\n".join([*comments, *body]) + "\n"

    def _body(self, style: str) -> str:
        return tabulate(
            self.rows,
            self.columns,
            style,
            disable_numparse=True,
            colalign=["left" if i < self.words else "right" for i in range(len(self.columns))],
        )


def points_table(
    curves: Sequence[Curve], resamples: Resamples | None, metrics: Sequence[str]
) -> Table:
    """Every operating point: its rate and of which kind it is after accuracies, before distortions.

    Of curves of several coding scales, the points that are on the hull in any of the metrics.
    Intervals are of the first metric.
    """
    shown = in_columns(metrics, curves[0].rate)
    columns = ["regime", "codec", "operating point", "seeds"]
    columns += [metric_of(key).heading for key in shown]
    place = 5 + shown.index(metrics[0])
    points = [
        (curve, point)
        for curve in curves
        for point in curve.points
        if not curve.of_scales or curve.hulls_with(point, metrics)
    ]
    with_interval = resamples is not None and bool(resamples.figures)
    with_hulls = any(curve.of_scales for curve in curves)
    rows = []
    for curve, point in points:
        codec = UNCOMPRESSED if curve.is_level else curve.codec
        cells = [
            curve.regime,
            ", ".join([codec, *curve.details]),
            point.name or ABSENT,
            str(len(point.seeds)),
            *(_spread(point, metric) for metric in shown),
            curve.kind_of_rate or ABSENT,
        ]
        if with_hulls:
            cells.append(", ".join(curve.hulls_with(point, metrics) * curve.of_scales) or ABSENT)
        if resamples is not None and with_interval:
            over_sets = interval(resamples.of_point(point, metrics[0]))
            digits = metric_of(metrics[0]).digits
            cells.insert(place, _interval(over_sets, digits, signed=False))
        rows.append(tuple(cells))
    if with_interval:
        columns.insert(place, f"{metrics[0]}, {LEVEL} %")
    columns += ["rate", *(["hull"] if with_hulls else [])]
    notes = _lossless_notes(points) if "PSNR" in shown else []
    if with_hulls:
        notes.append(
            "Hull: metrics in which no other point of the curve, at any coding scale, is better at "
            "its rate; points on none are left out."
        )
    if any(len(point.results) > 1 for _, point in points):
        notes.append("Of several seeds: mean (least to greatest).")
    if resamples is not None and with_interval:
        notes.append(f"{_explain(resamples)} Pictures that repeat raise AP a little, in all alike.")
    what = metric_of(metrics[0]).axis(curves[0].dataset)
    title = f"{what[0].upper()}{what[1:]} and rate"
    return Table(title, tuple(columns), tuple(rows), 3, tuple(notes))


def in_columns(metrics: Sequence[str], rate: Metric) -> list[str]:
    """Accuracies first, then the rate, then distortions."""
    distortions = [key for key in metrics if metric_of(key).place[0] == rate.place[0]]
    return [*(key for key in metrics if key not in distortions), rate.key, *distortions]


def _lossless_notes(points: Sequence[tuple[Curve, Point]]) -> list[str]:
    """Which points have pictures that the mean PSNR leaves out."""
    found = [
        f"{point.lossless} of {curve.label}, {point.name}"
        for curve, point in points
        if point.lossless and not curve.is_level
    ]
    if not found:
        return []
    return [
        f"PSNR leaves out pictures without loss ({'; '.join(found)}); PSNR_MSE, of the mean "
        "squared error of all pictures, does not."
    ]


def _explain(resamples: Resamples) -> str:
    return (
        f"{LEVEL} %: interval over {resamples.count} resamples of the test pictures, the same for "
        "all runs."
    )


def _spread(point: Point, metric: str) -> str:
    mean, digits = point.mean(metric), metric_of(metric).digits
    if math.isnan(mean):
        return ABSENT
    return _with_range(mean, point.values(metric), f".{digits}f")


def _with_range(mean: float, values: Sequence[float], form: str) -> str:
    """A mean, and where its figures differ in the digits shown, the least and the greatest."""
    low, high = (format(one(values, default=mean), form) for one in (min, max))
    return format(mean, form) + (f" ({low} to {high})" if low != high else "")


def _interval(over_sets: Interval | None, digits: int, *, signed: bool) -> str:
    if over_sets is None or math.isnan(over_sets.low):
        return ABSENT
    sign = "+" if signed else ""
    return f"{over_sets.low:{sign}.{digits}f} to {over_sets.high:{sign}.{digits}f}"


def bd_table(comparisons: Sequence[Comparison], resamples: Resamples | None) -> Table:
    """BD-rate in percent, BD-quality in the unit of the quality: AP's in percentage points.

    What was refused is in the notes, with the reason.

    Raises:
        ValueError: if there is no comparison.
    """
    with_interval = resamples is not None and bool(resamples.figures)
    anchor = comparisons[0].anchor
    columns = ["curve", "of"]
    for name in ("BD-rate (%)", "BD-quality"):
        columns += [name, *([f"{LEVEL} %"] if with_interval else []), "shared"]
    rows = []
    for one in comparisons:
        cells = [one.curve, one.metric]
        for figure, digits in ((one.rate, 1), (one.quality, metric_of(one.metric).digits)):
            cells.append(_delta(figure, digits))
            if with_interval:
                cells.append(_interval(figure.interval, digits, signed=True))
            shared = figure.delta.overlap
            cells.append(ABSENT if math.isnan(shared) else f"{shared:.0%}")
        if not (one.rate.delta.is_refused and one.quality.delta.is_refused):
            rows.append(tuple(cells))
    title = f"Bjøntegaard deltas against {anchor}"
    return Table(title, tuple(columns), tuple(rows), 2, tuple(_bd_notes(comparisons, resamples)))


def _delta(figure: Figure, digits: int) -> str:
    if figure.delta.is_refused:
        return ABSENT
    return _with_range(figure.delta.value, figure.seeds, f"+.{digits}f")


def _bd_notes(comparisons: Sequence[Comparison], resamples: Resamples | None) -> list[str]:
    figures = [
        (name, one, figure)
        for one in comparisons
        for name, figure in (("BD-rate", one.rate), (f"BD-{one.metric}", one.quality))
    ]
    if all(figure.delta.is_refused for *_, figure in figures):
        return _refusal_notes(comparisons)
    notes = [
        "BD-rate: bits at equal quality, below 0 is a saving. BD-quality: at equal rate"
        f"{_units(comparisons)}. Shared: how much of their range both curves have."
    ]
    if any(len(figure.seeds) > 1 for *_, figure in figures):
        notes.append("In brackets: least and greatest of the deltas of single seeds.")
    if resamples is not None and resamples.figures:
        notes.append(_explain(resamples))
    notes += _refusal_notes(comparisons)
    for name, one, figure in figures:
        notes += _partial_notes(name, one, figure)
    return notes


def _units(comparisons: Sequence[Comparison]) -> str:
    """ ", of AP and AP50 in percentage points, of PSNR in dB"."""
    by_unit: dict[str, list[str]] = {}
    for key in dict.fromkeys(one.metric for one in comparisons):
        by_unit.setdefault(metric_of(key).unit_of_differences, []).append(key)
    return "".join(f", of {' and '.join(keys)} in {unit}" for unit, keys in by_unit.items() if unit)


def _refusal_notes(comparisons: Sequence[Comparison]) -> list[str]:
    """A sentence for each reason, with all curves and metrics that it is the reason for."""
    metrics = list(dict.fromkeys(one.metric for one in comparisons))
    refusals: dict[tuple[str, str], dict[str, list[str]]] = {}
    for one in comparisons:
        reasons = {"BD-rate": one.rate.delta.refusal, "BD-quality": one.quality.delta.refusal}
        if len(set(reasons.values())) == 1:
            reasons = {"BD": one.rate.delta.refusal}
        for kind, reason in reasons.items():
            if reason:
                refusals.setdefault((kind, reason), {}).setdefault(one.curve, []).append(one.metric)
    notes = []
    for (kind, reason), curves in refusals.items():
        whose = [
            curve if of == metrics else f"{curve} ({', '.join(of)})" for curve, of in curves.items()
        ]
        notes.append(f"No {kind} of {'; '.join(whose)}: {reason}.")
    return notes


def _partial_notes(name: str, one: Comparison, figure: Figure) -> list[str]:
    """Of seeds and resamples that have no delta, where the means over seeds have one."""
    whose, notes = f"{name} of {one.curve} in {one.metric}", []
    if figure.delta.is_refused:
        return []
    refused = [str(seed) for seed, delta in figure.by_seed.items() if delta.is_refused]
    if refused:
        notes.append(f"{whose}: there is none of seed {', '.join(refused)} alone.")
    over_sets = figure.interval
    if over_sets is not None and over_sets.used < over_sets.count:
        notes.append(
            f"{whose}: {over_sets.count - over_sets.used} of {over_sets.count} resamples have none"
            + ("; too many for an interval." if math.isnan(over_sets.low) else ".")
        )
    return notes
