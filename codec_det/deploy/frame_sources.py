"""Frames of one camera in order of time: of a video file, a pipe, or a folder of pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ..conventional.ffmpeg import video_library
from ..conventional.rawvideo import Y4mReader
from ..data.image_io import SUFFIXES, read_image, read_size
from ..errors import BitstreamError, DatasetError
from ..files import special_kind


class FrameSource(NamedTuple):
    """Where frames come from.

    Attributes:
        name: for messages.
        size: height and width of all.
        fps: frames per second; 0: not known.
        length: how many there are; None: not known.
        frames: (H, W, 3) uint8, RGB, each; raises DatasetError where they end too early.
    """

    name: str
    size: tuple[int, int]
    fps: float
    length: int | None
    frames: Iterator[np.ndarray]


def open_video(path: Path) -> FrameSource:
    """The frames of a video file, by the ffmpeg that comes with imageio-ffmpeg.

    Raises:
        ConfigError: if there is no ffmpeg.
        DatasetError: if it is missing, or ffmpeg finds no frames in it.
    """
    kind = special_kind(path)
    if kind or not path.is_file():
        raise DatasetError(
            f"'{path}' {f'is {kind}' if kind else 'does not exist'}: give a video file"
        )
    reader = video_library().read_frames(str(path.absolute()))
    try:
        about = next(reader)
        width, height = about["size"]
    # What it is told by ffmpeg it takes apart as it comes.
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, StopIteration) as error:
        raise DatasetError(
            f"'{path}' has no frames that ffmpeg can read ({_last_line(error)}): give a video file"
        ) from None
    frames = _frames_of_video(path, reader, (height, width))
    return FrameSource(f"'{path}'", (height, width), float(about.get("fps") or 0), None, frames)


def _frames_of_video(
    path: Path, reader: Iterator[bytes], size: tuple[int, int]
) -> Iterator[np.ndarray]:
    try:
        for data in reader:
            yield np.frombuffer(data, np.uint8).reshape(*size, 3)
    except (OSError, RuntimeError) as error:
        raise DatasetError(f"'{path}' is damaged or cut short ({_last_line(error)})") from None


def _last_line(error: Exception) -> str:
    """Of what ffmpeg has said, which is all in the error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def open_pipe(stream: BinaryIO, name: str) -> FrameSource:
    """The frames of YUV4MPEG2 as they come.

    Raises:
        DatasetError: if it does not begin as such.
    """

    def frames(reader: Y4mReader) -> Iterator[np.ndarray]:
        try:
            yield from reader
        except BitstreamError as error:
            raise DatasetError(f"{name}: {error}") from None

    try:
        reader = Y4mReader(stream)
    except BitstreamError as error:
        raise DatasetError(f"{name}: {error}") from None
    return FrameSource(name, (reader.height, reader.width), reader.fps, None, frames(reader))


def open_folder(folder: Path) -> FrameSource:
    """The pictures of a folder, in order of their names, numbers in them by their value.

    Raises:
        DatasetError: if there is none, one cannot be read, or they have several sizes.
    """
    try:
        paths = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.is_dir()]
    except OSError as error:
        raise DatasetError(f"cannot look for frames in '{folder}' ({error.strerror})") from None
    if not paths:
        raise DatasetError(f"'{folder}' has no pictures in it that could be frames")
    paths.sort(key=_by_numbers)
    first = read_size(paths[0])
    for path in paths[1:]:
        size = read_size(path)
        if size != first:
            raise DatasetError(
                f"'{path}' has {size[1]}x{size[0]} pixels, and '{paths[0]}' {first[1]}x{first[0]}: "
                "frames of a camera have one size; code them apart"
            )
    frames = (_of_size(read_image(path, "RGB"), path, first) for path in paths)
    return FrameSource(f"'{folder}'", first, 0.0, len(paths), frames)


def _by_numbers(path: Path) -> list[Any]:
    parts = re.split(r"([0-9]+)", path.name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def _of_size(picture: np.ndarray, path: Path, size: tuple[int, int]) -> np.ndarray:
    # An orientation that stands behind the pixels is found when they are read.
    if picture.shape[:2] != size:
        raise DatasetError(f"'{path}' is turned by its orientation: frames of a camera are not")
    return picture
