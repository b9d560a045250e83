"""JPEG XL by libjxl inside ffmpeg."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import BitstreamError
from .base import MAX_PIXELS, REVISION, ProgramCodec, QualityRange
from .containers import jxl_overhead
from .ffmpeg import ffmpeg_version, find_ffmpeg
from .intra_video import read_output
from .pillow import decode_with_pillow
from .process import run_program

_ENCODER = "libjxl"

_SIGNATURES = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
_SHORTEST = 12  # bytes; ffmpeg waits for ever to recognize less

_DECODE_LIMIT = 60.0
"""Seconds: a picture of 100 megapixels takes less, and ffmpeg's decoder never returns from bytes
that go on after the end of the picture."""


@dataclass(frozen=True, kw_only=True)
class JpegXlCodec(ProgramCodec):
    """ISO/IEC 18181 by libjxl.

    Attributes:
        quality: Butteraugli distance, a perceptual one; 0 is lossless.
        effort: 1 to 9.
    """

    name = "jpegxl"
    choices: ClassVar[Mapping[str, tuple[Any, ...]]] = {"effort": tuple(range(1, 10))}

    effort: int = 7

    @property
    def quality_range(self) -> QualityRange:
        return QualityRange(0, 15, False, False, "Butteraugli distance, 0 is lossless")

    def check_available(self) -> None:
        find_ffmpeg(_ENCODER)

    def version(self) -> str:
        return f"{_ENCODER}, {ffmpeg_version(find_ffmpeg(_ENCODER))}, revision {REVISION}"

    def command(self) -> str:
        return " ".join(self._arguments("ffmpeg", "{width}x{height}", "{output}")) + " < {input}"

    def container_overhead(self, data: bytes) -> int:
        return jxl_overhead(data)

    def _arguments(self, program: str, size: str, output: str) -> list[str]:
        return [
            *(program, "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size),
            *("-color_primaries", "bt709", "-color_trc", "iec61966-2-1", "-i", "pipe:0"),
            *("-frames:v", "1", "-c:v", _ENCODER, "-threads", "1"),
            *("-distance", self.quality_text, "-effort", str(self.effort)),
            *("-f", "image2pipe", "-y", output),
        ]

    def _encode(self, picture: np.ndarray) -> bytes:
        height, width, _ = picture.shape
        with tempfile.TemporaryDirectory(prefix="codec_det_") as folder:
            output = Path(folder) / "coded.jxl"
            run_program(
                self._arguments(str(find_ffmpeg(_ENCODER)), f"{width}x{height}", str(output)),
                stdin=picture.tobytes(),
                time_limit=self.time_limit,
                remedy=f"run it by hand to see why ({self.command()})",
            )
            return read_output(output)

    def _decode(self, data: bytes) -> np.ndarray:
        if len(data) < _SHORTEST or not data.startswith(_SIGNATURES):
            raise BitstreamError("the bytes do not begin like JPEG XL: damaged or another codec")
        arguments = [
            *(str(find_ffmpeg(_ENCODER)), "-v", "error", "-xerror", "-err_detect", "explode"),
            *("-max_pixels", str(MAX_PIXELS), "-threads", "1"),
            *("-f", "jpegxl_pipe", "-c:v", _ENCODER, "-i", "pipe:0", "-frames:v", "1"),
            *("-pix_fmt", "rgb24", "-f", "image2pipe", "-c:v", "ppm", "pipe:1"),
        ]
        output, _ = run_program(
            arguments,
            stdin=data,
            time_limit=min(self.time_limit, _DECODE_LIMIT),
            remedy="the coded bytes are damaged, cut short or of another codec",
            error=BitstreamError,
        )
        return decode_with_pillow(output, "PPM", self.name)
