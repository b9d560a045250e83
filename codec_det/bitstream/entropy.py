"""The entropy model of a codec, frozen in integers: latents to files and back, exactly.

.. code-block:: none

    stream ─► z ─► fixed-point hyper-synthesis ─► scales ─► table of every y ─► y
             (a table per channel)           └─► means (mean-scale codecs)

Shape glossary: a picture of height x width pixels has latents y (M, ⌈height / s⌉·s / d, ...) and
hyper-latents z (N, ⌈height / s⌉, ...), s being the codec's stride and d that of y. All are
integers: what is left of the latents after taking off means or medians and rounding.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..errors import BitstreamError, CodecDetError, WeightsError
from .ans import StreamReader, StreamWriter, Tables
from .container import FINGERPRINT_BYTES, MAX_PIXELS, Header, overhead_bytes, pack, unpack
from .fixed_point import EXACT, FixedPointTransform, Layer, is_whole
from .ids import CODEC_IDS, codec_name


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


class Latents(NamedTuple):
    """What a file holds.

    Attributes:
        y: (M, h, w) int32.
        z: (N, h', w') int32; (0, h', w') without a hyperprior.
        means: (M, h, w) or (M, 1, 1) float32, to be added to y before synthesis.
        height, width: of the picture in pixels.
    """

    y: np.ndarray
    z: np.ndarray
    means: np.ndarray
    height: int
    width: int


class EntropyModel:
    """Integer tables and arithmetic of one trained codec; nothing in it is ever recomputed.

    Args:
        codec: one of :data:`codec_det.bitstream.ids.CODEC_IDS`.
        stride: height and width of coded pictures are padded to multiples of it.
        latent_stride: pixels per latent y, in each direction.
        channels: M, of y.
        tables: of y: one per channel without a hyperprior, else one per scale.
        medians: (M,) float32, of y; zeros with a hyperprior.
        hyperprior: None for a factorized prior.

    Raises:
        WeightsError: if the hyper-synthesis cannot be proven exact.
        ValueError: if the parts do not fit one another.
    """

    def __init__(
        self,
        *,
        codec: str,
        stride: int,
        latent_stride: int,
        channels: int,
        tables: Tables,
        medians: np.ndarray,
        hyperprior: Hyperprior | None,
    ) -> None:
        self.codec = codec
        self.stride = stride
        self.latent_stride = latent_stride
        self.channels = channels
        self.tables = tables
        self.medians = medians.astype(np.float32)
        self.hyperprior = hyperprior
        self._check_parts()
        if hyperprior:
            self.partial_sums = hyperprior.transform.partial_sums(*hyperprior.input_range)
            if max(self.partial_sums) >= EXACT:
                raise WeightsError(
                    f"{codec}: sums in the hyper-synthesis may reach 2^"
                    f"{max(self.partial_sums).bit_length()}, where 2^53 is the limit of exact "
                    "arithmetic: its weights are too large; train with SOLVER.WEIGHT_DECAY"
                )

    def _check_parts(self) -> None:
        """Raises ValueError if they do not fit one another."""
        whole = all(is_whole(x, 1, 2**15) for x in (self.stride, self.latent_stride, self.channels))
        if self.codec not in CODEC_IDS or not whole or self.stride % self.latent_stride:
            raise ValueError("unknown codec, or sizes that cannot be")
        prior = self.hyperprior
        if self.medians.shape != (self.channels,) or not np.isfinite(self.medians).all():
            raise ValueError("the medians do not fit the channels")
        if prior is None:
            if len(self.tables) != self.channels:
                raise ValueError("the tables do not fit the channels")
            return
        layers = prior.transform.layers
        first, last = layers[0], layers[-1]
        upsampling = prod(layer.upsampling for layer in layers)
        fit = (
            prior.medians.shape == (len(prior.tables),) == first.weight.shape[1:2],
            len(last.weight) == self.channels * (2 if prior.has_means else 1),
            upsampling * self.latent_stride == self.stride,
            # Table indexes are bytes.
            prior.thresholds.shape == (len(self.tables) - 1,),
            len(self.tables) <= 256,
            prior.medians.dtype == prior.thresholds.dtype == np.int64,
            (abs(prior.medians) < 2**40).all(),
            (np.diff(prior.thresholds) >= 0).all(),
        )
        if not all(fit):
            raise ValueError("the hyperprior does not fit its tables or the latents")

    @cached_property
    def sha256(self) -> str:
        """Over everything that shapes a stream, in hexadecimal."""
        return sha256_of_state(*self.state())

    def write(self, y: np.ndarray, z: np.ndarray | None, height: int, width: int) -> bytes:
        """The file of a picture.

        Args:
            y: (M, h, w), whole numbers of any type.
            z: (N, h', w'), the same; None without a hyperprior.
            height, width: of the picture in pixels.

        Raises:
            CodecDetError: if the latents are not finite, or beyond what tables can code.
        """
        writer = StreamWriter()
        y = _whole(y)
        if self.hyperprior and z is not None:
            z = _whole(z)
            if self.hyperprior.out_of_range(z):
                raise ValueError("z must be limited to the range of its tables before")
            self.hyperprior.tables.write(writer, z.ravel(), _channel_indexes(z))
        indexes, _ = self.tables_and_means(y.shape[1:], z)
        self.tables.write(writer, y.ravel(), indexes)
        return pack(self._header(height, width), writer.finish())

    def read(self, data: bytes, max_pixels: int = MAX_PIXELS) -> Latents:
        """Inverse of :meth:`write`.

        Raises:
            BitstreamError: if ``data`` is no intact file of this very model.
        """
        header, stream = unpack(data, max_pixels)
        self._check(header)
        rows, columns = (-(-side // self.stride) for side in header[2:])
        self._check_size(header, len(stream), rows * columns, max_pixels)
        reader = StreamReader(stream)
        z = np.zeros((0, rows, columns), np.int32)
        if self.hyperprior:
            tables = self.hyperprior.tables
            z = np.zeros((len(tables), rows, columns), np.int32)
            z[:] = tables.read(reader, _channel_indexes(z)).reshape(z.shape)
            if self.hyperprior.out_of_range(z):
                raise BitstreamError("a hyper-latent is out of its range: damaged")
        scale = self.stride // self.latent_stride
        shape = rows * scale, columns * scale
        indexes, means = self.tables_and_means(shape, z)
        y = self.tables.read(reader, indexes).reshape(self.channels, *shape)
        reader.finish()
        return Latents(y, z, means, header.height, header.width)

    def tables_and_means(
        self, shape: tuple[int, ...], z: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Table of every latent (M·h·w,) and means (M, h, w) or (M, 1, 1), from hyper-latents.

        Args:
            shape: h, w.
        """
        if self.hyperprior is None or z is None:
            indexes = np.repeat(np.arange(self.channels, dtype=np.uint16), int(np.prod(shape)))
            return indexes, self.medians[:, None, None]
        prior = self.hyperprior
        x = (z.astype(np.int64) << prior.transform.activation_bits) + prior.medians[:, None, None]
        out = prior.transform(x)
        indexes = np.searchsorted(prior.thresholds, out[: self.channels].ravel()).astype(np.uint8)
        if not prior.has_means:
            return indexes, self.medians[:, None, None]
        # A power of two: exact but for the rounding to float32, which no stream depends on.
        return indexes, (out[self.channels :] / 2.0**prior.transform.output_bits).astype(np.float32)

    def bits(self, latents: Latents) -> dict[str, float]:
        """Where the bits of a file go: "latents", "hyper-latents" and "header".

        The stream is one; its parts are told by information content.
        """
        z = latents.z
        indexes, _ = self.tables_and_means(latents.y.shape[1:], z)
        hyper = 0.0
        if self.hyperprior:
            hyper = self.hyperprior.tables.bits(z.ravel(), _channel_indexes(z))
        return {
            "latents": self.tables.bits(latents.y.ravel(), indexes),
            "hyper-latents": hyper,
            "header": 8.0 * self.overhead_bytes(latents),
        }

    def overhead_bytes(self, latents: Latents) -> int:
        """Bytes of a file beyond its stream."""
        return overhead_bytes(self._header(latents.height, latents.width))

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and JSON-ready settings that :meth:`from_state` makes the same model of."""
        arrays = {"medians": self.medians, **_tables_state("tables", self.tables)}
        settings: dict[str, Any] = {
            "codec": self.codec,
            "stride": self.stride,
            "latent_stride": self.latent_stride,
            "channels": self.channels,
        }
        if self.hyperprior:
            tables, medians, transform, thresholds, has_means = self.hyperprior
            arrays |= _tables_state("hyper.tables", tables)
            arrays |= {"hyper.medians": medians, "hyper.thresholds": thresholds}
            for i, layer in enumerate(transform.layers):
                arrays |= {f"hyper.{i}.weight": layer.weight, f"hyper.{i}.bias": layer.bias}
            settings |= {
                "weight_bits": transform.weight_bits,
                "activation_bits": transform.activation_bits,
                "upsampling": [layer.upsampling for layer in transform.layers],
                "slope": [layer.slope for layer in transform.layers],
                "has_means": has_means,
            }
        # safetensors writes the memory of an array as it lies.
        return {k: np.ascontiguousarray(v) for k, v in arrays.items()}, settings

    @classmethod
    def from_state(cls, arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> EntropyModel:
        """Inverse of :meth:`state`.

        Raises:
            KeyError, ValueError: if something is missing or no such model.
        """
        hyperprior = None
        if "weight_bits" in settings:
            layers = [
                Layer(arrays[f"hyper.{i}.weight"], arrays[f"hyper.{i}.bias"], upsampling, slope)
                for i, (upsampling, slope) in enumerate(
                    zip(settings["upsampling"], settings["slope"], strict=True)
                )
            ]
            hyperprior = Hyperprior(
                _tables_from_state("hyper.tables", arrays),
                arrays["hyper.medians"],
                FixedPointTransform(layers, settings["weight_bits"], settings["activation_bits"]),
                arrays["hyper.thresholds"],
                settings["has_means"],
            )
        return cls(
            codec=settings["codec"],
            stride=settings["stride"],
            latent_stride=settings["latent_stride"],
            channels=settings["channels"],
            tables=_tables_from_state("tables", arrays),
            medians=arrays["medians"],
            hyperprior=hyperprior,
        )

    @cached_property
    def _least_bits(self) -> float:
        """What ``stride`` x ``stride`` pixels add to a stream at least."""
        per_side = self.stride // self.latent_stride
        if self.hyperprior is None:
            return float(per_side**2 * self.tables.least_bits.sum())
        latents = per_side**2 * self.channels * self.tables.least_bits.min()
        return float(latents + self.hyperprior.tables.least_bits.sum())

    def _check_size(self, header: Header, length: int, blocks: int, max_pixels: int) -> None:
        """Before any work in proportion to it, that the size is meant and the stream may hold it.

        Args:
            length: of the stream, in bytes.
            blocks: of ``stride`` x ``stride`` pixels, that the padded picture has.
        """
        size = f"{header.width}x{header.height} pixels"
        # Never reached if both sides are as long as the stride or the picture is small.
        if blocks * self.stride**2 > 2 * max_pixels + 4 * self.stride**2:
            raise BitstreamError(
                f"{size}, padded to multiples of {self.stride}, are more than twice the limit of "
                f"{max_pixels}: raise it (--max-pixels) if the picture is meant to be that thin"
            )
        if 8 * length < blocks * self._least_bits:
            raise BitstreamError(f"{length} bytes of stream cannot hold {size}: damaged")

    def _header(self, height: int, width: int) -> Header:
        fingerprint = bytes.fromhex(self.sha256)[:FINGERPRINT_BYTES]
        return Header(CODEC_IDS[self.codec], fingerprint, height, width)

    def _check(self, header: Header) -> None:
        own = self._header(header.height, header.width)
        if header.codec_id != own.codec_id:
            raise BitstreamError(
                f"coded with {codec_name(header.codec_id)}, but the model is a {self.codec}: "
                "decode it with the model that belongs to its encoder"
            )
        if header.fingerprint != own.fingerprint:
            raise BitstreamError(
                f"coded with the entropy model {header.fingerprint.hex()}, but the model has "
                f"{own.fingerprint.hex()}: decode it with the model that belongs to its encoder"
            )


def sha256_of_state(arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> str:
    """Digest of :meth:`EntropyModel.state`, in hexadecimal; docs/bitstream.md says of what."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        little = array.astype(array.dtype.newbyteorder("<"))
        digest.update(f"{name} {little.dtype.str} {array.shape}\n".encode())
        digest.update(little.tobytes())
    return digest.hexdigest()


def _whole(values: np.ndarray) -> np.ndarray:
    """Whole numbers of any type as int32."""
    if np.issubdtype(values.dtype, np.floating) and not (abs(values) < 2**31).all():
        raise CodecDetError(
            "the codec's latents are not finite: its weights have diverged; go back to an earlier "
            "checkpoint"
        )
    return values.astype(np.int32)


def _channel_indexes(z: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(z), dtype=np.uint16), z[0].size)


def _tables_state(prefix: str, tables: Tables) -> dict[str, np.ndarray]:
    return {f"{prefix}.{key}": getattr(tables, key) for key in ("cdf", "lengths", "offsets")}


def _tables_from_state(prefix: str, arrays: dict[str, np.ndarray]) -> Tables:
    return Tables(*(arrays[f"{prefix}.{key}"] for key in ("cdf", "lengths", "offsets")))
