"""Streams to pictures or a video, for tools/decode.py."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from codec_det.bitstream.container import MAX_PIXELS
from codec_det.bitstream.entropy import Latents
from codec_det.codec.learned.bitstream_codec import PictureDecoder
from codec_det.codec.learned.precision import BFLOAT16_NOTE, transforms_dtype
from codec_det.deploy.model_files import load_decoder, load_prediction
from codec_det.deploy.streams import USUAL_FPS, StreamFile, save_video
from codec_det.errors import BitstreamError, CodecDetError, ConfigError
from codec_det.files import atomic_file, make_folder
from codec_det.pixels import enlarge, to_uint8


def decode_stream(args: argparse.Namespace) -> int:
    """Decode a stream; returns the exit status.

    Raises:
        CodecDetError: if it cannot be read, or nothing can be written.
    """
    path = the_stream(args.files, args, ("recursive", "skip_existing", "workers"))
    max_pixels = args.max_pixels or MAX_PIXELS
    dtype = transforms_dtype(args.device)
    stream = StreamFile(path, load_prediction(args.model), max_pixels)
    decoder = load_decoder(args.model, args.device, max_pixels, dtype)
    if dtype == torch.bfloat16:
        print(BFLOAT16_NOTE)
    make_folder(args.output_dir, "--output-dir")
    start = time.perf_counter()
    pictures = shown(stream, lambda latents: paint(decoder, latents))
    if args.mp4:
        goal = args.output_dir / f"{path.stem}.mp4"
        count = save_video(goal, (picture for _, picture in pictures), stream.fps)
    else:
        goal = args.output_dir / path.stem
        count = save_pictures(goal, pictures)
    seconds = time.perf_counter() - start
    print(
        f"{count} frames decoded into {goal}: {stream.size} bytes; "
        f"{count / seconds:.2f} frames per second"
    )
    if args.mp4 and not stream.fps:
        print(f"played at {USUAL_FPS:g} frames/s: the stream does not say how many it has")
    if stream.lost:
        print(stream.describe_lost(), file=sys.stderr)
    return 1 if stream.lost else 0


def the_stream(inputs: Sequence[Path], args: argparse.Namespace, others: Sequence[str]) -> Path:
    """The one stream that a tool is given.

    Args:
        others: options that go with files of pictures, as attributes of ``args``.

    Raises:
        ConfigError: if it is not one, or one of the others is given.
    """
    if len(inputs) != 1:
        given = ", ".join(f"'{path}'" for path in inputs)
        raise ConfigError(f"streams are worked on one by one: give one of {given}")
    for name in others:
        if getattr(args, name):
            raise ConfigError(
                f"--{name.replace('_', '-')} is for files of pictures, and '{inputs[0]}' is a "
                "stream: leave it out"
            )
    return inputs[0]


def shown(
    stream: StreamFile, show: Callable[[Latents], np.ndarray]
) -> Iterator[tuple[int, np.ndarray]]:
    """Numbers of frames and what is shown of them, with a progress bar.

    Args:
        show: raises BitstreamError for a frame that cannot be shown, which is then lost.
    """
    for found in tqdm(stream.frames(), unit="frame"):
        try:
            picture = show(found.latents)
        except BitstreamError as error:
            stream.lost.append(f"frame {found.number}: {error}")
        else:
            yield found.number, picture


def paint(decoder: PictureDecoder, latents: Latents) -> np.ndarray:
    """The picture of decoded latents, (H, W, 3) uint8 RGB, at the size that it was taken at.

    Raises:
        CodecDetError: if there is none.
    """
    try:
        picture = enlarge(decoder.synthesize(latents), latents.picture.size)
    except RuntimeError as error:
        # PyTorch has no narrower class for memory that runs out.
        raise CodecDetError(f"PyTorch cannot decode it: {error}") from error
    return to_uint8(picture).permute(1, 2, 0).cpu().numpy()


def save_pictures(folder: Path, pictures: Iterator[tuple[int, np.ndarray]]) -> int:
    """Write each frame as a PNG named by its number; how many."""
    count = 0
    for number, picture in pictures:
        with atomic_file(folder / f"{number:06d}.png") as partial:
            Image.fromarray(picture).save(partial, format="PNG", compress_level=4)
        count += 1
    return count
