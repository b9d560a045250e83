"""The entropy model of a codec, frozen in integers: latents to files and back, exactly.

.. code-block:: none

    stream ─► z ─► fixed-point hyper-synthesis ─► scales ─► table of every y ─► y
             (a table per channel)           └─► means (mean-scale codecs)

Shape glossary: a picture coded as height x width pixels has latents y (M, h, w), h = ⌈height / d⌉,
and hyper-latents z (N, h', w'), h' = ⌈h / u⌉, d being the pixels per latent and u the upsampling of
the hyper-synthesis; in version 1 of the format, h' = ⌈height / (d·u)⌉ and h = h'·u. All are
integers: what is left of the latents after taking off means or medians and rounding.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from copy import copy
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..errors import BitstreamError, CodecDetError, WeightsError
from .ans import START, STREAM_BITS, StreamReader, StreamWriter, Tables
from .container import (
    FINGERPRINT_BYTES,
    MAX_PIXELS,
    VERSION,
    Header,
    check_pixels,
    overhead_bytes,
    pack,
    unpack,
)
from .expected import DEFAULT, Expected, Picture
from .fixed_point import EXACT, is_whole
from .hyperprior import Hyperprior
from .ids import CODEC_IDS, codec_name


class Latents(NamedTuple):
    """What a file holds.

    Attributes:
        y: (M, h, w) int32.
        z: (N, h', w') int32; (0, h', w') without a hyperprior.
        means: (M, h, w) or (M, 1, 1) float32, to be added to y before synthesis.
        picture: sizes and level.
        version: of the file's format.
    """

    y: np.ndarray
    z: np.ndarray
    means: np.ndarray
    picture: Picture
    version: int = VERSION

    @property
    def values(self) -> np.ndarray:
        """Decoded latents (M, h, w) float32, without inverse gains."""
        values = self.y.astype(np.float32)
        values += self.means
        return values


class EntropyModel:
    """Integer tables and arithmetic of one trained codec; nothing in it is ever recomputed.

    It reads files of all versions of the format whose fingerprint is its own there.

    Args:
        codec: its name; for version 1 one of :data:`codec_det.bitstream.ids.CODEC_IDS`.
        latent_stride: pixels per latent y, in each direction.
        channels: M, of y.
        tables: of y: one per channel without a hyperprior, else one per scale.
        medians: (M,) float32, of y; zeros with a hyperprior.
        hyperprior: None for a factorized prior.
        expected: what files need not say of their pictures.
        version: of the format of files that are written: what receivers read that were exported
            with the model.

    Raises:
        WeightsError: if the hyper-synthesis cannot be proven exact.
        ValueError: if the parts do not fit one another.
    """

    def __init__(
        self,
        *,
        codec: str,
        latent_stride: int,
        channels: int,
        tables: Tables,
        medians: np.ndarray,
        hyperprior: Hyperprior | None,
        expected: Expected = DEFAULT,
        version: int = VERSION,
    ) -> None:
        self.codec = codec
        self.expected = expected
        self.version = version
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
        whole = all(is_whole(x, 1, 2**15) for x in (self.latent_stride, self.channels))
        # Files of version 2 know their codec by the model alone, so that it may be anybody's.
        named = self.codec in CODEC_IDS if self.version == 1 else isinstance(self.codec, str)
        if not (whole and named and self.codec):
            raise ValueError("unknown codec, or sizes that cannot be")
        prior = self.hyperprior
        if self.medians.shape != (self.channels,) or not np.isfinite(self.medians).all():
            raise ValueError("the medians do not fit the channels")
        if prior is None:
            if len(self.tables) != self.channels:
                raise ValueError("the tables do not fit the channels")
            return
        if not prior.fits(self.channels, len(self.tables)):
            raise ValueError("the hyperprior does not fit its tables or the latents")

    @property
    def upsampling(self) -> int:
        """Latents per hyper-latent, in each direction; 1 without a hyperprior."""
        return self.hyperprior.upsampling if self.hyperprior else 1

    @property
    def stride(self) -> int:
        """Multiple that height and width of pictures are padded to before they are coded."""
        return self._strides(self.version)[0]

    @property
    def sha256(self) -> str:
        """Over everything that shapes a stream, in hexadecimal."""
        return self._digests[self.version].hex()

    def fingerprint(self, version: int) -> bytes:
        """What files of a version of the format say of their model."""
        return self._digests[version][: FINGERPRINT_BYTES[version]]

    @cached_property
    def _digests(self) -> dict[int, bytes]:
        arrays, _ = self.state()
        return {
            version: bytes.fromhex(sha256_of_state(arrays, self._settings(version)))
            for version in FINGERPRINT_BYTES
        }

    def write(
        self, y: np.ndarray, z: np.ndarray | None, picture: Picture, version: int | None = None
    ) -> bytes:
        """The file of a picture.

        Args:
            y: (M, h, w), whole numbers of any type.
            z: (N, h', w'), the same; None without a hyperprior.
            picture: sizes and level.
            version: of the format; None: the model's own.

        Raises:
            CodecDetError: if the latents are not finite, or beyond what tables can code.
            ValueError: if latents and picture do not fit, or no file can say what the picture is.
        """
        version = version or self.version
        header = self._header(picture, version)
        shape, hyper_shape = self.shapes(picture, version)
        writer = StreamWriter()
        y = as_integers(y)
        z = np.zeros(hyper_shape, np.int32) if z is None else as_integers(z)
        if (y.shape, z.shape) != (shape, hyper_shape):
            raise ValueError(
                f"{picture} has latents {shape} and {hyper_shape}, not {y.shape} and {z.shape}"
            )
        if self.hyperprior:
            if self.hyperprior.out_of_range(z):
                raise ValueError("z must be limited to the range of its tables before")
            self.hyperprior.tables.write(writer, z.ravel(), channel_indexes(z))
        # Means, which are as large as latents, are not kept.
        indexes = self.tables_and_means(shape[1:], z)[0]
        self.tables.write(writer, y.ravel(), indexes)
        return pack(header, writer.finish(self.checksum(version, picture, z, y)))

    def read(self, data: bytes, max_pixels: int = MAX_PIXELS) -> Latents:
        """Inverse of :meth:`write`.

        Raises:
            BitstreamError: if ``data`` is no intact file of this very model.
        """
        header, stream = unpack(data, max_pixels)
        self._check(header)
        version, picture = header.version, self._picture(header)
        check_pixels(picture.size, max_pixels)
        self._check_size(version, picture, len(stream), max_pixels)
        reader = StreamReader(stream)
        latents = self.read_symbols(reader, picture, version)
        reader.finish(self.checksum(version, picture, latents.z, latents.y))
        return latents

    def read_symbols(self, reader: StreamReader, picture: Picture, version: int) -> Latents:
        """What a stream says of a picture, wherever it ends; raises as :meth:`read`."""
        shape, hyper_shape = self.shapes(picture, version)
        z = np.zeros(hyper_shape, np.int32)
        if self.hyperprior:
            tables = self.hyperprior.tables
            z[:] = tables.read(reader, channel_indexes(z)).reshape(z.shape)
            if self.hyperprior.out_of_range(z):
                raise BitstreamError("a hyper-latent is out of its range: damaged")
        indexes, means = self.tables_and_means(shape[1:], z)
        y = self.tables.read(reader, indexes).reshape(shape)
        return Latents(y, z, means, picture, version)

    def of_version(self, version: int) -> EntropyModel:
        """The same model, which writes files of another version of the format."""
        model = copy(self)
        model.version = version
        return model

    def _strides(self, version: int) -> tuple[int, int]:
        """Pixels that height and width of y, and then of z, are rounded up to multiples of."""
        hyper = self.latent_stride * self.upsampling
        return hyper if version == 1 else self.latent_stride, hyper

    def shapes(self, picture: Picture, version: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of y and z; z of a factorized prior is empty."""
        padded, hyper = self._strides(version)
        channels = len(self.hyperprior.tables) if self.hyperprior else 0
        height, width = (-(-side // padded) * padded for side in picture.coded_size)
        return (
            (self.channels, height // self.latent_stride, width // self.latent_stride),
            (channels, -(-height // hyper), -(-width // hyper)),
        )

    def checksum(self, version: int, picture: Picture, z: np.ndarray, y: np.ndarray) -> int:
        """What the coder starts from beyond 2^24: of model, picture and latents, 24 bits."""
        if version == 1:
            return 0
        checksum = zlib.crc32(self._digests[version])
        numbers = np.array([*picture.size, *picture.coded_size, picture.level])
        for values in (numbers, z, y):
            checksum = zlib.crc32(np.ascontiguousarray(values, "<i4").data, checksum)
        return checksum & START - 1

    def tables_and_means(
        self, shape: Sequence[int], z: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Table of every latent (M·h·w,) and means (M, h, w) or (M, 1, 1), from hyper-latents.

        Args:
            shape: h, w.
        """
        if self.hyperprior is None:
            indexes = np.repeat(np.arange(self.channels, dtype=np.uint16), int(np.prod(shape)))
            return indexes, self.medians[:, None, None]
        indexes, means = self.hyperprior.tables_and_means(z, shape)
        return indexes, self.medians[:, None, None] if means is None else means

    def bits(self, latents: Latents) -> dict[str, float]:
        """Where the bits of a file go: "latents", "hyper-latents" and "header".

        The stream is one; its parts are told by information content.
        """
        z = latents.z
        indexes, _ = self.tables_and_means(latents.y.shape[1:], z)
        hyper = 0.0
        if self.hyperprior:
            hyper = self.hyperprior.tables.bits(z.ravel(), channel_indexes(z))
        return {
            "latents": self.tables.bits(latents.y.ravel(), indexes),
            "hyper-latents": hyper,
            "header": 8.0 * self.overhead_bytes(latents),
        }

    def estimated_bytes(self, latents: Sequence[np.ndarray], picture: Picture) -> float:
        """About the length of a picture's file, whose tables are chosen in floating-point.

        Args:
            latents: y (M, h, w) and, with a hyperprior, z (N, h', w') and the scales of y.
        """
        y, *hyper = latents
        spent = STREAM_BITS
        if self.hyperprior is None:
            indexes, _ = self.tables_and_means(y.shape[1:], np.zeros(0))
        else:
            z, scales = hyper
            spent += self.hyperprior.tables.bits(z.ravel(), channel_indexes(z))
            indexes = self.hyperprior.tables_of(scales)
        spent += self.tables.bits(y.ravel(), indexes)
        return overhead_bytes(self._header(picture, VERSION)) + spent / 8

    def overhead_bytes(self, latents: Latents) -> int:
        """Bytes of a file beyond its stream."""
        return overhead_bytes(self._header(latents.picture, latents.version))

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and JSON-ready settings that :meth:`from_state` makes the same model of."""
        arrays = {"medians": self.medians, **self.tables.state("tables")}
        if self.hyperprior:
            arrays |= self.hyperprior.arrays()
        # safetensors writes the memory of an array as it lies.
        arrays = {k: np.ascontiguousarray(v) for k, v in arrays.items()}
        return arrays, self._settings(self.version)

    def _settings(self, version: int) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "codec": self.codec,
            "latent_stride": self.latent_stride,
            "channels": self.channels,
        }
        settings |= {"stride": self._strides(1)[0]} if version == 1 else self.expected.settings()
        return settings | (self.hyperprior.settings() if self.hyperprior else {})

    @classmethod
    def from_state(cls, arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> EntropyModel:
        """Inverse of :meth:`state`.

        Raises:
            KeyError, TypeError, ValueError: if something is missing or no such model.
        """
        version = 1 if "stride" in settings else VERSION
        with_hyperprior = "weight_bits" in settings
        model = cls(
            codec=settings["codec"],
            latent_stride=settings["latent_stride"],
            channels=settings["channels"],
            tables=Tables.from_state("tables", arrays),
            medians=arrays["medians"],
            hyperprior=Hyperprior.from_state(arrays, settings) if with_hyperprior else None,
            expected=DEFAULT if version == 1 else Expected.from_settings(settings),
            version=version,
        )
        if version == 1 and model.stride != settings["stride"]:
            raise ValueError("the strides do not fit the hyperprior")
        return model

    def _least_bits(self, places: int, hyper_places: int) -> float:
        """What latents and hyper-latents in so many places add to a stream at least."""
        if self.hyperprior is None:
            return float(places * self.tables.least_bits.sum())
        latents = places * self.channels * self.tables.least_bits.min()
        return float(latents + hyper_places * self.hyperprior.tables.least_bits.sum())

    def _check_size(self, version: int, picture: Picture, length: int, max_pixels: int) -> None:
        """Before any work in proportion to it, that the size is meant and the stream may hold it.

        Args:
            length: of the stream, in bytes.
        """
        size = "{1}x{0} pixels".format(*picture.coded_size)
        stride, hyper_stride = self._strides(version)
        places, hyper_places = (prod(shape[1:]) for shape in self.shapes(picture, version))
        # Never reached if both sides are as long as the stride or the picture is small.
        if places * self.latent_stride**2 > 2 * max_pixels + 4 * hyper_stride**2:
            raise BitstreamError(
                f"{size}, padded to multiples of {stride}, are more than twice the limit of "
                f"{max_pixels}: raise it (--max-pixels) if the picture is meant to be that thin"
            )
        if 8 * length < self._least_bits(places, hyper_places):
            raise BitstreamError(f"{length} bytes of stream cannot hold {size}: damaged")

    def _header(self, picture: Picture, version: int) -> Header:
        fingerprint = self.fingerprint(version)
        if version == 1:
            if picture.coded_size != picture.size or picture.level:
                raise ValueError("version 1 of the format has neither coding scale nor level")
            return Header(1, fingerprint, picture.size, codec_id=CODEC_IDS[self.codec])
        return Header(version, fingerprint, *self.expected.fields(picture))

    def _picture(self, header: Header) -> Picture:
        if header.version == 1:
            assert isinstance(header.size, tuple)
            return Picture(header.size, header.size)
        return self.expected.picture(header)

    def _check(self, header: Header) -> None:
        if header.version == 1 and header.codec_id != CODEC_IDS.get(self.codec):
            raise BitstreamError(
                f"coded with {codec_name(header.codec_id)}, but the model is a {self.codec}: "
                "decode it with the model that belongs to its encoder"
            )
        own = self.fingerprint(header.version)
        if header.fingerprint != own:
            raise BitstreamError(
                f"coded with the entropy model {header.fingerprint.hex()}, but the model has "
                f"{own.hex()}: decode it with the model that belongs to its encoder"
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


def as_integers(values: np.ndarray) -> np.ndarray:
    """Whole numbers of any type as int32.

    Raises:
        CodecDetError: if they are not finite.
    """
    if np.issubdtype(values.dtype, np.floating) and not (abs(values) < 2**31).all():
        raise CodecDetError(
            "the codec's latents are not finite: its weights have diverged; go back to an earlier "
            "checkpoint"
        )
    return values.astype(np.int32, copy=False)


def channel_indexes(z: np.ndarray) -> np.ndarray:
    """Table of every hyper-latent (N·h'·w',): that of its channel."""
    return np.repeat(np.arange(len(z), dtype=np.uint16), z[0].size)
