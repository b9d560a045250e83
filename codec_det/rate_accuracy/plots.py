"""Rate–accuracy figures, which print in grey as well: colour, marker and line tell curves apart."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from ..errors import CodecDetError
from ..evaluation.metrics import metric_of
from ..files import atomic_file
from ..regimes import style_of
from .curves import Curve, Point, rate_axis

GREY = "#7F7F7F"

# Line, and which side of the markers is filled, of the first, second, ... codec.
CODEC_LINES = ("-", ":", "-.", (0, (7, 2)))
CODEC_FILLS = ("full", "none", "left", "bottom", "right")
PLOT_INCHES, PLOT_DPI = (7.5, 4.5), 150
FORMATS = ("svg", "png", "pdf")


def rate_accuracy_figure(curves: Sequence[Curve], metric: str, *, log_rate: bool = False) -> Figure:
    """A metric over the curves' rate, one line per curve; uncompressed pictures are a level.

    Curves of several coding scales are drawn as their hulls, whose points, or labels where all
    have one, say their scale. Points are means over seeds; bars go from the least to the greatest
    seed, in both directions. Uncompressed pictures have 24 bits per pixel: drawn to scale, they
    would leave all codecs in one place.

    Args:
        metric: of :mod:`codec_det.evaluation.metrics`, such as "AP" or "PSNR".
        log_rate: whether rates are on a logarithmic axis.

    Raises:
        CodecDetError: if no curve has a point with the metric.
    """
    curves = [curve.hull(metric) for curve in curves]
    lines = [curve for curve in curves if not curve.is_level and _places(curve, metric)]
    levels = [curve for curve in curves if curve.is_level and _places(curve, metric)]
    if not lines:
        raise CodecDetError(f"nothing to plot: no run has both {metric} and the rate of a codec")
    figure = Figure(figsize=PLOT_INCHES, dpi=PLOT_DPI, layout="constrained")
    axes: Axes = figure.subplots()
    for curve in levels:
        _draw_level(axes, curve, metric)
    # Codecs in order of appearance: each has its line style, with any regime.
    codecs = list(dict.fromkeys((curve.codec, curve.details) for curve in lines))
    for curve in lines:
        _draw_curve(axes, curve, metric, codecs.index((curve.codec, curve.details)))
    _dress(axes, lines, metric, log_rate)
    return figure


def _places(curve: Curve, metric: str) -> list[int]:
    """Points that have the metric."""
    return [i for i, value in enumerate(curve.values(metric)) if not math.isnan(value)]


def _draw_level(axes: Axes, curve: Curve, metric: str) -> None:
    colour = GREY
    if curve.regime != "baseline":
        colour, _ = style_of(curve.regime)
    for i in _places(curve, metric):
        label = curve.label if i == 0 else None
        level = curve.points[i].mean(metric)
        axes.axhline(level, color=colour, linestyle="--", linewidth=1.2, label=label)


def _draw_curve(axes: Axes, curve: Curve, metric: str, codec: int) -> None:
    colour, marker = style_of(curve.regime)
    points = [curve.points[i] for i in _places(curve, metric)]
    # T-FT leaves rate and PSNR as they are: what is below must show.
    is_below = curve.regime == "baseline"
    fill = CODEC_FILLS[codec % len(CODEC_FILLS)]
    places = ([point.mean(name) for point in points] for name in (curve.rate.key, metric))
    axes.plot(
        *places,
        color=colour,
        marker=marker,
        markersize=10 if is_below else 7.5,
        fillstyle=fill,
        markerfacecoloralt="white",
        markeredgecolor="white" if fill == "full" else colour,
        markeredgewidth=0.6 if fill == "full" else 1.4,
        linestyle=CODEC_LINES[codec % len(CODEC_LINES)],
        linewidth=2.6 if is_below else 1.6,
        label=_label(curve),
        zorder=3,
    )
    for point in points:
        if len(point.results) > 1:
            _draw_bars(axes, point, (curve.rate.key, metric), colour)
        if len(_scales(curve)) > 1:
            at = point.rate, point.mean(metric)
            said = f"{100 * point.scale:g} %"
            axes.annotate(
                said, at, (5, -11), textcoords="offset points", fontsize=7, color=colour, zorder=5
            )


def _scales(curve: Curve) -> set[float]:
    """Of the points, where they may be of several."""
    return {point.scale for point in curve.points} if curve.of_scales else set()


def _label(curve: Curve) -> str:
    """With the coding scale that all points have, where each could have its own."""
    scales = _scales(curve)
    return f"{curve.label}, {100 * min(scales):g} %" if len(scales) == 1 else curve.label


def _draw_bars(axes: Axes, point: Point, metrics: tuple[str, str], colour: str) -> None:
    """From the least to the greatest seed, in both directions."""
    x, y = (point.mean(key) for key in metrics)
    xerr, yerr = (
        [[point.mean(key) - point.low(key)], [point.high(key) - point.mean(key)]] for key in metrics
    )
    axes.errorbar(
        x,
        y,
        xerr=xerr,
        yerr=yerr,
        fmt="none",
        ecolor=colour,
        elinewidth=1.2,
        capsize=2.5,
        zorder=4,
    )


def _dress(axes: Axes, curves: Sequence[Curve], metric: str, log_rate: bool) -> None:
    """Axes, grid, legend, and what the bars are."""
    axes.set_xlabel(rate_axis(curves))
    axes.set_ylabel(quality_axis(curves, metric))
    if log_rate:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, 1.12 * max(p.high(c.rate.key) for c in curves for p in c.points))
        # Rates below 0.01 have long names.
        axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.margins(y=0.12)
    axes.grid(color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    counts = {len(point.results) for curve in curves for point in curve.points} - {1}
    several = " to ".join(map(str, sorted({min(counts), max(counts)}))) if counts else ""
    notes = [f"mean of {several} seeds;\nbars: least to greatest"] if counts else []
    notes += ["percentages: coding scale"] if any(curve.of_scales for curve in curves) else []
    legend = axes.legend(
        title="\n".join(notes) or None,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0,
        frameon=False,
        handlelength=3.4,
        alignment="left",
    )
    legend.get_title().set_fontsize("small")


def quality_axis(curves: Sequence[Curve], metric: str) -> str:
    """Name, test set and unit of a metric, and what its mean leaves out."""
    leaves_out = metric == "PSNR" and any(point.lossless for c in curves for point in c.points)
    axis = metric_of(metric).axis(curves[0].dataset)
    return f"{axis}, without lossless pictures" if leaves_out else axis


def figure_name(metric: str) -> str:
    """Of a metric's files; names of classes can have any characters."""
    return "rate_" + re.sub(r"[^\w.-]", "_", metric)


def write_figures(
    curves: Sequence[Curve], metrics: Sequence[str], folder: Path, *, log_rate: bool = False
) -> list[Path]:
    """Write the figure of each metric as SVG, PNG and PDF; the same curves give the same files.

    Raises:
        CodecDetError: as :func:`rate_accuracy_figure`, or if nothing can be written.
    """
    paths = []
    for metric in metrics:
        figure = rate_accuracy_figure(curves, metric, log_rate=log_rate)
        for form in FORMATS:
            path = folder / f"{figure_name(metric)}.{form}"
            # No dates and random names in files that may be committed.
            dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
            with atomic_file(path) as partial, matplotlib.rc_context({"svg.hashsalt": "codec_det"}):
                figure.savefig(partial, format=form, metadata=dates.get(form))
            paths.append(path)
    return paths
