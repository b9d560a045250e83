"""AV1 by libaom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .base import QualityRange
from .containers import av1_overhead
from .intra_video import FfmpegVideoCodec


@dataclass(frozen=True, kw_only=True)
class Av1Codec(FfmpegVideoCodec):
    """AV1 by libaom, as a bare stream of OBUs; in image files it is AVIF.

    Attributes:
        quality: libaom's constant quality, which gives a key frame with frames after it more bits.
        speed: libaom's cpu-used; lower is slower and better.
    """

    name = "av1"
    choices: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "chroma": ("4:4:4", "4:2:0"),
        "bit_depth": (8, 10),
        "speed": tuple(range(9)),
    }
    encoder: ClassVar[str] = "libaom-av1"
    format: ClassVar[str] = "obu"
    version_pattern: ClassVar[str] = r"\[libaom-av1 @ \S+\] v(\d\S*)"

    chroma: str = "4:4:4"
    bit_depth: int = 10
    speed: int = 4

    @property
    def quality_range(self) -> QualityRange:
        return QualityRange(0, 63, False, True, "constant quality")

    def encoder_options(self, frames: int = 1) -> list[str]:
        return [
            *("-usage", "good", "-cpu-used", str(self.speed), "-tune", "psnr", "-aq-mode", "0"),
            *("-crf", self.quality_text, "-b:v", "0"),
            # No look ahead, and with it no frame that is coded before its time. Bits of frames do
            # not depend on where the group ends; and a key frame gets more of them than a picture.
            *("-lag-in-frames", "0", "-g", "9999" if frames > 1 else "1"),
        ]

    def stream_overhead(self, stream: bytes) -> int:
        return av1_overhead(stream)
