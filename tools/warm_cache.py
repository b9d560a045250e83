#!/usr/bin/env python
"""Code a config's data sets with its conventional codec, before training and evaluation need them.

Loaders code pictures that they do not find in MODEL.CODEC.CACHE while the GPU waits for them. This
tool codes all pictures of DATASETS.TRAIN and DATASETS.TEST into that cache beforehand, on all cores
and, with --part, on several machines that share the folder. Give the same config and keys as to
tools/train_net.py. Pictures that are in the cache are passed over: a run may be stopped at any
time, and goes on where it was.

The last line says what the run took. Pictures per second and core is of the time between the first
picture's start and the last one's end; the parallel efficiency of N workers is that figure with N
workers over that with one, each measured with an empty cache on an idle machine. CPU time is of
encoders and workers together.

A picture that fails is named at the end, and the exit status is 1.
"""

from __future__ import annotations

from command_line import positive, run_command, run_program

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

# codec_det is imported where it is used: --help need not wait for PyTorch.
if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from codec_det.codec.conventional import Precoder
    from codec_det.data.cache_warmup import Totals
    from codec_det.data.coded_sequences import Group, SequencePrecoder
    from codec_det.deploy.file_batch import Failure

SETS = ("train", "test")
# Pictures by which the size of all is estimated.
SAMPLE = 32
# What hits so many pictures one after the other is no damage to pictures: the disk is full, ...
MAX_FAILURES_IN_A_ROW = 50
EPILOG = """
examples:
  HEVC at QP 32, then an evaluation that encodes nothing
    tools/warm_cache.py --config-file configs/baseline_R50.yaml --sets test \\
        MODEL.CODEC.NAME hevc MODEL.CODEC.QUALITY 32
    tools/train_net.py --config-file configs/baseline_R50.yaml --eval-only \\
        MODEL.CODEC.NAME hevc MODEL.CODEC.QUALITY 32
  the second of eight machines that share a disk
    tools/warm_cache.py --config-file configs/tft_R50.yaml --part 2/8 MODEL.CODEC.NAME vvc \\
        MODEL.CODEC.QUALITY 37 MODEL.CODEC.CACHE /shared/coded MODEL.CODEC.CACHE_GB 50.0
  the parallel efficiency of eight workers: the last figure of the second line over the first's
    for n in 1 8; do
      tools/warm_cache.py --config-file configs/baseline_R50.yaml --sets test --workers $n \
          MODEL.CODEC.NAME hevc MODEL.CODEC.QUALITY 32 MODEL.CODEC.CACHE $(mktemp -d) | tail -1
    done
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", default="", metavar="FILE", help="as of tools/train_net.py")
    add(
        "--part",
        type=_part,
        default=(1, 1),
        metavar="I/N",
        help="code every N-th picture from the I-th on, I from 1 to N (default: all)",
    )
    add(
        "--workers",
        type=positive,
        metavar="N",
        help="pictures coded at a time (default: one per usable core)",
    )
    add(
        "--sets",
        nargs="+",
        default=list(SETS),
        metavar="SET",
        help="train (DATASETS.TRAIN), test (DATASETS.TEST) or both (default: both)",
    )
    add("opts", nargs="*", metavar="KEY VALUE", help="config keys, see codec_det/config.py")
    return parser


def _part(text: str) -> tuple[int, int]:
    number, _, parts = text.partition("/")
    try:
        i, n = int(number), int(parts)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not I/N, such as 2/8") from None
    if not 1 <= i <= n:
        raise argparse.ArgumentTypeError(f"'{text}': I must be from 1 to N")
    return i, n


def open_config(args: argparse.Namespace) -> CfgNode:
    """The config, checked, with the chosen data sets alone, registered.

    Raises:
        CodecDetError: if it cannot be worked with.
    """
    from codec_det.codec.table import conventional_codecs
    from codec_det.config import load_config
    from codec_det.config_checks import check_config
    from codec_det.data.register import check_datasets, register_datasets
    from codec_det.errors import ConfigError

    # --sets takes whatever follows it.
    sets = list(takewhile(lambda word: word in SETS, args.sets))
    if not sets:
        raise ConfigError(f"--sets {args.sets[0]}: choose train, test or both")
    cfg = load_config(args.config_file, args.sets[len(sets) :] + args.opts)
    if cfg.MODEL.CODEC.NAME not in conventional_codecs():
        raise ConfigError(
            f"MODEL.CODEC.NAME is {cfg.MODEL.CODEC.NAME}, whose pictures are not cached: choose "
            f"one of {', '.join(conventional_codecs())}"
        )
    if not cfg.MODEL.CODEC.CACHE:
        raise ConfigError("MODEL.CODEC.CACHE is '', so there is nothing to fill: name a folder")
    check_config(cfg)
    register_datasets(cfg)
    cfg = cfg.clone()
    cfg.defrost()
    for name in SETS:
        if name not in sets:
            cfg.DATASETS[name.upper()] = ()
    check_datasets(cfg, train=bool(cfg.DATASETS.TRAIN))
    return cfg


def fill(
    files: Sequence[Group], precoder: Precoder | SequencePrecoder, workers: int, count: int
) -> tuple[Totals, list[Failure]]:
    """Code ``files`` with a progress bar.

    Args:
        count: pictures of all parts together.

    Raises:
        CodecDetError: if a worker is killed, or nothing works any more.
    """
    from tqdm import tqdm

    from codec_det.data.cache_warmup import Totals, code_all, size_warning
    from codec_det.deploy.file_batch import Failure
    from codec_det.errors import CodecDetError

    assert precoder.cache is not None
    totals, failures, in_a_row = Totals(), [], 0
    outcomes = code_all(files, precoder, workers)
    left = sum(map(len, files))
    with closing(outcomes), tqdm(total=left, unit="img") as bar:
        for number, outcome in enumerate(outcomes, start=1):
            totals.add(outcome)
            left -= outcome.pictures
            in_a_row = in_a_row + 1 if outcome.reason else 0
            if outcome.reason:
                failures.append(Failure(Path(outcome.path), outcome.reason))
            if in_a_row == MAX_FAILURES_IN_A_ROW:
                raise CodecDetError(f"{in_a_row} pictures in a row failed, last {outcome.reason}")
            if number == min(SAMPLE, len(files)):
                warning = size_warning(totals, count, left, precoder.cache)
                if warning:
                    bar.write(f"warning: {warning}", file=sys.stderr)
            shown = {"found": totals.found, "failed": len(failures)}
            bar.set_postfix(bpp=f"{totals.bpp:.4f}", **shown, refresh=False)
            bar.update(outcome.pictures)
    return totals, failures


def describe(totals: Totals, failed: int, workers: int) -> str:
    """What the run did and took."""
    from codec_det.deploy.cores import usable_cores

    cores = min(workers, usable_cores())
    speed = totals.coded / totals.seconds / cores if totals.seconds else 0.0
    return (
        f"coded {totals.coded}, found {totals.found}, failed {failed}: {totals.size} bytes, "
        f"{totals.bpp:.4f} bpp; {totals.seconds:.2f} s with {workers} at a time, "
        f"{totals.cpu_seconds:.2f} s of CPU, {speed:.4g} coded pictures per second and core"
    )


def warm_cache(args: argparse.Namespace) -> int:
    """Run the tool; returns the exit status.

    Raises:
        CodecDetError: if something is wrong with anything but a picture.
    """
    from codec_det.data.cache_warmup import files_to_code
    from codec_det.data.coded_sequences import build_sequence_precoder
    from codec_det.deploy.cores import usable_cores
    from codec_det.deploy.file_batch import describe_failures
    from codec_det.errors import ConfigError

    cfg = open_config(args)
    precoder = build_sequence_precoder(cfg, ())
    assert precoder is not None
    assert precoder.cache is not None
    everything = files_to_code(cfg)
    i, n = args.part
    files = everything[i - 1 :: n]
    if not files:
        raise ConfigError(
            f"there is no picture in --part {i}/{n} of the {len(everything)} in DATASETS.TRAIN and "
            "DATASETS.TEST: give fewer parts, or other sets"
        )
    workers = min(args.workers or usable_cores(), len(files))
    pictures, count = sum(map(len, files)), sum(map(len, everything))
    totals, failures = fill(files, precoder, workers, count)
    if failures:
        print(describe_failures(failures, len(files)), file=sys.stderr)
    codec = precoder.codec
    print(
        f"{pictures} of {count} pictures, {codec.name} at {codec.quality_text}, "
        f"{codec.version()}, in {precoder.cache.folder}"
    )
    print(describe(totals, len(failures), workers))
    return 1 if failures else 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(
        build_parser().parse_args,
        warm_cache,
        argv,
        interrupted="what is coded is kept; run the same command again to go on",
    )


if __name__ == "__main__":
    run_program(main)
