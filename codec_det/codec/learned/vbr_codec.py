"""CompressAI's own variable rate: one quantization step for all latents (Kamisli, Racapé and Choi,
arXiv 2402.18930).
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import torch
from torch import Tensor

from ..base import CodedBatch
from .learned_codec import LearnedCodec


class VbrCodec(LearnedCodec):
    """``bmshj2018-hyperprior-vbr`` or ``mbt2018-mean-vbr``; arguments as of :class:`LearnedCodec`.

    Its model takes one level for a whole batch, has reciprocals of the step sizes as ``Gain``,
    which it never trains, and quantizes hyper-latents by the level, too, with an entropy model that
    is none of CompressAI's others.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.levels = self.entry.levels
        self._level = 0.0
        self.model.entropy_bottleneck.register_forward_hook(self._add, with_kwargs=True)

    def code(
        self, batch: Tensor, pictures: bool = True, levels: Tensor | None = None
    ) -> CodedBatch:
        if levels is None:
            levels = batch.new_tensor(self.usual_levels(len(batch)))
        coded, order = [], []
        for level in levels.unique():
            (places,) = torch.nonzero(levels == level, as_tuple=True)
            self._level = level.item()
            coded.append(super().code(batch[places], pictures))
            order.append(places)
        back = torch.argsort(torch.cat(order))
        every = zip(*coded, strict=True)
        found: Any = [None if p[0] is None else torch.cat(p)[back] for p in every]
        return CodedBatch(*found)

    def run(self, batch: Tensor) -> dict[str, Any]:
        # In training the model looks at the number of the level, else at the scale alone.
        return self.model(batch, stage=2, s=int(self._level), inputscale=self._scale())

    def _add(
        self, bottleneck: Any, args: tuple[Tensor], options: dict[str, Any], out: tuple[Tensor, ...]
    ) -> None:
        """Count the bits of hyper-latents."""
        rounded = out[1]
        if bottleneck.training:
            with torch.no_grad():
                # Not a call, which would be counted, too.
                _, rounded = bottleneck.forward(*args, **{**options, "training": False})
        self._count.add(bottleneck, out[1], rounded)

    def _scale(self) -> Tensor:
        """Of latents at the level; between two levels, their geometric mean."""
        below = min(int(self._level), self.levels - 2)
        low, high = self.model.Gain[below : below + 2].detach().abs().log()
        return torch.lerp(low, high, self._level - below).exp()

    def auxiliary_loss(self) -> Tensor | None:
        return self.model.entropy_bottleneck.loss() if self.trains_entropy_model else None

    def refresh_tables(self) -> None:
        # Its update solves no quantiles, and nothing is coded with the tables.
        self.model.update(force=self.trains_entropy_model)

    def adapt_state_dict(self, state_dict: MutableMapping, prefix: str) -> None:
        super().adapt_state_dict(state_dict, prefix)
        # Of the zoo's files alone, whose own loader drops it, too.
        state_dict.pop(f"{prefix}model.QuantOffset", None)
