"""Encoders in ONNX Runtime, in float and in 8 bits, against CompressAI's compress, with the same
weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from codec_det.bitstream.onnx_encoder import load_onnx_encoder
from codec_det.data.scenes import render_scene
from codec_det.deploy.int8_encoder import save_int8_encoder
from codec_det.deploy.model_files import save_onnx_encoder

from .codec import build_sides, peer_compress
from .result import BenchmarkResult, BenchmarkRow
from .settings import BenchmarkSettings
from .timing import compare, in_turn

FLOAT, INT8, PEER = "encode in ONNX Runtime", "encode in ONNX Runtime, 8 bits", "CompressAI"
# That 8 bits are calibrated with.
PICTURES = 8


def measure(settings: BenchmarkSettings) -> BenchmarkResult:
    """Every codec of ``settings.codecs`` on a generated picture.

    The notes have lengths of files and encoders in bytes, and the layers that stay in float.

    Raises:
        WeightsError: as of :func:`.codec.build_sides`.
        CodecDetError: if an encoder cannot be exported, or no layer of it be in 8 bits.
    """
    rows: list[BenchmarkRow] = []
    notes: dict[str, Any] = {}
    for name in settings.codecs:
        with TemporaryDirectory() as folder:
            result = _measure_codec(settings, name, Path(folder))
        rows += result.rows
        notes[name] = result.notes
    return BenchmarkResult(rows, notes=notes)


def _measure_codec(settings: BenchmarkSettings, name: str, folder: Path) -> BenchmarkResult:
    ours, peer = build_sides(settings, name)
    pictures = [
        render_scene(np.random.default_rng(i), *settings.codec_size)[0] for i in range(PICTURES)
    ]
    paths = [folder / f"{i}.png" for i in range(PICTURES)]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture).save(path)
    files = {FLOAT: folder / "encoder.onnx", INT8: folder / "encoder_int8.onnx"}
    save_onnx_encoder(files[FLOAT], ours.codec, ours.encoder.entropy)
    outcome = save_int8_encoder(files[INT8], files[FLOAT], paths)
    encoders = {what: load_onnx_encoder(path, settings.threads) for what, path in files.items()}
    sides: dict[str, Callable[[], object]] = {
        what: partial(encoder.encode, pictures[0]) for what, encoder in encoders.items()
    }
    sides[PEER] = partial(peer_compress, settings, peer, pictures[0])
    with torch.inference_mode():
        seconds = in_turn(
            sides, settings.rounds, synchronize=settings.synchronize, label=f"camera {name}"
        )
    rows = [
        BenchmarkRow(f"{name}, {what}", against, compare(seconds[what], seconds[against]))
        for what, against in ((FLOAT, PEER), (INT8, PEER), (INT8, FLOAT))
    ]
    notes = {
        "bytes": {what: len(encoder.encode(pictures[0])) for what, encoder in encoders.items()},
        "bytes of the encoder": {what: path.stat().st_size for what, path in files.items()},
        "layers in float": [*outcome.float_layers],
    }
    return BenchmarkResult(rows, notes=notes)
