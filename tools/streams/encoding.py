"""Frames of one camera to a stream, for tools/encode.py."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tqdm import tqdm

from codec_det.bitstream.container import MAX_PIXELS
from codec_det.bitstream.stream import Sent
from codec_det.deploy.frame_sources import FrameSource, open_folder, open_pipe, open_video
from codec_det.deploy.streams import STREAM_SUFFIX, StreamEncoder
from codec_det.errors import CodecDetError, ConfigError, DatasetError
from codec_det.files import make_folder

PIPE = Path("-")
# Of a picture, or a folder of them.
OF_PICTURES = (
    *("recursive", "skip_existing", "watch", "workers", "keep_bytes", "max_bytes", "mean_bytes"),
)


class Written(NamedTuple):
    """What a stream has so far.

    Attributes:
        fault: why it ends before its source does, or "".
    """

    frames: int
    key_frames: int
    size: int
    seconds: float
    fault: str


def encode_stream(args: argparse.Namespace, open_encoder: Callable) -> int:
    """Code the frames of one camera; returns the exit status.

    Args:
        open_encoder: of tools/encode.py, a SequenceEncoder.

    Raises:
        CodecDetError: if not a single frame can be coded.
    """
    path, output = check_arguments(args)
    say = partial(print, file=sys.stderr if output == PIPE else sys.stdout)
    encoder = StreamEncoder(open_encoder(args, say), args.level)
    source = open_source(path)
    if args.fps:
        source = source._replace(fps=args.fps)
    if output != PIPE:
        make_folder(output.parent, "--output" if args.output else "--output-dir")
    try:
        written = write_stream(source, encoder, output)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"'{output}' has all frames that were coded") from None
    say(describe(written, source, output))
    height, width = source.size
    if height * width > MAX_PIXELS:
        say(
            f"note: frames have {height * width} pixels; receivers refuse more than {MAX_PIXELS} "
            f"unless they are given --max-pixels {height * width}"
        )
    if written.fault:
        print(f"error: {written.fault}", file=sys.stderr)
    return 1 if written.fault else 0


def check_arguments(args: argparse.Namespace) -> tuple[Path, Path]:
    """Where frames come from, and where their stream goes.

    Raises:
        ConfigError: if that cannot be.
    """
    if len(args.pictures) != 1:
        given = ", ".join(f"'{path}'" for path in args.pictures)
        raise ConfigError(f"a stream has the frames of one camera: give one of {given}")
    (path,) = args.pictures
    for name in OF_PICTURES:
        if getattr(args, name):
            raise ConfigError(
                f"--{name.replace('_', '-')} is for pictures, and '{path}' is a sequence of "
                "frames: leave it out"
            )
    if (args.output is None) == (args.output_dir is None):
        raise ConfigError("give --output, the stream, or --output-dir, the folder for it")
    if args.output is not None:
        return path, args.output
    if path == PIPE:
        raise ConfigError("frames from a pipe have no name: give --output, the stream")
    return path, args.output_dir / f"{path.resolve().stem}{STREAM_SUFFIX}"


def open_source(path: Path) -> FrameSource:
    """The frames of a command line."""
    if path == PIPE:
        return open_pipe(sys.stdin.buffer, "the pipe")
    return open_folder(path) if path.is_dir() else open_video(path)


def write_stream(source: FrameSource, encoder: StreamEncoder, output: Path) -> Written:
    """Code frames, each of which is written before the next is read.

    Raises:
        CodecDetError: if there is none, or the first cannot be coded.
        OSError: if it cannot be written.
    """
    start = time.perf_counter()
    records = coded(source, encoder)
    first = next(records, None)
    if first is None:
        raise DatasetError(f"{source.name} has no frames: give a video, or pictures, with some")
    frames = key_frames = size = 0
    fault = ""
    with opened(output) as file:
        size += file.write(encoder.header(source.fps))
        record: Sent | None = first
        while record is not None:
            size += file.write(record.pack())
            # What was coded is sent, whatever comes of the next.
            file.flush()
            frames, key_frames = frames + 1, key_frames + record.is_key
            try:
                record = next(records, None)
            except CodecDetError as error:
                record, fault = None, str(error)
    return Written(frames, key_frames, size, time.perf_counter() - start, fault)


def coded(source: FrameSource, encoder: StreamEncoder) -> Iterator[Sent]:
    """Records of frames, with a progress bar."""
    for picture in tqdm(source.frames, total=source.length, unit="frame"):
        yield encoder.encode(picture)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, or the standard output.

    Raises:
        ConfigError: if it cannot be opened.
    """
    if path == PIPE:
        yield sys.stdout.buffer
        return
    try:
        file = path.open("wb")
    except OSError as error:
        raise ConfigError(
            f"cannot write '{path}' ({error.strerror or error}): choose another place"
        ) from None
    with file:
        yield file


def describe(written: Written, source: FrameSource, output: Path) -> str:
    """How many frames, and what they cost."""
    height, width = source.size
    bits = 8 * written.size / written.frames
    rate = f", {bits * source.fps / 1000:.2f} kbit/s at {source.fps:g} frames/s" * (source.fps > 0)
    return (
        f"{written.frames} frames of {width}x{height}, {written.key_frames} of them key frames: "
        f"{written.size} bytes, {bits / (height * width):.4f} bpp{rate}, in "
        f"{'the standard output' if output == PIPE else output}\n"
        f"coded {written.frames / written.seconds:.2f} frames per second"
    )
