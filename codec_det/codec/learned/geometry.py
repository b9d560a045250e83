"""How far transforms see, which says what margins their tiles need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from compressai.layers import GDN
from torch import nn

from ...bitstream.tiles import Tiling
from .gate import GatedAnalysis
from .light import Residual

Convolution = nn.Conv2d | nn.ConvTranspose2d
# Every output value depends on one pixel of the input.
POINTWISE = (GDN, nn.ReLU, nn.LeakyReLU, nn.Identity)

WHOLE = Tiling(1, (1,), None)
"""Of transforms of which it is not known: they are computed on whole pictures."""


class Geometry(NamedTuple):
    """What the convolutions between a larger and a smaller map say of them.

    Attributes:
        step: samples of the larger map per sample of the smaller one, in each direction.
        margin: samples of the smaller map beyond its own that an output depends on.
    """

    step: int
    margin: int


def geometry(*transforms: nn.Module) -> Geometry | None:
    """Of sequences of convolutions, each of which shrinks maps, or enlarges them.

    Args:
        transforms: one after another, between maps of the same two sizes.

    Returns:
        None if they have layers of which it is not known.
    """
    found = [_step_and_reach(transform) for transform in transforms]
    known = [each for each in found if each]
    if len(known) < len(found):
        return None
    step = known[0][0]
    return Geometry(step, -(-sum(reach for _, reach in known) // step))


def _step_and_reach(transform: nn.Module) -> tuple[int, int] | None:
    """The step, and in samples of the larger map what an output depends on beyond its own."""
    layers = [layer for layer in _flatten(transform) if not isinstance(layer, POINTWISE)]
    enlarges = any(isinstance(layer, nn.ConvTranspose2d) for layer in layers)
    step, reach = 1, 0
    # From the larger map on, on which the kernel of a layer with a stride lies.
    for layer in reversed(layers) if enlarges else layers:
        if not isinstance(layer, Convolution) or not _keeps_place(layer, enlarges):
            return None
        reach += layer.kernel_size[0] // 2 * step
        step *= layer.stride[0]
    return step, reach


def _flatten(transform: nn.Module) -> Iterator[nn.Module]:
    if isinstance(transform, Residual):
        # What is added sees no more.
        transform = transform.layers
    if isinstance(transform, GatedAnalysis):
        transform = nn.Sequential(transform.transform, transform.gate)
    if not isinstance(transform, nn.Sequential):
        yield transform
        return
    for layer in transform:
        yield from _flatten(layer)


def _keeps_place(layer: Convolution, enlarges: bool) -> bool:
    """Whether sample i of the smaller map lies at sample i times the stride of the larger."""
    kernel, stride = layer.kernel_size[0], layer.stride[0]
    added = stride - 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    return (
        layer.kernel_size == (kernel, kernel)
        and kernel % 2 == 1
        and layer.stride == (stride, stride)
        and layer.padding == (kernel // 2,) * 2
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and layer.output_padding == (added, added)
        and (stride == 1 or isinstance(layer, nn.ConvTranspose2d) == enlarges)
    )
