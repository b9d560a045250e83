#!/usr/bin/env python
"""Write the results of a sweep as one HTML page: table, curves, BD-rates, pictures and configs.

RESULTS_DIR holds run folders, at any depth, each the OUTPUT_DIR of tools/train_net.py. The page is
one file that needs no network: curves explain their points, two runs lie on each other in every
picture with a divider to drag, and every run's config and record are in it.

Pictures are coded anew, by one run of each regime and codec: the first seed at the lowest rate. A
run without checkpoint is named in the page and left out of the pictures alone.
"""

from __future__ import annotations

from command_line import add_rate, not_negative, run_command, run_program

import argparse
import logging
import sys
from pathlib import Path

# codec_det is imported where it is used: --help need not wait for PyTorch.

EPILOG = """
examples:
  all of a sweep, with four pictures
    tools/report.py output/study/shapes
  quickly, without pictures, into a file of its own
    tools/report.py output/study/shapes --pictures 0 --output results.html
  the eight pictures that the baseline and the best regime disagree on most
    tools/report.py output/study/shapes --pictures 8 --by-disagreement
"""


class WarningList(logging.Handler):
    """Keeps what is warned of, to be said on the page as well as on the terminal."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        print(f"warning: {self.messages[-1]}", file=sys.stderr)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("results_dir", type=Path, metavar="RESULTS_DIR", help="folder of run folders")
    add("--output", type=Path, metavar="FILE", help="default: RESULTS_DIR/report.html")
    add("--dataset", metavar="NAME", help="where runs were evaluated on several test sets: this")
    add(
        "--metrics",
        nargs="+",
        metavar="METRIC",
        help="to show, as of tools/plot_rate_accuracy.py; the first in the headline and the BD "
        "tables",
    )
    add_rate(add)
    add(
        "--pictures",
        type=not_negative,
        default=4,
        metavar="N",
        help="pictures, evenly spread over the test set; 0: none (default: %(default)s)",
    )
    add(
        "--by-disagreement",
        action="store_true",
        help="rather those whose box AP differs most between the two runs that the page opens with",
    )
    return parser


def report(args: argparse.Namespace) -> None:
    """Read, gather and write the page.

    Raises:
        CodecDetError: if there are no results, they do not compare, or nothing can be written.
    """
    from codec_det.files import make_folder
    from codec_det.rate_accuracy.curves import curves_of
    from codec_det.rate_accuracy.records import choose_metrics, over_rate, read_results
    from codec_det.report.page import render_page, write_page
    from codec_det.report.picture_coding import make_gallery

    root, output = args.results_dir, args.output or args.results_dir / "report.html"
    warned = WarningList()
    logger = logging.getLogger("codec_det")
    logger.addHandler(warned)
    try:
        results = over_rate(read_results([root], args.dataset), args.rate)
    finally:
        logger.removeHandler(warned)
    curves = curves_of(results)
    metrics = choose_metrics(results, args.metrics)
    make_folder(output.parent, "--output")
    gallery = make_gallery(curves, args.pictures, metrics[0], by_difference=args.by_disagreement)
    for note in gallery.notes:
        print(note, file=sys.stderr)
    write_page(render_page(root, results, curves, gallery, warned.messages, metrics), output)
    print(f"{output} ({output.stat().st_size / 1e6:.1f} MB)")


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(build_parser().parse_args, report, argv, interrupted="no page was written")


if __name__ == "__main__":
    run_program(main)
