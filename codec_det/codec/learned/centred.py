"""Latents amid their pixels: a codec to which all sides of a picture are alike.

Four convolutions with strides of 2 put each latent at the first of its 16 pixels. So one lies on a
picture's left and top sides, while the last 15 columns and rows have latents on one side alone, and
are coded worse. Centred transforms see the picture moved by half a stride:

.. code-block:: none

    pixels    |0               16              32              |
    usual      y               y               y
    centred  (y)      y               y               y          (y): not coded, zero before g_s

There are as many latents as before, and weights have the same names and shapes. Those that were
trained otherwise fit but for what they do at the left and top, where they expect another latent.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def centre_latents(g_a: nn.Module, g_s: nn.Module, stride: int) -> None:
    """Let transforms of the usual kind code pictures with latents amid their pixels.

    Args:
        stride: pixels per latent in each direction, even.
    """
    # The middle of an even number of pixels is between two: the upper left of them is taken, as
    # usual weights then have less to learn anew.
    after = stride // 2 - 1
    before = stride - after

    def surround(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return F.pad(inputs[0], (before, after, before, after), mode="replicate")

    def drop_first(module: nn.Module, inputs: tuple[Tensor], y: Tensor) -> Tensor:
        return y[..., 1:, 1:]

    def put_zeros_first(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return F.pad(inputs[0], (1, 0, 1, 0))

    def crop(module: nn.Module, inputs: tuple[Tensor], x: Tensor) -> Tensor:
        return x[..., before:-after, before:-after]

    # Around forward, which has variants that are faster or need less memory.
    g_a.register_forward_pre_hook(surround)
    g_a.register_forward_hook(drop_first)
    g_s.register_forward_pre_hook(put_zeros_first)
    g_s.register_forward_hook(crop)
