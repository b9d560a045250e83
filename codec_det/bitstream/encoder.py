"""From 8-bit pictures to files, whatever runs the analysis transforms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import cast

import numpy as np

from ..coding_scale import shrink
from .entropy import EntropyModel, as_integers
from .expected import LEVEL_STEPS, Picture, Size
from .tiles import Tiling, by_tiles

Analysis = Callable[[np.ndarray], Sequence[np.ndarray]]
"""(b, 3, H, W) uint8 RGB, H and W multiples of the codec's stride, to int32 latents: y (b, M, h, w)
and, with a hyperprior, z (b, N, h', w') within the range of its tables."""

Transform = Callable[[np.ndarray], Sequence[np.ndarray]]
"""Float32 maps (b, C, H, W) to one or several."""


@dataclass(frozen=True)
class Stages:
    """Analysis in two stages, each of which is computed tile by tile.

    Attributes:
        analyse: RGB in [0, 1] to unrounded latents (b, M, h, w).
        quantize: these to whole-numbered y and, with a hyperprior, z, of any type; and then, of a
            model of variable rate, the scales of y (b, M, h, w), by which tables are about chosen.
        tilings: of either; samples are pixels and latents.
    """

    analyse: Transform
    quantize: Transform
    tilings: tuple[Tiling, Tiling]

    def __call__(self, batch: np.ndarray) -> Sequence[np.ndarray]:
        """An :data:`Analysis`."""
        return self.whole(self.unrounded(batch))

    def unrounded(self, batch: np.ndarray) -> np.ndarray:
        """The first stage."""
        pixels = self.tilings[0]
        (latents,) = by_tiles(lambda x: self.analyse(x.astype(np.float32) / 255), batch, pixels)
        return latents

    def whole(self, latents: np.ndarray) -> Sequence[np.ndarray]:
        """The second stage, and scales as they are."""

        def quantize(x: np.ndarray) -> list[np.ndarray]:
            found = self.quantize(x)
            return [*map(as_integers, found[:2]), *found[2:]]

        return tiled(quantize, self.tilings[1])(latents)


def tiled(transform: Transform, tiling: Tiling) -> Transform:
    """A transform of latents, tile by tile."""
    # Their positions are of 64x64 pixels: half as many are much already.
    return partial(by_tiles, transform, tiling=tiling, share=2)


class PictureEncoder:
    """Codes pictures of any size with given analysis transforms, at their coding scale.

    Args:
        analysis: the transforms.
        entropy: the entropy model that belongs to them; it expects the scale.
        log_gains: (levels, M), of a model of variable rate, whose transforms are :class:`Stages`:
            what unrounded latents are multiplied by. None: of a fixed rate.
    """

    def __init__(
        self, analysis: Analysis, entropy: EntropyModel, log_gains: np.ndarray | None = None
    ) -> None:
        self.analysis = analysis
        self.entropy = entropy
        self.log_gains = log_gains

    @property
    def levels(self) -> int:
        """Of the model; 1 of a fixed rate."""
        return self.entropy.expected.levels

    def encode(self, picture: np.ndarray, level: float | None = None) -> bytes:
        """The file of a picture (H, W, 3), uint8 RGB; for ``level`` see :meth:`encode_batch`."""
        return self.encode_batch([picture], level)[0]

    def encode_batch(
        self, pictures: Sequence[np.ndarray], level: float | None = None
    ) -> list[bytes]:
        """The files of pictures whose coded sizes are equal when padded to the codec's stride.

        Args:
            level: of a model of variable rate, in steps of 1/64; None: the highest.

        Raises:
            ValueError: if they are not, or no (H, W, 3) uint8 arrays.
            CodecDetError: if they cannot be coded.
        """
        small = [self._shrink(picture) for picture in pictures]
        return self.encode_shrunk(small, [_size(picture) for picture in pictures], level)

    def encode_shrunk(
        self,
        pictures: Sequence[np.ndarray],
        sizes: Sequence[Size],
        level: float | None = None,
    ) -> list[bytes]:
        """As :meth:`encode_batch`, of pictures that were shrunk from ``sizes``."""
        level = self.levels - 1 if level is None else level
        prepared = [self._prepare(picture) for picture in pictures]
        # One alone may be so large that no copy should be made.
        batch = np.stack(prepared) if len(prepared) > 1 else prepared[0][None]
        y, *hyper = self.latents(batch, level)
        step = round(LEVEL_STEPS * level)
        said = (Picture(s, _size(x), step) for s, x in zip(sizes, pictures, strict=True))
        return [
            self.entropy.write(y[i], hyper[0][i] if hyper else None, picture)
            for i, picture in enumerate(said)
        ]

    def latents(self, batch: np.ndarray, level: float) -> Sequence[np.ndarray]:
        """What :data:`Analysis` gives for a batch, at a level."""
        if self.log_gains is None:
            return self.analysis(batch)
        stages = cast("Stages", self.analysis)
        return stages.whole(stages.unrounded(batch) * gain_at(self.log_gains, level))

    def at_levels(self, picture: np.ndarray) -> PictureAtLevels:
        """A picture (H, W, 3), uint8 RGB, ready to be coded at any level of the model."""
        log_gains, stages = self.log_gains, cast("Stages", self.analysis)
        assert log_gains is not None, "a model of a fixed rate has one level"
        small = self._shrink(picture)
        unrounded = self.unrounded(small)

        def quantize(level: float) -> Sequence[np.ndarray]:
            return stages.whole(unrounded * gain_at(log_gains, level))

        return PictureAtLevels(Picture(_size(picture), _size(small)), quantize, self.entropy)

    def unrounded(self, picture: np.ndarray) -> np.ndarray:
        """Latents (1, M, h, w) of a picture at its coded size, (H, W, 3) uint8 RGB; no gains.

        The transforms are :class:`Stages`.
        """
        return cast("Stages", self.analysis).unrounded(self._prepare(picture)[None])

    def _shrink(self, picture: np.ndarray) -> np.ndarray:
        """A picture at its coded size."""
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ValueError(f"pictures are (H, W, 3) uint8, not {picture.shape} {picture.dtype}")
        return shrink(picture, self.entropy.expected.scale)

    def _prepare(self, picture: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 to (3, H', W'), padded as in training: the edge repeated."""
        bottom, right = (-side % self.entropy.stride for side in picture.shape[:2])
        if bottom or right:
            picture = np.pad(picture, ((0, bottom), (0, right), (0, 0)), mode="edge")
        return picture.transpose(2, 0, 1)


def _size(picture: np.ndarray) -> Size:
    height, width = picture.shape[:2]
    return height, width


def gain_at(log_gains: np.ndarray, level: float) -> np.ndarray:
    """Gains (M, 1, 1), float32, at a level; between two, interpolated geometrically.

    Args:
        log_gains: (levels, M), natural logarithms.
    """
    below = min(int(level), len(log_gains) - 2)
    log = (below + 1 - level) * log_gains[below] + (level - below) * log_gains[below + 1]
    return np.exp(log).astype(np.float32)[:, None, None]


class PictureAtLevels:
    """A picture whose transforms have run: what it costs at any level, and its files.

    Levels are in steps of 1/64, as files have them.

    Args:
        picture: what its file says of it, but for the level.
        quantize: a level to latents and scales, as of :meth:`Stages.whole`.
        entropy: the entropy model.
    """

    def __init__(
        self,
        picture: Picture,
        quantize: Callable[[float], Sequence[np.ndarray]],
        entropy: EntropyModel,
    ) -> None:
        self._picture = picture
        self._quantize = quantize
        self._entropy = entropy
        self._latents = cache(self._quantized)
        self.estimate = cache(self._estimate)
        self.write = cache(self._write)

    @property
    def highest(self) -> int:
        """The highest level."""
        return LEVEL_STEPS * (self._entropy.expected.levels - 1)

    def _estimate(self, step: int) -> float:
        """About how many bytes the file has, without what makes it exact."""
        picture = self._picture._replace(level=step)
        return self._entropy.estimated_bytes(self._latents(step), picture)

    def _write(self, step: int) -> bytes:
        """The file."""
        y, *hyper = self._latents(step)
        picture = self._picture._replace(level=step)
        return self._entropy.write(y, hyper[0] if hyper else None, picture)

    def _quantized(self, step: int) -> list[np.ndarray]:
        return [x[0] for x in self._quantize(step / LEVEL_STEPS)]
