"""Frames of sequences, coded by a conventional codec in groups: each once, kept in a cache.

A group is a key frame and the frames that are predicted from it, up to the next key frame.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils import comm

from ..codec.conventional import (
    Precoded,
    Precoder,
    build_cache,
    build_precoder,
    sequence_codec,
)
from ..coding_scale import shrink
from ..conventional import CodedCache
from ..conventional.inter_video import InterVideoCodec
from .image_io import read_image

MEMORY = 2**31
"""Bytes of decoded frames that all loaders of a machine keep together. Training asks for frames in
any order, and to decode the whole group of each takes as long as all else of a step."""

Group = tuple[str, ...]
"""Files of frames, the key frame's first."""


def groups_of(entries: Sequence[dict[str, Any]], key_interval: int) -> list[Group]:
    """The groups of a set's entries, in their order; pictures of no sequence are groups of one.

    Args:
        entries: frames of a sequence one after the other, in order of time.
    """
    found: list[Group] = []
    for video, run in groupby(entries, key=lambda entry: entry.get("video_id")):
        files = [entry["file_name"] for entry in run]
        step = 1 if video is None else key_interval
        found += [tuple(files[at : at + step]) for at in range(0, len(files), step)]
    return found


class SequencePrecoder:
    """Codes frames with a conventional codec that predicts them from those before.

    Args:
        codec: at one operating point.
        cache: None to code every time.
        groups: of all frames.
        scale: coding scale, :mod:`codec_det.coding_scale`.
        memory: bytes of decoded frames that it keeps.
    """

    def __init__(
        self,
        codec: InterVideoCodec,
        cache: CodedCache | None,
        groups: Sequence[Group],
        scale: float = 1.0,
        memory: int = MEMORY,
    ) -> None:
        self.codec = codec
        self.cache = cache
        self._groups = {file: group for group in groups for file in group}
        self._scale = scale
        self._room = memory
        self._decoded: OrderedDict[Group, list[Precoded]] = OrderedDict()

    def __call__(self, picture: np.ndarray, file: str) -> Precoded:
        """The frame ``file`` as decoded; of another file, ``picture`` as a key frame.

        Its time is its share of its group's.

        Raises:
            CodecDetError: if the codec fails, a frame cannot be read, or the cache not be written.
        """
        group = self._groups.get(file)
        if group is None:
            return self._code([picture])[0]
        if group not in self._decoded:
            decoded = self._code([read_image(one, "RGB") for one in group])
            self._room -= _size(decoded)
            while self._decoded and self._room < 0:
                self._room += _size(self._decoded.popitem(last=False)[1])
            self._decoded[group] = decoded
        self._decoded.move_to_end(group)
        return self._decoded[group][group.index(file)]

    def encode(self, frames: Sequence[np.ndarray]) -> tuple[bytes, bool]:
        """The file of a group of frames (H, W, 3) uint8 RGB, and whether it was in the cache.

        Raises:
            CodecDetError: as above.
        """
        small = np.stack([shrink(frame, self._scale) for frame in frames])
        if self.cache is None:
            return self.codec.encode(small), False
        return self.cache.get_or_encode(small, self.codec)

    def _code(self, frames: Sequence[np.ndarray]) -> list[Precoded]:
        start = time.perf_counter()
        data, was_cached = self.encode(frames)
        middle = time.perf_counter()
        decoded = self.codec.decode(data, len(frames))
        spent = time.perf_counter() - middle
        times = {
            "encode_seconds": float("nan") if was_cached else (middle - start) / len(frames),
            "decode_seconds": spent / len(frames),
            "codec_seconds": (middle - start + spent) / len(frames),
        }
        return [
            Precoded(one.picture, 8.0 * one.size, {"overhead_bits": 8.0 * one.overhead, **times})
            for one in decoded
        ]


def _size(group: Sequence[Precoded]) -> int:
    """Bytes of its frames."""
    return sum(one.picture.nbytes for one in group)


def build_sequence_precoder(
    cfg: CfgNode, names: Sequence[str]
) -> Precoder | SequencePrecoder | None:
    """What codes the pictures or frames of data sets; None where the codec is part of the model.

    Args:
        names: of the sets, as registered; looked at if frames are to be predicted.

    Raises:
        ConfigError: if codec or cache cannot be used.
    """
    precoder = build_precoder(cfg)
    codec = sequence_codec(cfg) if precoder else None
    if codec is None:
        return precoder
    interval = cfg.MODEL.CODEC.KEY_INTERVAL
    groups = [group for name in names for group in groups_of(DatasetCatalog.get(name), interval)]
    loaders = max(cfg.DATALOADER.NUM_WORKERS, 1) * comm.get_local_size()
    scale = cfg.MODEL.CODEC.SCALE
    return SequencePrecoder(codec, build_cache(cfg), groups, scale, MEMORY // loaders)
