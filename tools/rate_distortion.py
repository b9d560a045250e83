#!/usr/bin/env python
"""Measure rate and distortion of a codec on pictures, without a detector: bpp, PSNR, MS-SSIM, time.

Any codec: learned (CompressAI's) or conventional (jpeg, webp, avif, jpegxl, hevc, vvc, ...). Rates
are those of real files, headers included; of codecs that cannot be written to files (mbt2018,
cheng2020-*), and with --estimated, they are estimated from likelihoods, and marked so. PSNR and
MS-SSIM are of RGB, of reconstructions rounded to 8 bits, MS-SSIM of pictures of 161 pixels a side
or more. Several qualities make one curve. With --scale, pictures are coded smaller, and figures are
of the pictures as they were and of what was decoded, enlarged again.

In --output-dir, existing files of the same codec and scale (CODEC_scale_0.5) are replaced:
  CODEC.csv   a line per picture and quality
  CODEC.json  means over pictures as in CompressAI's published results, which its
              compressai.utils.plot draws, and under "codec_det" all that is needed to repeat it
  CODEC.png   PSNR over bits per pixel, of two qualities or more

A picture that fails at one quality is left out of all, and named at the end; the exit status is
then 1.
"""

from __future__ import annotations

from command_line import add_recursive, positive, run_command, run_program

import argparse
import ast
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

# codec_det is imported where it is used: --help need not wait for PyTorch.
if TYPE_CHECKING:
    from codec_det.deploy.file_batch import Failure
    from codec_det.rate_distortion.codec_choice import CodecChoice
    from codec_det.rate_distortion.measurement import RatePoint, RateRow

EPILOG = """
examples:
  a curve of HEVC, with x265's preset medium
    tools/rate_distortion.py kodak --codec hevc --quality 22 27 32 37 42 \\
        --setting preset=medium --output-dir output/rd
  the same of a codec from CompressAI's zoo, whose weights are downloaded
    tools/rate_distortion.py kodak --codec mbt2018-mean --quality 1 2 3 4 5 6 7 8 \\
        --output-dir output/rd
  of codecs that were trained here, one file per quality
    tools/rate_distortion.py pictures --codec bmshj2018-hyperprior --quality 1 2 3 \\
        --weights codec_det://shapes_codec_{quality}.pth --channels 32 48 --output-dir output/rd
  both curves in one picture
    python -m compressai.utils.plot -f output/rd/hevc.json output/rd/mbt2018-mean.json -o rd.png
  times to quote: one picture at a time, on an idle machine
    tools/rate_distortion.py kodak --codec vvc --quality 32 --workers 1 --output-dir output/rd
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("pictures", nargs="+", type=Path, metavar="PICTURE|FOLDER", help="what to code")
    add(
        "--codec",
        required=True,
        metavar="NAME",
        # Those of codec_det/codec/table.py, which is not imported yet.
        help="learned: bmshj2018-factorized, bmshj2018-factorized-relu, bmshj2018-hyperprior, "
        "mbt2018-mean, mbt2018, cheng2020-anchor, cheng2020-attn; conventional: jpeg, jpeg2000, "
        "webp, avif, jpegxl, avc, hevc, vvc, vtm, external",
    )
    add(
        "--quality",
        nargs="+",
        type=_number,
        required=True,
        metavar="Q",
        help="in the codec's own unit: 1 to 8 of learned ones, QP of avc, hevc and vvc, ...",
    )
    add("--output-dir", type=Path, required=True, metavar="FOLDER", help="where results go")
    add(
        "--scale",
        type=_scale,
        default=1.0,
        metavar="S",
        help="code pictures at this share of their height and width, up to 1 (default: 1)",
    )
    add(
        "--workers",
        type=positive,
        metavar="N",
        help="pictures coded at a time (default: one per usable core; 1 where rates are estimated)",
    )
    add_recursive(parser)
    conventional = parser.add_argument_group("conventional codecs")
    conventional.add_argument(
        "--setting",
        nargs="+",
        action="extend",
        type=_setting,
        default=[],
        metavar="NAME=VALUE",
        help="other than its defaults: see its class in codec_det/conventional",
    )
    learned = parser.add_argument_group("learned codecs")
    learned.add_argument("--metric", choices=("mse", "ms-ssim"), help="trained for (default: mse)")
    learned.add_argument(
        "--weights",
        metavar="FILE",
        help="zoo (default), or a checkpoint; {quality} in it stands for each quality",
    )
    learned.add_argument(
        "--channels",
        nargs="+",
        type=positive,
        metavar=("N", "M"),
        help="of transforms and latents, where they are not those of the zoo",
    )
    learned.add_argument(
        "--estimated", action="store_true", help="take rates from likelihoods, make no files"
    )
    learned.add_argument(
        "--device", metavar="DEVICE", help="of the transforms: cpu (default), cuda, cuda:1, ..."
    )
    return parser


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() else value


# argparse names the type in its message: "invalid number value: 'x'".
_number.__name__ = "number"


def _scale(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not above 0 and up to 1")
    return value


# As above.
_scale.__name__ = "number"


def _setting(text: str) -> tuple[str, Any]:
    """Split NAME=VALUE; numbers, True and False, and texts in quotes are read as in Python."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        # As people write them on a command line.
        return name, {"true": True, "false": False}.get(value, value)


def choose_codec(args: argparse.Namespace) -> CodecChoice:
    """The codec that the command line names.

    Raises:
        ConfigError: if there is none of this name, or an option is not for its kind.
    """
    from codec_det.codec.table import is_conventional
    from codec_det.errors import ConfigError
    from codec_det.rate_distortion.codec_choice import ZOO, CodecChoice

    options = ("metric", "weights", "channels", "estimated", "device")
    given = [f"--{name}" for name in options if getattr(args, name)]
    if is_conventional(args.codec) and given:
        raise ConfigError(
            f"{' and '.join(given)}: of learned codecs, and '{args.codec}' is none: leave it out"
        )
    channels = tuple(args.channels or ())
    if len(channels) > 2:
        raise ConfigError(f"--channels takes N and M, not {len(channels)} numbers")
    n, m = (*channels, 0, 0)[:2]
    weights = args.weights or ZOO
    if len(set(args.quality)) > 1 and weights != ZOO and "{quality}" not in weights:
        raise ConfigError(
            f"--weights '{weights}' would be measured {len(set(args.quality))} times: put "
            "{quality} into the name, or give one quality"
        )
    return CodecChoice(
        name=args.codec,
        settings=dict(args.setting),
        metric=args.metric or "mse",
        weights=weights,
        channels=(n, m),
        estimated=args.estimated,
        scale=args.scale,
    )


def measure(
    args: argparse.Namespace, choice: CodecChoice, files: Sequence[Path]
) -> tuple[list[RatePoint], list[Failure], int]:
    """Points by rising rate, over the pictures that none of them failed on; failures; workers.

    Raises:
        CodecDetError: if the codec cannot be used.
    """
    import torch

    from codec_det.deploy.cores import usable_cores
    from codec_det.deploy.file_batch import process
    from codec_det.files import make_folder
    from codec_det.rate_distortion.codec_choice import ESTIMATED, describe_codec, open_codec
    from codec_det.rate_distortion.measurement import RatePoint, measure_picture

    device = args.device or "cpu"
    # All of them first: what cannot work is found before long work.
    codecs = {q: open_codec(choice, q, device) for q in dict.fromkeys(args.quality)}
    described = {q: describe_codec(choice, codec) for q, codec in codecs.items()}
    make_folder(args.output_dir, "--output-dir")
    # An estimating codec keeps the bits of its last batch in itself.
    workers = 1 if choice.rate_is == ESTIMATED else min(args.workers or usable_cores(), len(files))
    # Not of all cores: OMP_NUM_THREADS may say fewer.
    threads = max(torch.get_num_threads() // workers, 1)

    def work(path: Path, quality: float) -> RateRow:
        # It counts for the calling thread alone: a new one would take all cores.
        torch.set_num_threads(threads)
        return measure_picture(codecs[quality], path, device, choice.scale)

    measured: dict[float, dict[Path, RateRow]] = {}
    failures: list[Failure] = []
    left = list(files)
    for quality in list(codecs):
        print(f"{choice.title}, quality {quality:g}:", file=sys.stderr)
        measured[quality], failed = process(left, partial(work, quality=quality), workers, "img")
        failures += failed
        left = [path for path in left if path in measured[quality]]
        del codecs[quality]
    if not left:
        return [], failures, workers
    points = [RatePoint(q, described[q], [rows[p] for p in left]) for q, rows in measured.items()]
    return sorted(points, key=lambda point: point.mean("bpp")), failures, workers


def write_results(
    args: argparse.Namespace, choice: CodecChoice, points: Sequence[RatePoint], conditions: dict
) -> list[Path]:
    """All files of results; their paths."""
    from codec_det.files import atomic_file
    from codec_det.rate_distortion.measurement import (
        curve_record,
        plot_curve,
        write_rows,
    )

    name = choice.name if choice.scale == 1 else f"{choice.name}_scale_{choice.scale:g}"
    paths = [args.output_dir / f"{name}{suffix}" for suffix in (".csv", ".json", ".png")]
    write_rows(points, paths[0])
    record = curve_record(choice, points, conditions)
    with atomic_file(paths[1]) as unfinished:
        unfinished.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")
    if len(points) < 2:
        return paths[:2]
    plot_curve(choice, points, paths[2])
    return paths


def rate_distortion(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Run the tool; returns the exit status.

    Raises:
        CodecDetError: if something is wrong with anything but a picture.
    """
    from codec_det.conventional.process import kill_programs
    from codec_det.data.image_io import SUFFIXES, describe_frames
    from codec_det.deploy.file_batch import describe_failures, find_files
    from codec_det.rate_distortion.codec_choice import ESTIMATED
    from codec_det.rate_distortion.measurement import format_table, lossless_note

    choice = choose_codec(args)
    batch = find_files(args.pictures, SUFFIXES, "pictures", recursive=args.recursive)
    files = batch.files
    for note in (batch.describe_others(), describe_frames(files)):
        if note:
            print(note, file=sys.stderr)
    try:
        points, failures, workers = measure(args, choice, files)
    except KeyboardInterrupt:
        kill_programs()
        raise
    if points:
        conditions = {
            "failed": [{"file": str(path), "reason": reason} for path, reason in failures],
            "workers": workers,
            "device": args.device or "cpu",
            "arguments": list(argv),
        }
        paths = write_results(args, choice, points, conditions)
        print(f"{choice.title}, {len(points[0].rows)} pictures; means over pictures")
        print(format_table(points))
        if note := lossless_note(points):
            print(note)
        print(f"Rates are {choice.rate_is}.")
        if choice.rate_is != ESTIMATED and workers > 1:
            print(f"Times are of {workers} pictures at once: to quote them, use --workers 1.")
        print("\n".join(map(str, paths)))
    if failures:
        print(describe_failures(failures, len(files)), file=sys.stderr)
    return 1 if failures else 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(
        build_parser().parse_args,
        lambda args: rate_distortion(args, sys.argv[1:] if argv is None else argv),
        argv,
        interrupted="nothing was written",
    )


if __name__ == "__main__":
    run_program(main)
