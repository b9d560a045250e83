"""From 8-bit pictures to files, whatever runs the analysis transforms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..coding_scale import shrink
from .entropy import EntropyModel, as_integers
from .expected import Picture, Size
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
        quantize: these to whole-numbered y and, with a hyperprior, z, of any type.
        tilings: of either; samples are pixels and latents.
    """

    analyse: Transform
    quantize: Transform
    tilings: tuple[Tiling, Tiling]

    def __call__(self, batch: np.ndarray) -> Sequence[np.ndarray]:
        """An :data:`Analysis`."""
        to_latents, to_whole = self.tilings
        (latents,) = by_tiles(lambda x: self.analyse(x.astype(np.float32) / 255), batch, to_latents)
        # Their positions are of 64x64 pixels: half as many are much already.
        return by_tiles(lambda x: [*map(as_integers, self.quantize(x))], latents, to_whole, share=2)


class PictureEncoder:
    """Codes pictures of any size with given analysis transforms, at their coding scale.

    Args:
        analysis: the transforms.
        entropy: the entropy model that belongs to them; it expects the scale.
    """

    def __init__(self, analysis: Analysis, entropy: EntropyModel) -> None:
        self.analysis = analysis
        self.entropy = entropy

    def encode(self, picture: np.ndarray) -> bytes:
        """The file of a picture (H, W, 3), uint8 RGB."""
        return self.encode_batch([picture])[0]

    def encode_batch(self, pictures: Sequence[np.ndarray]) -> list[bytes]:
        """The files of pictures whose coded sizes are equal when padded to the codec's stride.

        Raises:
            ValueError: if they are not, or no (H, W, 3) uint8 arrays.
            CodecDetError: if they cannot be coded.
        """
        for picture in pictures:
            if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
                given = f"{picture.shape} {picture.dtype}"
                raise ValueError(f"pictures are (H, W, 3) uint8, not {given}")
        small = [shrink(picture, self.entropy.expected.scale) for picture in pictures]
        return self.encode_shrunk(small, [_size(picture) for picture in pictures])

    def encode_shrunk(self, pictures: Sequence[np.ndarray], sizes: Sequence[Size]) -> list[bytes]:
        """As :meth:`encode_batch`, of pictures that were shrunk from ``sizes``."""
        prepared = [self._prepare(picture) for picture in pictures]
        # One alone may be so large that no copy should be made.
        batch = np.stack(prepared) if len(prepared) > 1 else prepared[0][None]
        y, *hyper = self.analysis(batch)
        said = (Picture(s, _size(x)) for s, x in zip(sizes, pictures, strict=True))
        return [
            self.entropy.write(y[i], hyper[0][i] if hyper else None, picture)
            for i, picture in enumerate(said)
        ]

    def _prepare(self, picture: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 to (3, H', W'), padded as in training: the edge repeated."""
        bottom, right = (-side % self.entropy.stride for side in picture.shape[:2])
        if bottom or right:
            picture = np.pad(picture, ((0, bottom), (0, right), (0, 0)), mode="edge")
        return picture.transpose(2, 0, 1)


def _size(picture: np.ndarray) -> Size:
    height, width = picture.shape[:2]
    return height, width
