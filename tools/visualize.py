#!/usr/bin/env python
"""Show what runs make of pictures: reconstruction, detections, bpp, PSNR and box AP of each.

Writes a PNG per picture, and overview.png with the first of them. Each run is the OUTPUT_DIR of
tools/train_net.py. Its model is rebuilt from config.yaml and the last checkpoint (a run that was
only evaluated has the weights of its config), and sees the chosen pictures only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from detectron2.data import MetadataCatalog
from tqdm import tqdm

from codec_det.command_line import fraction, positive
from codec_det.data.register import check_datasets, register_datasets
from codec_det.errors import CodecDetError
from codec_det.files import make_folder
from codec_det.runs import (
    Coded,
    Original,
    Run,
    check_same_dataset,
    choose_entries,
    code_pictures,
    column_headings,
    open_run,
    read_original,
)
from codec_det.visualization import Sheet, class_colours, save_sheet

OVERVIEW_ROWS = 6
EPILOG = """
examples:
  six pictures, evenly spread over the runs' test set
    tools/visualize.py output/shapes/baseline output/shapes/tft output/shapes/jft \\
        --output-dir output/pictures
  chosen pictures, by COCO image id, and every detection with a score of 0.3 or more
    tools/visualize.py output/jft_R50 --images 139 724 --score-threshold 0.3 \\
        --output-dir output/pictures
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN_FOLDER", help="in the order to show")
    add("--output-dir", type=Path, required=True, metavar="FOLDER", help="where the PNGs go")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--images", nargs="+", type=int, metavar="ID", help="COCO image ids")
    which.add_argument(
        "--count",
        type=positive,
        default=6,
        metavar="N",
        help="without --images: pictures, evenly spread over the test set (default: %(default)s)",
    )
    add(
        "--score-threshold",
        type=fraction,
        default=0.5,
        metavar="S",
        help="draw detections of this score or more, 0 to 1; AP counts all (default: %(default)s)",
    )
    return parser


def open_runs(folders: Sequence[Path]) -> list[Run]:
    """All runs, checked, with their data sets registered.

    Raises:
        CodecDetError: if one is no run, or they do not compare.
    """
    runs = [open_run(folder) for folder in folders]
    check_same_dataset(runs)
    for run in runs:
        register_datasets(run.cfg)
    check_datasets(runs[0].cfg, train=False)
    return runs


def code_with_all(
    runs: Sequence[Run], args: argparse.Namespace
) -> list[tuple[Original, list[Coded]]]:
    """Each chosen picture, and what each run makes of it; one model in memory at a time."""
    entries = choose_entries(runs[0].dataset, args.images, args.count)
    rows: list[tuple[Original, list[Coded]]] = [(read_original(entry), []) for entry in entries]
    with tqdm(total=len(runs) * len(rows), unit="img") as progress:
        for run in runs:
            progress.set_description(run.folder.name)
            for (_, coded), result in zip(rows, code_pictures(run, entries), strict=True):
                coded.append(result)
                progress.update()
    return rows


def write_sheets(
    runs: Sequence[Run],
    rows: Sequence[tuple[Original, list[Coded]]],
    args: argparse.Namespace,
) -> list[Path]:
    """A sheet per picture and the overview; their paths."""
    names = MetadataCatalog.get(runs[0].dataset).get("thing_classes", [])
    sheet = Sheet(column_headings(runs), names, class_colours(rows), args.score_threshold)
    paths = []
    for row in rows:
        paths.append(args.output_dir / f"image_{row[0].image_id}.png")
        save_sheet(sheet.draw([row]), paths[-1])
    paths.append(args.output_dir / "overview.png")
    save_sheet(sheet.draw(rows[:OVERVIEW_ROWS]), paths[-1])
    return paths


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    args = build_parser().parse_args(argv)
    try:
        runs = open_runs(args.runs)
        make_folder(args.output_dir, "--output-dir")
        paths = write_sheets(runs, code_with_all(runs, args), args)
    except CodecDetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(map(str, paths)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
