"""Conventional codecs in the chain. They are not differentiable and run in the loader's workers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..coding_scale import shrink
from ..conventional import CodedCache, PictureCodec, build_picture_codec
from ..conventional.inter_video import InterVideoCodec, inter_codec
from ..errors import ConfigError
from ..pixels import to_uint8
from .base import Codec, Coded
from .table import is_conventional

if TYPE_CHECKING:
    # Decoding files imports this package, and needs no detectron2.
    from detectron2.config import CfgNode


class Precoded(NamedTuple):
    """A picture that was coded before it came to the model.

    Attributes:
        picture: decoded, (h, w, 3) uint8 RGB, of coded size.
        bits: of the coded file as stored.
        measured: "overhead_bits" of the file format, "encode_seconds" (nan from the cache),
            "decode_seconds", and "codec_seconds", which both took together, the cache's included.
    """

    picture: np.ndarray
    bits: float
    measured: dict[str, float]


class Precoder:
    """Codes pictures with a conventional codec, each once: coded files are kept in a cache.

    Args:
        codec: at one operating point.
        cache: None to code every time.
        scale: coding scale, :mod:`codec_det.coding_scale`.
    """

    def __init__(self, codec: PictureCodec, cache: CodedCache | None, scale: float = 1.0) -> None:
        self.codec = codec
        self.cache = cache
        self.scale = scale

    def __call__(self, picture: np.ndarray, file: str = "") -> Precoded:
        """Shrink, code and decode a picture (H, W, 3) uint8 RGB, of whatever file.

        Raises:
            CodecDetError: if the codec fails, or the cache cannot be written.
        """
        start = time.perf_counter()
        data, was_cached = self.encode(picture)
        middle = time.perf_counter()
        decoded = self.codec.decode(data)
        end = time.perf_counter()
        measured = {
            "overhead_bits": 8.0 * self.codec.container_overhead(data),
            "encode_seconds": float("nan") if was_cached else middle - start,
            "decode_seconds": end - middle,
            "codec_seconds": end - start,
        }
        return Precoded(decoded, 8.0 * len(data), measured)

    def encode(self, picture: np.ndarray) -> tuple[bytes, bool]:
        """The file of a picture (H, W, 3) uint8 RGB, and whether it was in the cache.

        Raises:
            CodecDetError: as above.
        """
        small = shrink(picture, self.scale)
        if self.cache is None:
            return self.codec.encode(small), False
        return self.cache.get_or_encode(small, self.codec)


class ConventionalCodec(Codec):
    """A conventional codec as a part of the model, for pictures that no loader has coded.

    Args:
        codec: of pictures.
        inter: what loaders code frames of sequences with; None: ``codec``.
    """

    def __init__(self, codec: PictureCodec, inter: InterVideoCodec | None = None) -> None:
        super().__init__()
        self.codec = codec
        self.inter = inter

    def forward(self, images: Sequence[Tensor], pictures: bool = True) -> Coded:
        """As :meth:`Codec.forward`, of pictures rounded to 8 bits; no gradient passes."""
        precoder = Precoder(self.codec, None)
        coded = [precoder(to_uint8(x).permute(1, 2, 0).cpu().numpy()) for x in images]
        bits = torch.tensor([c.bits for c in coded], device=images[0].device)
        decoded = [
            torch.from_numpy(c.picture).to(x.device).permute(2, 0, 1).float() / 255
            for c, x in zip(coded, images, strict=True)
        ]
        return Coded(decoded, bits, bits, measured=[c.measured for c in coded])


def picture_codec(cfg: CfgNode) -> PictureCodec:
    """The conventional codec of a config, at its operating point.

    Raises:
        ConfigError: if a setting cannot be, or a program is missing.
    """
    node = cfg.MODEL.CODEC
    try:
        settings: dict[str, Any] = dict(node.SETTINGS)
        sound = all(isinstance(name, str) for name in settings)
    except (TypeError, ValueError):
        sound = False
    # A name that is given twice would hide its first value.
    if not sound or len(settings) < len(node.SETTINGS):
        raise ConfigError(
            f"MODEL.CODEC.SETTINGS is {node.SETTINGS}: give a list of [name, value], such as "
            "[['preset', 'fast']], each name once"
        )
    quality = settings.pop("quality", node.QUALITY)
    try:
        return build_picture_codec(node.NAME, quality, **settings)
    except ConfigError as error:
        raise ConfigError(f"MODEL.CODEC.QUALITY and SETTINGS: {error}") from None


def sequence_codec(cfg: CfgNode) -> InterVideoCodec | None:
    """The conventional codec of a config's frames; None where it codes each by itself.

    Raises:
        ConfigError: as of :func:`picture_codec`, or if the codec cannot predict frames.
    """
    interval = cfg.MODEL.CODEC.KEY_INTERVAL
    if interval == 1:
        return None
    try:
        return inter_codec(picture_codec(cfg), interval)
    except ConfigError as error:
        raise ConfigError(f"MODEL.CODEC.KEY_INTERVAL is {interval}: {error}") from None


def build_precoder(cfg: CfgNode) -> Precoder | None:
    """What the loader codes pictures with; None where the codec is part of the model.

    Raises:
        ConfigError: if codec or cache cannot be used.
    """
    node = cfg.MODEL.CODEC
    if not is_conventional(node.NAME):
        return None
    return Precoder(picture_codec(cfg), build_cache(cfg), node.SCALE)


def build_cache(cfg: CfgNode) -> CodedCache | None:
    """Where a config keeps what conventional codecs have coded; None: nowhere.

    Raises:
        ConfigError: if it cannot be used.
    """
    node = cfg.MODEL.CODEC
    if not node.CACHE:
        return None
    return CodedCache(Path(node.CACHE).expanduser(), int(node.CACHE_GB * 2**30))
