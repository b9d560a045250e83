"""Decoded pictures of a codec that does not train, kept in memory instead of coded in every epoch.

They are rounded to 8 bits, as those of conventional codecs are; where no picture is decoded, the
latents are kept as they are. They are found by a hash of the picture that was coded, and its level:
a picture and its mirror image are coded each. Pictures are coded one by one, so that what comes out
does not depend on what was kept before. Those that come first are kept, as far as there is room:
all come equally often.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from ...pixels import to_uint8
from ..base import Codec, Coded

MAX_BYTES = 2**30


class KeptPictures:
    """Codes pictures with a frozen codec on a CPU, each once.

    Args:
        pictures: whether they are decoded; else latents are kept.

    Attributes:
        room: bytes that may still be kept.
    """

    def __init__(self, codec: Codec, pictures: bool = True) -> None:
        self._codec = codec
        self._pictures = pictures
        self._kept: dict[bytes, tuple[Tensor, Tensor]] = {}
        self.room = MAX_BYTES

    def forget(self) -> None:
        """Keep nothing any more: the codec has other weights."""
        self._kept.clear()
        self.room = MAX_BYTES

    def __call__(self, images: Sequence[Tensor], levels: Sequence[float] | None = None) -> Coded:
        """As :meth:`BatchedCodec.forward`, of pictures that had 8 bits; no gradient passes."""
        own = [()] * len(images) if levels is None else [([level],) for level in levels]
        coded = [self._find(*both) for both in zip(images, own, strict=True)]
        bits = torch.stack([b for _, b in coded])
        found = [kept for kept, _ in coded]
        if self._pictures:
            return Coded([picture.float() / 255 for picture in found], bits, bits)
        return Coded([], bits, bits, found)

    @torch.no_grad()
    def _find(self, image: Tensor, level: tuple[list[float], ...]) -> tuple[Tensor, Tensor]:
        """The decoded picture (3, H, W) uint8, or its latents, and its bits.

        Args:
            level: empty of a fixed rate.
        """
        stored = to_uint8(image)
        digest = hashlib.sha256(f"{tuple(stored.shape)} {level}".encode())
        digest.update(stored.contiguous().numpy().data)
        key = digest.digest()
        if key not in self._kept:
            out = self._codec([image], self._pictures, *level)
            kept = to_uint8(out.reconstructions[0]) if self._pictures else out.latents[0].clone()
            found = kept, out.bits[0]
            if found[0].nbytes > self.room:
                return found
            self.room -= found[0].nbytes
            self._kept[key] = found
        return self._kept[key]
