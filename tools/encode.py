#!/usr/bin/env python
"""Code pictures into files: what a camera sends. Each becomes OUTPUT_DIR/<its name>.cdet.

A video file becomes one stream, OUTPUT_DIR/<its name>.cdetv or --output, and so do frames from a
pipe ("-": YUV4MPEG2, of 8 bits, which ffmpeg writes with -f yuv4mpegpipe) and, with --sequence, a
folder's pictures in the order of their names. The model is an encoder of a codec of sequences,
whose name ends in -temporal and which has the key interval; given pictures, it codes each as a key
frame. A frame is written when it is coded, before the next is read: what ends too early loses its
last frame alone. That is said, and the exit status is 1.

The encoder is a file of tools/export_model.py. encoder.safetensors runs in PyTorch, encoder.onnx in
ONNX Runtime, where neither PyTorch, CompressAI nor detectron2 need be installed: codec_det without
extras is enough, for which pip installs numpy, Pillow, constriction, onnxruntime, safetensors and
tqdm, and where this program is called `codec-det encode`. The receiver that was exported with the
encoder decodes what either writes (tools/decode.py, tools/detect.py), on any machine. Where the
processor has AVX512_BF16, PyTorch computes inner layers in bfloat16, which is faster and may round
a latent otherwise; the tool says so.

A model of variable rate (MODEL.CODEC.LEVELS) codes at its highest level, or at --level; with
--max-bytes each picture at the highest level that fits, for which its transforms run once; with
--mean-bytes all pictures at the highest common level whose files have that size on average. As each
level was trained for a weight of its own of the rate, the same for all pictures, a byte more would
then gain about as much in any of them. What does not fit is an error that names the least size.

Pictures are of any size, in any format with 8 bits per channel that Pillow reads; they are turned
upright as their EXIF says, transparency is dropped, and of several frames the first is taken. Of a
folder, those directly in it are coded, or with --recursive all below it. Existing files are
replaced. A picture that cannot be read is named at the end, the others are coded all the same, and
the exit status is 1.

With --watch, the pictures of one folder are coded as they are written to it, for as long as the
program runs: each once, when its size and time have not changed for a second, one at a time with
all cores. Killed at any moment and started again, it goes on where it was: what was coded is in
OUTPUT_DIR/.watched.jsonl. When nothing can be written it says so, and goes on when there is room.
A picture that is written again is coded again. Of pictures whose names differ only in their
suffix, as a.png and a.jpg, the first is coded, and the other is named as one that cannot be read.
"""

from __future__ import annotations

from command_line import (
    add_recursive,
    number,
    positive,
    run_command,
    run_program,
)

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

# codec_det is imported where it is used: --help need not wait for PyTorch.
if TYPE_CHECKING:
    from codec_det.bitstream.encoder import PictureEncoder
    from codec_det.bitstream.frame_encoder import SequenceEncoder

EPILOG = """
examples:
  all pictures of a folder
    tools/encode.py pictures --model deploy/encoder.safetensors --output-dir coded
  on a camera without PyTorch, one at a time, with all cores
    tools/encode.py snapshot.png --model encoder.onnx --output-dir coded --workers 1
  a camera's folder, for months
    tools/encode.py --watch /media/card --model encoder.onnx --output-dir coded \\
        --keep-bytes 2000000000
  with a model of variable rate: each picture within 400 bytes, or 400 on average
    tools/encode.py pictures --model deploy/encoder.onnx --output-dir coded --max-bytes 400
    tools/encode.py pictures --model deploy/encoder.onnx --output-dir coded --mean-bytes 400
  on a GPU
    tools/encode.py pictures --model deploy/encoder.safetensors --output-dir coded --device cuda
  a video, and what a camera sends, with a model of sequences
    tools/encode.py clip.mp4 --model deploy/encoder.safetensors --output-dir coded
    ffmpeg -i rtsp://camera -pix_fmt yuv420p -f yuv4mpegpipe - | \\
        tools/encode.py - --model deploy/encoder.onnx --output camera.cdetv
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("pictures", nargs="+", type=Path, metavar="PICTURE|FOLDER|VIDEO|-", help="what to code")
    add("--model", type=Path, required=True, metavar="FILE", help="encoder.safetensors or .onnx")
    add("--output-dir", type=Path, metavar="FOLDER", help="where the files go")
    add("--output", type=Path, metavar="FILE", help="of a sequence: the stream; -: standard output")
    add(
        "--sequence",
        action="store_true",
        help="the pictures of the one FOLDER are frames of a camera, or the one file is a video "
        "whatever its suffix: make a stream",
    )
    add(
        "--fps",
        type=number,
        metavar="F",
        help="of a sequence: frames per second (default: what the video says)",
    )
    add(
        "--workers",
        type=positive,
        metavar="N",
        help="pictures coded at a time; they share the cores (default: one per usable core)",
    )
    add(
        "--device",
        default="cpu",
        help="of the transforms in PyTorch: cpu, cuda, cuda:1, ... (default: %(default)s)",
    )
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument(
        "--level",
        type=number,
        metavar="L",
        help="of a model of variable rate, from 0, the lowest; between two as well, in steps of "
        "1/64 (default: the highest)",
    )
    rate.add_argument(
        "--max-bytes",
        type=positive,
        metavar="N",
        help="of a model of variable rate: each picture at the highest level that takes no more",
    )
    rate.add_argument(
        "--mean-bytes",
        type=positive,
        metavar="N",
        help="of a model of variable rate: all at the highest level that takes no more on average",
    )
    add_recursive(parser, "; OUTPUT_DIR gets the same folders")
    add(
        "--skip-existing",
        action="store_true",
        help="do not code again what an earlier run with this option coded: from the same bytes, "
        "by the same model, and still as it was written. SHA-256 sums in OUTPUT_DIR/.made.jsonl "
        "say so, not dates",
    )
    add("--watch", action="store_true", help="code pictures as they are written to the one FOLDER")
    add(
        "--keep-bytes",
        type=positive,
        metavar="N",
        help="with --watch: drop the oldest .cdet files in OUTPUT_DIR, to keep N bytes at most",
    )
    return parser


def open_encoder(
    path: Path,
    device: str,
    workers: int,
    frames: bool = False,
    say: Callable[[str], None] = print,
) -> tuple[Any, Callable]:
    """A PictureEncoder, and what runs a function that uses it in a thread of its own.

    Args:
        workers: pictures coded at a time, which share the cores.
        frames: give a SequenceEncoder instead.
        say: what users should know goes there.

    Raises:
        CodecDetError: if the model or the device cannot be used.
    """
    from codec_det.errors import CodecDetError

    if path.suffix == ".onnx":
        from codec_det.bitstream.onnx_encoder import load_onnx_encoder, load_onnx_sequence_encoder
        from codec_det.deploy.cores import usable_cores

        if device != "cpu":
            raise CodecDetError(
                f"--device {device}: ONNX encoders run on the CPU; give encoder.safetensors"
            )
        load = load_onnx_sequence_encoder if frames else load_onnx_encoder
        return load(path, max(usable_cores() // workers, 1)), lambda work: work()
    try:
        import torch

        from codec_det.codec.learned.precision import BFLOAT16_NOTE, transforms_dtype
        from codec_det.deploy.model_files import load_encoder, load_sequence_encoder
    except ImportError as error:
        raise CodecDetError(
            f"'{path}' needs {error.name}, which is not installed: install it, or give an encoder "
            "exported with tools/export_model.py --onnx"
        ) from None
    dtype = transforms_dtype(device)
    encoder = (load_sequence_encoder if frames else load_encoder)(path, device, dtype=dtype)
    if dtype == torch.bfloat16:
        say(BFLOAT16_NOTE)
    # Not of all cores: OMP_NUM_THREADS may say fewer.
    threads = max(torch.get_num_threads() // workers, 1)

    def in_thread(work: Callable) -> Any:
        # It counts for the calling thread alone: a new one would take all cores.
        torch.set_num_threads(threads)
        try:
            return work()
        except RuntimeError as error:
            # PyTorch has no narrower class for memory that runs out.
            raise CodecDetError(f"PyTorch cannot code it: {error}") from error

    return encoder, in_thread


def open_picture_encoder(args: argparse.Namespace, workers: int) -> tuple[PictureEncoder, Callable]:
    """What :func:`open_encoder` gives for a command line; raises as that and :func:`check_rate`."""
    encoder, in_thread = open_encoder(args.model, args.device, workers)
    check_rate(args, encoder)
    return encoder, in_thread


def open_sequence_encoder(args: argparse.Namespace, say: Callable[[str], None]) -> SequenceEncoder:
    """The encoder of frames, raises the same."""
    encoder, _ = open_encoder(args.model, args.device, workers=1, frames=True, say=say)
    check_rate(args, encoder.pictures)
    return encoder


def check_rate(args: argparse.Namespace, encoder: PictureEncoder) -> None:
    """Check that the model can do what is asked of its rate.

    Raises:
        CodecDetError: if not.
    """
    from codec_det.bitstream.expected import LEVEL_STEPS
    from codec_det.errors import CodecDetError

    names = ("level", "max_bytes", "mean_bytes")
    asked = [f"--{name.replace('_', '-')}" for name in names if getattr(args, name) is not None]
    if asked and encoder.levels == 1:
        raise CodecDetError(
            f"{asked[0]} is for models of variable rate, and '{args.model}' has a fixed one: leave "
            "it out, or export a run with MODEL.CODEC.LEVELS above 1"
        )
    if args.level is None:
        return
    if args.level > encoder.levels - 1:
        raise CodecDetError(
            f"--level {args.level:g}: '{args.model}' has levels 0 to {encoder.levels - 1}"
        )
    args.level = round(LEVEL_STEPS * args.level) / LEVEL_STEPS


def encode(args: argparse.Namespace) -> int:
    """Run the tool; returns the exit status.

    Raises:
        CodecDetError: if something is wrong with anything but a picture.
    """
    from codec_det.errors import ConfigError

    if is_sequence(args):
        from streams.encoding import encode_stream

        return encode_stream(args, open_sequence_encoder)
    for name in ("output", "fps"):
        if getattr(args, name):
            raise ConfigError(f"--{name} is for a sequence of frames: leave it out")
    if args.output_dir is None:
        raise ConfigError("--output-dir is missing: name the folder that the files go to")
    if args.keep_bytes and not args.watch:
        raise ConfigError("--keep-bytes goes with --watch: give both, or neither")
    from files.encoding import encode_files, watch_pictures

    return (watch_pictures if args.watch else encode_files)(args, open_picture_encoder)


def is_sequence(args: argparse.Namespace) -> bool:
    """Whether frames of a camera are to be coded, or pictures."""
    from codec_det.data.image_io import VIDEO_SUFFIXES

    return args.sequence or any(
        path == Path("-") or (path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir())
        for path in args.pictures
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(
        build_parser().parse_args,
        encode,
        argv,
        interrupted="the files in {output_dir} are complete",
    )


if __name__ == "__main__":
    run_program(main)
