"""Intra pictures of the video standards H.264 (AVC), H.265 (HEVC), H.266 (VVC) and AV1.

The coded bytes are a header with the picture's size and a checksum (framing.py), followed by the
standard's byte stream (Annex B of each; of AV1, section 5) with its parameter sets, as any decoder
of it reads. Frames that are predicted from others: inter_video.py.
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
from .containers import NalUnits, nal_overhead
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
        """The header with size and checksum, parameter sets, and start codes.

        These are the same for all pictures of a size: a link may send them once, and has framing
        of its own.
        """
        _, _, stream = unframe(data, self.name)
        return len(data) - len(stream) + self.stream_overhead(stream)

    def stream_overhead(self, stream: bytes) -> int:
        """Bytes of parameter sets and start codes in a byte stream, or the part of a frame."""
        return nal_overhead(stream, self.nal_units)

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

    def run_encoder(self, arguments: Sequence[str | Path], frames: Sequence[Planes] = ()) -> None:
        """Run an encoder, which reads ``frames``, if any, from its standard input."""
        run_program(
            arguments,
            stdin=b"".join(map(planes_to_bytes, frames)),
            time_limit=self.time_limit * max(len(frames), 1),
            remedy=f"run it by hand to see why ({self.command()})",
        )

    def run_decoder(self, arguments: Sequence[str | Path], frames: int = 1) -> bytes:
        """Run a decoder of so many frames; what it wrote to its standard output."""
        limit = self.time_limit * frames
        output, _ = run_program(
            arguments, time_limit=limit, remedy=_DECODE_REMEDY, error=BitstreamError
        )
        return output


@dataclass(frozen=True, kw_only=True)
class FfmpegVideoCodec(IntraVideoCodec):
    """A video standard by ffmpeg, on one thread, so that the bytes are the same everywhere.

    It codes pictures, and groups of frames of which all but the first are predicted from those
    before, at low delay: none is coded before one that comes earlier.
    """

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
        return self.ffmpeg_command()

    def ffmpeg_command(self, frames: int = 1) -> str:
        """How ffmpeg makes the bytes of a group of frames."""
        arguments = self._encode_arguments("ffmpeg", "{width}x{height}", "{output}", frames)
        return " ".join(arguments) + " < {input}"

    @abstractmethod
    def encoder_options(self, frames: int = 1) -> list[str]:
        """ffmpeg's options after the encoder's name, for a group of so many frames."""

    def _encode_arguments(self, program: str, size: str, output: str, frames: int) -> list[str]:
        pixel_format = f"yuv{self.chroma.replace(':', '')}p"
        if self.bit_depth > 8:
            pixel_format += f"{self.bit_depth}le"
        return [
            *(program, "-v", "error", "-f", "rawvideo", "-pix_fmt", pixel_format, "-s", size),
            *("-r", "1", *_FULL_RANGE_BT709, "-i", "pipe:0", "-frames:v", str(frames)),
            *("-c:v", self.encoder, "-threads", "1", *self.encoder_options(frames)),
            # Into a file: libvvenc prints warnings into the standard output.
            *("-f", self.format, "-y", output),
        ]

    def _encode_planes(self, planes: Planes) -> bytes:
        return self.encode_frames([planes])

    def _decode_planes(self, stream: bytes, width: int, height: int) -> Planes:
        return self.decode_frames(stream, width, height, 1)[0][0]

    def encode_frames(self, frames: Sequence[Planes]) -> bytes:
        """The standard's byte stream of a group of frames."""
        height, width = frames[0].y.shape
        with tempfile.TemporaryDirectory(prefix="codec_det_") as folder:
            output = Path(folder) / "coded"
            program, size = str(find_ffmpeg(self.encoder)), f"{width}x{height}"
            arguments = self._encode_arguments(program, size, str(output), len(frames))
            self.run_encoder(arguments, frames)
            return read_output(output)

    def decode_frames(
        self, stream: bytes, width: int, height: int, count: int
    ) -> tuple[list[Planes], list[int]]:
        """The frames of a byte stream, in order, and how many bytes of it each has.

        Raises:
            BitstreamError: if there are more or fewer than ``count``, or the stream is damaged.
        """
        with tempfile.TemporaryDirectory(prefix="codec_det_") as folder:
            coded, packets = Path(folder) / "coded", Path(folder) / "packets"
            coded.write_bytes(stream)
            arguments = [
                *(str(find_ffmpeg(self.encoder)), "-v", "error"),
                # Without these ffmpeg patches over damage and reports success.
                *("-xerror", "-err_detect", "explode"),
                *("-max_pixels", str(MAX_PIXELS), "-threads", "1"),
                *("-f", self.format, "-i", str(coded), "-fps_mode", "passthrough"),
                # y4m says what the decoder found; asking for a format would convert silently.
                *("-f", "yuv4mpegpipe", "-strict", "-1", "pipe:1"),
                *("-c:v", "copy", "-f", "framecrc", "-y", str(packets)),
            ]
            output = self.run_decoder(arguments, count)
            sizes = _packet_sizes(packets.read_text())
        if len(sizes) != count or sum(sizes) != len(stream):
            raise BitstreamError(
                f"the coded bytes hold {len(sizes)} frame(s) of {sum(sizes)} bytes instead of "
                f"{count} of {len(stream)}: they are damaged, or of another number of frames"
            )
        frames = planes_from_y4m(
            output,
            width=width,
            height=height,
            chroma=self.chroma,
            bit_depth=self.bit_depth,
            count=count,
        )
        return frames, sizes


def _packet_sizes(report: str) -> list[int]:
    """Bytes of each packet, from ffmpeg's list of packets."""
    lines = (line for line in report.splitlines() if line and not line.startswith("#"))
    return [int(line.split(",")[4]) for line in lines]


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
