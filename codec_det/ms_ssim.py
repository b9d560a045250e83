"""Multi-scale structural similarity of two pictures (Wang, Simoncelli and Bovik, 2003).

The figures are those of ``pytorch_msssim.ms_ssim``, which CompressAI and the literature on learned
codecs report, to 1e-6. There the window is a depthwise convolution of three channels, which leaves
most of a CPU's vector lanes empty; shifted copies added up give the same sums in less time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales, from the finest on; each is half the size of the one before."""

TAPS, SIGMA = 11, 1.5
"""Of the Gaussian window, in pixels of each scale."""

MIN_SIDE = (TAPS - 1) * 2 ** (len(WEIGHTS) - 1) + 1
"""Pixels; in smaller pictures the coarsest scale has no room for the window."""

# Of the means, and of the variances, for values in [0, 1].
_C1, _C2 = 0.01**2, 0.03**2


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """MS-SSIM of pictures (3, H, W) in [0, 1], mean over channels: (), from 0 to 1.

    Raises:
        ValueError: if a side is shorter than :data:`MIN_SIDE`.
    """
    if min(x.shape[-2:]) < MIN_SIDE:
        raise ValueError(f"a picture of {tuple(x.shape[-2:])} is too small: {MIN_SIDE} is least")
    scores = []
    for scale in range(len(WEIGHTS)):
        if scale:
            odd = [side % 2 for side in x.shape[-2:]]
            x, y = F.avg_pool2d(torch.stack([x, y]), 2, padding=odd)
        luminance, structure = _similarity(x, y)
        scores.append(structure.mean((-2, -1)))
    # Luminance is compared at the coarsest scale alone.
    scores[-1] = (luminance * structure).mean((-2, -1))
    weights = x.new_tensor(WEIGHTS)[:, None]
    return (torch.stack(scores).relu() ** weights).prod(0).mean()


def _similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance and contrast-structure terms of SSIM at each place, (3, H - 10, W - 10) each."""
    planes = torch.cat([x, y, x * x, y * y, x * y])
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _blur(planes).chunk(5)
    squares, product = mean_x**2 + mean_y**2, mean_x * mean_y
    structure = (2 * (mean_xy - product) + _C2) / (mean_xx + mean_yy - squares + _C2)
    return (2 * product + _C1) / (squares + _C1), structure


def _blur(planes: Tensor) -> Tensor:
    """Gaussian-weighted means (C, H - 10, W - 10) of planes (C, H, W)."""
    offsets = torch.arange(TAPS) - TAPS // 2
    window = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    window /= window.sum()
    # One plane at a time stays in a CPU's cache; a GPU would rather start fewer kernels.
    parts = planes.split(1) if planes.device.type == "cpu" else (planes,)
    weights = window.tolist()
    return torch.cat([_sliding_sum(_sliding_sum(part, weights, 1), weights, 2) for part in parts])


def _sliding_sum(planes: Tensor, weights: list[float], dim: int) -> Tensor:
    """Weighted sums of neighbours along ``dim``, where all are inside."""
    length = planes.shape[dim] - len(weights) + 1
    total = planes.narrow(dim, 0, length) * weights[0]
    for start, weight in enumerate(weights[1:], 1):
        total.add_(planes.narrow(dim, start, length), alpha=weight)
    return total
