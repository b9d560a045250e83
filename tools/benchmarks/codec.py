"""Encoding and decoding against CompressAI's own compress and decompress, with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from compressai.models import CompressionModel
from compressai.registry import MODELS

from codec_det.codec.learned.bitstream_codec import BitstreamCodec
from codec_det.codec.learned.fast_transforms import set_inner_dtype
from codec_det.codec.learned.precision import transforms_dtype
from codec_det.codec.learned.state import codec_weights
from codec_det.codec.table import build_codec
from codec_det.config import load_config
from codec_det.data.scenes import render_scene
from codec_det.errors import WeightsError
from codec_det.training.checkpoint import load_codec_weights, read_checkpoint

from .result import BenchmarkResult, BenchmarkRow
from .settings import BenchmarkSettings
from .timing import compare, in_turn


def build_sides(settings: BenchmarkSettings, name: str) -> tuple[BitstreamCodec, CompressionModel]:
    """Our codec, and CompressAI's own model with the same weights; random ones without a file.

    Raises:
        WeightsError: if the file is missing or holds none of a ``name``.
    """
    torch.manual_seed(0)
    weights = settings.weights
    opts = ["MODEL.CODEC.NAME", name, "MODEL.CODEC.QUALITY", str(settings.quality)]
    checkpoint = codec_weights(read_checkpoint(weights)) if weights else {}
    if weights:
        first, last = "model.g_a.0.weight", "model.g_a.6.weight"
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
    return BitstreamCodec(codec.to(settings.device)), peer.to(settings.device).eval()


def measure(settings: BenchmarkSettings) -> BenchmarkResult:
    """Every codec of ``settings.codecs`` on a generated picture.

    In bfloat16, too, where deployed tools choose it. The notes have lengths in bytes, and the
    largest difference of two reconstructions in 8-bit levels: ours from CompressAI's, and ours in
    bfloat16 from ours in float32.

    Raises:
        WeightsError: as of :func:`build_sides`.
    """
    rows: list[BenchmarkRow] = []
    notes = {}
    for name in settings.codecs:
        result = _measure_codec(settings, name)
        rows += result.rows
        notes[name] = result.notes
    return BenchmarkResult(rows, notes=notes)


def _measure_codec(settings: BenchmarkSettings, name: str) -> BenchmarkResult:
    ours, peer = build_sides(settings, name)
    height, width = settings.codec_size
    picture, _ = render_scene(np.random.default_rng(0), height, width)

    def peer_encode() -> dict[str, Any]:
        return peer_compress(settings, peer, picture)

    def peer_decode() -> torch.Tensor:
        return peer.decompress(**coded)["x_hat"][0, :, :height, :width]

    def encode(dtype: torch.dtype = torch.float32) -> bytes:
        set_inner_dtype(ours.codec, dtype)
        return ours.encoder.encode(picture)

    def decode(dtype: torch.dtype = torch.float32) -> torch.Tensor:
        set_inner_dtype(ours.codec, dtype)
        return ours.decoder.decode(data)

    sides: dict[str, Callable[[], object]] = {"encode": encode, "decode": decode}
    lower = transforms_dtype(settings.device) == torch.bfloat16
    if lower:
        sides["encode in bfloat16"] = partial(encode, torch.bfloat16)
        sides["decode in bfloat16"] = partial(decode, torch.bfloat16)
    with torch.inference_mode():
        data, coded = encode(), peer_encode()
        seconds = in_turn(
            {**sides, "peer_encode": peer_encode, "peer_decode": peer_decode},
            settings.rounds,
            synchronize=settings.synchronize,
            label=f"codec {name}",
        )
        notes = {
            "bytes": len(data),
            "peer_bytes": sum(len(stream) for kind in coded["strings"] for stream in kind),
            "max_difference": _levels(decode(), peer_decode()),
        }
        if lower:
            notes["bfloat16_bytes"] = len(encode(torch.bfloat16))
            notes["bfloat16_max_difference"] = _levels(decode(torch.bfloat16), decode())
    rows = [
        BenchmarkRow(
            f"{name}, {side}",
            "CompressAI",
            compare(seconds[side], seconds[f"peer_{side.split()[0]}"]),
        )
        for side in sides
    ]
    return BenchmarkResult(rows, notes=notes)


def peer_compress(
    settings: BenchmarkSettings, peer: CompressionModel, picture: np.ndarray
) -> dict[str, Any]:
    """What CompressAI makes of a picture (H, W, 3), uint8 RGB."""
    bottom, right = (-side % peer.downsampling_factor for side in picture.shape[:2])
    # From the same 8-bit picture: conversion and padding are part of coding it.
    x = torch.from_numpy(picture.transpose(2, 0, 1).copy()).to(settings.device)
    return peer.compress(F.pad(x[None].float() / 255, (0, right, 0, bottom), mode="replicate"))


def _levels(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference of pictures in [0, 1], in 8-bit levels."""
    return 255 * (one - other).abs().max().item()
