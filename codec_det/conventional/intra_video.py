"""Intra pictures of the video standards H.264 (AVC), H.265 (HEVC) and H.266 (VVC).

The coded bytes are a header with the picture's size and a checksum (framing.py), followed by the
standard's byte stream (Annex B of each) with its parameter sets, as any decoder of it reads.
"""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import BitstreamError, CodecDetError
from .base import MAX_PIXELS, REVISION, ProgramCodec, QualityRange
from .color import Planes, planes_to_rgb, rgb_to_planes
from .containers import NalUnits, parameter_sets
from .ffmpeg import ffmpeg_version, find_ffmpeg, library_version
from .framing import frame, pad, padded_size, unframe
from .process import run_program
from .rawvideo import planes_from_y4m, planes_to_bytes

_FULL_RANGE_BT709 = (
    *("-color_range", "pc", "-colorspace", "bt709"),
    *("-color_primaries", "bt709", "-color_trc", "iec61966-2-1"),
)
"""What ffmpeg writes into the stream. As options of the input: as options of the output they
would make ffmpeg convert samples that are right already."""

_DECODE_REMEDY = "the coded bytes are damaged, cut short or of another codec"


@dataclass(frozen=True, kw_only=True)
class IntraVideoCodec(ProgramCodec):
    """One intra picture in a video coding standard.

    Attributes:
        quality: quantization parameter (QP) given to the encoder.
        chroma: "4:4:4" or "4:2:0".
        bit_depth: of the coded samples, 8 or 10; pictures have 8, more keep rounding small.
    """

    max_side: ClassVar[int] = 16384
    nal_units: ClassVar[NalUnits]

    chroma: str
    bit_depth: int

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "colour": "BT.709 full range"}

    def container_overhead(self, data: bytes) -> int:
        """The header with size and checksum, and parameter sets.

        These are the same for all pictures of a size: a link may send them once.
        """
        _, _, stream = unframe(data, self.name)
        return len(data) - len(stream) + parameter_sets(stream, self.nal_units)

    def _encode(self, picture: np.ndarray) -> bytes:
        height, width, _ = picture.shape
        stream = self._encode_planes(rgb_to_planes(pad(picture), self.chroma, self.bit_depth))
        return frame(width, height, stream)

    def _decode(self, data: bytes) -> np.ndarray:
        width, height, stream = unframe(data, self.name)
        planes = self._decode_planes(stream, *padded_size(width, height))
        return np.ascontiguousarray(planes_to_rgb(planes, self.bit_depth)[:height, :width])

    @abstractmethod
    def _encode_planes(self, planes: Planes) -> bytes: ...

    @abstractmethod
    def _decode_planes(self, stream: bytes, width: int, height: int) -> Planes: ...

    def run_encoder(self, arguments: Sequence[str | Path], planes: Planes | None = None) -> None:
        """Run an encoder, which reads ``planes`` from its standard input, if any."""
        run_program(
            arguments,
            stdin=planes_to_bytes(planes) if planes else b"",
            time_limit=self.time_limit,
            remedy=f"run it by hand to see why ({self.command()})",
        )

    def run_decoder(self, arguments: Sequence[str | Path]) -> bytes:
        """Run a decoder; what it wrote to its standard output."""
        output, _ = run_program(
            arguments, time_limit=self.time_limit, remedy=_DECODE_REMEDY, error=BitstreamError
        )
        return output


@dataclass(frozen=True, kw_only=True)
class FfmpegVideoCodec(IntraVideoCodec):
    """A video standard by ffmpeg, on one thread, so that the bytes are the same everywhere."""

    encoder: ClassVar[str]
    """ffmpeg's name of the encoder."""
    format: ClassVar[str]
    """ffmpeg's name of the byte stream."""
    version_pattern: ClassVar[str]
    """Finds the library's version in what it logs."""

    @property
    def quality_range(self) -> QualityRange:
        return QualityRange(0, 51, False, True, "QP")

    def check_available(self) -> None:
        find_ffmpeg(self.encoder)

    def version(self) -> str:
        path = find_ffmpeg(self.encoder)
        library = library_version(path, self.encoder, self.version_pattern)
        return f"{library}, {ffmpeg_version(path)}, revision {REVISION}"

    def command(self) -> str:
        arguments = self._encode_arguments("ffmpeg", "{width}x{height}", "{output}")
        return " ".join(arguments) + " < {input}"

    @abstractmethod
    def encoder_options(self) -> list[str]:
        """ffmpeg's options after the encoder's name."""

    def _encode_arguments(self, program: str, size: str, output: str) -> list[str]:
        pixel_format = f"yuv{self.chroma.replace(':', '')}p"
        if self.bit_depth > 8:
            pixel_format += f"{self.bit_depth}le"
        return [
            *(program, "-v", "error", "-f", "rawvideo", "-pix_fmt", pixel_format, "-s", size),
            *("-r", "1", *_FULL_RANGE_BT709, "-i", "pipe:0", "-frames:v", "1"),
            *("-c:v", self.encoder, "-threads", "1", *self.encoder_options()),
            # Into a file: libvvenc prints warnings into the standard output.
            *("-f", self.format, "-y", output),
        ]

    def _encode_planes(self, planes: Planes) -> bytes:
        height, width = planes.y.shape
        with tempfile.TemporaryDirectory(prefix="codec_det_") as folder:
            output = Path(folder) / "coded"
            path = find_ffmpeg(self.encoder)
            self.run_encoder(
                self._encode_arguments(str(path), f"{width}x{height}", str(output)), planes
            )
            return read_output(output)

    def _decode_planes(self, stream: bytes, width: int, height: int) -> Planes:
        with tempfile.TemporaryDirectory(prefix="codec_det_") as folder:
            coded = Path(folder) / "coded"
            coded.write_bytes(stream)
            arguments = [
                *(str(find_ffmpeg(self.encoder)), "-v", "error"),
                # Without these ffmpeg patches over damage and reports success.
                *("-xerror", "-err_detect", "explode"),
                *("-max_pixels", str(MAX_PIXELS), "-threads", "1"),
                *("-f", self.format, "-i", str(coded), "-frames:v", "1"),
                # y4m says what the decoder found; asking for a format would convert silently.
                *("-f", "yuv4mpegpipe", "-strict", "-1", "pipe:1"),
            ]
            output = self.run_decoder(arguments)
        return planes_from_y4m(
            output, width=width, height=height, chroma=self.chroma, bit_depth=self.bit_depth
        )


def read_output(path: Path) -> bytes:
    """What a program wrote into a file that it was told to write.

    Raises:
        CodecDetError: if it wrote nothing although it reported success.
    """
    data = path.read_bytes() if path.is_file() else b""
    if not data:
        raise CodecDetError(
            "the encoder reported success and wrote nothing: run its command by hand to see why"
        )
    return data
