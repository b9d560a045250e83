"""Where in a picture a learned codec spends its bits.

.. code-block:: none

    likelihoods of y (M, h, w)    ─► Σ over channels of -log2 ─► each over its 16x16 pixels ─┐
    likelihoods of z (N, h', w')  ─► Σ over channels of -log2 ─► each over its 64x64 pixels ─┴─► +

A latent is shared out evenly over the pixels that its place stands for, fewer where the padded
picture ends within a hyper-latent's 64x64. What it tells of reaches further: transforms look at,
and change, several such footprints around.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from compressai.entropy_models import EntropyModel
from torch import Tensor

from ..codec.base import Codec
from ..codec.learned.bitstream_codec import BitstreamCodec
from ..codec.learned.learned_codec import LearnedCodec
from ..codec.learned.temporal_codec import TemporalCodec
from ..sequences import Frame


@dataclass(frozen=True)
class BitMap:
    """The estimated bits of a picture by place.

    Attributes:
        density: (H, W) float64, bits per pixel at each pixel of the picture.
        padding_bits: bits spent on what the codec pads the picture with.
    """

    density: np.ndarray
    padding_bits: float

    @property
    def bits(self) -> float:
        """All of them: what the codec charges."""
        return float(self.density.sum()) + self.padding_bits

    def enlarge(self, height: int, width: int) -> BitMap:
        """The same bits over the picture before it was shrunk to its coded size."""
        rows, columns = (
            np.arange(pixels) * coded // pixels
            for pixels, coded in zip((height, width), self.density.shape, strict=True)
        )
        # Where sizes do not divide, places differ by a pixel: each keeps its bits.
        shares = np.bincount(rows)[:, None] * np.bincount(columns)
        return replace(self, density=(self.density / shares)[rows][:, columns])


def map_bits(codec: Codec, picture: Tensor, frame: Frame | None = None) -> BitMap | None:
    """The bits that a codec spends on a picture (3, H, W), RGB in [0, 1]; no gradient.

    They are estimated ones, also of a codec that makes files. None if the codec is not a learned
    one: there are no likelihoods then.

    Args:
        frame: which one of a sequence it is; predicted if this codec has mapped the one before.
    """
    learned = codec.codec if isinstance(codec, BitstreamCodec) else codec
    if not isinstance(learned, LearnedCodec):
        return None
    height, width = picture.shape[-2:]
    padded = torch.zeros([-(-side // learned.stride) * learned.stride for side in (height, width)])
    footprints = learned.stride, learned.model.downsampling_factor
    for likelihoods, footprint in zip(
        _likelihoods(learned, picture, frame), footprints, strict=False
    ):
        bits = -torch.log2(likelihoods[0].double()).sum(0)
        padded = padded + _spread(bits, footprint, padded.shape)
    below, beside = padded[height:], padded[:height, width:]
    return BitMap(padded[:height, :width].numpy(), float(below.sum() + beside.sum()))


@torch.no_grad()
def _likelihoods(codec: LearnedCodec, picture: Tensor, frame: Frame | None) -> list[Tensor]:
    """(1, channels, h, w) of latents, then of hyper-latents, as the codec pads the picture and
    charges for it.
    """
    seen: list[Tensor] = []
    hooks = [
        codec.model.register_forward_hook(
            lambda model, inputs, out: seen.extend(out["likelihoods"].values())
        )
    ]
    if isinstance(codec, TemporalCodec):
        hooks += [
            # Those of latents are asked for last.
            model.register_forward_hook(lambda model, inputs, out: seen.insert(0, out[1]))
            for model in codec.prediction.modules()
            if isinstance(model, EntropyModel)
        ]
    codec.follow([frame])
    try:
        codec([picture])
    finally:
        for hook in hooks:
            hook.remove()
    return [likelihoods.cpu() for likelihoods in seen]


def _spread(bits: Tensor, footprint: int, size: torch.Size) -> Tensor:
    """Bits by place (h, w), of ``footprint`` pixels in each direction, to bits per pixel."""
    rows, columns = (torch.arange(side) // footprint for side in size)
    pixels = torch.outer(rows.bincount(), columns.bincount())
    return (bits / pixels)[rows][:, columns]
