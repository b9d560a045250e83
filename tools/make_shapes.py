#!/usr/bin/env python
"""Draw a small detection set in COCO's format: striped and barred discs, squares and triangles.

Both the outline and the texture of an object make its class, and the texture is what a codec drops
first, so box AP falls with the rate as it does on COCO, on pictures that take seconds to make and
minutes to train on. The data sets shapes_train and shapes_val need no tool: they are drawn when
first loaded. Use this for other sizes, counts or seeds:

    python tools/make_shapes.py --output-dir datasets/big_shapes --count 500 --size 480 640 \\
        --preview big_shapes.png

writes datasets/big_shapes/images/*.png and datasets/big_shapes/annotations.json, and a contact
sheet of the first pictures with their boxes. With --frames, it draws sequences of moving shapes,
in the convention of COCO-VID: shapes_video_train, shapes_video_val, shapes_video_test and, of a
camera that shakes or pans, shapes_video_moving_train, ... are drawn when first loaded, too.
"""

from __future__ import annotations

from command_line import not_negative, positive, run_command, run_program

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

# codec_det is imported where it is used: --help need not wait for PyTorch.
if TYPE_CHECKING:
    import numpy as np

SHEET_COLUMNS, SHEET_ROWS = 6, 4
TILE = 256  # pixels, the longer side of a picture on the contact sheet

# One colour (BGR) per class, bright enough for small letters on any picture.
COLOURS = (
    (80, 200, 255),
    (255, 220, 80),
    (110, 255, 110),
    (255, 140, 255),
    (120, 140, 255),
    (255, 255, 255),
)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; faults in it end the program with status 2."""
    summary, details = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output-dir", type=Path, required=True, help="where to; must not exist, or be empty")
    add("--count", type=positive, default=100, help="pictures, or sequences (default: %(default)s)")
    add(
        "--size",
        type=positive,
        nargs=2,
        default=(128, 128),
        metavar=("HEIGHT", "WIDTH"),
        # MIN_SIDE, which is not imported yet.
        help="in pixels, each at least 32 (default: 128 128)",
    )
    add(
        "--seed",
        type=not_negative,
        default=0,
        help="equal seeds give equal pictures, and a smaller count the first of them "
        "(default: %(default)s; shapes_train is seed 0, shapes_val seed 1)",
    )
    add("--frames", type=positive, metavar="N", help="draw --count sequences of N frames each")
    add(
        "--camera",
        choices=("static", "moving"),
        default="static",
        help="of sequences; a moving one shakes or pans (default: %(default)s)",
    )
    add("--preview", type=Path, metavar="FILE.png", help="also write a contact sheet with boxes")
    args = parser.parse_args(argv)
    from codec_det.data.scenes import MIN_SIDE

    if min(args.size) < MIN_SIDE:
        parser.error(f"argument --size: each side must be at least {MIN_SIDE} pixels")
    if args.preview and args.preview.suffix.lower() != ".png":
        parser.error(f"argument --preview: {args.preview} does not end in .png")
    return args


def contact_sheet(json_file: Path) -> np.ndarray:
    """The first pictures of a generated set with their boxes and classes: (H, W, 3) uint8 BGR."""
    import numpy as np

    from codec_det.data.image_io import read_image

    coco = json.loads(json_file.read_text())
    objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in coco["annotations"]:
        objects[annotation["image_id"]].append(annotation)
    images = coco["images"][: SHEET_COLUMNS * SHEET_ROWS]
    tiles = [
        _tile(read_image(json_file.parent / "images" / image["file_name"]), objects[image["id"]])
        for image in images
    ]
    columns = min(SHEET_COLUMNS, len(tiles))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    return np.vstack(rows)


def _tile(image: np.ndarray, objects: list[dict[str, Any]]) -> np.ndarray:
    """A picture at the sheet's scale, boxes and names drawn onto it after scaling, to be crisp."""
    import cv2

    from codec_det.data.scenes import CLASS_NAMES

    scale = TILE / max(image.shape[:2])
    interpolation = cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA
    tile = cv2.resize(image, None, fx=scale, fy=scale, interpolation=interpolation)
    for annotation in objects:
        x, y, width, height = (round(side * scale) for side in annotation["bbox"])
        colour = COLOURS[annotation["category_id"] - 1]
        cv2.rectangle(tile, (x, y), (x + width - 1, y + height - 1), colour, 1)
        name = CLASS_NAMES[annotation["category_id"] - 1]
        _write(tile, name, (x, y - 3 if y > 12 else y + height + 10), colour)
    return tile


def _write(tile: np.ndarray, text: str, at: tuple[int, int], colour: tuple[int, ...]) -> None:
    """Small letters with a dark rim, moved to the left where they would leave the tile."""
    import cv2

    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.36
    length = cv2.getTextSize(text, font, size, 1)[0][0]
    at = (max(0, min(at[0], tile.shape[1] - length)), at[1])
    cv2.putText(tile, text, at, font, size, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(tile, text, at, font, size, colour, 1, cv2.LINE_AA)


def make_shapes(args: argparse.Namespace) -> None:
    """Draw the set.

    Raises:
        CodecDetError: if it cannot be drawn or written.
    """
    from codec_det.data.moving_scenes import Motion
    from codec_det.data.shapes import generate
    from codec_det.errors import CodecDetError
    from codec_det.files import atomic_file, make_folder

    if args.preview:
        make_folder(args.preview.parent, "the folder of --preview")
    try:
        motion = Motion(args.frames, args.camera) if args.frames else None
        json_file = generate(
            args.output_dir, args.count, tuple(args.size), args.seed, motion=motion
        )
    except OSError as error:
        reason = error.strerror or error
        raise CodecDetError(
            f"cannot write '{args.output_dir}' ({reason}): choose another place"
        ) from None
    kind = f"sequences of {args.frames} frames" if args.frames else "pictures"
    print(f"{args.count} {kind}: {json_file.parent / 'images'}")
    print(f"annotations: {json_file}")
    if args.preview:
        import cv2

        _, data = cv2.imencode(".png", contact_sheet(json_file))
        with atomic_file(args.preview) as partial:
            partial.write_bytes(data.tobytes())
        print(f"contact sheet: {args.preview}")


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(parse_args, make_shapes, argv)


if __name__ == "__main__":
    run_program(main)
