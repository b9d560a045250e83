"""Results of several runs side by side: a table, and box AP over bits per pixel.

A record is what :func:`codec_det.results.build_record` makes. A series is what one line of a plot
joins: the records of one regime and one codec, at several rates.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .errors import CodecDetError
from .files import atomic_file
from .results import RESULTS_FILE

logger = logging.getLogger(__name__)

Record = dict[str, Any]

# In the study's order. Colours are those of Okabe and Ito, which the colour-blind can tell apart;
# markers differ too, for print in grey.
REGIME_STYLES = {
    "baseline": ("#000000", "o"),
    "T-FT": ("#E69F00", "s"),
    "C-FT": ("#56B4E9", "^"),
    "J-FT": ("#D55E00", "D"),
    "E-FT": ("#009E73", "v"),
    "ET-FT": ("#CC79A7", "P"),
    "D-FT": ("#0072B2", "X"),
}
OTHER_STYLE = ("#7F7F7F", "*")
UNCOMPRESSED = "uncompressed"

CODEC_LINES = ("-", ":", "-.", (0, (7, 2)))  # line styles of the first, second, ... codec
PLOT_INCHES, PLOT_DPI = (7.5, 4.5), 150
PLOT_SUFFIXES = (".png", ".svg", ".pdf")

COLUMNS = ("regime", "box AP", "AP50", "bpp", "PSNR (dB)")
ABSENT = "-"


def read_records(folders: Iterable[str | Path]) -> list[Record]:
    """The newest record of each run folder's results file.

    Lines that are no record, such as one cut short by a crash, are skipped with a warning.

    Raises:
        CodecDetError: if a folder has no results.
    """
    return [_newest_record(Path(folder)) for folder in folders]


def _newest_record(folder: Path) -> Record:
    path = folder / RESULTS_FILE
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise CodecDetError(
            f"no results in '{folder}' ({RESULTS_FILE}: {error.strerror}): give the OUTPUT_DIR of "
            "a run that tools/train_net.py has evaluated"
        ) from None
    for number, line in reversed(list(enumerate(lines, start=1))):
        record = _parse(line)
        if record is not None:
            return record
        logger.warning("%s: line %d is no record (cut short?); skipped", path, number)
    raise CodecDetError(
        f"'{path}' holds no complete record: evaluate the run again, with tools/train_net.py "
        "--eval-only --resume"
    )


def _parse(line: str) -> Record | None:
    """A line's record; None where it is none."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    needed = {"regime", "codec", "dataset", "results"}
    return record if isinstance(record, dict) and needed <= record.keys() else None


def series_names(records: Sequence[Record]) -> list[str]:
    """What to call each record: its regime, and what differs of codec and kind of rate."""
    several = len(_codec_names(records)) > 1
    mixed = len(_kinds_of_rate(records)) > 1
    return [_series_name(record, several, mixed) for record in records]


def _codec_names(records: Sequence[Record]) -> list[str]:
    """Different codecs in order of appearance; "identity" is not one."""
    names = dict.fromkeys(record["codec"]["name"] for record in records)
    return [name for name in names if name != "identity"]


def _kinds_of_rate(records: Sequence[Record]) -> list[str]:
    """In words, in order of appearance, such as "real bits per pixel"; "identity" has no rate."""
    kinds = dict.fromkeys(
        record.get("rate_is", "bits per pixel")
        for record in records
        if record["codec"]["name"] != "identity"
    )
    return list(kinds)


def _series_name(record: Record, name_codec: bool, name_kind: bool) -> str:
    regime, codec = record["regime"], record["codec"]["name"]
    if codec == "identity":
        return UNCOMPRESSED if regime == "baseline" else f"{UNCOMPRESSED}, {regime}"
    name = f"{regime}, {codec}" if name_codec else regime
    # "estimated" or "real".
    return f"{name}, {record.get('rate_is', 'unknown').split()[0]}" if name_kind else name


def figure_of(record: Record, group: str, key: str) -> float:
    """One result, such as ("bbox", "AP") in percent or ("rate", "bpp"); nan where it has none."""
    value = record["results"].get(group, {}).get(key)
    return math.nan if value is None else float(value)


def _in_order(records: Sequence[Record]) -> list[Record]:
    """Uncompressed first, then by regime in the study's order, codec and rate."""
    regimes = list(REGIME_STYLES)

    def key(record: Record) -> tuple:
        regime, codec = record["regime"], record["codec"]["name"]
        place = regimes.index(regime) if regime in regimes else len(regimes)
        return codec != "identity", place, regime, codec, figure_of(record, "rate", "bpp")

    return sorted(records, key=key)


def check_comparable(records: Sequence[Record]) -> None:
    """Raise :class:`CodecDetError` unless all records are of the same data set."""
    names = sorted({record["dataset"] for record in records})
    if len(names) > 1:
        raise CodecDetError(
            f"results are of different data sets ({', '.join(names)}) and do not compare: give "
            "runs with the same DATASETS.TEST"
        )


def format_table(records: Sequence[Record], *, markdown: bool = False) -> str:
    """Regime, box AP and AP50 (percent), bits per pixel and PSNR of each record, in study order.

    Args:
        markdown: a Markdown table instead of plain text; both are aligned.

    Raises:
        CodecDetError: if the records are of different data sets.
    """
    check_comparable(records)
    records = _in_order(records)
    rows = [COLUMNS, *map(_cells, records, series_names(records))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    if markdown:
        # A colon marks the aligned side.
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])
    rule = ["-" * width for width in widths]
    return "\n".join("  ".join(line) for line in [lines[0], rule, *lines[1:]])


def _cells(record: Record, name: str) -> tuple[str, ...]:
    figures = (
        ("bbox", "AP", ".1f"),
        ("bbox", "AP50", ".1f"),
        ("rate", "bpp", ".4f"),
        ("rate", "psnr", ".2f"),
    )
    values = [(figure_of(record, group, key), form) for group, key, form in figures]
    return (name, *(ABSENT if math.isnan(value) else format(value, form) for value, form in values))


def rate_accuracy_figure(records: Sequence[Record]) -> Figure:
    """Box AP over bits per pixel, one line per series; uncompressed pictures are a level.

    Uncompressed pictures have 24 bits per pixel: drawn to scale, they would leave all codecs in one
    place.

    Raises:
        CodecDetError: if records are of different data sets, or none has a box AP and a rate.
    """
    check_comparable(records)
    complete = [
        record
        for record in _in_order(records)
        if not math.isnan(figure_of(record, "bbox", "AP") + figure_of(record, "rate", "bpp"))
    ]
    if not complete:
        raise CodecDetError("nothing to plot: no run has both a box AP and a rate")
    figure = Figure(figsize=PLOT_INCHES, dpi=PLOT_DPI, layout="constrained")
    axes: Axes = figure.subplots()
    codecs = _codec_names(complete)
    names = series_names(complete)
    kinds = _kinds_of_rate(complete)
    for name in dict.fromkeys(names):
        series = [r for r, own in zip(complete, names, strict=True) if own == name]
        if series[0]["codec"]["name"] == "identity":
            _draw_level(axes, series, name)
        else:
            hollow = series[0].get("rate_is", kinds[0]) != kinds[0]
            _draw_series(axes, series, name, codecs, hollow)
    _dress(axes, complete)
    return figure


def _draw_level(axes: Axes, series: Sequence[Record], name: str) -> None:
    trained = series[0]["regime"] != "baseline"
    colour = REGIME_STYLES.get(series[0]["regime"], OTHER_STYLE)[0] if trained else "#7F7F7F"
    for index, record in enumerate(series):
        label = name if index == 0 else None
        level = figure_of(record, "bbox", "AP")
        axes.axhline(level, color=colour, linestyle="--", linewidth=1.2, label=label)


def _draw_series(
    axes: Axes, series: Sequence[Record], name: str, codecs: Sequence[str], hollow: bool
) -> None:
    """Points joined in the order they have: by rising rate."""
    colour, marker = REGIME_STYLES.get(series[0]["regime"], OTHER_STYLE)
    line = CODEC_LINES[codecs.index(series[0]["codec"]["name"]) % len(CODEC_LINES)]
    axes.plot(
        [figure_of(record, "rate", "bpp") for record in series],
        [figure_of(record, "bbox", "AP") for record in series],
        color=colour,
        marker=marker,
        markersize=8,
        markerfacecolor="white" if hollow else colour,
        markeredgecolor=colour if hollow else "white",
        markeredgewidth=1.6 if hollow else 0.8,
        linestyle=line,
        linewidth=1.6,
        label=name,
        zorder=3,
    )


def _dress(axes: Axes, records: Sequence[Record]) -> None:
    """Axes, grid and legend."""
    axes.set_xlabel(" / ".join(_kinds_of_rate(records)) or "bits per pixel")
    axes.set_ylabel(f"box AP on {records[0]['dataset']} (%)")
    rates = [
        figure_of(record, "rate", "bpp")
        for record in records
        if record["codec"]["name"] != "identity"
    ]
    axes.set_xlim(0, 1.12 * max(rates, default=1.0))
    axes.margins(y=0.12)
    axes.grid(color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, frameon=False)


def plot_rate_accuracy(records: Sequence[Record], path: str | Path) -> None:
    """Write the figure of :func:`rate_accuracy_figure` as PNG, SVG or PDF, by the file's suffix.

    Raises:
        CodecDetError: as that function, and for another suffix or where nothing can be written.
    """
    path = Path(path)
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise CodecDetError(
            f"plot file '{path}' does not end in {', '.join(PLOT_SUFFIXES)}: rename it"
        )
    figure = rate_accuracy_figure(records)
    with atomic_file(path) as partial:
        figure.savefig(partial, format=path.suffix[1:].lower())
