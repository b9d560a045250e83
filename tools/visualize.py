#!/usr/bin/env python
"""Show what runs make of pictures: reconstruction, detections, bpp, PSNR and box AP of each.

Writes a PNG per picture, and overview.png with the first of them. Each run is the OUTPUT_DIR of
tools/train_net.py. Its model is rebuilt from config.yaml and the last checkpoint (a run that was
only evaluated has the weights of its config), and sees the chosen pictures only.

Further rows of a picture (--show), each with one scale for all runs:
  bits        where the bits go: the estimated bits of all latents of a place, shared out over the
              pixels of its 16x16 (hyper-latents: 64x64) footprint; learned codecs only
  difference  decoded minus original, amplified around grey
"""

from __future__ import annotations

from command_line import fraction, not_negative, positive, run_command, run_program

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

# codec_det is imported where it is used: --help need not wait for PyTorch.
if TYPE_CHECKING:
    from codec_det.runs import CodedPicture, Original, Run

SHOWS = ("pictures", "bits", "difference")
COUNT = 6
OVERVIEW_ROWS = 6
EPILOG = """
examples:
  six pictures, evenly spread over the runs' test set
    tools/visualize.py output/shapes/baseline output/shapes/tft output/shapes/jft \\
        --output-dir output/pictures
  chosen pictures, by COCO image id, and every detection with a score of 0.3 or more
    tools/visualize.py output/jft_R50 --images 139 724 --score-threshold 0.3 \\
        --output-dir output/pictures
  where a codec's bits go before and after fine-tuning, and what that changes in the picture
    tools/visualize.py output/shapes/baseline output/shapes/jft \\
        --show pictures bits difference --random-seed 1 --count 3 --output-dir output/pictures
  a sequence over time, and where the bits of predicted frames go
    tools/visualize.py output/shapes/temporal_jft --sequence 1 --show bits \\
        --output-dir output/pictures
  the pictures that fine-tuning helps or harms most, and what all runs make of them
    tools/visualize.py output/shapes/* --disagreement output/shapes/baseline output/shapes/jft \\
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
    add(
        "--show",
        nargs="+",
        choices=SHOWS,
        default=SHOWS[:1],
        metavar="ROW",
        help=f"rows per picture, out of {', '.join(SHOWS)} (default: pictures)",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--images", nargs="+", type=int, metavar="ID", help="COCO image ids")
    which.add_argument(
        "--random-seed", type=not_negative, metavar="N", help="pictures drawn at random by seed N"
    )
    which.add_argument(
        "--sequence",
        type=int,
        metavar="ID",
        help="of the sequence of this video_id, one picture instead: its first --count frames in a "
        "row, where the bits of each go (--show bits), and bars of the bits of all its frames",
    )
    which.add_argument(
        "--disagreement",
        nargs=2,
        type=Path,
        metavar="RUN_FOLDER",
        help="pictures whose box AP differs most between these two of the runs, by the detections "
        "that their evaluations have saved",
    )
    add(
        "--count",
        type=positive,
        metavar="N",
        help="without --images: how many pictures; if nothing else chooses them, evenly spread "
        f"over the test set (default: {COUNT})",
    )
    add(
        "--level",
        type=float,
        metavar="L",
        help="at which runs of variable rate code pictures, also between two (default: the highest "
        "that they are evaluated at)",
    )
    add(
        "--score-threshold",
        type=fraction,
        default=0.5,
        metavar="S",
        help="draw detections of this score or more, 0 to 1; AP counts all (default: %(default)s)",
    )
    return parser


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line ``argv``, checked as far as no run need be read."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.images and args.count:
        parser.error("argument --count: not allowed with argument --images")
    args.count = args.count or COUNT
    args.show = [show for show in SHOWS if show in args.show]
    return args


def open_runs(folders: Sequence[Path], level: float | None) -> list[Run]:
    """All runs, at a level where they are of variable rate, checked, with data sets registered.

    Raises:
        CodecDetError: if one is no run, or they do not compare.
    """
    from codec_det.data.register import check_datasets, register_datasets
    from codec_det.errors import CodecDetError
    from codec_det.runs import check_same_dataset, open_run

    runs = [open_run(folder, level) for folder in folders]
    check_same_dataset(runs)
    for run in runs:
        try:
            register_datasets(run.cfg)
        except CodecDetError as error:
            # Runs of other pictures under the same name.
            raise CodecDetError(f"run '{run.folder}': {error}") from None
    check_datasets(runs[0].cfg, train=False)
    return runs


def choose(runs: Sequence[Run], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Data set entries of the pictures to show.

    Raises:
        CodecDetError: if they cannot be chosen, or have no files.
    """
    from codec_det.pictures import picture_choice

    dataset = runs[0].dataset
    if args.images:
        entries = picture_choice.by_ids(dataset, args.images)
    elif args.sequence is not None:
        entries = picture_choice.of_sequence(dataset, args.sequence)
    elif args.random_seed is not None:
        entries = picture_choice.at_random(dataset, args.count, args.random_seed)
    elif args.disagreement:
        a, b = (_find(runs, folder) for folder in args.disagreement)
        entries = picture_choice.by_disagreement(a, b, args.count)
    else:
        entries = picture_choice.evenly(dataset, args.count)
    picture_choice.check_files(entries)
    return entries


def _find(runs: Sequence[Run], folder: Path) -> Run:
    from codec_det.errors import CodecDetError

    for run in runs:
        if run.folder.resolve() == folder.resolve():
            return run
    given = ", ".join(f"'{run.folder}'" for run in runs)
    raise CodecDetError(f"--disagreement '{folder}' is not one of the runs to show: give {given}")


def code_with_all(
    runs: Sequence[Run], entries: Sequence[dict[str, Any]], bit_maps: bool
) -> list[tuple[Original, list[CodedPicture]]]:
    """Each chosen picture, and what each run makes of it; one model in memory at a time."""
    from tqdm import tqdm

    from codec_det.runs import code_pictures, read_original

    rows: list[tuple[Original, list[CodedPicture]]] = [
        (read_original(entry), []) for entry in entries
    ]
    with tqdm(total=len(runs) * len(rows), unit="img") as progress:
        for run in runs:
            progress.set_description(run.folder.name)
            results = code_pictures(run, entries, bit_maps=bit_maps)
            for (_, coded), result in zip(rows, results, strict=True):
                coded.append(result)
                progress.update()
    return rows


def write_sheets(
    runs: Sequence[Run],
    rows: Sequence[tuple[Original, list[CodedPicture]]],
    args: argparse.Namespace,
) -> list[Path]:
    """A sheet per picture and the overview; their paths."""
    from detectron2.data import MetadataCatalog

    from codec_det.pictures.headings import column_headings
    from codec_det.pictures.visualization import Sheet, save_sheet

    names = MetadataCatalog.get(runs[0].dataset).get("thing_classes", [])
    sheet = Sheet(column_headings(runs), names, args.score_threshold, args.show)
    paths = []
    for row in rows:
        paths.append(args.output_dir / f"image_{row[0].image_id}.png")
        save_sheet(sheet.draw([row]), paths[-1])
    paths.append(args.output_dir / "overview.png")
    save_sheet(sheet.draw(rows[:OVERVIEW_ROWS]), paths[-1])
    return paths


def write_sequence(
    runs: Sequence[Run],
    rows: Sequence[tuple[Original, list[CodedPicture]]],
    args: argparse.Namespace,
) -> list[Path]:
    """The picture of a sequence; its path."""
    from codec_det.pictures.headings import column_headings
    from codec_det.pictures.sequence_figure import save_figure, sequence_figure

    names = [", ".join(heading) for heading in column_headings(runs)]
    by_run = [
        (name, [(original, coded[i]) for original, coded in rows]) for i, name in enumerate(names)
    ]
    path = args.output_dir / f"sequence_{args.sequence}.png"
    shown = range(min(args.count, len(rows)))
    save_figure(sequence_figure(by_run, shown, args.score_threshold), path)
    return [path]


def visualize(args: argparse.Namespace) -> None:
    """Run the tool.

    Raises:
        CodecDetError: if runs cannot be used or compared, or nothing can be written.
    """
    from codec_det.files import make_folder

    runs = open_runs(args.runs, args.level)
    make_folder(args.output_dir, "--output-dir")
    rows = code_with_all(runs, choose(runs, args), "bits" in args.show)
    write = write_sheets if args.sequence is None else write_sequence
    print("\n".join(map(str, write(runs, rows, args))))


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(parse_args, visualize, argv)


if __name__ == "__main__":
    run_program(main)
