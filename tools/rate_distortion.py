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

With --borders, it is measured instead whether the codec spoils what is near the sides of pictures,
as one does that was trained on crops padded on one side alone. Pictures are cut to sizes of many
remainders by 64, and the outer 16 pixels of each side are compared with the same pixels coded amid
the picture; a last line says whether a side is more than 1 dB worse. Written are CODEC_borders.csv
and, errors by distance from each side, CODEC_borders.png.

A picture that fails at one quality is left out of all, and named at the end; the exit status is
then 1.
"""

from __future__ import annotations

from command_line import add_recursive, positive, run_command, run_program

import argparse
import ast
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

# codec_det is imported where it is used: --help need not wait for PyTorch.
if TYPE_CHECKING:
    from codec_det.codec.base import Codec
    from codec_det.deploy.file_batch import Failure
    from codec_det.rate_distortion.all_pictures import Figures, Measured
    from codec_det.rate_distortion.codec_choice import CodecChoice
    from codec_det.rate_distortion.measurement import RatePoint

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
  whether the codec of a run paints stripes at the sides of pictures
    tools/rate_distortion.py pictures --borders --codec bmshj2018-hyperprior --quality 1 \\
        --weights output/run/model_final.pth --channels 32 48 --output-dir output/borders
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
        "mbt2018-mean, mbt2018, cheng2020-anchor, cheng2020-attn, bmshj2018-hyperprior-centred, "
        "mbt2018-mean-centred, bmshj2018-hyperprior-temporal, "
        "bmshj2018-hyperprior-centred-temporal, mbt2018-mean-temporal, "
        "mbt2018-mean-centred-temporal, ssf2020, bmshj2018-hyperprior-light, "
        "bmshj2018-hyperprior-centred-light, mbt2018-mean-light, mbt2018-mean-centred-light, "
        "bmshj2018-hyperprior-vbr, mbt2018-mean-vbr; conventional: jpeg, jpeg2000, webp, avif, "
        "jpegxl, avc, hevc, vvc, av1, vtm, external",
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
    add("--borders", action="store_true", help="compare the sides of pictures with their insides")
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
    _add_learned(parser.add_argument_group("learned codecs"))
    return parser


def _add_learned(learned: argparse._ArgumentGroup) -> None:
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


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() else value


# argparse names the type in its message: "invalid number value: 'x'".
_number.__name__ = "number"


def _scale(text: str) -> float:
    value = float(text)
    # MIN_SCALE, which is not imported yet.
    if not 1e-6 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not from 0.000001 to 1")
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
    args: argparse.Namespace,
    choice: CodecChoice,
    files: Sequence[Path],
    of_picture: Callable[[Codec, Path, str, float], Figures],
) -> Measured[Figures]:
    """Whatever is to be measured of each picture, at every quality.

    Raises:
        CodecDetError: if the codec cannot be used.
    """
    from codec_det.conventional.process import kill_programs
    from codec_det.files import make_folder
    from codec_det.rate_distortion.all_pictures import measure_all
    from codec_det.rate_distortion.codec_choice import open_codec

    device = args.device or "cpu"
    # All of them first: what cannot work is found before long work.
    codecs = {q: open_codec(choice, q, device) for q in dict.fromkeys(args.quality)}
    make_folder(args.output_dir, "--output-dir")
    try:
        return measure_all(
            *(choice, codecs, files, of_picture),
            workers=args.workers,
            device=device,
            announce=partial(print, file=sys.stderr),
        )
    except KeyboardInterrupt:
        kill_programs()
        raise


def result_paths(args: argparse.Namespace, *ends: str) -> list[Path]:
    """Files of results, which end so."""
    name = args.codec if args.scale == 1 else f"{args.codec}_scale_{args.scale:g}"
    return [args.output_dir / f"{name}{end}" for end in ends]


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

    paths = result_paths(args, ".csv", ".json", ".png")
    write_rows(points, paths[0])
    record = curve_record(choice, points, conditions)
    with atomic_file(paths[1]) as unfinished:
        unfinished.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")
    if len(points) < 2:
        return paths[:2]
    plot_curve(choice, points, paths[2])
    return paths


def report_rates(
    args: argparse.Namespace, choice: CodecChoice, files: Sequence[Path], argv: Sequence[str]
) -> list[Failure]:
    """Measure, write and print rate and distortion; returns failures.

    Raises:
        CodecDetError: if the codec cannot be used, or nothing can be written.
    """
    from codec_det.rate_distortion.codec_choice import ESTIMATED
    from codec_det.rate_distortion.measurement import (
        RatePoint,
        format_table,
        lossless_note,
        measure_picture,
    )

    found = measure(args, choice, files, measure_picture)
    points = [RatePoint(q, found.codecs[q], rows) for q, rows in found.figures.items()]
    points.sort(key=lambda point: point.mean("bpp"))
    if points:
        conditions = {
            "failed": [{"file": str(path), "reason": reason} for path, reason in found.failures],
            "workers": found.workers,
            "device": args.device or "cpu",
            "arguments": list(argv),
        }
        paths = write_results(args, choice, points, conditions)
        print(f"{choice.title}, {len(points[0].rows)} pictures; means over pictures")
        print(format_table(points))
        if note := lossless_note(points):
            print(note)
        print(f"Rates are {choice.rate_is}.")
        if choice.rate_is != ESTIMATED and found.workers > 1:
            print(f"Times are of {found.workers} pictures at once: to quote them, use --workers 1.")
        print("\n".join(map(str, paths)))
    return found.failures


def report_borders(
    args: argparse.Namespace, choice: CodecChoice, files: Sequence[Path]
) -> list[Failure]:
    """Measure, write and print errors near the sides; returns failures.

    Raises:
        CodecDetError: as :func:`report_rates`.
    """
    from codec_det.rate_distortion.borders import (
        BORDER,
        add_up,
        format_borders,
        measure_borders,
        plot_borders,
        verdict,
        write_borders,
    )

    found = measure(args, choice, files, measure_borders)
    points = [(quality, add_up(figures)) for quality, figures in found.figures.items()]
    if points:
        table, picture = result_paths(args, "_borders.csv", "_borders.png")
        write_borders(points, table)
        plot_borders(choice.title, points, picture)
        print(
            f"{choice.title}, {len(files) - len(found.failures)} pictures cut to sizes of each "
            f"remainder by 64.\nPSNR in dB inside, and of the outer {BORDER} pixels of each side "
            "less that of the same pixels amid the picture:"
        )
        for quality, borders in points:
            print(f"quality {quality:g}\n{format_borders(borders)}\n{verdict(borders)}")
        print(f"{table}\n{picture}")
    return found.failures


def rate_distortion(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Run the tool; returns the exit status.

    Raises:
        CodecDetError: if something is wrong with anything but a picture.
    """
    from codec_det.data.image_io import SUFFIXES, describe_frames
    from codec_det.deploy.file_batch import describe_failures, find_files

    choice = choose_codec(args)
    batch = find_files(args.pictures, SUFFIXES, "pictures", recursive=args.recursive)
    files = batch.files
    for note in (batch.describe_others(), describe_frames(files)):
        if note:
            print(note, file=sys.stderr)
    if args.borders:
        failures = report_borders(args, choice, files)
    else:
        failures = report_rates(args, choice, files, argv)
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
