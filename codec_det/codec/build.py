"""From a config node to a codec of random weights; training.checkpoint loads others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Codec
from .conventional import ConventionalCodec, picture_codec
from .identity import IdentityCodec
from .names import CONVENTIONAL

if TYPE_CHECKING:
    # Decoding files needs this package, and no detectron2.
    from detectron2.config import CfgNode


def build_codec(cfg: CfgNode) -> Codec:
    """Build the codec that ``cfg.MODEL.CODEC`` names, on the CPU."""
    node = cfg.MODEL.CODEC
    if node.NAME == "identity":
        return IdentityCodec()
    if node.NAME in CONVENTIONAL:
        return ConventionalCodec(picture_codec(cfg))
    # Imported here because CompressAI takes seconds to import.
    from .learned.learned_codec import LearnedCodec

    return LearnedCodec(
        node.NAME,
        node.QUALITY,
        n=node.N,
        m=node.M,
        quantization=node.QUANTIZATION,
        checkpoint_activations=node.CHECKPOINT_ACTIVATIONS,
    )
