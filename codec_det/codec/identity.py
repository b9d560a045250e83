"""No coding at all: the upper bound on accuracy, at the 24 bits per pixel of raw RGB."""

from __future__ import annotations

from torch import Tensor

from .base import BatchedCodec, CodedBatch


class IdentityCodec(BatchedCodec):
    """Returns what it is given and charges 8 bits per colour sample."""

    def code(
        self, batch: Tensor, pictures: bool = True, levels: Tensor | None = None
    ) -> CodedBatch:
        bits = batch.new_full((len(batch),), 24.0 * batch.shape[-2] * batch.shape[-1])
        return CodedBatch(batch, bits, bits)
