"""Picture codecs that know the latents of the frames before, where there are any."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from compressai.entropy_models import GaussianConditional
from compressai.models import ScaleHyperprior
from torch import Tensor, nn

from ...bitstream.prediction import FRAMES
from ..base import CodedBatch
from .learned_codec import LearnedCodec
from .prediction import FramePrediction, rounded
from .quantization import set_quantization
from .sequence_codec import SequenceCodec
from .state import adapt_state_dict
from .transforms import decoded_latents


class TemporalCodec(SequenceCodec, LearnedCodec):
    """A hyperprior whose frames between key frames have an entropy model of their own.

    .. code-block:: none

        x ─► g_a ─► y ─► key frame: entropy model of pictures ─► ŷ ─► g_s ─► x_hat
                    └──► others: FramePrediction(y, ŷ of the two before) ─► ŷ ─► g_s ─► x_hat

    Args:
        others: those of :class:`SequenceCodec` and :class:`LearnedCodec`.
    """

    def __init__(
        self, name: str, quality: int, *, quantization: str = "noise", **others: Any
    ) -> None:
        super().__init__(name, quality, quantization=quantization, **others)
        assert self.entry.architecture is not None
        hyperprior = self.entry.architecture()(*self.widths)
        assert isinstance(hyperprior, ScaleHyperprior), f"{name} has no hyperprior"
        self.prediction = FramePrediction(hyperprior)
        self._count_predicted = set_quantization(self.prediction, quantization, whole_symbols=True)
        self.to(memory_format=self._layout)

    def train(self, mode: bool = True) -> TemporalCodec:
        super().train(mode)
        trains = any(p.requires_grad for p in self.prediction.h_a.parameters())
        self.prediction.train(mode and (trains or self.trains_entropy_model_alone))
        return self

    @property
    def trains_encoder(self) -> bool:
        """Whether that of key frames is trainable."""
        return any(p.requires_grad for p in self.model.g_a.parameters())

    @property
    def trains_prior_of_frames(self) -> bool:
        """Whether the factorized prior of predicted frames may change."""
        return self.prediction.entropy_bottleneck.quantiles.requires_grad

    def code_keys(
        self, batch: Tensor, pictures: bool, levels: Tensor | None
    ) -> tuple[CodedBatch, Tensor]:
        with rounded_latents(self.model) as latents:
            coded = LearnedCodec.code(self, batch, pictures, levels)
        return coded, torch.cat(latents * FRAMES, 1)

    def predict(
        self, batch: Tensor, previous: Tensor, pictures: bool, levels: Tensor | None
    ) -> tuple[CodedBatch, Tensor]:
        latents, bits, rounded_bits = [], [], []
        with decoded_latents(self.model, pictures) as decoded, self._at(levels):
            y = self.model.g_a(batch.contiguous(memory_format=self._layout)).float()
            for frames in y.unflatten(0, (len(previous), -1)).unbind(1):
                with self._count_predicted as count:
                    y_hat, previous = self.prediction(frames, previous)
                    of_proxy, of_rounded = count.total()
                latents.append(y_hat)
                bits.append(of_proxy)
                rounded_bits.append(of_rounded)
            y_hat = torch.stack(latents, 1).flatten(0, 1)
            shown = self.model.g_s(y_hat.contiguous(memory_format=self._layout))
        coded = CodedBatch(
            shown.float() if pictures else None,
            torch.stack(bits, 1).flatten(),
            torch.stack(rounded_bits, 1).flatten(),
            decoded[0],
        )
        return coded, previous

    def parts(self) -> dict[str, list[nn.Module]]:
        parts = super().parts()
        for name, module in self.prediction.named_children():
            for part in ("encoder",) if name in self.entry.encoder else ("decoder", "entropy"):
                parts[part].append(module)
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
        first = state_dict.get(f"{frames}network.0.weight")
        own, channels = self.prediction.network.state_dict()["0.weight"], self.widths[-1]
        if first is not None and first.shape[1] == own.shape[1] - channels:
            # Earlier models look at one frame, as ones do that give the other no weight.
            none = first.new_zeros(len(first), channels, *first.shape[2:])
            state_dict[f"{frames}network.0.weight"] = torch.cat([first, none], 1)
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
