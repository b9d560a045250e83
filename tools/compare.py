#!/usr/bin/env python
"""Compare evaluated runs: print a table of accuracy and rate, and plot one over the other.

Each run is the OUTPUT_DIR of tools/train_net.py; the newest record of its results.jsonl counts.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from codec_det.errors import CodecDetError
from codec_det.plots import format_table, plot_rate_accuracy, read_records

EPILOG = """
examples:
  tools/compare.py output/shapes/baseline output/shapes/tft output/shapes/cft output/shapes/jft
  tools/compare.py output/shapes/* --plot output/shapes/rate_accuracy.png --markdown
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_FOLDER")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="also plot box AP over bpp (.png, .svg or .pdf)"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    args = build_parser().parse_args(argv)
    try:
        records = read_records(args.runs)
        print(format_table(records, markdown=args.markdown))
        if args.plot:
            plot_rate_accuracy(records, args.plot)
            print(f"\nPlot: {args.plot}")
    except CodecDetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
