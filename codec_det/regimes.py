"""Regimes: which parts of the chain train. Everything else stays bit-identical.

=========  ========================  ========  ======================================
name       codec parts               detector  what it is for
=========  ========================  ========  ======================================
baseline   none                      no        off-the-shelf codec and detector
T-FT       none                      yes       the codec cannot change
C-FT       encoder, decoder          no        the detector cannot change
J-FT       encoder, decoder          yes       both are yours
E-FT       encoder                   no        fixed decoder 1: only the camera changes
ET-FT      encoder                   yes       fixed decoder 2: camera and detector
D-FT       synthesis                 no        receiver only; the bitstream is unchanged
=========  ========================  ========  ======================================

T-FT, C-FT, J-FT and the fixed-decoder variants are those of arXiv 2011.06409.
"""

from __future__ import annotations

from dataclasses import dataclass

from detectron2.config import CfgNode
from torch import nn

from .errors import ConfigError

# encoder: g_a, h_a. decoder: g_s, h_s and the entropy model. synthesis: g_s alone.
CODEC_PARTS = ("encoder", "decoder", "synthesis")

_NAMES = {
    (frozenset(), False): "baseline",
    (frozenset(), True): "T-FT",
    (frozenset({"encoder", "decoder"}), False): "C-FT",
    (frozenset({"encoder", "decoder"}), True): "J-FT",
    (frozenset({"encoder"}), False): "E-FT",
    (frozenset({"encoder"}), True): "ET-FT",
    (frozenset({"synthesis"}), False): "D-FT",
}


@dataclass(frozen=True)
class Regime:
    """The set of parts that train.

    Attributes:
        codec_parts: names out of :data:`CODEC_PARTS`.
        detector: whether the detector trains.
    """

    codec_parts: tuple[str, ...] = ()
    detector: bool = False

    def __post_init__(self) -> None:
        for part in self.codec_parts:
            if part not in CODEC_PARTS:
                raise ConfigError(
                    f"MODEL.CODEC.TRAINABLE names '{part}': choose from {', '.join(CODEC_PARTS)}"
                )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Regime:
        """Read ``MODEL.CODEC.TRAINABLE`` and ``MODEL.DETECTOR.TRAINABLE``."""
        return cls(tuple(cfg.MODEL.CODEC.TRAINABLE), bool(cfg.MODEL.DETECTOR.TRAINABLE))

    @property
    def name(self) -> str:
        """The regime's name in the literature, or its parts joined by "+"."""
        parts = set(self.codec_parts)
        if "decoder" in parts:
            parts.discard("synthesis")
        fallback = "+".join([*sorted(parts), *(["detector"] if self.detector else [])])
        return _NAMES.get((frozenset(parts), self.detector), fallback)

    @property
    def trains_encoder(self) -> bool:
        """Whether quantization needs a differentiable stand-in."""
        return "encoder" in self.codec_parts

    @property
    def trains_entropy_model(self) -> bool:
        """Whether CDF tables change, so that deployed decoders must change with them."""
        return "decoder" in self.codec_parts

    @property
    def trains_rate(self) -> bool:
        """Whether training can change the number of bits."""
        return self.trains_encoder or self.trains_entropy_model


def freeze(module: nn.Module) -> None:
    """Make every parameter of ``module`` untrainable."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)


def keep_statistics(module: nn.Module) -> None:
    """Put the layers that behave by mode (batch norm, dropout) of ``module`` in eval mode.

    The container stays in training mode, because a detectron2 detector only returns losses there.
    """
    by_mode = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
    for layer in module.modules():
        if isinstance(layer, by_mode):
            layer.eval()
