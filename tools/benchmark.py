#!/usr/bin/env python
"""Measure speed and memory against CompressAI and detectron2, with the same weights.

Sections:
  codec       encoding and decoding pictures, against CompressAI's compress and decompress
  camera      encoding in ONNX Runtime, in float and in 8 bits, against CompressAI's compress
  video       coding a sequence, frame by frame and with predicted frames, and AVC, VVC and AV1 at
              low delay, against HEVC at low delay
  folders     encode.py, decode.py and detect.py over a folder, with all cores against one
  training    a J-FT step against detectron2's step plus CompressAI's step on the same pictures; the
              other regimes against J-FT; the memory of each
  receiver    from a file to instances, by a detector in latents against one in pictures
  evaluation  with real bits, with estimated bits, and of the detector alone
  growth      of coding and training with pixels, and of evaluation with pictures
  parallel    training by two processes against one
  box_ap      of 5,000 pictures with 100 detections each, against detectron2's evaluator
  startup     importing codec_det against importing detectron2; the slowest --help of the tools

The sides of a section take turns. Reported are medians, and the ratio of the first side to the
second with its quartiles: below 1, less time or memory.
"""

from __future__ import annotations

from command_line import DEPLOYABLE, positive, run_command, run_program

import argparse
import json
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

# codec_det is imported where it is used: --help need not wait for PyTorch.
if TYPE_CHECKING:
    from benchmarks.settings import BenchmarkSettings

# Modules of benchmarks; each has measure(settings).
SECTIONS = (
    *("codec", "camera", "video", "folders", "training", "receiver", "evaluation", "growth"),
    *("parallel", "box_ap", "startup"),
)

CONFIG = str(Path(__file__).parent.parent / "configs" / "shapes" / "jft.yaml")

SHORT: dict[str, Any] = {
    "rounds": 3,
    "size": (240, 320),
    "pictures": 4,
    "frames": 4,
    "detected": 250,
    "sides": (128, 256, 512),
    "codecs": ("bmshj2018-hyperprior",),
    "memory_of": ("J-FT", "detectron2", "CompressAI", "J-FT, checkpointed"),
}

EPILOG = """
examples:
  everything, with a thin detector and codec: several minutes
    tools/benchmark.py --output benchmark.json
  in under two minutes
    tools/benchmark.py --short
  one section
    tools/benchmark.py --sections codec --codecs bmshj2018-hyperprior
  full-size R50-FPN and codec, with random weights
    tools/benchmark.py --sections training --rounds 3 --config-file configs/jft_R50.yaml \\
        MODEL.WEIGHTS "''" MODEL.CODEC.WEIGHTS "''"
  on a GPU
    tools/benchmark.py --device cuda --output benchmark.json

Run it on an idle machine: what else runs changes the times, and less so the ratios.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--sections", nargs="+", choices=SECTIONS, default=SECTIONS, help="default: all")
    add("--short", action="store_true", help="few rounds, small pictures, one codec")
    add("--rounds", type=positive, metavar="N", help="runs of each side (default: 10; short: 3)")
    add("--threads", type=positive, default=1, metavar="N", help="of PyTorch (default: 1)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    add("--output", type=Path, metavar="FILE", help="write all figures here, as JSON")
    add(
        "--size",
        type=positive,
        nargs=2,
        metavar=("H", "W"),
        help="of pictures (default: 512 768 for the sections codec and camera, else 480 640)",
    )
    chain = parser.add_argument_group("all sections but codec, camera and startup")
    chain.add_argument(
        "--config-file",
        default=CONFIG,
        metavar="FILE",
        help="of the chain (default: configs/shapes/jft.yaml, a thin R50-FPN and a narrow codec "
        "with weights, the detector's input being as large as the pictures)",
    )
    chain.add_argument(
        "--batch-size", type=positive, default=2, metavar="N", help="pictures per training step"
    )
    chain.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="config keys to change, at the end",
    )
    codecs = parser.add_argument_group("sections codec and camera").add_argument
    codecs(
        "--codecs",
        nargs="+",
        choices=DEPLOYABLE,
        metavar="NAME",
        # Of BenchmarkSettings.codecs, which are not imported yet.
        help=f"out of {', '.join(DEPLOYABLE)} (default: all but bmshj2018-factorized-relu; short: "
        f"{' '.join(SHORT['codecs'])})",
    )
    codecs("--quality", type=int, default=1, choices=range(1, 9), metavar="Q", help="1 to 8")
    codecs("--weights", default="", metavar="FILE", help="of one codec (default: random ones)")
    return parser


def read_settings(args: argparse.Namespace) -> BenchmarkSettings:
    """BenchmarkSettings of the command line; --short changes those that were not given."""
    from benchmarks.settings import BenchmarkSettings

    default = BenchmarkSettings(
        config_file=args.config_file,
        batch_size=args.batch_size,
        threads=args.threads,
        device=args.device,
        quality=args.quality,
        weights=args.weights,
    )
    changed: dict[str, Any] = dict(SHORT) if args.short else {}
    if args.size:
        changed["size"] = changed["codec_size"] = tuple(args.size)
    if args.rounds:
        changed["rounds"] = args.rounds
    if args.codecs:
        changed["codecs"] = tuple(args.codecs)
    settings = replace(default, **changed)
    opts: tuple[str, ...] = ()
    if args.config_file == CONFIG:
        # This config's own detector input is made for pictures of 128x128.
        side = min(settings.size)
        opts = ("INPUT.MIN_SIZE_TRAIN", f"({side},)", "INPUT.MIN_SIZE_TEST", str(side))
    return replace(settings, opts=(*opts, *args.opts))


def benchmark(args: argparse.Namespace) -> None:
    """Run the tool.

    Raises:
        CodecDetError: if something cannot be measured, or not be written.
    """
    import torch

    from benchmarks.environment import describe_environment
    from benchmarks.result import table
    from codec_det.config_checks import check_devices
    from codec_det.files import atomic_file, make_folder

    settings = read_settings(args)
    torch.set_num_threads(args.threads)
    check_devices(1, args.device)
    if args.output:
        make_folder(args.output.parent, "the folder of --output")
    environment = describe_environment(args.device, args.threads)
    print("\n".join(f"{name}: {value}" for name, value in environment.items()))
    sections = {}
    for name in args.sections:
        result = import_module(f"benchmarks.{name}").measure(settings)
        print(f"\n{name}\n{table(result)}", flush=True)
        sections[name] = result.record()
    if args.output:
        record = {"environment": environment, "settings": asdict(settings), "sections": sections}
        with atomic_file(args.output) as partial:
            partial.write_text(json.dumps(record, indent=1))
        print(f"\nAll figures are in {args.output}")


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(build_parser().parse_args, benchmark, argv)


if __name__ == "__main__":
    run_program(main)
