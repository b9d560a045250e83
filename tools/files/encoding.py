"""Pictures to files, for tools/encode.py: those that are there, or as they arrive."""

from __future__ import annotations

from command_line import watched_folder

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from codec_det.bitstream.container import MAX_PIXELS, unpack
from codec_det.bitstream.encoder import PictureEncoder
from codec_det.bitstream.expected import LEVEL_STEPS
from codec_det.bitstream.rate_control import best_within, highest_within, mean_size, sizes_on_grid
from codec_det.data.image_io import SUFFIXES, describe_frames, read_image
from codec_det.deploy.cores import usable_cores
from codec_det.deploy.file_batch import Batch, Failure, describe_failures, find_files, process
from codec_det.deploy.made_files import MadeFiles
from codec_det.deploy.watch import Arrival, CommittedFiles, Journal, Watcher
from codec_det.errors import CodecDetError, ConfigError
from codec_det.files import atomic_file, make_folder

OpenEncoder = Callable[[argparse.Namespace, int], tuple[PictureEncoder, Callable]]
"""To the encoder that a command line asks for, for so many pictures at a time, and to what runs a
function that uses it in a thread of its own."""


class CodedFile(NamedTuple):
    """A picture's file below the output folder: bytes, the size of the picture in pixels, level."""

    name: str
    size: int
    height: int
    width: int
    level: float | None

    @property
    def pixels(self) -> int:
        """Of the picture, as it was sent."""
        return self.height * self.width


def common_level(
    args: argparse.Namespace, encoder: PictureEncoder, files: Sequence[Path], in_thread: Callable
) -> float:
    """The highest level at which the files of all pictures have about --mean-bytes on average.

    Raises:
        CodecDetError: if there is none.
    """

    def measure(path: Path) -> np.ndarray:
        picture = read_image(path, "RGB")
        return in_thread(lambda: sizes_on_grid(encoder.at_levels(picture)))

    sizes, _ = process(files, measure, args.workers, "img")
    if not sizes:
        return 0.0  # what is wrong with each will be said when they are coded
    mean = partial(mean_size, list(sizes.values()))
    if mean(0) > args.mean_bytes:
        raise CodecDetError(
            f"--mean-bytes {args.mean_bytes}: at level 0, the least, these pictures take about "
            f"{math.ceil(mean(0))} bytes on average"
        )
    highest = LEVEL_STEPS * (encoder.levels - 1)
    return highest_within(mean, highest, args.mean_bytes) / LEVEL_STEPS


def code_picture(
    args: argparse.Namespace, encoder: PictureEncoder, picture: np.ndarray
) -> tuple[bytes, float | None]:
    """The file of a picture (H, W, 3), uint8 RGB, and its level, if the model has some.

    Raises:
        CodecDetError: if it cannot be coded.
    """
    if args.max_bytes:
        data = best_within(encoder.at_levels(picture), args.max_bytes)
    else:
        data = encoder.encode(picture, args.level)
    level = unpack(data, sys.maxsize)[0].level / LEVEL_STEPS
    return data, level if encoder.levels > 1 else None


def code_all(
    args: argparse.Namespace, encoder: PictureEncoder, batch: Batch, in_thread: Callable
) -> tuple[dict[Path, CodedFile | None], list[Failure]]:
    """Code pictures, each into a file; None of those that were coded before."""
    rate = f"max_bytes {args.max_bytes}" if args.max_bytes else f"level {args.level}"
    how = rate if encoder.levels > 1 else ""
    made = MadeFiles(args.output_dir, args.model, how) if args.skip_existing else None

    def work(path: Path) -> CodedFile | None:
        name = f"{batch.names[path]}.cdet"
        if made and made.has(name, path):
            return None
        picture = read_image(path, "RGB")
        data, level = in_thread(lambda: code_picture(args, encoder, picture))
        with atomic_file(args.output_dir / name) as partial_path:
            partial_path.write_bytes(data)
        if made:
            made.add(name, path)
        height, width = picture.shape[:2]
        return CodedFile(name, len(data), height, width, level)

    return process(batch.files, work, args.workers, "img")


def encode_files(args: argparse.Namespace, open_encoder: OpenEncoder) -> int:
    """Code files that are there; returns the exit status."""
    batch = find_files(
        args.pictures, SUFFIXES, "pictures", recursive=args.recursive, distinct_names=True
    )
    args.workers = min(args.workers or usable_cores(), len(batch.files))
    encoder, in_thread = open_encoder(args, args.workers)
    make_folder(args.output_dir, "--output-dir")
    if args.mean_bytes:
        args.level = common_level(args, encoder, batch.files, in_thread)
    done, failures = code_all(args, encoder, batch, in_thread)
    # Sizes were estimated, to a thousandth or so.
    while args.mean_bytes and args.level and mean_bytes(args, batch, done) > args.mean_bytes:
        args.level -= 1 / LEVEL_STEPS
        done, failures = code_all(args, encoder, batch, in_thread)
    for note in (batch.describe_others(), describe_frames(done)):
        if note:
            print(note, file=sys.stderr)
    coded = [file for file in done.values() if file]
    if len(coded) < len(done):
        print(f"{len(done) - len(coded)} of {len(batch.files)} pictures were coded before")
    if coded:
        print(describe(coded, args.output_dir))
        largest = max(file.pixels for file in coded)
        if largest > MAX_PIXELS:
            print(
                f"note: the largest picture has {largest} pixels; receivers refuse more than "
                f"{MAX_PIXELS} unless they are given --max-pixels {largest}"
            )
    if failures:
        print(describe_failures(failures, len(batch.files)), file=sys.stderr)
    return 1 if failures else 0


def mean_bytes(args: argparse.Namespace, batch: Batch, done: Iterable[Path]) -> float:
    """Of the files of pictures that are coded."""
    sizes = [(args.output_dir / f"{batch.names[path]}.cdet").stat().st_size for path in done]
    return sum(sizes) / max(len(sizes), 1)


def watch_pictures(args: argparse.Namespace, open_encoder: OpenEncoder) -> NoReturn:
    """Code what is written to a folder, until the process ends.

    Raises:
        CodecDetError: if it cannot begin.
    """
    if args.mean_bytes:
        raise ConfigError("--mean-bytes is of pictures that are there: leave out --watch")
    folder = watched_folder(args.pictures, args, ("recursive", "skip_existing", "workers"))
    encoder, in_thread = open_encoder(args, 1)
    make_folder(args.output_dir, "--output-dir")
    journal = Journal(args.output_dir / ".watched.jsonl")
    files = CommittedFiles(args.output_dir, journal, ".cdet", args.keep_bytes)

    def code(path: Path) -> bytes:
        files.check_name(path)
        picture = read_image(path, "RGB")
        return in_thread(lambda: code_picture(args, encoder, picture))[0]

    def commit(arrival: Arrival, data: bytes) -> None:
        files.commit(arrival, data)
        print(f"{arrival.name}: {len(data)} bytes", flush=True)

    Watcher(
        folder,
        SUFFIXES,
        journal,
        code,
        commit,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    ).run()


def describe(coded: Sequence[CodedFile], folder: Path) -> str:
    """A line per file, and one for all."""
    column = max(len(file.name) for file in coded)
    lines = [
        f"{file.name:{column}}  {f'{file.width}x{file.height}':>9}  "
        f"{file.size:8d} bytes  {8 * file.size / file.pixels:.4f} bpp"
        + ("" if file.level is None else f"  level {file.level:.10g}")
        for file in coded
    ]
    size, pixels = (sum(getattr(f, key) for f in coded) for key in ("size", "pixels"))
    lines.append(f"together {size} bytes, {8 * size / pixels:.4f} bpp, in {folder}")
    return "\n".join(lines)
