#!/usr/bin/env python
"""Check that a camera on another processor writes and reads the very files of this one.

Runs what a camera runs, with ONNX Runtime and without PyTorch, on this processor and on an emulated
one (user-mode emulation of qemu, Debian's Python, the wheels of the package index; downloaded once,
nothing is installed). Either codes the pictures, and either reads all files: latents, tables and
fixed-point hyper-synthesis must be the same to the bit. Files of the two may differ, since
floating-point transforms round some latents otherwise; what is in a file may not.
"""

from __future__ import annotations

from command_line import positive, run_command, run_program

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

EPILOG = """
example:
  tools/check_emulated.py deploy/encoder.onnx --images datasets/coco/val2017

The exit status is 1 if anything differed, and 2 if there can be no emulation here.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "models", type=Path, nargs="+", metavar="FILE", help="encoder.onnx of tools/export_model.py"
    )
    add("--images", type=Path, nargs="+", required=True, metavar="PATH", help="files or folders")
    add("--machine", default="aarch64", choices=("aarch64",), help="(default: %(default)s)")
    add("--count", type=positive, default=24, metavar="N", help="pictures (default: %(default)s)")
    add(
        "--folder",
        type=Path,
        default=Path("output/emulation"),
        help="of the emulated environment, which is made there once (default: %(default)s)",
    )
    add("--output", type=Path, metavar="JSON", help="write the figures there, too")
    return parser


def compare(models: list[Path], pictures: dict[str, Any], emulated: Any) -> dict[str, Any]:
    """Code and read on both processors; figures of what differed.

    Args:
        models: ONNX encoders.
        pictures: by name, (H, W, 3) uint8 RGB.
        emulated: a :class:`checks.emulation.Emulation`.

    Raises:
        CodecDetError: if a camera fails.
    """
    import numpy as np

    from codec_det.errors import CodecDetError

    tools = Path(__file__).parent
    script = str(tools / "checks" / "emulated_camera.py")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "pictures.npz", **pictures)
        for number, model in enumerate(models):
            shutil.copy(model, folder / f"{number}.onnx")

        def run(side: str, *arguments: Any) -> None:
            own = [script, *map(str, arguments)]
            here = [sys.executable, *own]
            command = here if side == "here" else emulated.command([tools.parent, tools], own)
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                last = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
                raise CodecDetError(f"the camera {side} failed: {last[0]}")

        sides = ("here", "there")
        read = {}
        for writer in sides:
            run(writer, "encode", folder, folder / writer)
            for reader in sides:
                out = folder / f"{writer}-{reader}.json"
                run(reader, "read", folder, folder / writer, out)
                read[writer, reader] = json.loads(out.read_text())
        same = [
            (folder / "here" / file).read_bytes() == (folder / "there" / file).read_bytes()
            for file in read["here", "here"]
        ]
    return summarize(read, sum(same))


def summarize(read: dict[tuple[str, str], dict[str, Any]], same: int) -> dict[str, Any]:
    """Counts, from what either side read of the files of either side.

    Args:
        read: by writer and reader.
        same: files that both wrote byte for byte.
    """
    figures: dict[str, Any] = {"files": 0, "written alike": same, "unreadable": 0}
    figures |= {"latents differ": 0, "hyper-synthesis differs": 0}
    for writer in ("here", "there"):
        for own, other in zip(
            read[writer, "here"].values(), read[writer, "there"].values(), strict=True
        ):
            figures["files"] += 1
            if "error" in own or "error" in other:
                figures["unreadable"] += 1
                continue
            figures["latents differ"] += own["latents"] != other["latents"]
            figures["hyper-synthesis differs"] += own["hyper-synthesis"] != other["hyper-synthesis"]
    return figures


def check_emulated(args: argparse.Namespace) -> int:
    """Run the tool; returns the exit status.

    Raises:
        CodecDetError: if there can be no emulation, or a model or picture cannot be read.
    """
    from checks.emulation import Emulation
    from codec_det.bitstream.onnx_encoder import open_onnx
    from codec_det.data.image_io import SUFFIXES, read_image
    from codec_det.deploy.file_batch import find_files
    from codec_det.files import atomic_file

    files = find_files(args.images, SUFFIXES, "pictures").files[: args.count]
    pictures = {f"{i:03}": read_image(path, "RGB") for i, path in enumerate(files)}
    for model in args.models:
        open_onnx(model)
    figures = compare(args.models, pictures, Emulation(args.folder, args.machine))
    for what, count in figures.items():
        print(f"{what}: {count}")
    if args.output:
        with atomic_file(args.output) as partial:
            partial.write_text(json.dumps(figures, indent=2), encoding="utf-8")
    wrong = ("unreadable", "latents differ", "hyper-synthesis differs")
    return 1 if any(figures[what] for what in wrong) else 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(build_parser().parse_args, check_emulated, argv)


if __name__ == "__main__":
    run_program(main)
