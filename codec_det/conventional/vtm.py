"""H.266 / VVC by its reference software VTM: true 4:4:4, and very slow.

Encoder: environment variable VTM_ENCODER, else EncoderAppStatic on PATH; decoder: VTM_DECODER, else
DecoderAppStatic; configuration: VTM_CONFIG, VTM's ``cfg/encoder_intra_vtm.cfg``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..errors import ConfigError
from .base import REVISION, QualityRange
from .color import Planes
from .containers import VVC, NalUnits
from .intra_video import IntraVideoCodec, read_output
from .process import file_digest, find_program, first_line
from .rawvideo import planes_from_bytes, planes_to_bytes

_PROGRAMS = {"VTM_ENCODER": "EncoderAppStatic", "VTM_DECODER": "DecoderAppStatic"}
_REMEDY = (
    "build VTM (vcgit.hhi.fraunhofer.de/jvet/VVCSoftware_VTM) and set VTM_ENCODER, VTM_DECODER and "
    "VTM_CONFIG (its cfg/encoder_intra_vtm.cfg)"
)


@dataclass(frozen=True, kw_only=True)
class VtmCodec(IntraVideoCodec):
    """ITU-T H.266 intra by VTM.

    Attributes:
        quality: QP, 0 to 63.
    """

    name = "vtm"
    nal_units: ClassVar[NalUnits] = VVC
    choices: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "chroma": ("4:4:4", "4:2:0"),
        "bit_depth": (8, 10),
    }

    chroma: str = "4:4:4"
    bit_depth: int = 10

    @property
    def quality_range(self) -> QualityRange:
        return QualityRange(0, 63, False, True, "QP")

    @property
    def settings(self) -> dict[str, Any]:
        """With the name and hash of the configuration file, which shapes the bytes as well."""
        path = _config()
        return {**super().settings, "config": f"{path.name} sha256 {file_digest(path)}"}

    def check_available(self) -> None:
        for variable in _PROGRAMS:
            _program(variable)
        _config()

    def version(self) -> str:
        # It prints its version and its options, and fails.
        line = first_line(_program("VTM_ENCODER"), "--help", remedy=_REMEDY)
        return f"{line}, revision {REVISION}"

    def command(self) -> str:
        paths = ("{input}", "{config}", "{output}")
        return " ".join(self._arguments("EncoderAppStatic", *paths, "{width}", "{height}"))

    def _arguments(
        self, program: str, source: str, config: str, output: str, width: str, height: str
    ) -> list[str]:
        return [
            *(program, "-i", source, "-c", config, "-q", self.quality_text, "-b", output),
            *("-o", os.devnull, "-wdt", width, "-hgt", height, "-fr", "1", "-f", "1"),
            f"--InputChromaFormat={self.chroma.replace(':', '')}",
            f"--InputBitDepth={self.bit_depth}",
            f"--InternalBitDepth={max(self.bit_depth, 10)}",
            "--ConformanceWindowMode=1",  # VTM pads to its smallest coding unit by itself
        ]

    def _encode_planes(self, planes: Planes) -> bytes:
        height, width = planes.y.shape
        with tempfile.TemporaryDirectory(prefix="codec_det_") as folder:
            source, output = Path(folder) / "source.yuv", Path(folder) / "coded.bin"
            source.write_bytes(planes_to_bytes(planes))
            paths = (str(source), str(_config()), str(output))
            program = str(_program("VTM_ENCODER"))
            self.run_encoder(self._arguments(program, *paths, str(width), str(height)))
            return read_output(output)

    def _decode_planes(self, stream: bytes, width: int, height: int) -> Planes:
        with tempfile.TemporaryDirectory(prefix="codec_det_") as folder:
            coded, output = Path(folder) / "coded.bin", Path(folder) / "decoded.yuv"
            coded.write_bytes(stream)
            program = str(_program("VTM_DECODER"))
            self.run_decoder(
                [program, "-b", str(coded), "-o", str(output), "-d", str(self.bit_depth)]
            )
            decoded = output.read_bytes() if output.is_file() else b""
        return planes_from_bytes(
            decoded, width=width, height=height, chroma=self.chroma, bit_depth=self.bit_depth
        )


def _program(variable: str) -> Path:
    path = find_program(variable, _PROGRAMS[variable])
    if path is None:
        raise ConfigError(f"there is no {_PROGRAMS[variable]} for the codec 'vtm': {_REMEDY}")
    return path


def _config() -> Path:
    named = os.environ.get("VTM_CONFIG", "")
    if not Path(named).is_file():
        raise ConfigError(
            f"VTM_CONFIG is '{named}', which is no file, and the codec 'vtm' needs one: {_REMEDY}"
        )
    return Path(named)
