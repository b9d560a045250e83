"""H.266 / VVC by libvvenc: vvencapp and vvdecapp where they are found, else ffmpeg.

Looked for in this order: the environment variables VVENCAPP and VVDECAPP, PATH, and the ffmpeg that
comes with imageio-ffmpeg. Encoder and decoder are found each for itself; a decoder gives the same
picture whichever it is, because the standard fixes it to the bit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..errors import ConfigError
from .base import REVISION, QualityRange
from .color import Planes
from .containers import VVC, NalUnits
from .ffmpeg import INSTALL, find_ffmpeg
from .intra_video import FfmpegVideoCodec, read_output
from .process import find_program, first_line
from .rawvideo import planes_from_bytes, planes_to_bytes

_STRUCTURE = ":GOPSize=1:Frame1=B 1 0 0 0 0 0 1.0 0 0 0 0 0 0 0 2 2 1 2 2 2 1 2"
"""Every frame at the same QP, from the two before it, in both lists. Of its own structures, the
shortest without reordering is of eight frames, with four QPs in turn. Filters over time (MCTF, and
BIM, which needs it) save nothing in this one; with frames in parallel, ffmpeg loses short
groups."""


@dataclass(frozen=True, kw_only=True)
class VvcCodec(FfmpegVideoCodec):
    """ITU-T H.266 by libvvenc, which codes 4:2:0 at 10 bits alone.

    Attributes:
        quality: QP, 0 to 63; libvvenc gives intra pictures a QP 3 lower.
        preset: libvvenc's, speed against bits.
        perceptual: libvvenc's perceptual QP adaptation (qpa), which costs PSNR.
    """

    name = "vvc"
    nal_units: ClassVar[NalUnits] = VVC
    choices: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "chroma": ("4:2:0",),
        "bit_depth": (10,),
        "preset": ("faster", "fast", "medium", "slow", "slower"),
        "perceptual": (False, True),
    }
    encoder: ClassVar[str] = "libvvenc"
    format: ClassVar[str] = "vvc"
    version_pattern: ClassVar[str] = r"libvvenc version: (\S+)"

    chroma: str = "4:2:0"
    bit_depth: int = 10
    preset: str = "medium"
    perceptual: bool = False

    @property
    def quality_range(self) -> QualityRange:
        return QualityRange(0, 63, False, True, "QP")

    def check_available(self) -> None:
        for variable, program in (("VVENCAPP", "vvencapp"), ("VVDECAPP", "vvdecapp")):
            if find_program(variable, program) is None:
                try:
                    find_ffmpeg(self.encoder)
                except ConfigError as reason:
                    raise ConfigError(
                        f"there is no {program} on PATH or in {variable} for the codec 'vvc', and "
                        f"{reason}"
                    ) from None

    def version(self) -> str:
        program = find_program("VVENCAPP", "vvencapp")
        if program is None:
            return super().version()
        line = first_line(program, "--version", remedy=f"mend it, or {INSTALL}")
        return f"{line}, revision {REVISION}"

    def command(self) -> str:
        if find_program("VVENCAPP", "vvencapp") is None:
            return super().command()
        arguments = self._app_arguments("vvencapp", "{input}", "{width}x{height}", "{output}")
        return " ".join(arguments)

    def encoder_options(self, frames: int = 1) -> list[str]:
        low_delay = ":PicReordering=0:DecodingRefreshType=none:MCTF=0:BIM=0:MaxParallelFrames=0"
        return [
            *("-qp", self.quality_text, "-qpa", f"{self.perceptual:d}", "-preset", self.preset),
            # Buffering parameters and delimiters are for broadcasts: 17 bytes a picture. ffmpeg
            # does not pass on the range.
            "-vvenc-params",
            "HRDParametersPresent=0:AccessUnitDelimiter=0:Range=full"
            + (low_delay + _STRUCTURE if frames > 1 else ""),
            # In seconds, of one frame each.
            *(("-period", str(frames)) if frames > 1 else ()),
        ]

    def _app_arguments(self, program: str, source: str, size: str, output: str) -> list[str]:
        return [
            *(program, "-i", source, "-s", size, "-c", "yuv420_10", "-r", "1", "-f", "1"),
            *("-q", self.quality_text, "--qpa", f"{self.perceptual:d}", "--preset", self.preset),
            *("--hrdparameterspresent", "0", "--accessunitdelimiter", "0", "--range", "full"),
            *("-t", "1", "-v", "0", "-o", output),
        ]

    def _encode_planes(self, planes: Planes) -> bytes:
        program = find_program("VVENCAPP", "vvencapp")
        if program is None:
            return super()._encode_planes(planes)
        height, width = planes.y.shape
        with tempfile.TemporaryDirectory(prefix="codec_det_") as folder:
            source, output = Path(folder) / "source.yuv", Path(folder) / "coded.266"
            source.write_bytes(planes_to_bytes(planes))
            size = f"{width}x{height}"
            self.run_encoder(self._app_arguments(str(program), str(source), size, str(output)))
            return read_output(output)

    def _decode_planes(self, stream: bytes, width: int, height: int) -> Planes:
        program = find_program("VVDECAPP", "vvdecapp")
        if program is None:
            return super()._decode_planes(stream, width, height)
        with tempfile.TemporaryDirectory(prefix="codec_det_") as folder:
            coded, output = Path(folder) / "coded.266", Path(folder) / "decoded.yuv"
            coded.write_bytes(stream)
            self.run_decoder([program, "-b", str(coded), "-o", str(output), "-t", "1", "-v", "0"])
            # vvdecapp reports success on junk and then writes nothing: the length tells.
            decoded = output.read_bytes() if output.is_file() else b""
        return planes_from_bytes(
            decoded, width=width, height=height, chroma=self.chroma, bit_depth=self.bit_depth
        )
