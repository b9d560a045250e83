"""One JSON record per evaluation, with everything needed to redraw a point and to reproduce it."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import platform
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import nn

from .. import __version__
from ..codec.base import Codec
from ..codec.conventional import ConventionalCodec
from ..codec.learned.complexity import complexity
from ..codec.learned.learned_codec import LearnedCodec
from ..codec.table import is_conventional
from ..config import flatten, get_codec_det_cfg
from ..errors import CodecDetError
from ..files import append_line
from ..meta_arch import CodecDetector

logger = logging.getLogger(__name__)

RESULTS_FILE = "results.jsonl"
SET_ASIDE = ".old-"
"""In the names of run folders whose results were replaced: <run>.old-<time>."""

Record = dict[str, Any]

# What a record has at least.
_NEEDED = {"regime", "codec", "dataset", "results"}


def build_record(
    cfg: CfgNode,
    model: CodecDetector,
    dataset: str,
    results: dict[str, Any],
    level: float | None = None,
) -> Record:
    """Describe one evaluation.

    Args:
        results: what the evaluators returned for ``dataset``, e.g. ``{"bbox": ..., "rate": ...}``.
        level: of a codec of variable rate.

    Returns:
        JSON-ready record; figures that do not exist (PSNR without any error) are None.
    """
    codec = cfg.MODEL.CODEC
    device = next(model.parameters(), torch.empty(0)).device
    return jsonable(
        {
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "regime": model.regime.name,
            "dataset": dataset,
            "rate_is": f"{kind_of_bits(codec)} bits per pixel of the original picture",
            "results": results,
            "codec": {
                "name": codec.NAME,
                "quality": codec.QUALITY,
                "metric": codec.METRIC,
                "widths": list(getattr(model.codec, "widths", ())),
                "weights": codec.WEIGHTS,
                "quantization": codec.QUANTIZATION,
                **_conventional(model.codec),
                **_learned(model.codec),
            },
            "detector": cfg.MODEL.DETECTOR.META_ARCHITECTURE,
            **_weight_and_target(model, codec, level),
            "distortion_weight": codec.DISTORTION_WEIGHT,
            "weights": cfg.MODEL.WEIGHTS,
            "weights_sha256": weights_sha256_of(model),
            "iteration": _iteration(cfg, model),
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


def _weight_and_target(
    model: CodecDetector, codec: CfgNode, level: float | None
) -> dict[str, float | None]:
    """β and the rate that it aims at, which no place between two levels has."""
    if level is None:
        return {"beta": model.betas[0], "target_bpp": codec.TARGET_BPP}
    targets = codec.LEVEL_TARGETS or [0.0] * len(model.betas)
    trained = float(level).is_integer()
    return {
        "level": level,
        "beta": model.betas[int(level)] if trained else None,
        "target_bpp": targets[int(level)] if trained else None,
    }


def describe_regime(regime: str, codec: str, detector: str) -> str:
    """What was trained, in the chain it was trained in.

    A codec without a detector, and a detector on pictures that nothing codes, were trained alone:
    they are no fine-tuning of a chain, whatever their parts.
    """
    trained = regime != "baseline"
    if detector == "NoDetector":
        return "codec trained alone" if trained else "codec alone"
    return "detector trained alone" if trained and codec == "identity" else regime


def kind_of_bits(codec: CfgNode) -> str:
    """ "real" or "estimated", of a config's ``MODEL.CODEC``."""
    return "real" if codec.BITSTREAM or is_conventional(codec.NAME) else "estimated"


def _learned(codec: Codec) -> dict[str, Any]:
    """What a learned codec's transforms cost."""
    return {"complexity": complexity(codec.model)} if isinstance(codec, LearnedCodec) else {}


def _conventional(codec: Codec) -> dict[str, Any]:
    """What makes a conventional codec's figures repeatable: settings, version and command."""
    if not isinstance(codec, ConventionalCodec):
        return {}
    # Its own quality: MODEL.CODEC.SETTINGS may have one that MODEL.CODEC.QUALITY cannot.
    own = codec.inter or codec.codec
    return {"quality": own.quality, **own.identity, "command": own.command()}


def _iteration(cfg: CfgNode, model: CodecDetector) -> int | None:
    """Iterations trained so far; None of weights that no run in OUTPUT_DIR has trained."""
    if not has_event_storage():
        return model.iteration
    # The storage counts from 0 while training, and one further when training has ended.
    return min(get_event_storage().iter + 1, cfg.SOLVER.MAX_ITER)


def append_record(path: Path, record: Record) -> None:
    """Append one line to a results file in a single write, so that writers at once do not mix.

    Raises:
        CodecDetError: if it cannot be written.
    """
    append_line(path, json.dumps(record, allow_nan=False))


def read_records(path: Path) -> Iterator[Record]:
    """The records of a results file, oldest first; lines that are none are warned of.

    Raises:
        CodecDetError: if the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise CodecDetError(f"cannot read '{path}': {error.strerror}") from None
    for number, line in enumerate(lines, start=1):
        record = _parse(line)
        if record is not None:
            yield record
        elif line.strip():
            logger.warning("%s: line %d is no record (cut short?); skipped", path, number)


def _parse(line: str) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and record.keys() >= _NEEDED else None


def weights_sha256_of(model: nn.Module) -> str:
    """SHA-256 over names, shapes and values of all parameters and persistent buffers."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def changed_keys(cfg: CfgNode) -> dict[str, Any]:
    """Every config key whose value differs from codec_det's defaults, as {"A.B": value}."""
    defaults = dict(flatten(get_codec_det_cfg()))
    return {
        key: value
        for key, value in flatten(cfg)
        # Tuples have become lists in a config that was read from a run's folder.
        if key not in defaults or jsonable(defaults[key]) != jsonable(value)
    }


def jsonable(value: Any) -> Any:
    """As JSON has it: lists for tuples, None for figures that are infinite or none."""
    if isinstance(value, dict):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(v) for v in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
