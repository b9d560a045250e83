"""The one place where colour order, value range and picture size are converted.

=================  ==========================================  ==========================
form               layout                                      used by
=================  ==========================================  ==========================
stored             (3, H, W) uint8, ``INPUT.FORMAT`` order     data loader
codec              (3, H, W) float, RGB in [0, 1]              codecs
detector           (3, h, w) float, ``INPUT.FORMAT``, 0-255    detectron2 meta-architectures
=================  ==========================================  ==========================
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def to_codec(stored: Tensor, image_format: str) -> Tensor:
    """Stored picture (3, H, W), 0-255, "BGR" or "RGB", to RGB in [0, 1]."""
    return _swap_to_rgb(stored, image_format).float() / 255


def to_detector(decoded: Tensor, image_format: str, size: tuple[int, int]) -> Tensor:
    """Decoded picture (3, H, W), RGB in [0, 1], to the detector's input (3, *size), 0-255.

    Differentiable. Bilinear with antialiasing, as Pillow's resize that detectron2 applies in its
    data mapper: within one level of it, which is Pillow's own rounding.
    """
    return _swap_to_rgb(_resize(decoded, size, "bilinear"), image_format) * 255


def enlarge(decoded: Tensor, size: Sequence[int]) -> Tensor:
    """Decoded picture (3, h, w), RGB in [0, 1], at the size it was taken at: what a person sees.

    Differentiable; bicubic.
    """
    return _resize(decoded, size, "bicubic")


def to_uint8(decoded: Tensor) -> Tensor:
    """Decoded picture, RGB in [0, 1], rounded to 8 bits, (3, H, W) uint8: what a person sees."""
    return decoded.detach().mul(255).round_().clamp_(0, 255).to(torch.uint8)


def psnr(mse: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB from the mean squared error of values in [0, 1]."""
    return -10 * torch.log10(mse)


def _resize(picture: Tensor, size: Sequence[int], mode: str) -> Tensor:
    if list(picture.shape[-2:]) == list(size):
        return picture
    # interpolate has no half-precision antialiased kernel on the CPU.
    return F.interpolate(
        picture[None].float(), list(size), mode=mode, antialias=True, align_corners=False
    )[0]


def _swap_to_rgb(image: Tensor, image_format: str) -> Tensor:
    # Swapping the first and last channel is its own inverse, so this serves both directions.
    return image.flip(0) if image_format == "BGR" else image
