"""How CompressAI's entropy models quantize and in which precision, set per instance.

Three changes to their behaviour, each for a reason CompressAI's own training loop does not meet:

- straight-through rounding as an alternative to additive noise while the encoder trains;
- the medians get no gradient from the main loss (in eval mode it would reach them through
  rounding; the auxiliary loss alone places the quantiles);
- always float32: likelihoods are floored at 1e-9, below what float16 can hold.
"""

from __future__ import annotations

from types import MethodType

import torch
from compressai.entropy_models import EntropyModel
from torch import Tensor, nn


def set_quantization(model: nn.Module, kind: str) -> None:
    """Install ``kind`` ("noise" or "straight_through") in every entropy model of ``model``."""
    for module in model.modules():
        if isinstance(module, EntropyModel):
            module.quantize = MethodType(_quantize, module)
            module.forward = MethodType(_forward, module)
            module.straight_through = kind == "straight_through"
            module.rounded_bits = None


def rounded_bits(model: nn.Module) -> Tensor:
    """(b,) bits of the last training batch had its latents been rounded; no gradient."""
    modules = [m for m in model.modules() if isinstance(m, EntropyModel)]
    return torch.stack([m.rounded_bits for m in modules if m.rounded_bits is not None]).sum(0)


def bits_of(likelihoods: Tensor) -> Tensor:
    """(b, ...) likelihoods of symbols to (b,) bits: the sum of -log2."""
    return -torch.log2(likelihoods.float()).flatten(1).sum(1)


def _quantize(self: EntropyModel, inputs: Tensor, mode: str, means: Tensor | None = None) -> Tensor:
    original = type(self).quantize
    means = None if means is None else means.detach()
    if mode == "noise" and self.straight_through:
        rounded = original(self, inputs.detach(), "dequantize", means)
        return inputs + (rounded - inputs).detach()
    return original(self, inputs, mode, means)


def _forward(
    self: EntropyModel, inputs: Tensor, *args: Tensor, **kwargs: Tensor | bool
) -> tuple[Tensor, Tensor]:
    original = type(self).forward
    inputs, *rest = (x.float() for x in (inputs, *args))
    kwargs = {k: v.float() if isinstance(v, Tensor) else v for k, v in kwargs.items()}
    with torch.autocast(inputs.device.type, enabled=False):
        outputs, likelihoods = original(self, inputs, *rest, **kwargs)
        with torch.no_grad():
            rounded = likelihoods
            if self.training and not self.straight_through:
                _, rounded = original(self, inputs, *rest, **kwargs, training=False)
            self.rounded_bits = bits_of(rounded)
    return outputs, likelihoods
