#!/usr/bin/env python
"""Code pictures into files: what a camera sends. Each becomes OUTPUT_DIR/<its name>.cdet.

The encoder is a file of tools/export_model.py. encoder.safetensors runs in PyTorch, encoder.onnx in
ONNX Runtime, where neither PyTorch, CompressAI nor detectron2 need be installed: codec_det without
extras is enough, for which pip installs numpy, Pillow, constriction, onnxruntime, safetensors and
tqdm, and where this program is called `codec-det encode`. The receiver that was exported with the
encoder decodes what either writes (tools/decode.py, tools/detect.py), on any machine. Where the
processor has AVX512_BF16, PyTorch computes inner layers in bfloat16, which is faster and may round
a latent otherwise; the tool says so.

Pictures are of any size, in any format with 8 bits per channel that Pillow reads; they are turned
upright as their EXIF says, transparency is dropped, and of several frames the first is taken. Of a
folder, those directly in it are coded, or with --recursive all below it. Existing files are
replaced. A picture that cannot be read is named at the end, the others are coded all the same, and
the exit status is 1.

With --watch, the pictures of one folder are coded as they are written to it, for as long as the
program runs: each once, when its size and time have not changed for a second, one at a time with
all cores. Killed at any moment and started again, it goes on where it was: what was coded is in
OUTPUT_DIR/.watched.jsonl. When nothing can be written it says so, and goes on when there is room.
A picture that is written again is coded again, and of several with one name the last file is kept.
"""

from __future__ import annotations

from command_line import add_recursive, positive, run_command, run_program, watched_folder

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

# codec_det is imported where it is used: --help need not wait for PyTorch.
if TYPE_CHECKING:
    import numpy as np

EPILOG = """
examples:
  all pictures of a folder
    tools/encode.py pictures --model deploy/encoder.safetensors --output-dir coded
  on a camera without PyTorch, one at a time, with all cores
    tools/encode.py snapshot.png --model encoder.onnx --output-dir coded --workers 1
  a camera's folder, for months
    tools/encode.py --watch /media/card --model encoder.onnx --output-dir coded \\
        --keep-bytes 2000000000
  on a GPU
    tools/encode.py pictures --model deploy/encoder.safetensors --output-dir coded --device cuda
"""


class CodedFile(NamedTuple):
    """A picture's file below the output folder: bytes, and the size of the picture in pixels."""

    name: str
    size: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        """Of the picture, as it was sent."""
        return self.height * self.width


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("pictures", nargs="+", type=Path, metavar="PICTURE|FOLDER", help="what to code")
    add("--model", type=Path, required=True, metavar="FILE", help="encoder.safetensors or .onnx")
    add("--output-dir", type=Path, required=True, metavar="FOLDER", help="where the files go")
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


def open_encoder(path: Path, device: str, workers: int) -> Callable[[np.ndarray], bytes]:
    """From a picture (H, W, 3), uint8 RGB, to its file.

    Args:
        workers: pictures coded at a time, which share the cores.

    Raises:
        CodecDetError: if the model or the device cannot be used.
    """
    from codec_det.errors import CodecDetError

    if path.suffix == ".onnx":
        from codec_det.bitstream.onnx_encoder import load_onnx_encoder
        from codec_det.deploy.cores import usable_cores

        if device != "cpu":
            raise CodecDetError(
                f"--device {device}: ONNX encoders run on the CPU; give encoder.safetensors"
            )
        return load_onnx_encoder(path, max(usable_cores() // workers, 1)).encode
    try:
        import torch

        from codec_det.codec.learned.precision import BFLOAT16_NOTE, transforms_dtype
        from codec_det.deploy.model_files import load_encoder
    except ImportError as error:
        raise CodecDetError(
            f"'{path}' needs {error.name}, which is not installed: install it, or give an encoder "
            "exported with tools/export_model.py --onnx"
        ) from None
    dtype = transforms_dtype(device)
    encoder = load_encoder(path, device, dtype=dtype)
    if dtype == torch.bfloat16:
        print(BFLOAT16_NOTE)
    # Not of all cores: OMP_NUM_THREADS may say fewer.
    threads = max(torch.get_num_threads() // workers, 1)

    def encode(picture: np.ndarray) -> bytes:
        # It counts for the calling thread alone: a new one would take all cores.
        torch.set_num_threads(threads)
        try:
            return encoder.encode(picture)
        except RuntimeError as error:
            # PyTorch has no narrower class for memory that runs out.
            raise CodecDetError(f"PyTorch cannot code it: {error}") from error

    return encode


def encode_files(args: argparse.Namespace) -> int:
    """Code files that are there; returns the exit status."""
    from codec_det.bitstream.container import MAX_PIXELS
    from codec_det.data.image_io import SUFFIXES, describe_frames, read_image
    from codec_det.deploy.cores import usable_cores
    from codec_det.deploy.file_batch import describe_failures, find_files, process
    from codec_det.deploy.made_files import MadeFiles
    from codec_det.files import atomic_file, make_folder

    batch = find_files(
        args.pictures, SUFFIXES, "pictures", recursive=args.recursive, distinct_names=True
    )
    workers = min(args.workers or usable_cores(), len(batch.files))
    encode = open_encoder(args.model, args.device, workers)
    make_folder(args.output_dir, "--output-dir")

    made = MadeFiles(args.output_dir, args.model) if args.skip_existing else None

    def work(path: Path) -> CodedFile | None:
        name = f"{batch.names[path]}.cdet"
        if made and made.has(name, path):
            return None
        picture = read_image(path, "RGB")
        data = encode(picture)
        with atomic_file(args.output_dir / name) as partial:
            partial.write_bytes(data)
        if made:
            made.add(name, path)
        return CodedFile(name, len(data), *picture.shape[:2])

    done, failures = process(batch.files, work, workers, "img")
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


def encode(args: argparse.Namespace) -> int:
    """Run the tool; returns the exit status.

    Raises:
        CodecDetError: if something is wrong with anything but a picture.
    """
    if args.watch:
        watch_pictures(args)
    if args.keep_bytes:
        from codec_det.errors import ConfigError

        raise ConfigError("--keep-bytes goes with --watch: give both, or neither")
    return encode_files(args)


def watch_pictures(args: argparse.Namespace) -> NoReturn:
    """Code what is written to a folder, until the process ends.

    Raises:
        CodecDetError: if it cannot begin.
    """
    from codec_det.data.image_io import SUFFIXES, read_image
    from codec_det.deploy.watch import Arrival, CommittedFiles, Journal, Watcher
    from codec_det.files import make_folder

    folder = watched_folder(args.pictures, args, ("recursive", "skip_existing", "workers"))
    encoder = open_encoder(args.model, args.device, workers=1)
    make_folder(args.output_dir, "--output-dir")
    journal = Journal(args.output_dir / ".watched.jsonl")
    files = CommittedFiles(args.output_dir, journal, ".cdet", args.keep_bytes)

    def commit(arrival: Arrival, data: bytes) -> None:
        files.commit(arrival, data)
        print(f"{arrival.name}: {len(data)} bytes", flush=True)

    Watcher(
        folder,
        SUFFIXES,
        journal,
        lambda path: encoder(read_image(path, "RGB")),
        commit,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    ).run()


def describe(coded: Sequence[CodedFile], folder: Path) -> str:
    """A line per file, and one for all."""
    column = max(len(file.name) for file in coded)
    lines = [
        f"{file.name:{column}}  {f'{file.width}x{file.height}':>9}  "
        f"{file.size:8d} bytes  {8 * file.size / file.pixels:.4f} bpp"
        for file in coded
    ]
    size, pixels = (sum(getattr(f, key) for f in coded) for key in ("size", "pixels"))
    lines.append(f"together {size} bytes, {8 * size / pixels:.4f} bpp, in {folder}")
    return "\n".join(lines)


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
