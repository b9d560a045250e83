#!/usr/bin/env python
"""Make sequences from single pictures: a window moves over each picture, and zooms.

Of any data set in COCO's format, one sequence of each picture, in the convention of COCO-VID: real
texture for codecs that predict frames, where there is no video. Boxes are carried along, clipped,
and dropped where most of one lies outside; outlines and keypoints are left out. The camera alone
moves. With --pan 0 --zoom 1, frames differ by their noise alone.

    python tools/make_sequences.py --annotations bccd/val.json --images bccd/images \\
        --output-dir datasets/bccd_sequences_val

writes datasets/bccd_sequences_val/images/<sequence>/<frame>.png and annotations.json beside images.
"""

from __future__ import annotations

from command_line import not_negative, positive, run_command, run_program

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path


def _number(holds: Callable[[float], bool], wanted: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and holds(value)):
            raise argparse.ArgumentTypeError(f"'{text}' is no number {wanted}")
        return value

    return parse


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; faults in it end the program with status 2."""
    summary, details = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--annotations", type=Path, required=True, metavar="JSON", help="of the pictures")
    add("--images", type=Path, required=True, metavar="FOLDER", help="of the pictures")
    add("--output-dir", type=Path, required=True, help="where to; must not exist, or be empty")
    add(
        "--count",
        type=positive,
        metavar="N",
        help="of N pictures, spread evenly over the set (default: all)",
    )
    add("--frames", type=positive, default=30, help="of each sequence (default: %(default)s)")
    add(
        "--share",
        type=_number(lambda v: 0 < v <= 1, "above 0 and at most 1"),
        default=0.7,
        help="height and width of frames, of the picture's (default: %(default)s)",
    )
    add(
        "--pan",
        type=_number(lambda v: v >= 0, "of 0 or more"),
        default=1.5,
        help="the most pixels per frame in either direction (default: %(default)s)",
    )
    add(
        "--zoom",
        type=_number(lambda v: v >= 1, "of 1 or more"),
        default=1.15,
        help="the most from the first frame to the last (default: %(default)s)",
    )
    add(
        "--noise",
        type=_number(lambda v: v >= 0, "of 0 or more"),
        default=1.0,
        help="standard deviation in 8-bit levels, new in each frame (default: %(default)s)",
    )
    add(
        "--fps",
        type=_number(lambda v: v > 0, "above 0"),
        default=25.0,
        help="frames per second that the set tells (default: %(default)s)",
    )
    add("--seed", type=not_negative, default=0, help="equal seeds give equal frames (default: 0)")
    return parser.parse_args(argv)


def make_sequences(args: argparse.Namespace) -> None:
    """Write the set.

    Raises:
        CodecDetError: if it cannot be made or written.
    """
    from codec_det.data.moved_stills import Movement, sequences_from_stills
    from codec_det.errors import CodecDetError

    keys = ("frames", "share", "pan", "zoom", "noise", "fps")
    movement = Movement(**{key: getattr(args, key) for key in keys})
    try:
        json_file = sequences_from_stills(
            args.annotations, args.images, args.output_dir, movement, args.count, args.seed
        )
    except OSError as error:
        reason = error.strerror or error
        raise CodecDetError(
            f"cannot write '{args.output_dir}' ({reason}): choose another place"
        ) from None
    print(f"frames: {json_file.parent / 'images'}")
    print(f"annotations: {json_file}")


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(parse_args, make_sequences, argv)


if __name__ == "__main__":
    run_program(main)
