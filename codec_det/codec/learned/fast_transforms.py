"""Transforms where nothing trains: what the layers compute, in less memory and time.

Most of a transform's time outside its convolutions goes into memory: the first layer's output for a
picture of 768x512 is 50 MB, which every step of a GDN reads and writes anew. Here a GDN works in
place, on a piece at a time that stays in caches. A last transposed convolution, with three outputs
for its many inputs, is a convolution at half the size and a rearrangement of its output (Shi et
al., "Is the deconvolution layer the same as a convolutional layer?", arXiv 1609.07009).

Weights are the layers' own, read at every call: nothing is folded that training or loading could
leave behind. Results are the layers' but for the order of summation, unless bfloat16 is asked for.

In bfloat16 are then the convolutions between the first and the last, most of a transform's
arithmetic, and the maps between them. The first and last layers and the sums of the GDNs stay in
float32: rounding these shifts what follows, by up to 0.5 % of BD-rate where the rest costs less
than 0.1 %. The widest map is never held in float32.

Shape glossary: as in :mod:`codec_det.codec.learned.transforms`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from compressai.layers import GDN
from torch import Tensor, nn

from .gdn import channels_last, linear, pieces

# Values of a piece that a GDN works on, per thread: 1 MiB. Less is no faster on one thread, and on
# several these must wait for each other more often.
PIECE_VALUES = 2**18
# Of a stage's input, computed at a time where its float32 maps are not to be held. Maps of 32 MiB
# and more, which the C library asks the system for anew each time, cost as much as a convolution.
ROWS = 64
# Rows above and below that a 5x5 kernel reaches, even where it has a stride of 2.
REACH = 2

Convolution = nn.Conv2d | nn.ConvTranspose2d


class FastTransform(nn.Sequential):
    """Analysis or synthesis: convolutions, each but the last followed by a GDN or ReLU.

    Attributes:
        inner_dtype: of the convolutions between the first and the last: float32 or bfloat16.
    """

    inner_dtype = torch.float32

    def forward(self, x: Tensor) -> Tensor:
        """As the layers in turn, which it leaves to PyTorch where :meth:`applies` says no."""
        if not self.applies(x):
            return super().forward(x)
        if self.inner_dtype == torch.bfloat16:
            return self._forward_bfloat16(x)
        *layers, last = self
        for layer in layers:
            x = _apply_in_place(layer, x)
        return _apply_last(last, x)

    def _forward_bfloat16(self, x: Tensor) -> Tensor:
        layers: list[Any] = list(self)
        first, activation, *inner, last_activation, last = layers
        x = _by_rows(
            lambda rows: _apply_in_place(activation, first(rows)), x, first, torch.bfloat16
        )
        for layer in inner:
            x = _convolve(layer, x) if isinstance(layer, Convolution) else _apply_in_place(layer, x)
        return _by_rows(
            lambda rows: _apply_last(last, _apply_in_place(last_activation, rows.float())),
            x,
            last,
            torch.float32,
        )

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
            and channels_last(x)
            and channels_last(weight)
        )


def speed_up(transform: nn.Sequential) -> nn.Sequential:
    """The same layers as a :class:`FastTransform`; others than it knows are returned as they are.

    It knows convolutions that halve or double with kernels of 5x5, not cheng2020's residual blocks.
    """
    *pairs, last = transform
    convolutions, activations = [*pairs[::2], last], pairs[1::2]
    known = (
        len(activations) == len(convolutions) - 1
        and all(resamples(layer) for layer in convolutions)
        and all(type(layer) in (GDN, nn.ReLU) for layer in activations)
    )
    return FastTransform(*transform) if known else transform


def set_inner_dtype(module: nn.Module, dtype: torch.dtype) -> None:
    """Set what every :class:`FastTransform` in ``module`` computes its inner convolutions in.

    Args:
        dtype: float32 or bfloat16.
    """
    for transform in module.modules():
        if isinstance(transform, FastTransform):
            transform.inner_dtype = dtype


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


def double_at_half_size(layer: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """``layer(x)`` by its :func:`half_size_kernel`."""
    return F.pixel_shuffle(F.conv2d(x, *half_size_kernel(layer), padding=1), 2)


def resamples(layer: nn.Module) -> bool:
    """Whether it halves a map's sides, or doubles them, with a kernel of 5x5."""
    if not isinstance(layer, Convolution):
        return False
    return (
        layer.kernel_size == (5, 5)
        and layer.stride == layer.padding == (2, 2)
        and layer.output_padding == ((1, 1) if _doubles(layer) else (0, 0))
        and layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.bias is not None
    )


def _doubles(layer: Convolution) -> bool:
    return isinstance(layer, nn.ConvTranspose2d)


def _by_rows(
    stage: Callable[[Tensor], Tensor], x: Tensor, convolution: Convolution, dtype: torch.dtype
) -> Tensor:
    """``stage(x)``, whose only layer that sees beyond a pixel is ``convolution``, in parts."""
    up, down = (2, 1) if _doubles(convolution) else (1, 2)
    height, width = (-(-side * up // down) for side in x.shape[2:])
    out = torch.empty(
        (len(x), convolution.out_channels, height, width),
        dtype=dtype,
        memory_format=torch.channels_last,
    )
    for picture, target in zip(x.split(1), out.split(1), strict=True):
        for top in range(0, x.shape[2], ROWS):
            start = max(top - REACH, 0)
            part = stage(picture[:, :, start : top + ROWS + REACH])
            rows = target[:, :, top * up // down : (top + ROWS) * up // down]
            rows.copy_(part[:, :, (top - start) * up // down :][:, :, : rows.shape[2]])
    return out


def _convolve(layer: Convolution, x: Tensor) -> Tensor:
    """``layer(x)`` in the type of ``x``."""
    assert layer.bias is not None
    weight, bias = layer.weight.to(x.dtype), layer.bias.to(x.dtype)
    if _doubles(layer):
        return F.conv_transpose2d(x, weight, bias, stride=2, padding=2, output_padding=1)
    return F.conv2d(x, weight, bias, stride=2, padding=2)


def _apply_in_place(layer: nn.Module, x: Tensor) -> Tensor:
    """``layer(x)``, where a GDN writes over x, which must be the caller's own."""
    return _normalize_in_place(layer, x) if isinstance(layer, GDN) else layer(x)


def _apply_last(layer: nn.Module, x: Tensor) -> Tensor:
    """``layer(x)``, at half the size where it doubles."""
    if isinstance(layer, nn.ConvTranspose2d):
        return double_at_half_size(layer, x)
    return layer(x)


def _normalize_in_place(gdn: GDN, x: Tensor) -> Tensor:
    """``gdn(x)`` computed in float32, written over x (b, C, H, W), float32 or bfloat16."""
    beta, gamma = gdn.beta_reparam(gdn.beta), gdn.gamma_reparam(gdn.gamma)
    x = x.contiguous(memory_format=torch.channels_last)
    parts = [piece for (piece,) in pieces(x, values=PIECE_VALUES)]
    for piece in parts:
        values = piece.float()
        norms = linear(values.square(), gamma, beta)
        piece.copy_(values.mul_(norms.sqrt_() if gdn.inverse else norms.rsqrt_()))
    return x


def convolve_pixels(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """``layer(x)`` of a 1x1 convolution, of one or a few pictures in half of PyTorch's time."""
    if x.device.type != "cpu" or not channels_last(x) or torch.compiler.is_compiling():
        return layer(x)
    assert layer.bias is not None
    batch, channels, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1).view(-1, channels)
    y = linear(pixels, layer.weight[..., 0, 0], layer.bias)
    return y.view(batch, height, width, -1).permute(0, 3, 1, 2)
