"""What streams are, for tools/info.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import multimode
from typing import Any

from codec_det.bitstream.container import unpack
from codec_det.bitstream.prediction import Prediction
from codec_det.bitstream.stream import Sent, model_bytes
from codec_det.deploy.streams import StreamFile


def describe_stream(path: Path, prediction: Prediction | None, max_pixels: int) -> dict[str, Any]:
    """What a stream says of itself and, with its model, whether all of it can be decoded.

    Raises:
        CodecDetError: if it cannot be read, is no stream, or of another model.
    """
    stream = StreamFile(path, prediction, max_pixels)
    sent: list[Sent] = []
    size: tuple[int, int] | None = None
    if prediction is None:
        sent += stream.records()
        size = _written_size(sent)
    else:
        for frame in stream.frames():
            sent.append(frame.sent)
            size = frame.latents.picture.size
    keys = [frame for frame in sent if frame.is_key]
    of_keys = sum(len(frame.payload) for frame in keys)
    others = sum(len(frame.payload) for frame in sent) - of_keys
    heads = len(stream.header.pack()) + sum(len(s.pack()) for s in sent) - of_keys - others
    # Frames that are lost took their time, too.
    span = sent[-1].number + 1 if sent else 0
    bits = 8 * stream.size
    return {
        "file": str(path),
        "stream_model": stream.header.model.hex(),
        "height": size[0] if size else None,
        "width": size[1] if size else None,
        "fps": stream.fps or None,
        "bytes": stream.size,
        "frames": len(sent),
        "key_frames": len(keys),
        "key_interval": _interval(keys),
        "key_frame_bytes": of_keys,
        "predicted_frame_bytes": others,
        "format_bytes": heads,
        "unread_bytes": stream.size - of_keys - others - heads,
        "bpp": bits / span / (size[0] * size[1]) if size else None,
        "kbps": bits / span * stream.fps / 1000 if stream.fps and span else None,
        "lost": stream.lost,
    }


def _written_size(sent: Sequence[Sent]) -> tuple[int, int] | None:
    """Height and width of the pictures; None where they are known to the model alone."""
    if not sent:
        return None
    # The first is a key frame, as frames before one cannot be read.
    size = unpack(sent[0].payload)[0].size
    return size if isinstance(size, tuple) else None


def _interval(keys: Sequence[Sent]) -> int | None:
    """Frames from a key frame to the next, as most are; None: there is no next."""
    numbers = [frame.number for frame in keys]
    steps = [after - before for before, after in pairwise(numbers)]
    return min(multimode(steps), default=None)


def format_stream(facts: dict[str, Any]) -> str:
    """The same in words."""
    size = f"{facts['width']}x{facts['height']}" if facts["width"] else "? (--model)"
    fps = f"{facts['fps']:g} frames/s" if facts["fps"] else "frames/s not said"
    predicted, keys = facts["frames"] - facts["key_frames"], facts["key_frames"]
    every = f", one in {facts['key_interval']}" if facts["key_interval"] else ""
    costs = [
        _cost("key frames", facts["key_frame_bytes"], keys),
        _cost("predicted frames", facts["predicted_frame_bytes"], predicted),
        f"format {facts['format_bytes']}",
    ]
    if facts["unread_bytes"]:
        costs.append(f"lost {facts['unread_bytes']}")
    rates = [f"{facts[k]:.{n}f} {u}" for k, n, u in _RATES if facts[k] is not None]
    lines = [
        f"{facts['file']}: stream, {facts['bytes']} bytes",
        f"  model         {facts['stream_model']}",
        f"  frames        {facts['frames']} of {size}, {fps}: {keys} key frame{'s' * (keys != 1)}"
        f"{every}, and {predicted} predicted",
        f"  bytes         {', '.join(costs)}",
    ]
    return "\n".join(lines + [f"  rate          {', '.join(rates)}"] * bool(rates))


_RATES = (("kbps", 2, "kbit/s"), ("bpp", 4, "bpp"))


def _cost(what: str, size: int, count: int) -> str:
    return f"{what} {size}" + f" ({size / count:.1f} each)" * (count > 0)


def describe_prediction(metadata: dict[str, Any], prediction: Prediction) -> dict[str, Any]:
    """What a model of sequences is beside one of pictures; raises KeyError without metadata."""
    facts = {
        "stream_model": model_bytes(prediction).hex(),
        "prediction_partial_sums_log2": math.log2(max(prediction.partial_sums)),
    }
    # A receiver is told by each frame.
    encodes = metadata["kind"] == "encoder"
    return facts | ({"key_interval": int(metadata["codec"]["key_interval"])} if encodes else {})
