"""Layers in the form in which ONNX Runtime computes them fastest: the same sums, in fewer steps."""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

import torch.nn.functional as F
from compressai.layers import GDN
from torch import Tensor, nn

from .fast_transforms import half_size_kernel, resamples
from .gdn import TrainableGDN

Module = TypeVar("Module", bound=nn.Module)


def for_export(module: Module) -> Module:
    """A copy of ``module`` with the layers of here, where they apply."""
    copy = deepcopy(module)
    for parent in list(copy.modules()):
        for name, layer in parent.named_children():
            if type(layer) in (GDN, TrainableGDN) and not layer.inverse:
                layer.__class__ = DividingGDN
            elif isinstance(layer, nn.ConvTranspose2d) and resamples(layer):
                setattr(parent, name, DoublingConvolution(layer))
    return copy


class DividingGDN(GDN):
    """CompressAI's GDN, not inverse: a product and a division for a power, a root's inverse and
    a product."""

    def forward(self, x: Tensor) -> Tensor:
        """(b, C, H, W) to the same."""
        beta, gamma = self.beta_reparam(self.beta), self.gamma_reparam(self.gamma)
        return x / F.conv2d(x * x, gamma[..., None, None], beta).sqrt()


class DoublingConvolution(nn.Module):
    """A transposed convolution that doubles, as a convolution, which has 8-bit kernels."""

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        super().__init__()
        weight, bias = half_size_kernel(layer)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        """(b, in, H, W) to (b, out, 2H, 2W)."""
        return F.pixel_shuffle(F.conv2d(x, self.weight, self.bias, padding=1), 2)
