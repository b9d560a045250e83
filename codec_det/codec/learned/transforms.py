"""A CompressAI model's transforms, cut where the bitstream is: pictures to whole-numbered latents,
and back.

Shape glossary: as in :mod:`codec_det.bitstream.entropy`, b pictures at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from compressai.models import CompressionModel, MeanScaleHyperprior, ScaleHyperprior
from torch import Tensor, nn

from ...bitstream.encoder import Stages, Transform, tiled
from ...bitstream.entropy import EntropyModel
from ...bitstream.hyperprior import Hyperprior
from ...bitstream.tiles import Tiling, by_tiles
from .geometry import WHOLE, geometry
from .prediction import FramePrediction
from .quantization import bits_of


class Analysis(nn.Module):
    """Padded pictures to latents: what the camera computes before entropy coding.

    The means of a mean-scale codec are those of the float hyper-synthesis, as in training; they
    shape what is sent, but no decoder depends on them. Hyper-latents are limited to the range of
    their tables.

    Args:
        model: a CompressAI model; its analysis transforms, and what else is needed, are shared.
        entropy: its frozen entropy model.
    """

    medians: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, model: CompressionModel, entropy: EntropyModel) -> None:
        super().__init__()
        self.g_a = model.g_a
        self.register_buffer("medians", _column(model.entropy_bottleneck.quantiles[:, 0, 1]))
        self.h_s: nn.Module | None = None
        self.has_hyperprior = isinstance(model, ScaleHyperprior)
        if entropy.hyperprior is not None:
            self.h_a = model.h_a
            # The mean-scale codec's analysis keeps the sign that the scale hyperprior's drops.
            self.signed = isinstance(model, MeanScaleHyperprior)
            # With variable rate, rate control wants the scales.
            self.gives_scales = entropy.expected.levels > 1
            self.h_s = model.h_s if self.signed or self.gives_scales else None
            tables = entropy.hyperprior.tables
            self.register_buffer("low", _column(torch.from_numpy(tables.lowest)))
            self.register_buffer("high", _column(torch.from_numpy(tables.highest)))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(b, 3, H, W) RGB in [0, 1] to y (b, M, h, w) and, with a hyperprior, z (b, N, h', w')."""
        return self.quantize(self.g_a(x))

    def quantize(self, y: Tensor) -> tuple[Tensor, ...]:
        """Unrounded latents (b, M, h, w), which gains were applied to, to y and z as of forward.

        With variable rate and a hyperprior, the scales of y (b, M, h, w) come after them.
        """
        if not self.has_hyperprior:
            return (torch.round(y - self.medians),)
        z = torch.round(self.h_a(y if self.signed else y.abs()) - self.medians)
        z = torch.minimum(torch.maximum(z, self.low), self.high)
        if self.h_s is None:
            return torch.round(y), z
        scales = _crop(self.h_s(z + self.medians), y.shape)
        if self.signed:
            scales, means = scales.chunk(2, 1)
            y = y - means
        return (torch.round(y), z, scales) if self.gives_scales else (torch.round(y), z)

    def tilings(self) -> tuple[Tiling, Tiling]:
        """Of ``g_a`` and of :meth:`quantize`."""
        pixels = geometry(self.g_a)
        analysis = Tiling(pixels.step, (1,), pixels.margin) if pixels else WHOLE
        if not self.has_hyperprior:
            return analysis, Tiling(1, (1,), 0)
        latents = geometry(self.h_a) if self.h_s is None else geometry(self.h_a, self.h_s)
        if not latents:
            return analysis, WHOLE
        scales = (latents.step,) * self.gives_scales
        return analysis, Tiling(latents.step, (latents.step, 1, *scales), latents.margin)


class FrameAnalysis(nn.Module):
    """What has changed since the frame before to hyper-latents: what an encoder computes of
    predicted frames beside g_a.

    Args:
        model: float model of predicted frames; its hyper-analysis is shared.
        hyperprior: of its frozen entropy model.
    """

    low: Tensor
    high: Tensor

    def __init__(self, model: FramePrediction, hyperprior: Hyperprior) -> None:
        super().__init__()
        self.h_a = model.h_a
        self.quantiles = model.entropy_bottleneck.quantiles
        self.signed = model.has_means
        tables = hyperprior.tables
        for name, values in (("low", tables.lowest), ("high", tables.highest)):
            # The entropy model has them already.
            self.register_buffer(name, _column(torch.from_numpy(values)), persistent=False)

    def forward(self, change: Tensor) -> Tensor:
        """(b, M, h, w) to whole-numbered hyper-latents (b, N, h', w') within their range."""
        z = self.h_a(change if self.signed else change.abs())
        z = torch.round(z - _column(self.quantiles[:, 0, 1]))
        return torch.minimum(torch.maximum(z, self.low), self.high)

    def tiling(self) -> Tiling:
        """Of it."""
        latents = geometry(self.h_a)
        return Tiling(latents.step, (1,), latents.margin) if latents else WHOLE


def hyper_analysis_of(frames: FrameAnalysis) -> Transform:
    """``frames`` on arrays, wherever its weights are."""
    return tiled(partial(_analyse_change, frames), frames.tiling())


def run_analysis(analysis: Analysis, batch: np.ndarray) -> Sequence[np.ndarray]:
    """``analysis`` on arrays, wherever its weights are."""
    return stages_of(analysis)(batch)


def stages_of(analysis: Analysis) -> Stages:
    """The stages of ``analysis`` on arrays, wherever its weights are."""
    return Stages(partial(_analyse, analysis), partial(_quantize, analysis), analysis.tilings())


@torch.inference_mode()
def _analyse(analysis: Analysis, picture: np.ndarray) -> list[np.ndarray]:
    return [analysis.g_a(_as_input(analysis.g_a, picture)).cpu().numpy()]


@torch.inference_mode()
def _quantize(analysis: Analysis, y: np.ndarray) -> list[np.ndarray]:
    return [latents.cpu().numpy() for latents in analysis.quantize(_as_input(analysis.g_a, y))]


@torch.inference_mode()
def _analyse_change(frames: FrameAnalysis, change: np.ndarray) -> list[np.ndarray]:
    return [frames(_as_input(frames.h_a, change)).cpu().numpy()]


def _as_input(transform: nn.Module, maps: np.ndarray) -> Tensor:
    device = next(transform.parameters()).device
    return torch.from_numpy(maps).to(device, memory_format=_layout(transform))


def synthesize(
    g_s: nn.Module, y: np.ndarray, finish: Callable[[Tensor], Tensor] = lambda x: x
) -> Tensor:
    """Decoded latents with their means added (b, M, h, w) to pictures (b, 3, H, W) in [0, 1].

    Args:
        finish: of pixels, before the whole picture is held.
    """
    weight = next(g_s.parameters())
    layout, pixels = _layout(g_s), geometry(g_s)
    tiling = Tiling(1, (pixels.step,), pixels.margin) if pixels else WHOLE

    def transform(tile: np.ndarray) -> list[np.ndarray]:
        x = torch.from_numpy(tile).to(weight.device, memory_format=layout)
        return [finish(g_s(x).clamp(0, 1)).cpu().numpy()]

    with torch.inference_mode():
        (pictures,) = by_tiles(transform, y, tiling)
        return torch.from_numpy(pictures).to(weight.device)


def estimated_bits(model: CompressionModel, y: Tensor, z: Tensor | None) -> float:
    """Bits of one picture's latents by the likelihoods of the float model.

    Args:
        y: (1, M, h, w) as of :class:`Analysis`.
        z: (1, N, h', w'), the same; None without a hyperprior.
    """
    bottleneck = model.entropy_bottleneck
    medians = _column(bottleneck.quantiles[:, 0, 1])
    with torch.inference_mode():
        if z is None:
            return bits_of(bottleneck(y + medians)[1]).item()
        z_hat, z_likelihoods = bottleneck(z + medians)
        scales, means = _crop(model.h_s(z_hat), y.shape), None
        if isinstance(model, MeanScaleHyperprior):
            scales, means = scales.chunk(2, 1)
            y = y + means
        _, y_likelihoods = model.gaussian_conditional(y, scales, means=means)
        return (bits_of(z_likelihoods) + bits_of(y_likelihoods)).item()


@contextmanager
def cropped_hyper_synthesis(model: CompressionModel) -> Iterator[None]:
    """Within it, what h_s makes of hyper-latents is as large as y, where ``model`` has an h_s.

    A hyper-latent stands for 4x4 latents, fewer of which may be there at the bottom and right.
    """
    if not hasattr(model, "h_s"):
        yield
        return
    sizes: list[torch.Size] = []
    note = model.g_a.register_forward_hook(lambda g_a, x, y: sizes.append(y.shape))
    crop = model.h_s.register_forward_hook(lambda h_s, z, out: _crop(out, sizes[-1]))
    with note, crop:
        yield


@contextmanager
def decoded_latents(model: CompressionModel, synthesis: bool) -> Iterator[list[Tensor]]:
    """Within it, what ``model`` gives its synthesis transform is gathered.

    Args:
        synthesis: whether the transform runs, too; if not, the model returns what it was given.
    """
    latents: list[Tensor] = []
    g_s = model.g_s
    if not synthesis:
        model.g_s = nn.Identity()
    # Before hooks of its own, which may put something around them.
    look = model.g_s.register_forward_pre_hook(lambda _, x: latents.extend(x), prepend=True)
    with look:
        try:
            yield latents
        finally:
            model.g_s = g_s


def _crop(x: Tensor, size: Sequence[int]) -> Tensor:
    """The top left of ``x``, as high and wide as the last two of ``size`` say."""
    return x[..., : size[-2], : size[-1]]


def _column(values: Tensor) -> Tensor:
    """(C,) to (1, C, 1, 1) float."""
    return values.detach().float().reshape(1, -1, 1, 1)


def _layout(module: nn.Module) -> torch.memory_format:
    """The memory format that the weights were put into."""
    weight = next(p for p in module.parameters() if p.dim() == 4)
    last = weight.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
