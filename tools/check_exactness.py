#!/usr/bin/env python
"""Check that files decode to the same latents under every setting of this machine.

Codes pictures under every combination of threads (1, 2), batch size (1, 4), memory format, oneDNN
on and off and instruction set, each in a process of its own, and decodes every file under every
combination; a model of variable rate codes each batch at a level of its own. The same is done with
the plain float entropy model, to show how often that breaks.

With --sequence, the pictures are frames of a camera, and the run's codec predicts frames: each
setting, varied alone, decodes what every other has sent, from what it has decoded itself.
"""

from __future__ import annotations

from command_line import positive, run_command, run_program

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

# codec_det is imported where it is used: --help need not wait for PyTorch.
if TYPE_CHECKING:
    import numpy as np

    from checks.exactness import Setting

EPILOG = """
examples:
  tools/check_exactness.py output/jft_R50 --images datasets/coco/val2017 --output exactness.json
  tools/check_exactness.py output/temporal --images frames --sequence --count 30 --size 336 448

The exit status is 1 if the exact path, which deployed models use, ever failed.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN_FOLDER", help="OUTPUT_DIR of tools/train_net.py")
    add("--images", type=Path, nargs="+", required=True, metavar="PATH", help="files or folders")
    add(
        "--count",
        type=positive,
        default=8,
        metavar="N",
        help="pictures to use (default: %(default)s)",
    )
    add(
        "--size",
        type=positive,
        nargs=2,
        default=(384, 512),
        metavar=("H", "W"),
        help="they are cropped to it, so that they can be batched (default: 384 512)",
    )
    add("--quick", action="store_true", help="each setting varied alone, not every combination")
    add("--sequence", action="store_true", help="code frames of a camera, in order of their names")
    add(
        "--processes",
        type=positive,
        metavar="N",
        help="at a time (default: one per usable core)",
    )
    add("--output", type=Path, metavar="FILE", help="write the counts here, as JSON")
    return parser


def quick_settings(devices: list[str]) -> list[Setting]:
    """The default, and each setting varied alone."""
    from checks.exactness import Setting, all_settings

    default = Setting()
    alone = [s for s in all_settings(devices) if _distance(s, default) <= 1]
    return sorted(alone, key=lambda s: _distance(s, default))


def _distance(a: Setting, b: Setting) -> int:
    return sum(vars(a)[key] != vars(b)[key] for key in vars(a))


def read_crops(paths: list[Path], count: int, size: tuple[int, int]) -> np.ndarray:
    """(count, *size, 3) uint8 RGB: the top left of the first pictures that are large enough.

    Raises:
        CodecDetError: if there are fewer.
    """
    import numpy as np

    from codec_det.data.image_io import SUFFIXES, read_image
    from codec_det.deploy.file_batch import find_files
    from codec_det.errors import CodecDetError

    height, width = size
    crops = []
    for path in find_files(paths, SUFFIXES, "pictures").files:
        picture = read_image(path, "RGB")[:height, :width]
        if picture.shape[:2] == (height, width):
            crops.append(picture)
        if len(crops) == count:
            return np.stack(crops)
    raise CodecDetError(
        f"only {len(crops)} pictures are {width}x{height} or larger: lower --count or --size"
    )


def describe(result: dict) -> str:
    """A table for people."""
    from checks.exactness import PATHS

    lines = [f"{len(result['settings'])} settings; files that did not decode to their latents:"]
    kinds = sorted({kind for path in PATHS for kind in result[path]["by_difference"]})
    lines.append(f"  {'encoder and decoder differ in':32}{'exact path':>20}{'float path':>20}")
    for kind in kinds:
        counts = [result[path]["by_difference"][kind] for path in PATHS]
        lines.append(f"  {kind:32}" + "".join(f"{f'{bad} of {all_}':>20}" for bad, all_ in counts))
    totals = [f"{result[path]['mismatches']} of {result[path]['cases']}" for path in PATHS]
    lines.append(f"  {'all':32}" + "".join(f"{total:>20}" for total in totals))
    return "\n".join(lines)


def check_exactness(args: argparse.Namespace) -> int:
    """Run the tool; returns the exit status.

    Raises:
        CodecDetError: if pictures or run cannot be used.
    """
    import torch

    from checks.exactness import all_settings, measure
    from codec_det.deploy.cores import usable_cores
    from codec_det.deploy.frozen_run import load_frozen, open_deployable
    from codec_det.files import atomic_file, make_folder

    pictures = read_crops(args.images, args.count, tuple(args.size))
    if args.output:
        make_folder(args.output.parent, "the folder of --output")
    chain, entropy = load_frozen(open_deployable(args.run))
    codec: Any = chain.codec
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    with tempfile.TemporaryDirectory() as folder:
        if args.sequence:
            result = check_sequence(args.run, codec, pictures, devices, Path(folder))
        else:
            settings = quick_settings(devices) if args.quick else all_settings(devices)
            processes = args.processes or usable_cores()
            result = measure(Path(folder), codec, entropy, pictures, settings, processes)
            print(describe(result))
    if args.output:
        with atomic_file(args.output) as partial:
            partial.write_text(json.dumps(result, indent=1))
        print(f"Counts are in {args.output}")
    return 1 if result["exact"]["mismatches"] else 0


def check_sequence(
    run: Path, codec: Any, frames: np.ndarray, devices: list[str], folder: Path
) -> dict[str, Any]:
    """Code frames (n, H, W, 3) under every setting that matters to them, and say what came of it.

    Raises:
        CodecDetError: if the codec predicts no frames.
    """
    from checks.exactness_of_sequences import measure_sequences
    from codec_det.codec.table import find_codec
    from codec_det.errors import CodecDetError

    if not find_codec(codec.name).predicts_frames:
        raise CodecDetError(
            f"--sequence is for codecs that predict frames, and that of '{run}' is {codec.name}: "
            "leave it out, or give a run whose MODEL.CODEC.NAME ends in -temporal"
        )
    # Frames are coded one at a time.
    settings = [setting for setting in quick_settings(devices) if setting.batch == 1]
    found = measure_sequences(folder, codec, frames, settings)
    print(
        f"{len(settings)} settings, each of which reads {len(frames)} frames of every one: "
        f"{found['mismatches']} of {found['cases']} did not decode to their latents"
    )
    return {"settings": list(map(asdict, settings)), "exact": found}


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(build_parser().parse_args, check_exactness, argv)


if __name__ == "__main__":
    run_program(main)
