"""H.265 / HEVC by x265, and H.264 / AVC by x264."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .containers import AVC, HEVC, NalUnits
from .intra_video import FfmpegVideoCodec

_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
_CHOICES: Mapping[str, tuple[Any, ...]] = {
    "chroma": ("4:4:4", "4:2:0"),
    "bit_depth": (8, 10),
    "preset": _PRESETS,
    "tune": ("psnr", "ssim", "default"),
}


@dataclass(frozen=True, kw_only=True)
class HevcCodec(FfmpegVideoCodec):
    """ITU-T H.265 by x265.

    Attributes:
        quality: QP, 0 to 51; x265 gives intra pictures a QP about 3 lower.
        preset: x265's, speed against bits.
        tune: what x265 optimizes for; "default" is its own perceptual mixture.
    """

    name = "hevc"
    nal_units: ClassVar[NalUnits] = HEVC
    choices: ClassVar[Mapping[str, tuple[Any, ...]]] = _CHOICES
    encoder: ClassVar[str] = "libx265"
    format: ClassVar[str] = "hevc"
    version_pattern: ClassVar[str] = r"HEVC encoder version (\S+)"

    chroma: str = "4:4:4"
    bit_depth: int = 10
    preset: str = "slow"
    tune: str = "psnr"

    def encoder_options(self, frames: int = 1) -> list[str]:
        tune = [] if self.tune == "default" else ["-tune", self.tune]
        # P frames alone, and no look ahead.
        low_delay = ":bframes=0:rc-lookahead=0:scenecut=0" if frames > 1 else ""
        parameters = (
            f"qp={self.quality_text}:keyint={frames}{low_delay}"
            # Nothing that a decoder does not need: x265's advertisement alone is 700 bytes.
            ":info=0:vui-timing-info=0"
            # Bytes that do not depend on the number of cores.
            ":wpp=0:pools=none:frame-threads=1:log-level=warning"
        )
        return ["-preset", self.preset, *tune, "-x265-params", parameters]


@dataclass(frozen=True, kw_only=True)
class AvcCodec(FfmpegVideoCodec):
    """ITU-T H.264 by x264.

    Attributes:
        quality: QP on the scale of 8 bits, 0 to 51; x264 gives intra pictures a QP 3 lower.
        preset: x264's, speed against bits.
        tune: what x264 optimizes for; "default" is its own perceptual mixture.
    """

    name = "avc"
    nal_units: ClassVar[NalUnits] = AVC
    choices: ClassVar[Mapping[str, tuple[Any, ...]]] = _CHOICES
    encoder: ClassVar[str] = "libx264"
    format: ClassVar[str] = "h264"
    version_pattern: ClassVar[str] = r"x264 - core (\d+(?: r\d+)?)"

    chroma: str = "4:4:4"
    bit_depth: int = 10
    preset: str = "veryslow"
    tune: str = "psnr"

    def encoder_options(self, frames: int = 1) -> list[str]:
        tune = [] if self.tune == "default" else ["-tune", self.tune]
        # P frames alone, and no look ahead.
        low_delay = ["-g", str(frames), "-bf", "0", "-rc-lookahead", "0", "-sc_threshold", "0"]
        # x264 counts QP from the finest step of its bit depth, six per bit.
        quantizer = int(self.quality) + 6 * (self.bit_depth - 8)
        # Type 6 is SEI, where x264 writes 600 bytes of its options.
        no_sei = ["-bsf:v", "filter_units=remove_types=6"]
        inter = low_delay if frames > 1 else []
        return ["-preset", self.preset, *tune, "-qp", str(quantizer), *inter, *no_sei]
