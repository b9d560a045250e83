"""Convolutions that halve and double in training, with a backward pass of their own.

.. code-block:: none

    y = w * x         backward, for g = dL/dy:  dx = wᵀ * g,  dw = x ⋆ g    convolution
    y = wᵀ * x                                  dx = w * g,   dw = g ⋆ x    transposed convolution

So the gradients of a transposed convolution are those of a convolution whose input is g, which
oneDNN computes in less time. Both may be computed in bfloat16: that rounds their operands, while
sums are in float32. The forward pass is in float32, and with it the loss. A transposed convolution
to pictures is computed at half the size: :mod:`codec_det.codec.learned.fast_transforms`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input, conv2d_weight

from .fast_transforms import double_at_half_size, resamples
from .gdn import TrainableGDN, computes_gradients

PICTURE_CHANNELS = 3


class _OwnGradients(nn.Module):
    """Before a layer of PyTorch's: its gradients are computed here if :func:`computes_gradients`.

    Attributes:
        gradient_dtype: what they are computed in; None: the type of the maps.
    """

    gradient_dtype: torch.dtype | None = None
    weight: Tensor

    def forward(self, x: Tensor, *sizes: Any) -> Tensor:
        """As PyTorch's."""
        if not computes_gradients(x, self.weight):
            return super().forward(x, *sizes)
        return _Resample.apply(x, self.weight, self.bias, self)


class TrainableConvolution(_OwnGradients, nn.Conv2d):
    """One that halves."""


class TrainableTransposedConvolution(_OwnGradients, nn.ConvTranspose2d):
    """One that doubles."""


def set_convolution_gradients(model: nn.Module) -> None:
    """Let every layer of ``model`` that halves or doubles have its gradients computed here."""
    for layer in model.modules():
        if type(layer) is nn.Conv2d and resamples(layer):
            layer.__class__ = TrainableConvolution
        elif type(layer) is nn.ConvTranspose2d and resamples(layer):
            layer.__class__ = TrainableTransposedConvolution


def set_gradient_dtype(module: nn.Module, dtype: torch.dtype) -> None:
    """Set what the gradients of these layers, and of GDNs, in ``module`` are computed in."""
    for layer in module.modules():
        if isinstance(layer, (_OwnGradients, TrainableGDN)):
            layer.gradient_dtype = dtype


class _Resample(torch.autograd.Function):
    """x (b, in, H, W), weight, bias (out,), layer to y: half or twice as high and wide."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layer: Any) -> Tensor:
        ctx.doubles = isinstance(layer, nn.ConvTranspose2d)
        ctx.dtype, ctx.shape = layer.gradient_dtype or x.dtype, x.shape
        ctx.save_for_backward(x.to(ctx.dtype) if ctx.needs_input_grad[1] else None, weight)
        if not ctx.doubles:
            return F.conv2d(x, weight, bias, stride=2, padding=2)
        if layer.out_channels == PICTURE_CHANNELS:
            return double_at_half_size(layer, x)
        return F.conv_transpose2d(x, weight, bias, stride=2, padding=2, output_padding=1)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        g, w = grad.to(ctx.dtype), weight.to(ctx.dtype)
        dx = dw = db = None
        if ctx.needs_input_grad[0]:
            if ctx.doubles:
                dx = F.conv2d(g, w, stride=2, padding=2)
            else:
                dx = conv2d_input(ctx.shape, w, g, stride=2, padding=2)
            dx = dx.to(grad.dtype)
        if ctx.needs_input_grad[1]:
            seen, out = (g, x) if ctx.doubles else (x, g)
            dw = conv2d_weight(seen, w.shape, out, stride=2, padding=2).to(weight.dtype)
        if ctx.needs_input_grad[2]:
            db = grad.sum((0, 2, 3))
        return dx, dw, db, None
