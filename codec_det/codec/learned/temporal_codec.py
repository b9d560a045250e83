"""Learned codecs of sequences: key frames are pictures, all others know the frame before."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from compressai.entropy_models import GaussianConditional
from compressai.models import ScaleHyperprior
from torch import Tensor, nn

from ...sequences import Frame, Reference
from ..base import Coded, CodedBatch, join
from .learned_codec import LearnedCodec
from .prediction import FramePrediction, rounded
from .quantization import set_quantization
from .state import adapt_state_dict


class TemporalCodec(LearnedCodec):
    """A hyperprior whose frames between key frames have an entropy model of their own.

    .. code-block:: none

        x ─► g_a ─► y ─► key frame: entropy model of pictures ─► ŷ ─► g_s ─► x_hat
                    └──► others: FramePrediction(y, ŷ of the frame before) ─► ŷ ─► g_s ─► x_hat

    While a chain trains, a call is given clips, frame by frame, whose first frames are key frames;
    bits are weighted so that those of a clip are to its pixels as those of a sequence with its key
    frames. In evaluation it is told by :meth:`follow` which frames it is given, and goes on from
    call to call; pictures that are no frames are coded as key frames are.

    Args:
        clip_length: frames per clip.
        key_interval: frames from a key frame to the next.
        others: those of :class:`LearnedCodec`.
    """

    def __init__(
        self,
        name: str,
        quality: int,
        *,
        clip_length: int = 1,
        key_interval: int = 1,
        quantization: str = "noise",
        **others: Any,
    ) -> None:
        super().__init__(name, quality, quantization=quantization, **others)
        assert self.entry.architecture is not None
        hyperprior = self.entry.architecture()(*self.widths)
        assert isinstance(hyperprior, ScaleHyperprior), f"{name} has no hyperprior"
        self.clip_length = clip_length
        self.key_interval = key_interval
        self.prediction = FramePrediction(hyperprior)
        self._count_predicted = set_quantization(self.prediction, quantization)
        self.to(memory_format=self._layout)
        self._in_clips = False
        self._frames: Sequence[Frame | None] = ()
        self._reference: Reference[Tensor] = Reference(key_interval)
        # In evaluation: decoded of the frame before, None for a key frame; and of the last frame.
        self._previous: Tensor | None = None
        self._decoded: Tensor | None = None

    def train(self, mode: bool = True) -> TemporalCodec:
        # A frozen codec, which rounds, is given clips, too.
        self._in_clips = mode
        super().train(mode)
        trains = any(p.requires_grad for p in self.prediction.h_a.parameters())
        self.prediction.train(mode and trains)
        return self

    @property
    def trains_encoder(self) -> bool:
        """Whether that of key frames is trainable."""
        return any(p.requires_grad for p in self.model.g_a.parameters())

    @property
    def trains_prior_of_frames(self) -> bool:
        """Whether the factorized prior of predicted frames may change."""
        return self.prediction.entropy_bottleneck.quantiles.requires_grad

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
        pairs = zip(images, frames, strict=True)
        return join([self._code_frame(image, frame, pictures) for image, frame in pairs])

    def _code_frame(self, image: Tensor, frame: Frame | None, pictures: bool) -> Coded:
        self._previous = self._reference.of(frame, image.shape[-2:])
        try:
            coded = super().forward([image], pictures)
        finally:
            self._previous = None
        self._reference.keep(coded.latents[0][None].detach())
        return coded

    def code(
        self, batch: Tensor, pictures: bool = True, levels: Tensor | None = None
    ) -> CodedBatch:
        if self._previous is not None:
            return self._predict(batch, self._previous, pictures)
        clip = self.clip_length if self._in_clips else 1
        with rounded_latents(self.model) as keys:
            first = super().code(batch[::clip], pictures, levels)
        if clip == 1:
            return first
        others = batch.unflatten(0, (-1, clip))[:, 1:].flatten(0, 1)
        predicted = self._predict(others, keys[0], pictures)
        return self._as_clips(first, predicted)

    def _predict(self, batch: Tensor, previous: Tensor, pictures: bool) -> CodedBatch:
        """Code frames one after another.

        Args:
            batch: (b, 3, H, W), clip-major.
            previous: (clips, M, h, w), decoded of what is before the first frames.
        """
        y = self.model.g_a(batch.contiguous(memory_format=self._layout)).float()
        latents, bits, rounded_bits = [], [], []
        for frames in y.unflatten(0, (len(previous), -1)).unbind(1):
            with self._count_predicted as count:
                y_hat, previous = self.prediction(frames, previous)
                of_proxy, of_rounded = count.total()
            latents.append(y_hat)
            bits.append(of_proxy)
            rounded_bits.append(of_rounded)
        y_hat = torch.stack(latents, 1).flatten(0, 1).contiguous(memory_format=self._layout)
        return CodedBatch(
            self.model.g_s(y_hat).float() if pictures else None,
            torch.stack(bits, 1).flatten(),
            torch.stack(rounded_bits, 1).flatten(),
            y_hat,
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

    def parts(self) -> dict[str, list[nn.Module]]:
        parts = super().parts()
        for name, module in self.prediction.named_children():
            parts["encoder" if name in self.entry.encoder else "decoder"].append(module)
        parts["prediction"] = [self.prediction]
        return parts

    def auxiliary_loss(self) -> Tensor | None:
        losses = [super().auxiliary_loss()]
        losses += [self.prediction.aux_loss()] if self.trains_prior_of_frames else []
        found = [loss for loss in losses if loss is not None]
        return torch.stack(found).sum() if found else None

    def refresh_tables(self) -> None:
        super().refresh_tables()
        trained = self.trains_prior_of_frames
        self.prediction.update(force=trained, update_quantiles=trained)

    def adapt_state_dict(self, state_dict: MutableMapping, prefix: str) -> None:
        super().adapt_state_dict(state_dict, prefix)
        pictures, frames = f"{prefix}model.", f"{prefix}prediction."
        keys = [key for key in state_dict if key.startswith(pictures)]
        if keys and not any(key.startswith(frames) for key in state_dict):
            # A picture codec's: what has changed is at first coded as pictures are.
            network = self.prediction.network.state_dict(prefix=f"{frames}network.")
            state_dict.update({key: value.clone() for key, value in network.items()})
            children = dict(self.prediction.named_children())
            for key in keys:
                name = key.removeprefix(pictures)
                if name.split(".")[0] in children:
                    state_dict[f"{frames}{name}"] = state_dict[key].clone()
        adapt_state_dict(self.prediction, state_dict, frames)


@contextmanager
def rounded_latents(model: nn.Module) -> Iterator[list[Tensor]]:
    """Within it, a model's latents are gathered, rounded whatever stands in for rounding.

    They have the gradient of those that are not.
    """
    latents: list[Tensor] = []

    def look(module: GaussianConditional, args: tuple[Tensor], options: dict, out: object) -> None:
        means = options.get("means")
        latents.append(rounded(args[0].float(), 0.0 if means is None else means.detach()))

    conditional: Any = model.gaussian_conditional
    with conditional.register_forward_hook(look, with_kwargs=True):
        yield latents
