#!/usr/bin/env python
"""Measure speed against CompressAI's own compress and decompress, with the same weights.

Both sides code the same pictures in turn in one process; what is reported is medians, and the ratio
of the peer's time to ours with its quartiles: above 1, ours is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from compressai.models import CompressionModel
from compressai.registry import MODELS

from codec_det.bitstream.ids import CODEC_IDS
from codec_det.checkpoint import load_codec_weights, read_checkpoint
from codec_det.codec import build_codec
from codec_det.codec.bitstream_codec import BitstreamCodec
from codec_det.codec.state import codec_weights
from codec_det.command_line import positive
from codec_det.config import load_config
from codec_det.data.scenes import render_scene
from codec_det.errors import CodecDetError, WeightsError
from codec_det.files import atomic_file, make_folder
from codec_det.timing import Comparison, compare

EPILOG = """
examples:
  one thread, 768x512, the hyperprior of quality 1
    tools/benchmark.py --output benchmark.json
  in under two minutes
    tools/benchmark.py --rounds 3 --codecs bmshj2018-hyperprior

Run it on an idle machine: what else runs changes the times, and less so the ratios.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--codecs",
        nargs="+",
        choices=list(CODEC_IDS),
        default=["bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean"],
        metavar="NAME",
        help="out of %(choices)s (default: %(default)s)",
    )
    add("--quality", type=int, default=1, choices=range(1, 9), metavar="Q", help="1 to 8")
    add("--weights", default="", metavar="FILE", help="of one codec (default: random ones)")
    add(
        "--size",
        type=positive,
        nargs=2,
        default=(512, 768),
        metavar=("H", "W"),
        help="of the picture",
    )
    add("--rounds", type=positive, default=10, metavar="N", help="runs of each side (default: 10)")
    add("--threads", type=positive, default=1, metavar="N", help="of PyTorch (default: 1)")
    add("--output", type=Path, metavar="FILE", help="write all figures here, as JSON")
    return parser


def build_sides(name: str, quality: int, weights: str) -> tuple[BitstreamCodec, CompressionModel]:
    """Our codec, and CompressAI's own model with the same weights; random ones without a file."""
    torch.manual_seed(0)
    opts = ["MODEL.CODEC.NAME", name, "MODEL.CODEC.QUALITY", str(quality)]
    checkpoint = codec_weights(read_checkpoint(weights)) if weights else {}
    if weights:
        first, last = "g_a.0.weight", "g_a.6.weight"
        if not {first, last} <= checkpoint.keys():
            raise WeightsError(f"'{weights}' has no weights of a {name}: give a checkpoint of one")
        n, m = checkpoint[first].shape[0], checkpoint[last].shape[0]
        opts += ["MODEL.CODEC.N", str(n), "MODEL.CODEC.M", str(m)]
    cfg = load_config("", [*opts, "MODEL.CODEC.WEIGHTS", weights])
    codec: Any = build_codec(cfg)
    load_codec_weights(codec, cfg)
    codec.model.update()
    peer = MODELS[name](*codec.widths)
    peer.load_state_dict(codec.model.state_dict())
    return BitstreamCodec(codec), peer.eval()


def compare_codec(
    name: str, quality: int, weights: str, size: tuple[int, int], rounds: int
) -> dict[str, Any]:
    """Encode and decode a generated picture with both sides.

    Returns:
        Comparisons by stage, lengths in bytes, and the largest difference of the two
        reconstructions in 8-bit levels.
    """
    ours, peer = build_sides(name, quality, weights)
    picture, _ = render_scene(np.random.default_rng(0), *size)
    bottom, right = (-side % ours.stride for side in size)
    with torch.inference_mode():

        def peer_encode() -> dict[str, Any]:
            # From the same 8-bit picture: conversion and padding are part of coding it.
            x = torch.from_numpy(picture.transpose(2, 0, 1).copy())[None].float() / 255
            return peer.compress(F.pad(x, (0, right, 0, bottom), mode="replicate"))

        data, coded = ours.encoder.encode(picture), peer_encode()

        def peer_decode() -> torch.Tensor:
            return peer.decompress(**coded)["x_hat"][0, :, : size[0], : size[1]]

        return {
            "encode": compare(lambda: ours.encoder.encode(picture), peer_encode, rounds)._asdict(),
            "decode": compare(lambda: ours.decoder.decode(data), peer_decode, rounds)._asdict(),
            "bytes": len(data),
            "peer_bytes": sum(len(stream) for kind in coded["strings"] for stream in kind),
            "max_difference": 255 * (ours.decoder.decode(data) - peer_decode()).abs().max().item(),
        }


def describe(name: str, result: dict[str, Any]) -> str:
    """Lines for people."""
    lines = [
        f"{name}: {result['bytes']} bytes against {result['peer_bytes']}, pictures within "
        f"{result['max_difference']:.2f} levels"
    ]
    for stage in ("encode", "decode"):
        c = Comparison(**result[stage])
        lines.append(
            f"  {stage}: {c.ours:.3f} s against {c.theirs:.3f} s, {c.ratio:.2f} times as fast "
            f"({c.low:.2f} to {c.high:.2f}, {c.rounds} rounds)"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    args = build_parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    try:
        if args.output:
            make_folder(args.output.parent, "the folder of --output")
        results = {}
        for name in args.codecs:
            size = tuple(args.size)
            results[name] = compare_codec(name, args.quality, args.weights, size, args.rounds)
            print(describe(name, results[name]), flush=True)
        if args.output:
            record = {
                "codecs": results,
                "arguments": {k: str(v) for k, v in vars(args).items()},
                "machine": f"{platform.machine()}, {os.cpu_count()} cores",
                "versions": {k: version(k) for k in ("torch", "compressai", "numpy")},
            }
            with atomic_file(args.output) as partial:
                partial.write_text(json.dumps(record, indent=1))
            print(f"All figures are in {args.output}")
    except CodecDetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
