"""One JSON record per evaluation, with everything needed to redraw a point and to reproduce it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import nn

from . import __version__
from .codec import Codec
from .codec.conventional import ConventionalCodec
from .codec.names import CONVENTIONAL
from .config import flatten, get_codec_det_cfg
from .meta_arch import CodecDetector

RESULTS_FILE = "results.jsonl"


def build_record(
    cfg: CfgNode, model: CodecDetector, dataset: str, results: dict[str, Any]
) -> dict[str, Any]:
    """Describe one evaluation.

    Args:
        results: what the evaluators returned for ``dataset``, e.g. ``{"bbox": ..., "rate": ...}``.

    Returns:
        JSON-ready record; figures that do not exist (PSNR without any error) are None.
    """
    codec = cfg.MODEL.CODEC
    device = next(model.parameters(), torch.empty(0)).device
    return _jsonable(
        {
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "regime": model.regime.name,
            "dataset": dataset,
            "rate_is": f"{_kind_of_bits(codec)} bits per pixel of the original picture",
            "results": results,
            "codec": {
                "name": codec.NAME,
                "quality": codec.QUALITY,
                "metric": codec.METRIC,
                "widths": list(getattr(model.codec, "widths", ())),
                "weights": codec.WEIGHTS,
                "quantization": codec.QUANTIZATION,
                **_conventional(model.codec),
            },
            "detector": cfg.MODEL.DETECTOR.META_ARCHITECTURE,
            "beta": model.beta,
            "target_bpp": codec.TARGET_BPP,
            "distortion_weight": codec.DISTORTION_WEIGHT,
            "weights": cfg.MODEL.WEIGHTS,
            "weights_sha256": state_sha256(model),
            "iteration": _iteration(cfg),
            "seed": cfg.SEED,
            "config": changed_keys(cfg),
            "versions": {
                "codec_det": __version__,
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "detectron2", "compressai", "numpy")},
            },
            "device": torch.cuda.get_device_name(device)
            if device.type == "cuda"
            else f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        }
    )


def _kind_of_bits(codec: CfgNode) -> str:
    return "real" if codec.BITSTREAM or codec.NAME in CONVENTIONAL else "estimated"


def _conventional(codec: Codec) -> dict[str, Any]:
    """What makes a conventional codec's figures repeatable: settings, version and command."""
    if not isinstance(codec, ConventionalCodec):
        return {}
    # Its own quality: MODEL.CODEC.SETTINGS may have one that MODEL.CODEC.QUALITY cannot.
    own = codec.codec
    return {"quality": own.quality, **own.identity, "command": own.command()}


def _iteration(cfg: CfgNode) -> int | None:
    """Iterations trained so far; None in evaluation alone."""
    if not has_event_storage():
        return None
    # The storage counts from 0 while training, and one further when training has ended.
    return min(get_event_storage().iter + 1, cfg.SOLVER.MAX_ITER)


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Append one line to a results file in a single write, so that writers at once do not mix."""
    line = json.dumps(record, allow_nan=False) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def state_sha256(model: nn.Module) -> str:
    """SHA-256 over names, shapes and values of all parameters and persistent buffers."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def changed_keys(cfg: CfgNode) -> dict[str, Any]:
    """Every config key whose value differs from codec_det's defaults, as {"A.B": value}."""
    defaults = dict(flatten(get_codec_det_cfg()))
    missing = object()
    return {key: value for key, value in flatten(cfg) if defaults.get(key, missing) != value}


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(v) for v in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
