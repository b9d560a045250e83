"""Scale-space flow: motion and what it leaves over, each by a hyperprior (Agustsson, Minnen,
Johnston, Ballé, Hwang and Toderici, CVPR 2020), as CompressAI has it.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ..base import CodedBatch
from ..table import find_codec
from .quantization import set_quantization
from .sequence_codec import SequenceCodec
from .state import adapt_state_dict

_KEY, _PREDICTED = ("img",), ("motion", "res")
_ENCODER = ("encoder", "hyper_encoder")


class ScaleSpaceFlowCodec(SequenceCodec):
    """``ssf2020`` of random weights; its rates are estimated.

    .. code-block:: none

        key frame: x ─► img ─► x_hat
        others:    x, x_hat of the frame before ─► motion ─► flow, blur ─► prediction
                   x - prediction ─► res ─► + prediction ─► x_hat

    Args:
        name: in :mod:`codec_det.codec.table`.
        quality: which zoo weights fit; all have the same widths.
        quantization: as of :class:`LearnedCodec`. What is decoded is rounded in training, too.
        others: those of :class:`SequenceCodec`.
    """

    def __init__(
        self, name: str, quality: int, *, quantization: str = "noise", **others: Any
    ) -> None:
        super().__init__(**others)
        self.entry = find_codec(name)
        assert self.entry.architecture is not None
        self.name = name
        self.widths = self.entry.widths_at(quality)
        self.stride = self.entry.stride
        self.model: Any = self.entry.architecture()()
        self._counts = {
            part: set_quantization(getattr(self.model, f"{part}_hyperprior"), quantization)
            for part in _KEY + _PREDICTED
        }
        self.register_load_state_dict_pre_hook(
            lambda codec, weights, prefix, *_: codec.adapt_state_dict(weights, prefix)
        )

    def train(self, mode: bool = True) -> ScaleSpaceFlowCodec:
        super().train(mode)
        self.model.train(mode and (self.trains_encoder or self.trains_entropy_model_alone))
        return self

    @property
    def trains_encoder(self) -> bool:
        """Whether any weight of the analysis transforms is trainable."""
        return any(p.requires_grad for m in self.parts()["encoder"] for p in m.parameters())

    @property
    def trains_entropy_model(self) -> bool:
        """Whether factorized priors may change."""
        return any(p.requires_grad for n, p in self.named_parameters() if n.endswith("quantiles"))

    def code_keys(
        self, batch: Tensor, pictures: bool, levels: Tensor | None
    ) -> tuple[CodedBatch, Tensor]:
        decoded, bits, rounded = self._run(_KEY, self.model.forward_keyframe, batch)
        # As trained: what is predicted does not change the frame that it is predicted from.
        return CodedBatch(decoded, bits, rounded), decoded.detach()

    def predict(
        self, batch: Tensor, previous: Tensor, pictures: bool, levels: Tensor | None
    ) -> tuple[CodedBatch, Tensor]:
        coded = []
        for frames in batch.unflatten(0, (len(previous), -1)).unbind(1):
            found = self._run(_PREDICTED, self.model.forward_inter, frames, previous)
            previous = found[0]
            coded.append(found)
        decoded, bits, rounded = (torch.stack(x, 1).flatten(0, 1) for x in zip(*coded, strict=True))
        return CodedBatch(decoded, bits, rounded), previous

    def _run(self, parts: tuple[str, ...], transform: Any, *frames: Tensor) -> tuple[Tensor, ...]:
        """Frames as decoded, (b, 3, H, W), and their bits, (b,), by the proxy and rounded."""
        with ExitStack() as counts:
            entered = [counts.enter_context(self._counts[part]) for part in parts]
            decoded, _ = transform(*frames)
            bits, rounded = (sum(x) for x in zip(*(c.total() for c in entered), strict=True))
        return decoded.float(), bits, rounded

    def parts(self) -> dict[str, list[nn.Module]]:
        found: dict[str, list[nn.Module]] = {
            part: [] for part in ("encoder", "decoder", "prediction", "entropy")
        }
        for part in _KEY + _PREDICTED:
            hyperprior = dict(getattr(self.model, f"{part}_hyperprior").named_children())
            transforms = {k: getattr(self.model, f"{part}_{k}") for k in ("encoder", "decoder")}
            for name, module in {**transforms, **hyperprior}.items():
                found["encoder" if name in _ENCODER else "decoder"].append(module)
                found["prediction"] += [module] * (part in _PREDICTED)
                found["entropy"] += [module] * (name in hyperprior and name not in _ENCODER)
        synthesis = [getattr(self.model, f"{part}_decoder") for part in ("img", "res")]
        return {**found, "synthesis": synthesis}

    def auxiliary_loss(self) -> Tensor | None:
        bottlenecks = [
            getattr(self.model, f"{p}_hyperprior").entropy_bottleneck for p in self._counts
        ]
        losses = [b.loss() for b in bottlenecks if b.quantiles.requires_grad]
        return torch.stack(losses).sum() if losses else None

    def refresh_tables(self) -> None:
        """Solve the quantiles of trained priors, about whose medians hyper-latents are rounded."""
        if self.trains_entropy_model:
            self.model.update(force=True, update_quantiles=True)

    def adapt_state_dict(self, state_dict: MutableMapping, prefix: str) -> None:
        adapt_state_dict(self.model, state_dict, f"{prefix}model.")
