"""What of an entropy model depends on the picture: hyper-latents to the tables of latents.

Shape glossary: as in :mod:`codec_det.bitstream.entropy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .ans import Tables
from .fixed_point import FixedPointTransform, Layer
from .tiles import Tiling, by_tiles


class Hyperprior(NamedTuple):
    """How hyper-latents choose the tables, and the means, of the latents.

    Attributes:
        tables: of z, one per channel.
        medians: (N,) integers, of z, with the transform's ``activation_bits``.
        transform: hyper-synthesis: medians + z to scales (M, ...), or scales and means (2M, ...).
        thresholds: (T - 1,) ascending integers with ``output_bits``: a latent whose scale is above
            i of them has table i.
        has_means: whether the transform gives means.
    """

    tables: Tables
    medians: np.ndarray
    transform: FixedPointTransform
    thresholds: np.ndarray
    has_means: bool

    @property
    def upsampling(self) -> int:
        """Latents per hyper-latent, in each direction."""
        return prod(layer.upsampling for layer in self.transform.layers)

    @property
    def input_range(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest input of the transform, (N,) each."""
        bits = self.transform.activation_bits
        low, high = (x.astype(np.int64) << bits for x in (self.tables.lowest, self.tables.highest))
        return low + self.medians, high + self.medians

    def out_of_range(self, z: np.ndarray) -> bool:
        """Whether any of the hyper-latents (N, h', w') is not covered by its table.

        None ever is: the bound on the transform's sums rests on it.
        """
        low, high = self.tables.lowest[:, None, None], self.tables.highest[:, None, None]
        return bool(((z < low) | (z > high)).any())

    def tables_and_means(
        self, z: np.ndarray, shape: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Table of every latent (M·h·w,) and, if there are any, means (M, h, w) float32.

        Args:
            z: (N, h', w').
            shape: h, w.
        """
        x = (z.astype(np.int64) << self.transform.activation_bits) + self.medians[:, None, None]
        tiling = Tiling(1, (self.upsampling,) * (1 + self.has_means), self.transform.margin)
        # Sums have 8 bytes. Hyper-latents stand for more latents than there are at the bottom and
        # on the right.
        indexes, *means = (
            out[:, : shape[0], : shape[1]] for out in by_tiles(self._choose, x, tiling, share=4)
        )
        return indexes.ravel(), means[0] if means else None

    def _choose(self, x: np.ndarray) -> list[np.ndarray]:
        """Tables and, if there are any, means: (M, H, W) each, from the transform's input."""
        out = self.transform(x)
        scales, *means = np.split(out, 2) if self.has_means else (out,)
        indexes = np.searchsorted(self.thresholds, scales.ravel()).astype(np.uint8)
        # A power of two: exact but for the rounding to float32, which no stream depends on.
        unit = 2.0**self.transform.output_bits
        return [indexes.reshape(scales.shape), *((m / unit).astype(np.float32) for m in means)]

    def tables_of(self, scales: np.ndarray) -> np.ndarray:
        """Table of every latent (M·h·w,), about: from float scales (M, h, w)."""
        thresholds = self.thresholds / 2.0**self.transform.output_bits
        return np.searchsorted(thresholds, scales.ravel()).astype(np.uint8)

    def fits(self, channels: int, tables: int) -> bool:
        """Whether its parts fit one another and latents of so many channels and tables."""
        first, last = self.transform.layers[0], self.transform.layers[-1]
        return bool(
            self.medians.shape == (len(self.tables),) == first.weight.shape[1:2]
            and len(last.weight) == channels * (2 if self.has_means else 1)
            # Table indexes are bytes.
            and self.thresholds.shape == (tables - 1,)
            and tables <= 256
            and self.medians.dtype == self.thresholds.dtype == np.int64
            and (abs(self.medians) < 2**40).all()
            and (np.diff(self.thresholds) >= 0).all()
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """All of them, by name."""
        arrays = self.tables.state("hyper.tables")
        arrays |= {"hyper.medians": self.medians, "hyper.thresholds": self.thresholds}
        for i, layer in enumerate(self.transform.layers):
            arrays |= {f"hyper.{i}.weight": layer.weight, f"hyper.{i}.bias": layer.bias}
        return arrays

    def settings(self) -> dict[str, Any]:
        """JSON-ready: with the arrays, what :meth:`from_state` makes the same of."""
        transform = self.transform
        return {
            "weight_bits": transform.weight_bits,
            "activation_bits": transform.activation_bits,
            "upsampling": [layer.upsampling for layer in transform.layers],
            "slope": [layer.slope for layer in transform.layers],
            "has_means": self.has_means,
        }

    @classmethod
    def from_state(cls, arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> Hyperprior:
        """Inverse of :meth:`arrays` and :meth:`settings`; raises as EntropyModel.from_state."""
        layers = [
            Layer(arrays[f"hyper.{i}.weight"], arrays[f"hyper.{i}.bias"], upsampling, slope)
            for i, (upsampling, slope) in enumerate(
                zip(settings["upsampling"], settings["slope"], strict=True)
            )
        ]
        return cls(
            Tables.from_state("hyper.tables", arrays),
            arrays["hyper.medians"],
            FixedPointTransform(layers, settings["weight_bits"], settings["activation_bits"]),
            arrays["hyper.thresholds"],
            settings["has_means"],
        )
