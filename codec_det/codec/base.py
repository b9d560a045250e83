"""The interface of every codec, and the one place where pictures become codec input and back.

Shape glossary: n pictures; picture i is (3, h_i, w_i), RGB in [0, 1]; a batch that is coded
together is (b, 3, H, W) with H and W multiples of the codec's stride. A codec of variable rate has
several levels, 0 being the lowest rate; a picture is coded at one of them, or between two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..sequences import Frame

if TYPE_CHECKING:
    from .learned.distillation import Teacher


class Coded(NamedTuple):
    """What comes out of a codec for n pictures.

    Attributes:
        reconstructions: n tensors (3, h_i, w_i), RGB in [0, 1]; empty where none was wanted.
        bits: (n,), bits spent on each picture: estimated, in training by a differentiable proxy; or
            real, of a coded file.
        rounded_bits: (n,), the same for rounded latents, as spent after training; no gradient.
        latents: n tensors (M, ⌈h_i / stride⌉, ⌈w_i / stride⌉), what the pictures were decoded from;
            empty where a codec has none.
        measured: per picture, further figures by name; empty where there are none.
    """

    reconstructions: list[Tensor]
    bits: Tensor
    rounded_bits: Tensor
    latents: Sequence[Tensor] = ()
    measured: Sequence[dict[str, float]] = ()


def join(coded: Sequence[Coded]) -> Coded:
    """Of several calls, one after another."""
    return Coded(
        [x for each in coded for x in each.reconstructions],
        torch.cat([each.bits for each in coded]),
        torch.cat([each.rounded_bits for each in coded]),
        [x for each in coded for x in each.latents],
        [x for each in coded for x in each.measured],
    )


class CodedBatch(NamedTuple):
    """What comes out of a codec for a batch of pictures of one size.

    Attributes:
        pictures: (b, 3, H, W), RGB, limited to no range; None where none was wanted.
        bits, rounded_bits: (b,), as of :class:`Coded`.
        latents: (b, M, H / stride, W / stride); None where the codec has none.
    """

    pictures: Tensor | None
    bits: Tensor
    rounded_bits: Tensor
    latents: Tensor | None = None


class Codec(nn.Module, ABC):
    """Codes pictures of any size from 1x1 up."""

    # Pictures are padded to multiples of it, in either direction.
    stride: int = 1
    # Rates that it was trained for; above 1, each call may give a level for each picture.
    levels: int = 1
    # Those of them that training draws from.
    levels_train: Sequence[int] = (0,)
    # The level of pictures for which a call gives none; None: the highest.
    level: float | None = None
    # Consecutive pictures of a call that are frames of one sequence while the chain trains.
    clip_length: int = 1
    # Frames before those, of each clip of the next call, that are coded for their sake alone: what
    # is returned is without them.
    burn_in: int = 0
    # What the encoder learns from beside the loss of what is decoded.
    teacher: Teacher | None = None

    @abstractmethod
    def forward(self, images: Sequence[Tensor], pictures: bool = True) -> Coded:
        """Code n pictures (3, h_i, w_i), RGB in [0, 1], independently of each other.

        Args:
            pictures: whether they are decoded. If not, a codec that has latents gives these alone,
                and its synthesis transform does not run.
        """

    def code_shrunk(
        self,
        images: Sequence[Tensor],
        sizes: Sequence[Sequence[int]],
        pictures: bool = True,
        levels: Sequence[float] | None = None,
    ) -> Coded:
        """As :meth:`forward`, of pictures at their coding scale, shrunk from ``sizes``.

        What codecs make of them is the same, but some write those heights and widths into files.

        Args:
            levels: of each picture, of a codec that has several; None: :attr:`level`.
        """
        return self(images, pictures) if levels is None else self(images, pictures, levels)

    def follow(self, frames: Sequence[Frame | None]) -> None:
        """Say which frames of sequences the pictures of the next call are; None: of none.

        Codecs that code pictures independently of each other need not know.
        """

    @contextmanager
    def burning_in(self, frames: int) -> Iterator[None]:
        """Within it, clips begin with so many frames (:attr:`burn_in`)."""
        self.burn_in = frames
        try:
            yield
        finally:
            self.burn_in = 0

    def usual_levels(self, count: int) -> list[float]:
        """Of pictures for which a call gives none."""
        return [self.levels - 1 if self.level is None else self.level] * count

    def parts(self) -> dict[str, list[nn.Module]]:
        """Trainable parts by name, out of :data:`codec_det.regimes.CODEC_PARTS`."""
        return {}

    @property
    def trains_entropy_model_alone(self) -> bool:
        """Whether the part "entropy" is trainable, and nothing else."""
        own = {id(p) for m in self.parts().get("entropy", ()) for p in m.parameters()}
        return {id(p) for p in self.parameters() if p.requires_grad} == own and bool(own)

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


class BatchedCodec(Codec):
    """A codec of batches, whose pictures are padded no further than to the next multiple.

    Padding repeats the edge (flat areas cost least) and is cropped after decoding. Pictures of
    equal padded size are coded as one batch, so a picture's bits never depend on its neighbours in
    the batch.

    Padding is at the bottom right, except in training, where it falls on either side in any share:
    no loss reaches padding, so a codec that always had it on the same side would never learn that
    border, and would spoil pictures that need none there. Where no picture is decoded there is no
    such border, and latents lie where the picture begins.
    """

    @abstractmethod
    def code(
        self, batch: Tensor, pictures: bool = True, levels: Tensor | None = None
    ) -> CodedBatch:
        """Code (b, 3, H, W), RGB in [0, 1]; H and W are multiples of the stride.

        Args:
            pictures: as of :meth:`forward`.
            levels: (b,) float, given where there are several.

        Returns:
            All of them, but the first :attr:`burn_in` frames of each clip.
        """

    def forward(
        self,
        images: Sequence[Tensor],
        pictures: bool = True,
        levels: Sequence[float] | None = None,
    ) -> Coded:
        """As :meth:`Codec.forward`.

        Args:
            levels: of each picture, of a codec that has several; None: :attr:`level`.
        """
        if levels is None and self.levels > 1:
            levels = self.usual_levels(len(images))
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            height, width = image.shape[-2:]
            groups[_up(height, self.stride), _up(width, self.stride)].append(index)

        reconstructions: dict[int, Tensor] = {}
        latents: dict[int, Tensor] = {}
        order: list[int] = []
        batches = []
        for size, indices in groups.items():
            vary = self.training and pictures
            run = self.burn_in + self.clip_length
            clip = run if vary else 1
            # Frames of a clip stay upon each other.
            starts = [_corner(images[i].shape[-2:], size, vary) for i in indices[::clip]]
            corners = [corner for corner in starts for _ in range(clip)]
            padded = [_pad(images[i], size, at) for i, at in zip(indices, corners, strict=True)]
            stacked = torch.stack(padded)
            own = () if levels is None else (stacked.new_tensor([levels[i] for i in indices]),)
            batch = self.code(stacked, pictures, *own)
            decoded = None if batch.pictures is None else clamp_01(batch.pictures)
            returned = [
                place
                for k, place in enumerate(zip(indices, corners, strict=True))
                if k % run >= self.burn_in
            ]
            for k, (i, (top, left)) in enumerate(returned):
                height, width = images[i].shape[-2:]
                if decoded is not None:
                    reconstructions[i] = decoded[k, :, top : top + height, left : left + width]
                if batch.latents is not None:
                    latents[i] = batch.latents[k]
            order += [i for i, _ in returned]
            batches.append(batch)
        back = torch.argsort(torch.tensor(order)).to(batches[0].bits.device)
        return Coded(
            [reconstructions[i] for i in sorted(reconstructions)],
            torch.cat([b.bits for b in batches])[back],
            torch.cat([b.rounded_bits for b in batches])[back],
            [latents[i] for i in sorted(latents)],
        )


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


def _corner(size: Sequence[int], padded: Sequence[int], vary: bool) -> tuple[int, int]:
    """Rows and columns of padding above and left of a picture of ``size``."""
    if not vary:
        return 0, 0
    top, left = (int(torch.randint(p - s + 1, ())) for s, p in zip(size, padded, strict=True))
    return top, left


def _pad(image: Tensor, size: tuple[int, int], corner: tuple[int, int]) -> Tensor:
    """(3, h, w) to (3, *size), its upper left pixel at ``corner``."""
    (top, left), (height, width) = corner, size
    bottom, right = height - top - image.shape[-2], width - left - image.shape[-1]
    return F.pad(image[None], (left, right, top, bottom), mode="replicate")[0]
