"""Transforms where nothing trains: what the layers compute, in less memory and time.

Most of a transform's time outside its convolutions goes into memory: the first layer's output for a
picture of 768x512 is 50 MB, which every step of a GDN reads and writes anew. Here a GDN works in
place, on a piece at a time that stays in caches. A last transposed convolution, with three outputs
for its many inputs, is a convolution at half the size and a rearrangement of its output (Shi et
al., "Is the deconvolution layer the same as a convolutional layer?", arXiv 1609.07009).

Weights are the layers' own, read at every call: nothing is folded that training or loading could
leave behind. Results are the layers' but for the order of summation.

Shape glossary: as in :mod:`codec_det.codec.transforms`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from compressai.layers import GDN
from torch import Tensor, nn

from .gdn import pieces

# Values of a piece that a GDN works on, per thread: 1 MiB. Less is no faster on one thread, and on
# several these must wait for each other more often.
PIECE_VALUES = 2**18


class FastTransform(nn.Sequential):
    """Analysis or synthesis: convolutions, each but the last followed by a GDN or ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """As the layers in turn, which it leaves to PyTorch where :meth:`applies` says no."""
        if not self.applies(x):
            return super().forward(x)
        *layers, last = self
        for layer in layers:
            x = _normalize_in_place(layer, x) if isinstance(layer, GDN) else layer(x)
        if isinstance(last, nn.ConvTranspose2d) and _doubles(last):
            return F.pixel_shuffle(F.conv2d(x, *half_size_kernel(last), padding=1), 2)
        return last(x)

    def applies(self, x: Tensor) -> bool:
        """Whether a CPU computes in float32 with channels last, and keeps nothing for gradients."""
        weight = self[0].weight
        needs_gradient = x.requires_grad or any(p.requires_grad for p in self.parameters())
        return (
            not (torch.is_grad_enabled() and needs_gradient)
            and not torch.compiler.is_compiling()
            and not torch.is_autocast_enabled("cpu")
            and x.device.type == weight.device.type == "cpu"
            and x.dtype == weight.dtype == torch.float32
            and _channels_last(x)
            and _channels_last(weight)
        )


def speed_up(transform: nn.Sequential) -> nn.Sequential:
    """The same layers as a :class:`FastTransform`; others than it knows are returned as they are.

    The residual blocks of cheng2020 are not known.
    """
    *pairs, last = transform
    convolutions, activations = [*pairs[::2], last], pairs[1::2]
    known = (
        len(activations) == len(convolutions) - 1
        and all(type(layer) in (nn.Conv2d, nn.ConvTranspose2d) for layer in convolutions)
        and all(type(layer) in (GDN, nn.ReLU) for layer in activations)
    )
    return FastTransform(*transform) if known else transform


def half_size_kernel(layer: nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
    """The 3x3 convolution whose output, after ``pixel_shuffle`` by 2, is that of ``layer``.

    Args:
        layer: kernel 5x5, stride 2, padding 2, output padding 1; from in to out channels.

    Returns:
        weight (4·out, in, 3, 3) and bias (4·out,); padding is 1.
    """
    # Output 2m + a has tap 4 + a - 2t of input m + t - 1; there is no tap 5.
    taps = torch.tensor([[4, 2, 0], [5, 3, 1]])
    phases = F.pad(layer.weight, (0, 1, 0, 1))[:, :, taps][..., taps]
    weight = phases.permute(1, 2, 4, 0, 3, 5).flatten(0, 2)
    assert layer.bias is not None
    return weight.contiguous(memory_format=torch.channels_last), layer.bias.repeat_interleave(4)


def _doubles(layer: nn.ConvTranspose2d) -> bool:
    """Whether :func:`half_size_kernel` takes it."""
    return (
        layer.kernel_size == (5, 5)
        and layer.stride == layer.padding == (2, 2)
        and layer.output_padding == layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.bias is not None
    )


def _normalize_in_place(gdn: GDN, x: Tensor) -> Tensor:
    """``gdn(x)``, written over x (b, C, H, W), which must be the caller's own."""
    beta, gamma = gdn.beta_reparam(gdn.beta), gdn.gamma_reparam(gdn.gamma)
    x = x.contiguous(memory_format=torch.channels_last)
    parts = [piece for (piece,) in pieces(x, values=PIECE_VALUES)]
    squares, norms = torch.empty_like(parts[0]), torch.empty_like(parts[0])
    for piece in parts:
        square, norm = squares[: len(piece)], norms[: len(piece)]
        torch.mul(piece, piece, out=square)
        torch.addmm(beta, square, gamma.t(), out=norm)
        piece.mul_(norm.sqrt_() if gdn.inverse else norm.rsqrt_())
    return x


def _channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
