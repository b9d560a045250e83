"""Learned codecs: CompressAI's image architectures, in parts that train and freeze apart."""

from __future__ import annotations

from collections.abc import MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from compressai.layers import MaskedConv2d
from compressai.models import CompressionModel
from torch import Tensor, nn

from ...errors import WeightsError
from ..base import BatchedCodec, CodedBatch
from ..table import find_codec
from .activation_checkpointing import recompute_activations
from .centred import centre_latents
from .convolutions import set_convolution_gradients
from .distillation import Teacher
from .fast_transforms import speed_up
from .gains import Gains, gained
from .gate import GatedAnalysis
from .gdn import set_gdn_gradients
from .quantization import set_quantization
from .state import adapt_state_dict
from .transforms import cropped_hyper_synthesis, decoded_latents


class LearnedCodec(BatchedCodec):
    """A CompressAI image model of random weights.

    .. code-block:: none

        x ─► g_a ─► y ─► Q ─► y_hat ─► g_s ─► x_hat      encoder:   g_a, h_a
                    │    ▲ scales                        decoder:   g_s, h_s, entropy model
                    └► h_a ─► z ─► Q ─► z_hat ─► h_s     synthesis: g_s
                                                         entropy:   h_s, entropy model

    Args:
        name: of a learned codec in :mod:`codec_det.codec.table`.
        quality: one of its qualities; sets the widths.
        n, m: channels of transforms and latents instead of those of ``quality``; 0: keep.
        quantization: one of :data:`.quantization.PROXIES`, used while the encoder trains.
        checkpoint_activations: compute activations of g_a and g_s again in the backward pass.
        levels: 1 for a fixed rate; else there are gains of so many (:mod:`.gains`), of which the
            encoder has those before quantization, decoder and synthesis the inverse ones.
        gated: whether the encoder has gates (:mod:`.gate`).
        distillation_weight: above 0, of a light codec: weights of the full codec are a start, from
            whose encoder, the ``teacher``, its own is to learn.

    Attributes:
        teacher: None without distillation.
    """

    def __init__(
        self,
        name: str,
        quality: int,
        *,
        n: int = 0,
        m: int = 0,
        quantization: str = "noise",
        checkpoint_activations: bool = False,
        levels: int = 1,
        gated: bool = False,
        distillation_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.entry = find_codec(name)
        assert self.entry.architecture is not None, f"{name} is no learned codec"
        self.name = name
        self.widths = self.entry.widths_at(quality, n, m)
        self.model: CompressionModel = self.entry.architecture()(*self.widths)
        self.stride = self.entry.stride
        self._count = set_quantization(self.model, quantization)
        self.model.g_a, self.model.g_s = speed_up(self.model.g_a), speed_up(self.model.g_s)
        if self.entry.is_centred:
            centre_latents(self.model.g_a, self.model.g_s, self.stride)
        set_convolution_gradients(self.model)
        set_gdn_gradients(self.model)
        if checkpoint_activations:
            recompute_activations(self.model.g_a)
            recompute_activations(self.model.g_s)
        self.gated = gated
        if gated:
            self.model.g_a = GatedAnalysis(self.model.g_a, self.widths[-1])
        for layer in self.model.modules():
            if isinstance(layer, MaskedConv2d):
                # Its forward masks the weights in place; doing it now keeps frozen ones identical.
                layer.weight.data *= layer.mask
        self.levels = levels
        self.gains = Gains(levels, self.widths[-1]) if levels > 1 else None
        self.inverse_gains = Gains(levels, self.widths[-1]) if levels > 1 else None
        if distillation_weight:
            full = LearnedCodec(self.entry.full, quality, n=n, m=m)
            self.teacher = Teacher(self, full, distillation_weight)
        self._layout = _fastest_layout(self.model)
        self.to(memory_format=self._layout)
        # No closure over self, which a copy of this codec would share.
        self.register_load_state_dict_pre_hook(
            lambda codec, weights, prefix, *_: codec.adapt_state_dict(weights, prefix)
        )

    def code(
        self, batch: Tensor, pictures: bool = True, levels: Tensor | None = None
    ) -> CodedBatch:
        with decoded_latents(self.model, pictures) as latents, self._count as count:
            with cropped_hyper_synthesis(self.model), self._at(levels):
                out = self.run(batch.contiguous(memory_format=self._layout))
            bits, rounded = count.total()
        return CodedBatch(out["x_hat"].float() if pictures else None, bits, rounded, latents[0])

    def run(self, batch: Tensor) -> dict[str, Any]:
        """What CompressAI's model gives for a batch."""
        return self.model(batch)

    def _at(self, levels: Tensor | None) -> AbstractContextManager[None]:
        """Within it, the model codes each picture of a batch at its level."""
        if levels is None or self.gains is None or self.inverse_gains is None:
            return nullcontext()
        return gained(self.model, self.gains(levels), self.inverse_gains(levels))

    def parts(self) -> dict[str, list[nn.Module]]:
        children = dict(self.model.named_children())
        gains, inverse = ([g] if g else [] for g in (self.gains, self.inverse_gains))
        gate = {"gate": [self.model.g_a.gate]} if self.gated else {}
        return {
            "encoder": [m for k, m in children.items() if k in self.entry.encoder] + gains,
            "decoder": [m for k, m in children.items() if k not in self.entry.encoder] + inverse,
            "synthesis": [children["g_s"], *inverse],
            "entropy": [m for k, m in children.items() if k not in (*self.entry.encoder, "g_s")],
            **gate,
        }

    @property
    def trains_encoder(self) -> bool:
        """Whether any weight of the analysis transforms is trainable."""
        return any(p.requires_grad for m in self.parts()["encoder"] for p in m.parameters())

    @property
    def trains_entropy_model(self) -> bool:
        """Whether the factorized prior, and so its CDF tables, may change."""
        return self.model.entropy_bottleneck.quantiles.requires_grad

    def train(self, mode: bool = True) -> LearnedCodec:
        """In CompressAI the mode decides between noise and rounding: a frozen encoder rounds.

        Not where the entropy model trains alone: rounding gives predicted means no gradient.
        """
        return super().train(mode and (self.trains_encoder or self.trains_entropy_model_alone))

    def auxiliary_loss(self) -> Tensor | None:
        return self.model.aux_loss() if self.trains_entropy_model else None

    def refresh_tables(self) -> None:
        """Solve the quantiles of a trained prior and rebuild its tables; else only fill empty ones.

        A prior that does not train keeps its tables to the bit: a decoder deployed before must read
        what is written after.
        """
        trained = self.trains_entropy_model
        self.model.update(force=trained, update_quantiles=trained)

    def adapt_state_dict(self, state_dict: MutableMapping, prefix: str) -> None:
        adapt_state_dict(self.model, state_dict, f"{prefix}model.")
        if self.gated:
            self._add_gate(state_dict, f"{prefix}model.g_a.")
        if self.entry.full:
            self._keep_own_encoder(state_dict, f"{prefix}model.")
        if any(key.startswith(f"{prefix}model.") for key in state_dict):
            # Weights of a fixed rate are those of every level.
            for name, gains in (("gains", self.gains), ("inverse_gains", self.inverse_gains)):
                for key, value in gains.state_dict().items() if gains else ():
                    state_dict.setdefault(f"{prefix}{name}.{key}", torch.zeros_like(value))

    def _add_gate(self, state_dict: MutableMapping, prefix: str) -> None:
        """Make weights without gates those of open gates."""
        found = [key for key in state_dict if key.startswith(prefix)]
        if not found or any(key.startswith(f"{prefix}gate.") for key in found):
            return
        for key in found:
            state_dict[f"{prefix}transform.{key.removeprefix(prefix)}"] = state_dict.pop(key)
        for key, value in self.model.g_a.gate.state_dict().items():
            state_dict[f"{prefix}gate.{key}"] = value.clone()

    def _keep_own_encoder(self, state_dict: MutableMapping, prefix: str) -> None:
        """Take all but g_a out of weights of the full codec, and those as the teacher's.

        Raises:
            WeightsError: if there is to be no distillation: g_a would stay as it is.
        """
        own = {f"{prefix}g_a.{key}": value for key, value in self.model.g_a.state_dict().items()}
        found = {key for key in state_dict if key.startswith(f"{prefix}g_a.")}
        if not found or found == own.keys():
            return
        if self.teacher is None:
            raise WeightsError(
                f"the weights have the encoder of {self.entry.full}, not the light one of "
                f"{self.name}: train that first, as in configs/distill_R50.yaml "
                "(MODEL.CODEC.DISTILLATION_WEIGHT)"
            )
        self.teacher.take(state_dict, prefix)
        for key in found:
            del state_dict[key]
        state_dict.update(own)


def _fastest_layout(model: nn.Module) -> torch.memory_format:
    """Channels last, except where oneDNN would write out of bounds.

    Its gradient of a strided 1x1 convolution (in the residual blocks of cheng2020) does in that
    layout: seen in torch 2.14.1 on a CPU with AVX-512, where training ended in a segmentation
    fault.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.stride != (1, 1):
            return torch.contiguous_format
    return torch.channels_last
