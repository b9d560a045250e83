"""From frames of a sequence to what is sent of them, whatever runs the analysis transforms."""

from __future__ import annotations

import numpy as np

from ..sequences import Frame, Reference
from .encoder import PictureEncoder, Transform, gain_at
from .entropy import Latents, as_integers
from .expected import LEVEL_STEPS, Picture, Size
from .prediction import Prediction

DEAD_ZONE = 0.35
"""Latents of predicted frames are moved by so much towards their means before they are rounded, in
quantization steps. The sensor's noise moves latents that lie near a threshold over it and back: of
all bits of a still scene, those are most, and what they tell is of no use."""


class SequenceEncoder:
    """Codes frames one after another: files of key frames, streams of the others.

    What is predicted from is what a receiver has, so that each frame is exact for it, whatever
    rounding the transforms of this encoder led to.

    Args:
        pictures: encoder of key frames, whose analysis transform it takes.
        hyper_analysis: what has changed since the frame before (1, M, h, w) to whole-numbered
            hyper-latents (1, N, h', w') within the range of their tables.
        prediction: the frozen entropy model of predicted frames.
        key_interval: frames from a key frame to the next.

    Attributes:
        pictures, prediction: these.
    """

    def __init__(
        self,
        pictures: PictureEncoder,
        hyper_analysis: Transform,
        prediction: Prediction,
        key_interval: int,
    ) -> None:
        self.pictures = pictures
        self._hyper_analysis = hyper_analysis
        self.prediction = prediction
        self._reference: Reference[np.ndarray] = Reference(key_interval)

    def encode(
        self, small: np.ndarray, size: Size, frame: Frame, level: float | None = None
    ) -> tuple[bool, bytes]:
        """Whether a frame is a key frame, and what is sent of it.

        Args:
            small: (H, W, 3) uint8 RGB, at its coded size.
            size: height and width that it was shrunk from.
            level: of a model of variable rate, in steps of 1/64; None: the highest. The first frame
                of another than the frame before is a key frame.

        Raises:
            CodecDetError: if it cannot be coded.
        """
        level = self.pictures.levels - 1 if level is None else level
        before = self._reference.of(frame, (*size, *small.shape, level))
        if before is None:
            (data,) = self.pictures.encode_shrunk([small], [size], level)
            latents = self.pictures.entropy.read(data, small.size)
        else:
            data, latents = self._predict(small, size, level, before, frame.number)
        self._reference.keep(self.prediction.after(latents, before))
        return before is None, data

    def _predict(
        self, small: np.ndarray, size: Size, level: float, before: np.ndarray, number: int
    ) -> tuple[bytes, Latents]:
        height, width, _ = small.shape
        y = self.pictures.unrounded(small)[0]
        if self.pictures.log_gains is not None:
            y *= gain_at(self.pictures.log_gains, level)
        (z,) = self._hyper_analysis((y - before[: len(y)])[None])
        z = as_integers(z[0])
        indexes, means = self.prediction.tables_and_means(z, before)
        rest = y - means
        symbols = as_integers(np.sign(rest) * np.rint(np.maximum(abs(rest) - DEAD_ZONE, 0)))
        picture = Picture(size, (height, width), round(LEVEL_STEPS * level))
        latents = Latents(symbols, z, means, picture)
        return self.prediction.write(latents, indexes, before, number), latents
