#!/usr/bin/env python
"""Decode files of tools/encode.py to pictures. Each becomes OUTPUT_DIR/<its name>.png, 8-bit RGB.

Pictures have the size that they were taken at: those that were coded at a smaller one (coding
scale) are enlarged, bicubic, as for the PSNR of an evaluation.

The model is the receiver.safetensors that tools/export_model.py wrote with the encoder, or any with
the same fingerprint (tools/info.py shows it); its detector is not read, and detectron2 need not be
installed. Of a folder, the .cdet files directly in it are decoded. Existing pictures are replaced.
A file that is damaged, or of another model, is named at the end, the others are decoded all the
same, and the exit status is 1.

A stream (.cdetv), which is given alone, becomes OUTPUT_DIR/<its name>/<number>.png of every frame,
or with --mp4 OUTPUT_DIR/<its name>.mp4. Its model is that of a codec of sequences, whose name ends
in -temporal. Frames that are lost, through damage or because a frame before them is, are named at
the end and never shown; decoding goes on at the next key frame, and the exit status is then 1.

The latents in a file are the same on any machine. Pictures differ by rounding: by less than a level
where transforms are computed in float32, by up to two where the processor has AVX512_BF16 and inner
layers are computed in bfloat16, which is faster; the tool says so.
"""

from __future__ import annotations

from command_line import add_recursive, positive, run_command, run_program

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

# codec_det is imported where it is used: --help need not wait for PyTorch.
if TYPE_CHECKING:
    from codec_det.codec.learned.bitstream_codec import PictureDecoder

EPILOG = """
examples:
  all files of a folder
    tools/decode.py coded --model deploy/receiver.safetensors --output-dir pictures
  the frames of a camera, as a video
    tools/decode.py camera.cdetv --model deploy/receiver.safetensors --output-dir seen --mp4
  one file at a time, with all cores, of pictures larger than 4096x4096
    tools/decode.py large.cdet --model deploy/receiver.safetensors --output-dir pictures \\
        --workers 1 --max-pixels 50000000
"""


class DecodedFile(NamedTuple):
    """What a file took: its bytes, the pixels of its picture, and seconds by step."""

    size: int
    pixels: int
    entropy_decoding: float
    synthesis: float
    writing: float


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE|FOLDER",
        help="what to decode: .cdet files, or one stream",
    )
    add("--model", type=Path, required=True, metavar="FILE", help="receiver.safetensors")
    add("--output-dir", type=Path, required=True, metavar="FOLDER", help="where the PNGs go")
    add(
        "--workers",
        type=positive,
        metavar="N",
        help="files decoded at a time; they share the cores (default: one per usable core)",
    )
    add(
        "--max-pixels",
        type=positive,
        metavar="N",
        # MAX_PIXELS, which is not imported yet.
        help="refuse files of larger pictures, which need much memory (default: 16777216)",
    )
    add(
        "--device",
        default="cpu",
        help="of the synthesis transform: cpu, cuda, cuda:1, ... (default: %(default)s)",
    )
    add("--mp4", action="store_true", help="of a stream: write a video (H.264), not pictures")
    add_recursive(parser, "; OUTPUT_DIR gets the same folders")
    add(
        "--skip-existing",
        action="store_true",
        help="do not decode again what an earlier run with this option decoded: from the same "
        "bytes, by the same model, and still as it was written. SHA-256 sums in "
        "OUTPUT_DIR/.made.jsonl say so, not dates",
    )
    return parser


def decode_file(decoder: PictureDecoder, path: Path, picture_path: Path) -> DecodedFile:
    """Decode one file and write its picture as PNG.

    Raises:
        CodecDetError: if it cannot be decoded or written.
    """
    from PIL import Image

    from codec_det.errors import CodecDetError
    from codec_det.files import atomic_file
    from codec_det.pixels import enlarge, to_uint8

    start = time.perf_counter()
    data = path.read_bytes()
    latents = decoder.entropy.read(data, decoder.max_pixels)
    read = time.perf_counter()
    try:
        if latents.picture.coded_size == latents.picture.size:
            decoded = decoder.synthesize(latents, to_uint8)
        else:
            decoded = to_uint8(enlarge(decoder.synthesize(latents), latents.picture.size))
        picture = decoded.permute(1, 2, 0).cpu().numpy()
    except RuntimeError as error:
        # PyTorch has no narrower class for memory that runs out.
        raise CodecDetError(f"PyTorch cannot decode it: {error}") from error
    synthesized = time.perf_counter()
    with atomic_file(picture_path) as partial:
        # Of what codecs decode, 4 makes files as small as the default 6, in a third of the time.
        Image.fromarray(picture).save(partial, format="PNG", compress_level=4)
    end = time.perf_counter()
    times = (read - start, synthesized - read, end - synthesized)
    return DecodedFile(len(data), math.prod(latents.picture.size), *times)


def decode(args: argparse.Namespace) -> int:
    """Run the tool; returns the exit status.

    Raises:
        CodecDetError: if something is wrong with anything but a file.
    """
    if any(path.suffix.lower() == ".cdetv" for path in args.files):
        from streams.decoding import decode_stream

        return decode_stream(args)
    if args.mp4:
        from codec_det.errors import ConfigError

        raise ConfigError("--mp4 is for a stream (.cdetv): leave it out, or give one")
    return decode_files(args)


def decode_files(args: argparse.Namespace) -> int:
    """Decode files of pictures; returns the exit status.

    Raises:
        CodecDetError: if something is wrong with anything but a file.
    """
    import torch

    from codec_det.bitstream.container import MAX_PIXELS
    from codec_det.codec.learned.precision import BFLOAT16_NOTE, transforms_dtype
    from codec_det.deploy.cores import usable_cores
    from codec_det.deploy.file_batch import describe_failures, find_files, process
    from codec_det.deploy.made_files import MadeFiles
    from codec_det.deploy.model_files import load_decoder
    from codec_det.files import make_folder

    batch = find_files(
        args.files,
        frozenset({".cdet"}),
        "coded pictures",
        recursive=args.recursive,
        distinct_names=True,
    )
    dtype = transforms_dtype(args.device)
    decoder = load_decoder(args.model, args.device, args.max_pixels or MAX_PIXELS, dtype)
    if dtype == torch.bfloat16:
        print(BFLOAT16_NOTE)
    make_folder(args.output_dir, "--output-dir")
    workers = min(args.workers or usable_cores(), len(batch.files))
    # Not of all cores: OMP_NUM_THREADS may say fewer.
    threads = max(torch.get_num_threads() // workers, 1)

    made = MadeFiles(args.output_dir, args.model) if args.skip_existing else None

    def work(path: Path) -> DecodedFile | None:
        name = f"{batch.names[path]}.png"
        if made and made.has(name, path):
            return None
        # It counts for the calling thread alone: a new one would take all cores.
        torch.set_num_threads(threads)
        decoded = decode_file(decoder, path, args.output_dir / name)
        if made:
            made.add(name, path)
        return decoded

    start = time.perf_counter()
    done, failures = process(batch.files, work, workers, "img")
    if note := batch.describe_others():
        print(note, file=sys.stderr)
    decoded = [file for file in done.values() if file]
    if len(decoded) < len(done):
        print(f"{len(done) - len(decoded)} of {len(batch.files)} pictures were decoded before")
    print(describe(decoded, time.perf_counter() - start, workers, args.output_dir))
    if failures:
        print(describe_failures(failures, len(batch.files)), file=sys.stderr)
    return 1 if failures else 0


def describe(decoded: Sequence[DecodedFile], seconds: float, workers: int, folder: Path) -> str:
    """How many pictures, how many bits, and where the time went."""
    lines = [f"{len(decoded)} pictures decoded into {folder}"]
    if decoded:
        size, pixels, *steps = map(sum, zip(*decoded, strict=True))
        lines[0] += f": {size} bytes, {pixels} pixels, {8 * size / pixels:.4f} bpp"
        names = ("entropy decoding", "synthesis", "writing PNGs")
        shares = [
            f"{name} {step / sum(steps):.0%}" for name, step in zip(names, steps, strict=True)
        ]
        lines.append(f"{seconds:.2f} s with {workers} at a time: {', '.join(shares)}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(
        build_parser().parse_args,
        decode,
        argv,
        interrupted="the pictures in {output_dir} are complete",
    )


if __name__ == "__main__":
    run_program(main)
