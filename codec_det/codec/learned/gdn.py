"""Generalized divisive normalization in training, with a backward pass of its own.

Autograd takes CompressAI's GDN (Ballé, Laparra and Simoncelli, arXiv 1511.06281) apart into six
steps, each of which reads and writes the largest activations there are, and keeps three of them.
Here both passes go over them once, in pieces that stay in caches, and keep two:

.. code-block:: none

    n = beta + gamma x²         forward:  y = x s,  s = n^(-1/2), or n^(1/2) of the inverse
    dn = -g x s³ / 2            backward, for g = dL/dy; of the inverse dn = g x / (2 s)
    dx = g s + 2 x (gammaᵀ dn),  dgamma = Σ dn x²ᵀ,  dbeta = Σ dn

Shape glossary: x (b, C, H, W) with channels last; p pixels of a piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from compressai.layers import GDN
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Values of a piece, per thread: 1 MiB. Less would fit into a second-level cache, but oneDNN's
# products of fewer pixels take longer than that saves.
PIECE_VALUES = 2**18


class TrainableGDN(GDN):
    """CompressAI's layer, whose gradients are computed here if :func:`computes_gradients`.

    Attributes:
        gradient_dtype: of the matrix products of the backward pass; None: that of the maps.
    """

    gradient_dtype: torch.dtype | None = None

    def forward(self, x: Tensor) -> Tensor:
        """As CompressAI's: (b, C, H, W) to the same."""
        if not computes_gradients(x, self.beta):
            return super().forward(x)
        beta, gamma = self.beta_reparam(self.beta), self.gamma_reparam(self.gamma)
        return _Normalize.apply(x, beta, gamma, self.inverse, self.gradient_dtype or x.dtype)


def set_gdn_gradients(model: nn.Module) -> None:
    """Make every GDN of ``model`` a :class:`TrainableGDN`, with the weights that it has."""
    for layer in model.modules():
        if type(layer) is GDN:
            layer.__class__ = TrainableGDN


def computes_gradients(x: Tensor, weight: Tensor) -> bool:
    """Whether those of a layer are computed here: on a CPU, in float32 or float64, channels last.

    Args:
        x: map (b, C, H, W) that the layer is given.
        weight: one of its parameters.
    """
    return (
        torch.is_grad_enabled()
        and (x.requires_grad or weight.requires_grad)
        and x.device.type == "cpu"
        and x.dtype == weight.dtype
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and channels_last(x)
    )


def channels_last(x: Tensor) -> bool:
    """Whether x (b, C, H, W) lies in memory so."""
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)


class _Normalize(torch.autograd.Function):
    """x, beta (C,), gamma (C, C), inverse, dtype of products to y (b, C, H, W)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, beta: Tensor, gamma: Tensor, inverse: bool, dtype: torch.dtype
    ) -> Tensor:
        y, scale = torch.empty_like(x), torch.empty_like(x)
        power = torch.sqrt if inverse else torch.rsqrt
        for x_piece, y_piece, s in pieces(x, y, scale, values=PIECE_VALUES):
            power(linear(x_piece.square(), gamma, beta), out=s)
            torch.mul(x_piece, s, out=y_piece)
        ctx.save_for_backward(x, scale, gamma)
        ctx.inverse, ctx.dtype = inverse, dtype
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, scale, gamma = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        dx, dbeta = torch.empty_like(x), gamma.new_zeros(len(gamma))
        dgamma, transposed = torch.zeros_like(gamma), gamma.t().contiguous().to(ctx.dtype)
        # Of dn, which is taken without it.
        factor = 0.5 if ctx.inverse else -0.5
        for x_piece, s, g, out in pieces(x, scale, grad, dx, values=PIECE_VALUES):
            dn = g * x_piece
            if ctx.inverse:
                dn.div_(s)
            else:
                dn.mul_(s).mul_(s).mul_(s)
            low = dn.to(ctx.dtype)
            if ctx.needs_input_grad[2]:
                dbeta += dn.sum(0)
                dgamma += low.t() @ x_piece.square().to(ctx.dtype)
            torch.mul(g, s, out=out)
            out.addcmul_(x_piece, linear(low, transposed).to(x.dtype), value=2 * factor)
        return dx, dbeta.mul_(factor), dgamma.mul_(factor), None, None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(p, C) to (p, D), on a CPU."""
    # A 1x1 convolution, which oneDNN computes in two thirds of the time of MKL's product on
    # processors of AMD. PyTorch asks oneDNN for it on one thread from 16 pictures on.
    channels = x.shape[1]
    maps = x.view(16 if len(x) % 16 == 0 else 1, -1, 1, channels).permute(0, 3, 1, 2)
    # Without oneDNN the output has its channels first, which is no view of (p, C).
    return (
        F.conv2d(maps, weight[..., None, None], bias).permute(0, 2, 3, 1).reshape(-1, len(weight))
    )


def pieces(*maps: Tensor, values: int) -> Iterator[tuple[Tensor, ...]]:
    """Views (p, C) of the pixels of maps (b, C, H, W) with channels last, piece by piece.

    Args:
        values: of a piece, per thread; the first piece is the largest.
    """
    channels = maps[0].shape[1]
    size = -(-values * torch.get_num_threads() // channels)
    # A view, or an error: what is written must end in the maps.
    pixels = [m.permute(0, 2, 3, 1).view(-1, channels) for m in maps]
    return zip(*(p.split(size) for p in pixels), strict=True)
