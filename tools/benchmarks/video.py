"""Coding a sequence: the learned codec of the chain with and without predicted frames, and AVC, VVC
and AV1 at low delay, against HEVC at low delay."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from codec_det.bitstream.frame_encoder import SequenceEncoder
from codec_det.bitstream.onnx_encoder import load_onnx_sequence_encoder
from codec_det.codec.learned.frame_coding import TemporalBitstreamCodec
from codec_det.codec.table import build_codec
from codec_det.conventional import build_picture_codec
from codec_det.conventional.inter_video import InterVideoCodec, inter_codec
from codec_det.data.moving_scenes import Motion, render_sequence
from codec_det.deploy.model_files import save_onnx_encoder
from codec_det.sequences import Frame
from codec_det.training.checkpoint import load_codec_weights

from .result import BenchmarkResult, BenchmarkRow
from .settings import BenchmarkSettings
from .timing import compare, in_turn

PEER = "hevc"
# Of about the same PSNR on generated sequences.
QUALITIES = {"avc": 42, PEER: 40, "vvc": 40, "av1": 60}
INTRA, TEMPORAL, ONNX = "frame by frame", "predicted", "predicted, ONNX Runtime"

Sides = dict[str, Callable[[], Any]]


def measure(settings: BenchmarkSettings) -> BenchmarkResult:
    """A generated sequence of a static camera, one key frame; times are of a frame.

    Programs get all frames at once, on one thread, and are started for it. The notes have bytes
    and frames per second.

    Raises:
        ConfigError: if ffmpeg is missing, or the chain's codec has no predicted frames.
        WeightsError: if its weights do not fit.
    """
    motion = Motion(frames=settings.frames)
    drawn = render_sequence(np.random.default_rng(0), *settings.size, motion)
    frames = np.stack([picture for picture, _ in drawn])
    peers = {
        name: inter_codec(build_picture_codec(name, quality), len(frames))
        for name, quality in QUALITIES.items()
    }
    learned = _learned(settings)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.onnx"
        save_onnx_encoder(path, learned.codec, learned.entropy, prediction=learned.prediction)
        onnx = load_onnx_sequence_encoder(path, settings.threads)
    run = partial(in_turn, rounds=settings.rounds, synchronize=settings.synchronize)
    with torch.inference_mode():
        encoders = _encoders(learned, onnx, peers, frames)
        coded = {name: encode() for name, encode in encoders.items()}
        encoding = run(encoders, label="video, encoding")
        decoding = run(_decoders(learned, peers, coded), label="video, decoding")
    rows, notes = [], {}
    for verb, seconds in (("encode", encoding), ("decode", decoding)):
        per_frame = {name: found / len(frames) for name, found in seconds.items()}
        for name, found in per_frame.items():
            notes[f"{verb}, {name}"] = f"{1 / np.median(found):.2f} frames per second"
            if name != PEER:
                against = compare(found, per_frame[PEER])
                rows.append(BenchmarkRow(f"{verb}, {name}", PEER, against, "s/frame"))
    sizes = {name: _size(one) / len(frames) for name, one in coded.items()}
    return BenchmarkResult(rows, notes={**notes, "bytes per frame": sizes})


def _learned(settings: BenchmarkSettings) -> TemporalBitstreamCodec:
    usual = settings.config().MODEL.CODEC.NAME
    interval = max(settings.frames, 2)
    cfg = settings.config(
        *("MODEL.CODEC.NAME", f"{usual.removesuffix('-temporal')}-temporal"),
        *("MODEL.CODEC.KEY_INTERVAL", interval, "INPUT.CLIP_LENGTH", 2),
    )
    codec: Any = build_codec(cfg)
    load_codec_weights(codec, cfg)
    codec.refresh_tables()
    return TemporalBitstreamCodec(codec.to(settings.device).eval())


def _encoders(
    learned: TemporalBitstreamCodec,
    onnx: SequenceEncoder,
    peers: dict[str, InterVideoCodec],
    frames: np.ndarray,
) -> Sides:
    def intra() -> list[tuple[bool, bytes]]:
        return [(True, learned.encoder.encode(frame)) for frame in frames]

    sides: Sides = {
        INTRA: intra,
        TEMPORAL: partial(_encode, learned.sender, frames),
        ONNX: partial(_encode, onnx, frames),
    }
    return sides | {name: partial(codec.encode, frames) for name, codec in peers.items()}


def _encode(encoder: SequenceEncoder, frames: np.ndarray) -> list[tuple[bool, bytes]]:
    """Whether each is a key frame, as the first is, and what is sent of it."""
    _, height, width, _ = frames.shape
    # The first does not follow on the last of the call before.
    return [encoder.encode(frame, (height, width), Frame(0, t)) for t, frame in enumerate(frames)]


def _decoders(
    learned: TemporalBitstreamCodec, peers: dict[str, InterVideoCodec], coded: dict[str, Any]
) -> Sides:
    def decode(sent: list[tuple[bool, bytes]]) -> list[torch.Tensor]:
        found = (learned.reader.read(*coded, t) for t, coded in enumerate(sent))
        return [learned.decoder.synthesize(latents) for latents in found]

    sides: Sides = {name: partial(decode, coded[name]) for name in (INTRA, TEMPORAL)}
    count = len(coded[INTRA])
    return sides | {
        name: partial(codec.decode, coded[name], count) for name, codec in peers.items()
    }


def _size(coded: bytes | list[tuple[bool, bytes]]) -> int:
    return len(coded) if isinstance(coded, bytes) else sum(len(data) for _, data in coded)
