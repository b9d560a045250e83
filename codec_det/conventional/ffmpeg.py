"""The ffmpeg that comes with imageio-ffmpeg, which has the encoders of many standards built in.

imageio-ffmpeg's own environment variable IMAGEIO_FFMPEG_EXE names another one.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .process import run_program

INSTALL = "pip install 'codec_det[conventional]'"
_REMEDY = f"install an ffmpeg with it ({INSTALL})"


def video_library() -> Any:
    """imageio_ffmpeg, which reads and writes video files.

    Raises:
        ConfigError: if it, or its ffmpeg, is missing.
    """
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as reason:
        raise ConfigError(f"there is no ffmpeg for video files ({reason}): {INSTALL}") from None
    return imageio_ffmpeg


@cache
def find_ffmpeg(encoder: str) -> Path:
    """The path of an ffmpeg that has an encoder, by ffmpeg's name of it, e.g. "libx265".

    Raises:
        ConfigError: if there is none.
    """
    try:
        import imageio_ffmpeg

        path = Path(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as reason:
        raise ConfigError(f"there is no ffmpeg for {encoder} ({reason}): {_REMEDY}") from None
    listing, _ = run_program([path, "-v", "error", "-encoders"], remedy=_REMEDY)
    if not re.search(rf"^ V\S+ +{re.escape(encoder)} ", listing.decode("utf-8", "replace"), re.M):
        raise ConfigError(f"'{path}' was built without the encoder {encoder}: {_REMEDY}")
    return path


@cache
def ffmpeg_version(path: Path) -> str:
    """Program and version, e.g. "ffmpeg 7.1"."""
    output, _ = run_program([path, "-version"], remedy=_REMEDY)
    first = output.decode("utf-8", "replace").partition("\n")[0]
    match = re.match(r"ffmpeg version (\S+)", first)
    return f"ffmpeg {match[1]}" if match else first.strip()


@cache
def library_version(path: Path, encoder: str, pattern: str) -> str:
    """The version that an encoder's library tells of itself while it codes a grey picture.

    Args:
        path: of ffmpeg.
        encoder: ffmpeg's name of it.
        pattern: regular expression whose first group is the version, in the log or the stream.

    Returns:
        For example "libx265 4.1"; "libx265" if it tells none.
    """
    grey = ["-f", "lavfi", "-i", "color=gray:size=64x64:rate=1"]
    coded, log = run_program(
        [path, "-v", "verbose", *grey, "-frames:v", "1", "-c:v", encoder, "-f", "rawvideo", "-"],
        remedy=_REMEDY,
    )
    match = re.search(pattern, f"{log}\n{coded.decode('latin-1')}")
    return f"{encoder} {match[1]}" if match else encoder
