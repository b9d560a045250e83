"""A codec at several qualities, outside of a chain: what is asked for, and what codes pictures.

Learned codecs make files where they can; where they cannot, or need not, their rate is estimated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch

from ..codec.base import Codec
from ..codec.conventional import ConventionalCodec
from ..codec.table import build_codec, find_codec
from ..config import load_config
from ..conventional import build_picture_codec
from ..errors import ConfigError, WeightsError
from ..evaluation.results import weights_sha256_of
from ..training.checkpoint import load_codec_weights

REAL = "bits of whole files, headers included"
ESTIMATED = "bits estimated from likelihoods; no file was made"
ZOO = "zoo"


@dataclass(frozen=True, kw_only=True)
class CodecChoice:
    """The codec of a curve.

    Attributes:
        name: a learned or conventional codec.
        settings: of a conventional codec, beside its quality.
        metric: what a learned codec was trained for, "mse" or "ms-ssim".
        weights: of a learned codec: "zoo", or a file in whose name {quality} is replaced.
        channels: N and M of a learned codec; 0: those of its quality.
        estimated: whether to take a learned codec's rate from likelihoods although it could write
            files.
        scale: coding scale, :mod:`codec_det.coding_scale`.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    metric: str = "mse"
    weights: str = ZOO
    channels: tuple[int, int] = (0, 0)
    estimated: bool = False
    scale: float = 1.0

    def __post_init__(self) -> None:
        entry = find_codec(self.name)
        if not (entry.is_learned or entry.is_conventional):
            raise ConfigError(f"'{self.name}' cannot be measured ({entry.no_files})")
        if self.is_learned and self.settings:
            raise ConfigError(
                f"settings are of conventional codecs, and {self.name} is none: leave out "
                f"{', '.join(self.settings)}"
            )
        if self.weights == ZOO and any(self.channels):
            raise ConfigError("the zoo has no weights for other channels than its own: give a file")
        if any(self.channels) and not entry.has_widths:
            raise ConfigError(f"{self.name} has channels of its own: leave out N and M")
        if self.channels[1] and not entry.has_latent_width:
            raise ConfigError(f"{self.name} has channels N alone: leave out M")

    @property
    def is_learned(self) -> bool:
        """Whether it has weights."""
        return find_codec(self.name).is_learned

    @property
    def rate_is(self) -> str:
        """What its bits are, in words: REAL or ESTIMATED."""
        estimated = self.is_learned and (self.estimated or find_codec(self.name).no_files)
        return ESTIMATED if estimated else REAL

    @property
    def title(self) -> str:
        """A name that tells it from other settings of the same codec."""
        parts = [f"{key}={value}" for key, value in self.settings.items()]
        if self.is_learned and self.metric != "mse":
            parts.append(self.metric)
        if self.scale < 1:
            parts.append(f"scale {self.scale:g}")
        return f"{self.name} ({', '.join(parts)})" if parts else self.name


def open_codec(choice: CodecChoice, quality: float, device: str = "cpu") -> Codec:
    """A codec that is ready to code pictures.

    Args:
        device: of a learned codec's transforms; conventional ones run on the CPU.

    Raises:
        ConfigError: if quality or a setting cannot be, or a program is missing.
        WeightsError: if the weights are missing or do not fit.
        CodecDetError: if the device cannot be used.
    """
    if choice.is_learned:
        return _open_learned(choice, quality, device)
    if device != "cpu":
        raise ConfigError(f"the codec '{choice.name}' runs on the CPU alone: leave out '{device}'")
    return ConventionalCodec(build_picture_codec(choice.name, quality, **choice.settings))


def _open_learned(choice: CodecChoice, quality: float, device: str) -> Codec:
    # CompressAI takes seconds to import.
    from ..codec.learned.bitstream_codec import BitstreamCodec
    from ..deploy.model_files import move

    entry = find_codec(choice.name)
    # One model for all rates has levels in place of qualities.
    usual = tuple(range(entry.levels)) if entry.levels > 1 else tuple(entry.widths)
    if quality not in usual:
        raise ConfigError(
            f"quality {quality:g} cannot be with the codec '{choice.name}': give a whole number "
            f"from {min(usual)} to {max(usual)}"
        )
    level, quality = (quality, 1) if entry.levels > 1 else (None, quality)
    n, m = choice.channels
    weights = choice.weights.replace("{quality}", f"{quality:g}")
    keys = {"NAME": choice.name, "QUALITY": int(quality), "METRIC": choice.metric, "N": n, "M": m}
    opts = [x for key, value in keys.items() for x in (f"MODEL.CODEC.{key}", str(value))]
    cfg = load_config("", [*opts, "MODEL.CODEC.WEIGHTS", weights])
    codec = build_codec(cfg)
    codec.level = level
    try:
        load_codec_weights(codec, cfg)
    except WeightsError as error:
        raise WeightsError(
            f"quality {quality:g}: {error} (here: --weights, --codec, --quality and --channels)"
        ) from None
    # The tables that came with the weights are the ones in use.
    codec.set_trainable(())
    codec = move(codec, device)
    if choice.rate_is == ESTIMATED:
        return codec
    codec.refresh_tables()
    return BitstreamCodec(codec, choice.scale)  # type: ignore[arg-type]


def describe_codec(choice: CodecChoice, codec: Codec) -> dict[str, Any]:
    """What a codec of :func:`open_codec` needs to be had again: settings, version, command."""
    if isinstance(codec, ConventionalCodec):
        return {**codec.codec.identity, "command": codec.codec.command()}
    learned: Any = codec if choice.rate_is == ESTIMATED else codec.codec
    return {
        "settings": {
            "metric": choice.metric,
            "weights": choice.weights,
            "weights_sha256": weights_sha256_of(learned),
            "widths": list(learned.widths),
        },
        "version": f"CompressAI {version('compressai')}, PyTorch {torch.__version__}",
        "command": None,
    }
