"""Groups of frames in a video coding standard: a key frame, and frames predicted from those before.

Coding is at low delay: frames are coded in their order, so a receiver shows each as it comes. A
group is a stream of its own, so that sequences can be entered at key frames. The coded bytes are as
of intra_video.py, with one header for the group.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..errors import BitstreamError, CodecDetError, ConfigError
from .base import MAX_PIXELS
from .color import planes_to_rgb, rgb_to_planes
from .ffmpeg import find_ffmpeg
from .framing import frame, pad, padded_size, unframe
from .intra_video import FfmpegVideoCodec

GROUPS_REVISION = 2
"""As :data:`.base.REVISION`, for groups alone."""


class DecodedFrame(NamedTuple):
    """One frame of a group.

    Attributes:
        picture: (H, W, 3) uint8, RGB.
        size: its coded bytes; of the key frame with the group's header.
        overhead: how many of them are header and parameter sets.
    """

    picture: np.ndarray
    size: int
    overhead: int


@dataclass(frozen=True)
class InterVideoCodec:
    """Codes groups of frames by ffmpeg.

    Attributes:
        intra: codec, settings and quality of single pictures.
        key_interval: frames from a key frame to the next: the longest group.

    Raises:
        ConfigError: at construction, if ffmpeg lacks the encoder.
    """

    intra: FfmpegVideoCodec
    key_interval: int

    def __post_init__(self) -> None:
        find_ffmpeg(self.intra.encoder)

    @property
    def name(self) -> str:
        """Of the standard."""
        return self.intra.name

    @property
    def quality(self) -> float:
        """In the unit of the single-picture codec."""
        return self.intra.quality

    @property
    def quality_text(self) -> str:
        """The quality as a command line takes it."""
        return self.intra.quality_text

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What shapes the coded bytes besides the frames: "settings" and "version"."""
        settings = {**self.intra.settings, "key_interval": self.key_interval}
        return {"settings": settings, "version": self.version()}

    def version(self) -> str:
        """The library that codes, with its version."""
        return f"{FfmpegVideoCodec.version(self.intra)}, groups' {GROUPS_REVISION}"

    def command(self) -> str:
        """The command line that makes the bytes of a whole group."""
        return self.intra.ffmpeg_command(self.key_interval)

    def encode(self, frames: np.ndarray) -> bytes:
        """Code a group of frames.

        Args:
            frames: (n, H, W, 3) uint8, RGB; n from 1 to ``key_interval``.

        Raises:
            CodecDetError: if the array is no such group or too large, or the program fails.
        """
        if not 1 <= len(frames) <= self.key_interval:
            raise CodecDetError(f"a group has 1 to {self.key_interval} frames, not {len(frames)}")
        self.intra.check_picture(frames[0])
        count, height, width, _ = frames.shape
        if count * height * width > MAX_PIXELS:
            raise CodecDetError(
                f"{count} frames of {width}x{height} have more than {MAX_PIXELS} pixels: make "
                "MODEL.CODEC.KEY_INTERVAL shorter"
            )
        chroma, depth = self.intra.chroma, self.intra.bit_depth
        planes = [rgb_to_planes(pad(one), chroma, depth) for one in frames]
        return frame(width, height, self.intra.encode_frames(planes))

    def decode(self, data: bytes, count: int) -> list[DecodedFrame]:
        """The group of ``count`` frames that :meth:`encode` coded.

        Raises:
            BitstreamError: if the bytes cannot be decoded to so many frames.
        """
        if not data:
            raise BitstreamError(f"there are no bytes to decode with the codec '{self.name}'")
        width, height, stream = unframe(data, self.name)
        planes, sizes = self.intra.decode_frames(stream, *padded_size(width, height), count)
        header, at, decoded = len(data) - len(stream), 0, []
        for one, size in zip(planes, sizes, strict=True):
            picture = planes_to_rgb(one, self.intra.bit_depth)[:height, :width]
            overhead = header + self.intra.stream_overhead(stream[at : at + size])
            decoded.append(DecodedFrame(np.ascontiguousarray(picture), header + size, overhead))
            header, at = 0, at + size
        return decoded


def inter_codec(codec: Any, key_interval: int) -> InterVideoCodec:
    """The codec of frames that goes with one of pictures.

    Raises:
        ConfigError: if it codes single pictures alone.
    """
    if not isinstance(codec, FfmpegVideoCodec):
        raise ConfigError(
            f"the codec '{codec.name}' codes every picture by itself: choose one that predicts "
            "frames, avc, hevc, vvc or av1, or a key interval of 1"
        )
    return InterVideoCodec(codec, key_interval)
