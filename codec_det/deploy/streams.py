"""Frames to streams and back: what tools do with files of :mod:`codec_det.bitstream.stream`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..bitstream.frame_encoder import SequenceEncoder
from ..bitstream.prediction import Prediction
from ..bitstream.stream import (
    Lost,
    Received,
    Sent,
    StreamHeader,
    decode_stream,
    model_bytes,
    read_header,
    read_records,
)
from ..coding_scale import shrink
from ..conventional.ffmpeg import video_library
from ..errors import BitstreamError, CodecDetError
from ..files import atomic_file, special_kind
from ..sequences import Frame

Frames = TypeVar("Frames", Received, Sent)

STREAM_SUFFIX = ".cdetv"
USUAL_FPS = 25.0
"""Frames per second of videos that are made of streams that do not say theirs."""


class StreamEncoder:
    """Codes frames of one camera to records of a stream, one after another.

    Args:
        encoder: whose frames are numbered from 0 on.
        level: as of :meth:`SequenceEncoder.encode`.
    """

    def __init__(self, encoder: SequenceEncoder, level: float | None = None) -> None:
        self._encoder = encoder
        self._level = level
        self._scale = encoder.pictures.entropy.expected.scale
        self._number = 0

    def header(self, fps: float) -> bytes:
        """What the stream begins with.

        Args:
            fps: frames per second; 0: not known.
        """
        return StreamHeader(model_bytes(self._encoder.prediction), fps).pack()

    def encode(self, picture: np.ndarray) -> Sent:
        """The next frame (H, W, 3), uint8 RGB.

        Raises:
            CodecDetError: if it cannot be coded.
        """
        height, width = picture.shape[:2]
        small = shrink(picture, self._scale)
        number = self._number
        try:
            frame = Frame(0, number)
            coded = self._encoder.encode(small, (height, width), frame, self._level)
        except RuntimeError as error:
            # PyTorch has no narrower class for memory that runs out.
            raise CodecDetError(f"PyTorch cannot code frame {number}: {error}") from error
        self._number += 1
        return Sent(number, *coded)


class StreamFile:
    """A stream in a file, with the model that decodes it.

    Args:
        prediction: of the model; None: records alone can be read.

    Attributes:
        path: where it is.
        size: in bytes.
        header: what it says of itself.
        lost: what could not be shown so far, in words.

    Raises:
        CodecDetError: if it cannot be read, is no stream, or of another model.
    """

    def __init__(self, path: Path, prediction: Prediction | None, max_pixels: int) -> None:
        kind = special_kind(path)
        if kind or not path.is_file():
            what = f"is {kind}, not a file" if kind else "does not exist"
            raise CodecDetError(f"'{path}' {what}: give a stream of tools/encode.py")
        self.path = path
        self.lost: list[str] = []
        self._prediction, self._max_pixels = prediction, max_pixels
        try:
            self._data = path.read_bytes()
        except OSError as error:
            raise CodecDetError(f"cannot read '{path}' ({error.strerror or error})") from None
        self.size = len(self._data)
        try:
            self.header, start = read_header(self._data)
            if prediction is not None:
                # No record is read for that.
                next(decode_stream(self._data[:start], prediction, max_pixels), None)
        except BitstreamError as error:
            raise BitstreamError(f"'{path}': {error}") from None

    @property
    def fps(self) -> float:
        """Frames per second; 0: not known."""
        return self.header.fps

    def frames(self) -> Iterator[Received]:
        """Those that are whole, in order; what is lost between them is kept in :attr:`lost`."""
        assert self._prediction is not None, "without a model, records alone can be read"
        return self._whole(decode_stream(self._data, self._prediction, self._max_pixels))

    def records(self) -> Iterator[Sent]:
        """As :meth:`frames`, what was sent of them, as far as can be told without the model."""
        return self._whole(read_records(self._data))

    def _whole(self, frames: Iterator[Frames | Lost]) -> Iterator[Frames]:
        last = -1
        for found in frames:
            if isinstance(found, Lost):
                self.lost.append(found.reason)
                continue
            if found.number > last + 1:
                self.lost.append(f"not there: {describe_numbers(last + 1, found.number - 1)}")
            last = found.number
            yield found

    def describe_lost(self) -> str:
        """What was lost, line by line, for a tool to print before it exits with status 1."""
        return describe_lost(self.path, self.lost)


def describe_lost(path: Path | str, reasons: Iterable[str]) -> str:
    """What was lost of a stream, line by line."""
    lines = [f"error: of '{path}' some frames are lost:"]
    return "\n".join(lines + [f"  {reason}" for reason in reasons])


def describe_numbers(first: int, last: int) -> str:
    """Frames by their numbers, in words."""
    return f"frame {first}" if first == last else f"frames {first} to {last}"


def save_video(path: Path, pictures: Iterable[np.ndarray], fps: float) -> int:
    """Write an mp4 (H.264), which appears when it is complete; without pictures there is none.

    Args:
        pictures: (H, W, 3) uint8, RGB, of one size.
        fps: frames per second; 0: :data:`USUAL_FPS`.

    Returns:
        How many there were.

    Raises:
        CodecDetError: if they have several sizes, or it cannot be written.
    """
    library, pictures = video_library(), iter(pictures)
    first = next(pictures, None)
    if first is None:
        return 0
    with atomic_file(path) as partial:
        writer = library.write_frames(
            str(partial),
            (first.shape[1], first.shape[0]),
            fps=fps or USUAL_FPS,
            codec="libx264",
            quality=8,
            macro_block_size=1,
            ffmpeg_log_level="quiet",
            # Chroma is halved in either direction.
            output_params=["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-f", "mp4"],
        )
        count = _send_all(writer, chain([first], pictures), path)
        # It does not say whether ffmpeg has failed.
        if not partial.is_file() or library.count_frames_and_secs(str(partial))[0] != count:
            raise CodecDetError(f"ffmpeg could not write '{path}' whole: is there room for it?")
    return count


def _send_all(writer: Any, pictures: Iterable[np.ndarray], path: Path) -> int:
    """Send pictures to ffmpeg; how many."""
    shape, count = None, 0
    writer.send(None)
    try:
        for count, picture in enumerate(pictures, 1):
            shape = shape or picture.shape
            if picture.shape != shape:
                raise CodecDetError(
                    f"'{path}': after {count - 1} frames their size changes to "
                    f"{picture.shape[1]}x{picture.shape[0]}, which no video can: write pictures"
                )
            writer.send(np.ascontiguousarray(picture))
    finally:
        writer.close()
    return count
