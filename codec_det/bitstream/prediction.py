"""The entropy model of predicted frames, frozen in integers: what :mod:`.entropy` is to pictures.

.. code-block:: none

    stream ─► z ─► fixed-point hyper-synthesis ─┐
                                                ├─► fixed-point network ─► tables, means of y ─► y
    decoded latents of the two frames before ───┘

Means are those of the frame before plus whole numbers, and so is what is decoded. As float32 it is
the same on every machine, too: each sum is one rounding of an exact number. So what goes from frame
to frame is what the synthesis transform takes.

Shape glossary: as in :mod:`codec_det.bitstream.entropy`. "Before" are latents (k·M, h, w) float32
of as many frames before as the network looks at, the last first; of a key frame, its own as often.
"""

from __future__ import annotations

import hashlib
import zlib
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import BitstreamError, WeightsError
from .ans import START, StreamReader, StreamWriter
from .container import MAX_PIXELS
from .entropy import EntropyModel, Latents, channel_indexes, sha256_of_state
from .expected import Picture
from .fixed_point import EXACT, FixedPointTransform, Layer
from .hyperprior import Hyperprior
from .tiles import Tiling, by_tiles

LIMIT = 2**8
"""Magnitude that decoded latents, and scales and means of changes, are limited to where the network
looks at them: a bound on its sums rests on it."""

FRAMES = 2
"""How many frames before the network looks at; that of earlier models, at one."""

MEANS = "whole steps"
"""What a model file says of its means; earlier ones had any, and say nothing."""


class Prediction:
    """How hyper-latents, and the frames before, choose tables and means; and streams of frames.

    Args:
        pictures: the entropy model of key frames, whose tables of y are used.
        hyperprior: of what has changed: z to scales (M, ...), or scales and means (2M, ...).
        network: these and the frames before to corrections of scales and means, and gates, (3M,
            ...).

    Attributes:
        frames: how many frames before the network looks at.

    Raises:
        WeightsError: if the arithmetic cannot be proven exact.
        ValueError: if the parts do not fit one another.
    """

    def __init__(
        self, pictures: EntropyModel, hyperprior: Hyperprior, network: FixedPointTransform
    ) -> None:
        self.pictures = pictures
        self.hyperprior = hyperprior
        self.network = network
        inputs = network.layers[0].weight.shape[1]
        self.frames = inputs // pictures.channels - 1 - hyperprior.has_means
        self._check_parts()
        largest = max(self.partial_sums)
        if largest >= EXACT:
            raise WeightsError(
                f"{pictures.codec}: sums in the prediction of frames may reach "
                f"2^{largest.bit_length()}, where 2^53 is the limit of exact arithmetic: its "
                "weights are too large; train with SOLVER.WEIGHT_DECAY"
            )

    def _check_parts(self) -> None:
        """Raises ValueError if they do not fit one another."""
        channels, transform = self.pictures.channels, self.hyperprior.transform
        of_network = self.network.layers[0].weight.shape[1], len(self.network.layers[-1].weight)
        precisions = {(t.weight_bits, t.activation_bits) for t in (transform, self.network)}
        if not (
            self.hyperprior.fits(channels, len(self.pictures.tables))
            and self.hyperprior.upsampling == self.pictures.upsampling
            and 1 <= self.frames <= FRAMES
            and of_network
            == ((1 + self.hyperprior.has_means + self.frames) * channels, 3 * channels)
            and all(layer.upsampling == 1 for layer in self.network.layers)
            and len(precisions) == 1
        ):
            raise ValueError("the prediction of frames does not fit the model of key frames")

    @cached_property
    def partial_sums(self) -> list[int]:
        """Bounds on sums in the hyper-synthesis and in the network, layer by layer."""
        inputs = self.network.layers[0].weight.shape[1]
        limit = np.full(inputs, LIMIT << self.network.activation_bits)
        first = self.hyperprior.transform.partial_sums(*self.hyperprior.input_range)
        return [*first, *self.network.partial_sums(-limit, limit)]

    def after(self, latents: Latents, before: np.ndarray | None) -> np.ndarray:
        """What is before the frame that follows on one.

        Args:
            latents: of that one.
            before: what was before it; None of a key frame.
        """
        values = latents.values
        if before is None:
            return np.concatenate([values] * self.frames)
        return np.concatenate([values, before])[: len(before)]

    def tables_and_means(self, z: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Table of every latent (M·h·w,) and means (M, h, w) float32.

        Args:
            z: (N, h', w'), within the range of its tables.
            before: (k·M, h, w) float32.
        """
        bits, hyper = self.network.activation_bits, self.hyperprior
        x = (z.astype(np.int64) << bits) + hyper.medians[:, None, None]
        tiling = Tiling(1, (hyper.upsampling,), hyper.transform.margin)
        # Sums have 8 bytes.
        (coarse,) = by_tiles(lambda tile: [hyper.transform(tile)], x, tiling, share=4)
        # Powers of two, and halves to even: exact.
        seen = np.rint(np.clip(before, -LIMIT, LIMIT) * np.float32(1 << bits)).astype(np.int64)
        both = np.concatenate([coarse[:, : seen.shape[1], : seen.shape[2]], seen])
        indexes, change = by_tiles(self._choose, both, Tiling(1, (1, 1), self.network.margin))
        return indexes.ravel(), before[: self.pictures.channels] + change

    def _choose(self, both: np.ndarray) -> list[np.ndarray]:
        """Tables and, in whole steps, means less what was there, (M, h, w) each.

        Args:
            both: from the hyper-synthesis and then the frames before.
        """
        bits, channels = self.network.activation_bits, self.pictures.channels
        coarse, seen = np.split(both, [-self.frames * channels])
        limit = LIMIT << bits
        change = np.clip(self._rescale(coarse), -limit, limit)
        scales, means, gate = np.split(self.network(np.concatenate([change, seen])), 3)
        seen = seen[:channels]
        of_change = np.split(coarse, 1 + self.hyperprior.has_means)
        indexes = np.searchsorted(self.hyperprior.thresholds, (scales + of_change[0]).ravel())
        means = self._rescale(sum(of_change[1:], means))
        means += np.clip(self._rescale(gate), 0, 1 << bits) * seen + (1 << bits - 1) >> bits
        steps = means - seen + (1 << bits - 1) >> bits
        return [indexes.astype(np.uint8).reshape(seen.shape), steps.astype(np.float32)]

    def _rescale(self, x: np.ndarray) -> np.ndarray:
        """From ``output_bits`` to ``activation_bits``, rounding halves up."""
        bits = self.network.weight_bits
        return (x + (1 << bits - 1)) >> bits

    def write(
        self,
        latents: Latents,
        indexes: np.ndarray,
        before: np.ndarray,
        number: int | None = None,
    ) -> bytes:
        """The stream of a frame.

        Args:
            latents: whose means are those of :meth:`tables_and_means`.
            indexes: tables of y, of the same call, which is most of the work.
            before: (k·M, h, w) float32.
            number: of the frame, for the checksum; None where it is sent beside it.

        Raises:
            CodecDetError: if the latents are beyond what tables can code.
            ValueError: if z is not limited to the range of its tables.
        """
        writer = StreamWriter()
        y, z = latents.y, latents.z
        if self.hyperprior.out_of_range(z):
            raise ValueError("z must be limited to the range of its tables before")
        self.hyperprior.tables.write(writer, z.ravel(), channel_indexes(z))
        self.pictures.tables.write(writer, y.ravel(), indexes)
        return writer.finish(self._checksum(latents, before, number))

    def read(
        self, stream: bytes, before: np.ndarray, picture: Picture, number: int | None = None
    ) -> Latents:
        """Inverse of :meth:`write`.

        Raises:
            BitstreamError: if ``stream`` is no intact one of this very model, or of another frame
                than the one after those ``before``.
        """
        shape, hyper_shape = self.pictures.shapes(picture, self.pictures.version)
        reader = StreamReader(stream)
        z = np.zeros(hyper_shape, np.int32)
        z[:] = self.hyperprior.tables.read(reader, channel_indexes(z)).reshape(z.shape)
        if self.hyperprior.out_of_range(z):
            raise BitstreamError("a hyper-latent is out of its range: damaged")
        indexes, means = self.tables_and_means(z, before)
        y = self.pictures.tables.read(reader, indexes).reshape(shape)
        latents = Latents(y, z, means, picture)
        reader.finish(self._checksum(latents, before, number))
        return latents

    def _checksum(self, latents: Latents, before: np.ndarray, number: int | None) -> int:
        """Of model, picture, number, frames before and latents, 24 bits."""
        checksum = zlib.crc32(bytes.fromhex(self.sha256))
        if number is not None:
            checksum = zlib.crc32(np.array(number, "<i8").data, checksum)
        size, coded_size, level = latents.picture
        said = np.array([*size, *coded_size, *([level] if level else [])])
        for values in (said, latents.z, latents.y):
            checksum = zlib.crc32(np.ascontiguousarray(values, "<i4").data, checksum)
        checksum = zlib.crc32(np.ascontiguousarray(before, "<f4").data, checksum)
        return checksum & START - 1

    @cached_property
    def sha256(self) -> str:
        """Over everything that shapes a stream, key frames included, in hexadecimal."""
        own = bytes.fromhex(self.pictures.sha256 + sha256_of_state(*self.state()))
        return hashlib.sha256(own).hexdigest()

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and JSON-ready settings that :meth:`from_state` makes the same of."""
        arrays = self.hyperprior.arrays()
        for i, layer in enumerate(self.network.layers):
            arrays |= {f"network.{i}.weight": layer.weight, f"network.{i}.bias": layer.bias}
        slopes = [layer.slope for layer in self.network.layers]
        settings = {**self.hyperprior.settings(), "network_slope": slopes, "means": MEANS}
        return {k: np.ascontiguousarray(v) for k, v in arrays.items()}, settings

    @classmethod
    def from_state(
        cls, pictures: EntropyModel, arrays: dict[str, np.ndarray], settings: dict[str, Any]
    ) -> Prediction:
        """Inverse of :meth:`state`.

        Raises:
            KeyError, TypeError, ValueError: if something is missing or no such model.
        """
        hyperprior = Hyperprior.from_state(arrays, settings)
        layers = [
            Layer(arrays[f"network.{i}.weight"], arrays[f"network.{i}.bias"], 1, slope)
            for i, slope in enumerate(settings["network_slope"])
        ]
        bits = hyperprior.transform.weight_bits, hyperprior.transform.activation_bits
        return cls(pictures, hyperprior, FixedPointTransform(layers, *bits))


class SequenceReader:
    """Reads what was sent of frames, one after another.

    Args:
        prediction: with the entropy model of key frames.
        max_pixels: limit on the pictures it is willing to decode.

    Attributes:
        before: what is before the next frame, (k·M, h, w); None where a key frame must be next.
    """

    def __init__(self, prediction: Prediction, max_pixels: int = MAX_PIXELS) -> None:
        self._prediction = prediction
        self._max_pixels = max_pixels
        self._picture: Picture | None = None
        self.before: np.ndarray | None = None

    def read(self, is_key: bool, data: bytes, number: int | None) -> Latents:
        """The latents of the next frame.

        Args:
            number: of the frame; None where its checksum does not cover it.

        Raises:
            BitstreamError: if ``data`` is damaged or of another model, or a predicted frame follows
                on none that was read. The next that can be read is then a key frame.
        """
        before, self.before = self.before, None
        if is_key:
            latents = self._prediction.pictures.read(data, self._max_pixels)
        elif before is None or self._picture is None:
            raise BitstreamError("predicted from a frame that is lost: wait for a key frame")
        else:
            latents = self._prediction.read(data, before, self._picture, number)
        self._picture = latents.picture
        self.before = self._prediction.after(latents, None if is_key else before)
        return latents
