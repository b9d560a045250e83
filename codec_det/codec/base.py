"""The interface of every codec, and the one place where pictures become codec input and back.

Shape glossary: n pictures; picture i is (3, h_i, w_i), RGB in [0, 1]; a batch that is coded
together is (b, 3, H, W) with H and W multiples of the codec's stride.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import MutableMapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Coded(NamedTuple):
    """What comes out of a codec for n pictures.

    Attributes:
        reconstructions: n tensors (3, h_i, w_i), RGB in [0, 1].
        bits: (n,), bits spent on each picture: estimated, in training by a differentiable proxy; or
            real, of a coded file.
        rounded_bits: (n,), the same for rounded latents, as spent after training; no gradient.
        measured: per picture, further figures by name; empty where there are none.
    """

    reconstructions: list[Tensor]
    bits: Tensor
    rounded_bits: Tensor
    measured: Sequence[dict[str, float]] = ()


class Codec(nn.Module, ABC):
    """Codes pictures of any size from 1x1 up, each padded no further than to the next multiple.

    Padding repeats the last row and column (flat areas cost least) at the bottom right, and is
    cropped after decoding. Pictures of equal padded size are coded as one batch, so a picture's
    bits never depend on its neighbours in the batch.
    """

    # Height and width of a coded batch are multiples of it.
    stride: int = 1

    @abstractmethod
    def code(self, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(b, 3, H, W) to reconstruction (b, 3, H, W), bits (b,) and rounded bits (b,)."""

    def parts(self) -> dict[str, list[nn.Module]]:
        """Trainable parts by name, out of :data:`codec_det.regimes.CODEC_PARTS`."""
        return {}

    def auxiliary_loss(self) -> Tensor | None:
        """Loss that keeps the entropy model's quantiles in place; None where nothing trains it."""
        return None

    def refresh_tables(self) -> None:
        """Bring the integer CDF tables up to date with a trained entropy model."""

    def adapt_state_dict(self, state_dict: MutableMapping, prefix: str) -> None:
        """Make weights saved under ``prefix`` loadable: old key names, tables of other sizes."""

    def set_trainable(self, parts: Sequence[str]) -> None:
        """Let exactly the named parts train.

        Raises:
            KeyError: if this codec lacks one of ``parts``.
        """
        available = self.parts()
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        for name in parts:
            for module in available[name]:
                for parameter in module.parameters():
                    parameter.requires_grad_(True)

    def forward(self, images: Sequence[Tensor]) -> Coded:
        """Code n pictures (3, h_i, w_i), RGB in [0, 1], independently of each other."""
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            height, width = image.shape[-2:]
            groups[_up(height, self.stride), _up(width, self.stride)].append(index)

        reconstructions: list[Tensor] = [images[0]] * len(images)
        order: list[int] = []
        all_bits, all_rounded = [], []
        for (height, width), indices in groups.items():
            batch = torch.stack([_pad(images[i], height, width) for i in indices])
            decoded, bits, rounded = self.code(batch)
            for i, picture in zip(indices, clamp_01(decoded), strict=True):
                reconstructions[i] = picture[:, : images[i].shape[-2], : images[i].shape[-1]]
            order += indices
            all_bits.append(bits)
            all_rounded.append(rounded)
        back = torch.argsort(torch.tensor(order)).to(all_bits[0].device)
        return Coded(reconstructions, torch.cat(all_bits)[back], torch.cat(all_rounded)[back])


class _Clamp01(torch.autograd.Function):
    """``clamp(0, 1)`` whose gradient passes wherever it would bring a value back into range.

    A plain clamp gives values outside the range no gradient at all: pixels a codec has once pushed
    out while adapting to a detector could never return. Same rule as CompressAI's LowerBound.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        inward = ((x >= 0) | (grad < 0)) & ((x <= 1) | (grad > 0))
        return grad * inward


def clamp_01(x: Tensor) -> Tensor:
    """Limit to [0, 1], with a gradient that lets values outside come back."""
    return _Clamp01.apply(x)


def _up(size: int, stride: int) -> int:
    return -(-size // stride) * stride


def _pad(image: Tensor, height: int, width: int) -> Tensor:
    bottom, right = height - image.shape[-2], width - image.shape[-1]
    return F.pad(image[None], (0, right, 0, bottom), mode="replicate")[0]
