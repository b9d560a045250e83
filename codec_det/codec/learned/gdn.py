"""Generalized divisive normalization in training, with a backward pass of its own.

Autograd takes CompressAI's GDN (Ballé, Laparra and Simoncelli, arXiv 1511.06281) apart into six
steps, each of which reads and writes the largest activations there are, and keeps three of them.
Here both passes go over them once, in pieces that stay in caches, and keep two:

.. code-block:: none

    n = beta + gamma x²         forward:  y = x s,  s = n^(-1/2), or n^(1/2) of the inverse
    dn = -g x s³ / 2            backward, for g = dL/dy; of the inverse dn = g x / (2 s)
    dx = g s + 2 x (gammaᵀ dn),  dgamma = Σ dn x²ᵀ,  dbeta = Σ dn

Shape glossary: x (b, C, H, W) with channels last; P = b·H·W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from compressai.layers import GDN
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Values of a piece, per thread: five of 256 KiB fit into a usual second-level cache.
PIECE_VALUES = 2**16


class TrainableGDN(GDN):
    """CompressAI's layer, whose gradients are computed here where :func:`_applies` allows it."""

    def forward(self, x: Tensor) -> Tensor:
        """As CompressAI's: (b, C, H, W) to the same."""
        if not _applies(self, x):
            return super().forward(x)
        beta, gamma = self.beta_reparam(self.beta), self.gamma_reparam(self.gamma)
        return _Normalize.apply(x, beta, gamma, self.inverse)


def set_gdn_gradients(model: nn.Module) -> None:
    """Make every GDN of ``model`` a :class:`TrainableGDN`, with the weights that it has."""
    for layer in model.modules():
        if type(layer) is GDN:
            layer.__class__ = TrainableGDN


def _applies(gdn: GDN, x: Tensor) -> bool:
    """Whether a CPU computes gradients in float32 or float64, with channels last."""
    return (
        torch.is_grad_enabled()
        and (x.requires_grad or gdn.beta.requires_grad)
        and x.device.type == "cpu"
        and x.dtype == gdn.beta.dtype
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and x.is_contiguous(memory_format=torch.channels_last)
    )


class _Normalize(torch.autograd.Function):
    """x, beta (C,), gamma (C, C), inverse to y (b, C, H, W)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, beta: Tensor, gamma: Tensor, inverse: bool) -> Tensor:
        y, scale = torch.empty_like(x), torch.empty_like(x)
        for x_piece, y_piece, s in pieces(x, y, scale, values=PIECE_VALUES):
            torch.addmm(beta, x_piece.square(), gamma.t(), out=s)
            torch.mul(x_piece, s.sqrt_() if inverse else s.rsqrt_(), out=y_piece)
        ctx.save_for_backward(x, scale, gamma)
        ctx.inverse = inverse
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, scale, gamma = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        dx, dbeta = torch.empty_like(x), gamma.new_zeros(len(gamma))
        dgamma = torch.zeros_like(gamma)
        for x_piece, s, g, out in pieces(x, scale, grad, dx, values=PIECE_VALUES):
            dn = g * x_piece
            if ctx.inverse:
                dn.div_(s).mul_(0.5)
            else:
                dn.mul_(s).mul_(s).mul_(s).mul_(-0.5)
            if ctx.needs_input_grad[2]:
                dbeta += dn.sum(0)
                dgamma.addmm_(dn.t(), x_piece.square())
            torch.mul(g, s, out=out)
            out.addcmul_(x_piece, dn @ gamma, value=2)
        return dx, dbeta, dgamma, None


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
