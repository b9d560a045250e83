#!/usr/bin/env python
"""Rate-accuracy curves of evaluated runs: figures, BD-rate and BD-AP, and tables.

RESULTS are output folders of tools/train_net.py, folders that have such folders in them at any
depth, and files of records (.jsonl), such as the records.jsonl that this tool writes: of each run
the newest evaluation counts, of a file of records every one. Runs that differ by their seed alone
are one point, its mean; a curve is a regime with a codec at one coding scale (MODEL.CODEC.SCALE),
or with --hull at all of them, of which the best at every rate count.

The tables are printed. With --output-dir, they are written as table.csv, bd.csv, table.md and
table.tex, the figures as rate_<metric>.svg, .png and .pdf, and the data as points.json (what
figures and tables show) and records.jsonl (what RESULTS can be instead of the runs). PSNR is the
mean over the pictures that have lost something; PSNR_MSE, of the mean squared error, is of all.
Rates are bits per pixel, and of sequences kbit/s at their frame rate (--rate).

BD-rate is the mean difference in bits at equal accuracy, BD-AP that in accuracy at equal rate, over
what two curves share of their range. Both are refused, with the reason, for curves of fewer than
three points or that share too little, between estimated and real bits, and BD-rate for a curve
whose accuracy falls anywhere. A 95 % interval comes from resampled test sets (--bootstrap), which
need the runs' detections and the annotations of the data set, and about a minute for each run on
COCO 2017 val. Curves of estimated bits are marked where there are real ones as well.
"""

from __future__ import annotations

from command_line import add_rate, not_negative, run_command, run_program

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

# codec_det is imported where it is used: --help need not wait for PyTorch.
if TYPE_CHECKING:
    from collections.abc import Sequence

    from codec_det.rate_accuracy.bootstrap import Resamples
    from codec_det.rate_accuracy.comparisons import Comparison
    from codec_det.rate_accuracy.curves import Curve
    from codec_det.rate_accuracy.records import Result
    from codec_det.rate_accuracy.tables import Table

EPILOG = """
examples:
  a table of some runs
    tools/plot_rate_accuracy.py output/shapes/baseline output/shapes/tft output/shapes/jft
  figures, tables and intervals of all runs of a sweep
    tools/plot_rate_accuracy.py output/study/shapes --output-dir output/study/shapes_curves
  each codec and regime at its best coding scale
    tools/plot_rate_accuracy.py output/study/bccd --hull --output-dir output/hulls
  masks, small objects and one class
    tools/plot_rate_accuracy.py output/study/shapes_mask \
        --metrics mask_AP APs "AP-striped disc" --output-dir output/curves
  the same figures from the data alone, against another anchor, rates on a logarithmic axis
    tools/plot_rate_accuracy.py output/study/shapes_curves/records.jsonl \\
        --anchor T-FT --log-rate --output-dir redrawn
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("results", nargs="+", type=Path, metavar="RESULTS", help="run folders, files of records")
    add("--output-dir", type=Path, metavar="FOLDER", help="write figures, tables and data there")
    add(
        "--metrics",
        nargs="+",
        metavar="METRIC",
        help="of figures, tables and BD, out of all that the results have: AP (of boxes), AP50, "
        "APs, APside, AP-<class>, mask_AP, keypoint_AP, mIoU, IoU-<class>, PQ, PSNR, PSNR_MSE, "
        "... (default: AP, AP50, mask_AP, keypoint_AP, mIoU, PQ and PSNR, where there)",
    )
    add(
        "--anchor",
        metavar="CURVE",
        help="what BD is against, as the figure's legend calls it: baseline, 'baseline, vvc' "
        "(default: baseline of the learned codec, else the first curve)",
    )
    add(
        "--bootstrap",
        type=not_negative,
        metavar="N",
        help="resampled test sets for the intervals, 0 for none (default: 200 with --output-dir)",
    )
    add(
        "--hull",
        action="store_true",
        help="one curve for all coding scales of a regime and codec: in each metric, the points "
        "that no other betters at its rate (their Pareto front, as in MPEG's coding for machines)",
    )
    add(
        "--net",
        action="store_true",
        help="rates of real files without their overhead: containers, tables and parameter sets, "
        "which a link may send once for many pictures",
    )
    add_rate(add)
    add("--dataset", metavar="NAME", help="take results of this test set alone")
    add("--log-rate", action="store_true", help="rates on a logarithmic axis")
    add("--markdown", action="store_true", help="print the tables as Markdown")
    return parser


def make(args: argparse.Namespace) -> None:
    """Read, compare, print and write.

    Raises:
        CodecDetError: if results cannot be read or do not compare, lack a metric, or nothing can
            be written.
    """
    from codec_det.files import make_folder
    from codec_det.rate_accuracy.comparisons import compare
    from codec_det.rate_accuracy.curves import curves_of, find_anchor
    from codec_det.rate_accuracy.records import (
        choose_metrics,
        over_rate,
        read_results,
        without_overhead,
    )
    from codec_det.rate_accuracy.tables import bd_table, points_table

    results = read_results(args.results, args.dataset)
    if args.net:
        results = without_overhead(results)
    results = over_rate(results, args.rate)
    curves = curves_of(results, hulls=args.hull)
    args.metrics = choose_metrics(results, args.metrics)
    anchor = find_anchor(curves, args.anchor) if any(not c.is_level for c in curves) else None
    if args.output_dir:
        make_folder(args.output_dir, "--output-dir")
    resamples = draw(results, args)
    tables = [points_table(curves, resamples, args.metrics)]
    comparisons = compare(curves, anchor, args.metrics, resamples) if anchor else []
    if comparisons:
        tables.append(bd_table(comparisons, resamples))
    print("\n".join(one.markdown() if args.markdown else one.text() for one in tables))
    if args.output_dir:
        paths = write(args, curves, comparisons, resamples, tables)
        print(f"\nWritten to {args.output_dir}: {', '.join(path.name for path in paths)}")


def draw(results: Sequence[Result], args: argparse.Namespace) -> Resamples | None:
    """Resampled test sets, if they are wanted; says which runs have none and why."""
    from codec_det.rate_accuracy.bootstrap import resample

    default = 200 if args.output_dir else 0
    count = default if args.bootstrap is None else args.bootstrap
    if not count:
        return None
    resamples = resample(results, count, args.metrics)
    for reason in resamples.missing:
        print(f"no intervals for some curves: {reason}", file=sys.stderr)
    return resamples


def write(
    args: argparse.Namespace,
    curves: Sequence[Curve],
    comparisons: Sequence[Comparison],
    resamples: Resamples | None,
    tables: Sequence[Table],
) -> list[Path]:
    """Write everything to --output-dir; returns the files' paths."""
    from codec_det.files import atomic_file
    from codec_det.rate_accuracy.curve_data import bd_csv, describe, points_csv
    from codec_det.rate_accuracy.plots import write_figures

    data = describe(curves, comparisons, resamples, args.metrics)
    records = [
        result.record for curve in curves for point in curve.points for result in point.results
    ]
    texts = {
        "table.csv": points_csv(data),
        "bd.csv": bd_csv(data),
        "table.md": "\n".join(table.markdown() for table in tables),
        "table.tex": "\n".join(table.latex() for table in tables),
        "points.json": json.dumps(data, indent=1) + "\n",
        "records.jsonl": "".join(json.dumps(record) + "\n" for record in records),
    }
    paths = write_figures(curves, args.metrics, args.output_dir, log_rate=args.log_rate)
    for name, text in texts.items():
        with atomic_file(args.output_dir / name) as partial:
            partial.write_text(text, encoding="utf-8")
    return [*paths, *(args.output_dir / name for name in texts)]


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(
        build_parser().parse_args,
        make,
        argv,
        interrupted="what is in --output-dir may be of different results",
    )


if __name__ == "__main__":
    run_program(main)
