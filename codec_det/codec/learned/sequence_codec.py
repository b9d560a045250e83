"""Codecs of sequences: what they have in common, whatever predicted frames are made of."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...sequences import Frame, Reference
from ..base import BatchedCodec, Coded, CodedBatch, join


class SequenceCodec(BatchedCodec):
    """Key frames are pictures; all others are coded with what was decoded of the frame before.

    While a chain trains, a call is given clips, frame by frame, whose first frames are key frames;
    bits are weighted so that those of a clip are to its pixels as those of a sequence with its key
    frames. With a :attr:`burn_in`, the first of the frames before a clip is the key frame. In
    evaluation it is told by :meth:`follow` which frames it is given, and goes on from call to call;
    pictures that are no frames are coded as key frames are.

    Args:
        clip_length: frames per clip.
        key_interval: frames from a key frame to the next.
        others: those of the codec of key frames.
    """

    def __init__(
        self, *args: Any, clip_length: int = 1, key_interval: int = 1, **others: Any
    ) -> None:
        super().__init__(*args, **others)
        self.clip_length = clip_length
        self.key_interval = key_interval
        self._in_clips = False
        self._frames: Sequence[Frame | None] = ()
        self._reference: Reference[Tensor] = Reference(key_interval)
        # In evaluation: decoded of the frame before, None for a key frame; and of the last frame.
        self._previous: Tensor | None = None
        self._decoded: Tensor | None = None

    @abstractmethod
    def code_keys(
        self, batch: Tensor, pictures: bool, levels: Tensor | None
    ) -> tuple[CodedBatch, Tensor]:
        """Code key frames (b, 3, H, W), as of :meth:`code`; and what frames after them are
        predicted from, (b, ...).
        """

    @abstractmethod
    def predict(
        self, batch: Tensor, previous: Tensor, pictures: bool, levels: Tensor | None
    ) -> tuple[CodedBatch, Tensor]:
        """Code frames one after another.

        Args:
            batch: (b, 3, H, W), clip-major.
            previous: (clips, ...), decoded of what is before the first frames.
            levels: as of :meth:`code`, each that of the frame before.

        Returns:
            The frames, and what was decoded of the last of each clip.
        """

    def train(self, mode: bool = True) -> SequenceCodec:
        # A frozen codec, which rounds, is given clips, too.
        self._in_clips = mode
        super().train(mode)
        return self

    def follow(self, frames: Sequence[Frame | None]) -> None:
        self._frames = frames

    def forward(
        self,
        images: Sequence[Tensor],
        pictures: bool = True,
        levels: Sequence[float] | None = None,
    ) -> Coded:
        frames, self._frames = self._frames, ()
        if self._in_clips or not any(frames):
            return super().forward(images, pictures, levels)
        levels = levels or self.usual_levels(len(images))
        each = zip(images, frames, levels, strict=True)
        return join([self._code_frame(*one, pictures) for one in each])

    def _code_frame(
        self, image: Tensor, frame: Frame | None, level: float, pictures: bool
    ) -> Coded:
        self._previous = self._reference.of(frame, (*image.shape[-2:], level))
        try:
            coded = super().forward([image], pictures, [level])
        finally:
            self._previous = None
        assert self._decoded is not None
        self._reference.keep(self._decoded.detach())
        return coded

    def code(
        self, batch: Tensor, pictures: bool = True, levels: Tensor | None = None
    ) -> CodedBatch:
        if self._previous is not None:
            coded, self._decoded = self.predict(batch, self._previous, pictures, levels)
            return coded
        if self.burn_in:
            return self._code_later_frames(batch, pictures, levels)
        clip = self.clip_length if self._in_clips else 1
        of_keys = None if levels is None else levels[::clip]
        keys, decoded = self.code_keys(batch[::clip], pictures, of_keys)
        if clip == 1:
            self._decoded = decoded
            return keys

        def others(x: Tensor) -> Tensor:
            return x.unflatten(0, (-1, clip))[:, 1:].flatten(0, 1)

        of_others = None if levels is None else others(levels)
        predicted, _ = self.predict(others(batch), decoded, pictures, of_others)
        return self._as_clips(keys, predicted)

    def _code_later_frames(
        self, batch: Tensor, pictures: bool, levels: Tensor | None
    ) -> CodedBatch:
        """Clips without a key frame, of which those before have one."""

        def part(x: Tensor | None, first: int, end: int | None) -> Any:
            frames = slice(first, end)
            return None if x is None else x.unflatten(0, (-1, run))[:, frames].flatten(0, 1)

        run, before = self.burn_in + self.clip_length, self.burn_in
        with torch.no_grad():
            keys, decoded = self.code_keys(part(batch, 0, 1), False, part(levels, 0, 1))
            if before > 1:
                seen, of_seen = part(batch, 1, before), part(levels, 1, before)
                _, decoded = self.predict(seen, decoded, False, of_seen)
        own, of_own = part(batch, before, None), part(levels, before, None)
        predicted, _ = self.predict(own, decoded, pictures, of_own)
        of_key = 1 / self.key_interval

        def weighted(bits: Tensor, of_keys: Tensor) -> Tensor:
            return (1 - of_key) * bits + of_key * of_keys.repeat_interleave(self.clip_length)

        return predicted._replace(
            bits=weighted(predicted.bits, keys.bits),
            rounded_bits=weighted(predicted.rounded_bits, keys.rounded_bits),
        )

    def _as_clips(self, keys: CodedBatch, predicted: CodedBatch) -> CodedBatch:
        """All frames clip-major, with bits weighted as those of a whole interval are."""
        of_key, others = 1 / self.key_interval, self.clip_length - 1
        shares = [of_key, *[(1 - of_key) / others] * others]
        weights = self.clip_length * keys.bits.new_tensor(shares)

        def joined(first: Tensor, rest: Tensor) -> Tensor:
            return torch.cat([first[:, None], rest.unflatten(0, (len(first), -1))], 1)

        def flat(first: Tensor | None, rest: Tensor | None) -> Tensor | None:
            return None if first is None or rest is None else joined(first, rest).flatten(0, 1)

        return CodedBatch(
            flat(keys.pictures, predicted.pictures),
            (joined(keys.bits, predicted.bits) * weights).flatten(),
            (joined(keys.rounded_bits, predicted.rounded_bits) * weights).flatten(),
            flat(keys.latents, predicted.latents),
        )
