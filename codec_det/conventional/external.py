"""Any other codec, by the command lines of its programs, without code."""

from __future__ import annotations

import io
import math
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import BitstreamError, ConfigError
from .base import REVISION, ProgramCodec, QualityRange
from .framing import frame, header_length, unframe
from .intra_video import read_output
from .pillow import decode_with_pillow
from .process import file_digest, run_program

_PLACEHOLDERS = ("{input}", "{output}", "{width}", "{height}", "{quality}")


@dataclass(frozen=True, kw_only=True)
class ExternalCodec(ProgramCodec):
    """Two programs: one reads a PNG and writes a file, the other reads that and writes a PNG.

    The command lines are split as a shell would (quotes work), and run without one. {input} and
    {output} stand for paths, {width} and {height} for pixels, {quality} for the quality. Where the
    decoder's command uses {width} or {height}, the size is kept in front of the coded bytes, with a
    checksum.

    Attributes:
        quality: any number; it is put into the commands as it is.
        encode_command: for example "cjxl {input} {output} -d {quality}".
        decode_command: for example "djxl {input} {output}".
        suffix: of the coded file, for programs that go by it, e.g. ".jxl".
        higher_is_better: whether a larger quality means a better picture.
        program_version: free text for records; changing it makes caches forget what they have.
    """

    name = "external"

    encode_command: str
    decode_command: str
    suffix: str = ".bin"
    higher_is_better: bool = True
    program_version: str = ""

    def __post_init__(self) -> None:
        for setting in ("encode_command", "decode_command", "suffix", "program_version"):
            value = getattr(self, setting)
            if not isinstance(value, str):
                raise ConfigError(f"{setting} is {value!r}: give text")
        for setting in ("encode_command", "decode_command"):
            command = getattr(self, setting)
            missing = [word for word in ("{input}", "{output}") if word not in command]
            if missing:
                raise ConfigError(
                    f"{setting} '{command}' lacks {' and '.join(missing)}: it takes the "
                    f"placeholders {' '.join(_PLACEHOLDERS)}"
                )
        super().__post_init__()

    @property
    def quality_range(self) -> QualityRange:
        return QualityRange(
            -math.inf, math.inf, self.higher_is_better, False, "whatever the commands take"
        )

    def check_available(self) -> None:
        for command in (self.encode_command, self.decode_command):
            program = _split(command)[0]
            if shutil.which(program) is None:
                raise ConfigError(
                    f"there is no program '{program}' for the codec 'external': install it, or "
                    "give its whole path"
                )

    def version(self) -> str:
        """Hash of the encoder's file, as programs have no common way to say their version."""
        path = Path(shutil.which(_split(self.encode_command)[0]) or "")
        identity = f"{path.name} sha256 {file_digest(path)} {self.program_version}".rstrip()
        return f"{identity}, revision {REVISION}"

    def command(self) -> str:
        return self.encode_command

    def container_overhead(self, data: bytes) -> int:
        """The size in front, if any; what the program's own format costs is not known."""
        return header_length(data, self.name) if self._has_size else 0

    @property
    def _has_size(self) -> bool:
        return "{width}" in self.decode_command or "{height}" in self.decode_command

    def _encode(self, picture: np.ndarray) -> bytes:
        height, width, _ = picture.shape
        png = io.BytesIO()
        Image.fromarray(picture).save(png, format="PNG", compress_level=1)
        with tempfile.TemporaryDirectory(prefix="codec_det_") as folder:
            source, output = Path(folder) / "source.png", Path(folder) / f"coded{self.suffix}"
            source.write_bytes(png.getvalue())
            run_program(
                self._fill(self.encode_command, source, output, width, height),
                time_limit=self.time_limit,
                remedy=f"mend the encode_command '{self.encode_command}'",
            )
            coded = read_output(output)
        return frame(width, height, coded) if self._has_size else coded

    def _decode(self, data: bytes) -> np.ndarray:
        width, height, coded = unframe(data, self.name) if self._has_size else (0, 0, data)
        with tempfile.TemporaryDirectory(prefix="codec_det_") as folder:
            source, output = Path(folder) / f"coded{self.suffix}", Path(folder) / "decoded.png"
            source.write_bytes(coded)
            run_program(
                self._fill(self.decode_command, source, output, width, height),
                time_limit=self.time_limit,
                remedy="the coded bytes are damaged, or mend the decode_command "
                f"'{self.decode_command}'",
                error=BitstreamError,
            )
            decoded = output.read_bytes() if output.is_file() else b""
        picture = decode_with_pillow(decoded, "PNG", self.name)
        if self._has_size and picture.shape[:2] != (height, width):
            raise BitstreamError(
                f"the decoder wrote {picture.shape[1]}x{picture.shape[0]} instead of "
                f"{width}x{height}: the coded bytes are damaged"
            )
        return picture

    def _fill(self, command: str, source: Path, output: Path, width: int, height: int) -> list[str]:
        values = (str(source), str(output), str(width), str(height), self.quality_text)
        words = _split(command)
        for placeholder, value in zip(_PLACEHOLDERS, values, strict=True):
            words = [word.replace(placeholder, value) for word in words]
        return words


def _split(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as reason:
        raise ConfigError(f"the command '{command}' cannot be read ({reason})") from None
    if not words:
        raise ConfigError("the codec 'external' needs encode_command and decode_command")
    return words
