#!/usr/bin/env python
"""Try to break the reader of coded files: it must refuse what is damaged, and never go wrong.

Files of narrow codecs with random weights, of fixed and of variable rate, are changed in twelve
ways (bit flips, truncation, splices, forged headers, garbage, streams of extreme values, ...), each
as it is and with the checksum repaired, and read in child processes with limited memory. Each must
be refused with a reason, or be a file that an encoder would have written, and so decode to what is
coded to these very bytes. All else escapes: another exception, a crash, a hang, too much memory, a
wrong picture.

With --streams, streams of narrow codecs of sequences are changed: bytes, and records, which are
dropped, repeated, swapped or forged. A frame that is shown must then be one that was sent under its
number, in order; all else must be reported as lost.

Prints what came of each kind, and writes it to OUTPUT_DIR/fuzz.json. Bytes that escaped are saved
beside it, each as one file named by outcome and number, and the exit status is then 1.
"""

from __future__ import annotations

from command_line import DEPLOYABLE, not_negative, positive, run_command, run_program

import argparse
import json
import math
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

# codec_det is imported where it is used: --help need not wait for PyTorch.
if TYPE_CHECKING:
    from checks.fuzzing import Report
    from checks.mutations import Target
    from checks.stream_mutations import StreamTarget

CODECS = ("bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean")
CODECS_OF_SEQUENCES = tuple(f"{name}-temporal" for name in CODECS[1:])
# Height and width of the pictures whose files are changed.
SIZES = ((1, 1), (17, 33), (64, 64), (65, 40), (100, 128))
EPILOG = """
examples:
  a hundred thousand mutations of three codecs, in about a minute on two cores
    tools/fuzz_bitstream.py --output-dir output/fuzz
  others, of one codec, on one core
    tools/fuzz_bitstream.py --output-dir output/fuzz --codecs mbt2018-mean --seed 7 --workers 1
  streams of sequences, which take longer
    tools/fuzz_bitstream.py --output-dir output/fuzz_streams --streams --mutations 20000
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output-dir", type=Path, required=True, metavar="FOLDER", help="where the figures go")
    add(
        "--mutations",
        type=positive,
        default=100_000,
        metavar="N",
        help="to read, half of them with a repaired checksum (default: %(default)s)",
    )
    add(
        "--codecs",
        nargs="+",
        choices=(*DEPLOYABLE, *CODECS_OF_SEQUENCES),
        metavar="NAME",
        help=f"out of {', '.join(DEPLOYABLE)} (default: {' '.join(CODECS)}), or with --streams of "
        f"{', '.join(CODECS_OF_SEQUENCES)} (default: all)",
    )
    add("--streams", action="store_true", help="damage streams of sequences, not files of pictures")
    add(
        "--seed",
        type=not_negative,
        default=0,
        metavar="N",
        help="equal seeds give equal mutations (default: %(default)s)",
    )
    add(
        "--workers",
        type=positive,
        metavar="N",
        help="processes at a time (default: one per usable core)",
    )
    add(
        "--memory",
        type=positive,
        default=1024,
        metavar="MB",
        help="that reading a file may take beyond what is in use (default: %(default)s)",
    )
    add(
        "--time-limit",
        type=_seconds,
        default=5.0,
        metavar="S",
        help="seconds after which reading a file is a hang (default: %(default)s)",
    )
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{value} is no time")
    return value


# argparse names the type in its message: "invalid number value: 'x'".
_seconds.__name__ = "number"


def make_target(name: str) -> Target:
    """A narrow codec with random weights, and its files of pictures of some sizes."""
    import numpy as np
    import torch
    from torch import nn

    from checks.mutations import Target
    from codec_det.bitstream.expected import Expected
    from codec_det.codec.learned.bitstream_codec import PictureDecoder, picture_encoder
    from codec_det.codec.learned.freeze import freeze_entropy_model
    from codec_det.codec.learned.learned_codec import LearnedCodec

    torch.manual_seed(0)
    codec = LearnedCodec(name, 1, n=8, m=12, levels=3).eval()
    # Half as many symbols from level to level, as those of a trained codec have.
    assert codec.gains is not None
    codec.gains.log_gains.data -= torch.tensor([1.4, 0.7, 0.0])[:, None]
    for transform in (codec.model.g_a, getattr(codec.model, "h_a", None)):
        if transform is not None:
            *_, last = (layer for layer in transform.modules() if isinstance(layer, nn.Conv2d))
            # So that latents spread over many symbols, as those of a trained codec do.
            last.weight.data *= 30
    codec.refresh_tables()
    plain = freeze_entropy_model(name, codec.model)
    expected = Expected(scale=Fraction(1, 2), levels=codec.levels)
    entropy = freeze_entropy_model(name, codec.model, expected)
    decoder = PictureDecoder(codec.model.g_s, entropy, inverse_gains=codec.inverse_gains)
    numbers = np.random.default_rng(0)
    pictures = [numbers.integers(256, size=(*s, 3), dtype=np.uint8) for s in SIZES]
    pictures.append(np.zeros((*SIZES[-1], 3), np.uint8))
    # Version 1 has neither scale nor levels, and the fingerprint of the same model without them.
    old = picture_encoder(codec.model, plain.of_version(1))
    new = picture_encoder(codec.model, entropy, codec.gains)
    files = [old.encode(picture) for picture in pictures]
    files += [new.encode(picture, i % 5 / 2) for i, picture in enumerate(pictures)]
    return Target(name, entropy, lambda latents: decoder.synthesize(latents).numpy(), tuple(files))


def make_stream_target(name: str) -> StreamTarget:
    """A narrow codec of sequences with random weights, and streams of two clips."""
    import numpy as np
    import torch
    from torch import nn

    from checks.stream_mutations import StreamTarget
    from codec_det.codec.learned.bitstream_codec import PictureDecoder, picture_encoder
    from codec_det.codec.learned.frame_coding import sequence_encoder
    from codec_det.codec.learned.freeze import freeze_entropy_model, freeze_prediction
    from codec_det.codec.learned.temporal_codec import TemporalCodec
    from codec_det.deploy.streams import StreamEncoder

    torch.manual_seed(0)
    codec: Any = TemporalCodec(name, 1, n=8, m=12, key_interval=4).eval()
    for transform in (codec.model.g_a, codec.model.h_a, codec.prediction.h_a):
        *_, last = (layer for layer in transform.modules() if isinstance(layer, nn.Conv2d))
        last.weight.data *= 30
    # So that it corrects something.
    codec.prediction.network[-1].weight.data.normal_(0, 0.3)
    codec.refresh_tables()
    entropy = freeze_entropy_model(name, codec.model)
    prediction = freeze_prediction(name, codec.prediction, entropy)
    decoder = PictureDecoder(codec.model.g_s, entropy)
    clips = []
    for height, width in ((17, 33), (32, 48)):
        numbers = np.random.default_rng(height)
        scene = numbers.integers(256, size=(height, width, 3), dtype=np.uint8)
        pictures = picture_encoder(codec.model, entropy)
        encoder = StreamEncoder(sequence_encoder(pictures, codec.prediction, prediction, 4))
        clips.append(tuple(encoder.encode(np.roll(scene, t, axis=1)) for t in range(9)))
    return StreamTarget(
        name, prediction, lambda latents: decoder.synthesize(latents).numpy(), tuple(clips)
    )


def summarize(report: Report, args: argparse.Namespace) -> dict[str, Any]:
    """What fuzz.json holds."""
    from checks.fuzzing import ESCAPES, OUTCOMES, PICTURES, STREAMS

    names = {
        outcome: int(count)
        for outcome, count in zip(OUTCOMES, report.counts.sum((0, 1, 2)), strict=True)
    }
    by_kind = {
        kind: {
            checksum: dict(zip(OUTCOMES, report.counts[:, k, c].sum(0).tolist(), strict=True))
            for c, checksum in enumerate(("as is", "repaired"))
        }
        for k, kind in enumerate((STREAMS if args.streams else PICTURES).kinds)
    }
    return {
        "codecs": list(args.codecs),
        "seed": args.seed,
        "mutations": int(report.counts.sum()),
        "escaped": sum(names[outcome] for outcome in ESCAPES),
        "outcomes": names,
        "by_codec": {
            name: dict(zip(OUTCOMES, counts.sum((0, 1)).tolist(), strict=True))
            for name, counts in zip(args.codecs, report.counts, strict=True)
        },
        "by_kind": by_kind,
        "seconds": report.seconds,
        "slowest_seconds": report.slowest,
        "peak_bytes": report.peak_bytes,
    }


def print_summary(summary: dict[str, Any]) -> None:
    """A line per kind of mutation, with the sums of both checksums, and what it took."""
    from checks.fuzzing import ALLOWED, ESCAPES, OUTCOMES

    columns = [*ALLOWED, *(name for name in ESCAPES if summary["outcomes"][name])]
    print(f"{'':14}" + "".join(f"{name:>15}" for name in columns))
    rows = {
        kind: {name: sum(half[name] for half in halves.values()) for name in OUTCOMES}
        for kind, halves in summary["by_kind"].items()
    }
    for kind, row in {**rows, "all": summary["outcomes"]}.items():
        print(f"{kind:14}" + "".join(f"{row[name]:15}" for name in columns))
    print(
        f"{summary['mutations']} mutations in {summary['seconds']:.1f} s "
        f"({summary['mutations'] / summary['seconds']:.0f} per second); the slowest took "
        f"{1000 * summary['slowest_seconds']:.0f} ms, the largest "
        f"{summary['peak_bytes'] / 2**20:.0f} MB; {summary['escaped']} escaped"
    )


def write_results(folder: Path, report: Report, summary: dict[str, Any], suffix: str) -> list[Path]:
    """fuzz.json, and the bytes of what escaped; the paths."""
    from codec_det.files import atomic_file

    paths = []
    for escape in report.escapes:
        name = f"{escape.outcome.replace(' ', '_')}_{escape.number}{suffix}"
        paths.append(folder / name)
        with atomic_file(paths[-1]) as partial_path:
            partial_path.write_bytes(escape.mutation.data)
    paths.append(folder / "fuzz.json")
    with atomic_file(paths[-1]) as partial_path:
        partial_path.write_text(json.dumps(summary, indent=2) + "\n")
    return paths


def fuzz_bitstream(args: argparse.Namespace) -> int:
    """Run the tool; returns the exit status.

    Raises:
        CodecDetError: if the folder cannot be written to.
    """
    import torch
    from tqdm import tqdm

    from checks.fuzzing import PICTURES, STREAMS, fuzz
    from codec_det.deploy.cores import usable_cores
    from codec_det.errors import ConfigError
    from codec_det.files import make_folder

    usual = CODECS_OF_SEQUENCES if args.streams else CODECS
    args.codecs = args.codecs or usual
    for name in args.codecs:
        if name.endswith("-temporal") != args.streams:
            raise ConfigError(
                f"--codecs {name}: streams are of {', '.join(CODECS_OF_SEQUENCES)}, and files of "
                "the others: give --streams with these alone"
            )
    torch.set_num_threads(1)
    make_folder(args.output_dir, "--output-dir")
    make = make_stream_target if args.streams else make_target
    targets = [make(name) for name in args.codecs]
    with tqdm(total=args.mutations, unit="file", mininterval=1) as bar:
        report = fuzz(
            targets,
            args.mutations,
            method=STREAMS if args.streams else PICTURES,
            seed=args.seed,
            workers=args.workers or usable_cores(),
            memory_bytes=args.memory * 2**20,
            time_limit=args.time_limit,
            progress=partial(_show, bar),
        )
    summary = summarize(report, args)
    suffix = ".cdetv" if args.streams else ".cdet"
    paths = write_results(args.output_dir, report, summary, suffix)
    print_summary(summary)
    print("\n".join(map(str, paths)))
    return 1 if summary["escaped"] else 0


def _show(bar: Any, done: int) -> None:
    bar.update(done - bar.n)


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(build_parser().parse_args, fuzz_bitstream, argv)


if __name__ == "__main__":
    run_program(main)
