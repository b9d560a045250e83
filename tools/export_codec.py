#!/usr/bin/env python
"""Take the codec, or the detector, out of a training checkpoint, into a small file of its own.

Such a file serves as MODEL.CODEC.WEIGHTS, or as MODEL.WEIGHTS. The optimizer's state is left out,
the file is compressed, and weights can be halved in size; the codec's integer CDF tables are kept
as they are.
"""

from __future__ import annotations

from command_line import run_command, run_program

import argparse
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

# codec_det is imported where it is used: --help need not wait for PyTorch.
if TYPE_CHECKING:
    import torch

# Entropy-model parameters are few, and their precision shapes every CDF table.
KEPT_EXACT = ("entropy_bottleneck", "gaussian_conditional", "pixel_mean", "pixel_std")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="of tools/train_net.py, e.g. output/x/model_final.pth")
    parser.add_argument("output", type=Path, help="file to write, e.g. codec.pth")
    parser.add_argument("--part", choices=("codec", "detector"), default="codec")
    parser.add_argument("--half", action="store_true", help="store transforms as 16-bit floats")
    return parser


def export(checkpoint: dict[str, Any], part: str, half: bool) -> dict[str, torch.Tensor]:
    """The tensors of ``part`` ("codec" or "detector"), keys as in the chain."""
    import torch

    weights = {k: v for k, v in checkpoint.get("model", {}).items() if k.startswith(f"{part}.")}
    for key, value in weights.items():
        if half and value.dtype == torch.float32 and not any(name in key for name in KEPT_EXACT):
            weights[key] = value.half()
    return weights


def save_compressed(checkpoint: dict[str, Any], path: Path) -> None:
    """Like ``torch.save``, in a quarter of the space: most of a CDF table is padding.

    PyTorch's files are ZIP archives that it writes without compression, but reads with it too.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    with (
        zipfile.ZipFile(buffer) as plain,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))


def export_part(args: argparse.Namespace) -> None:
    """Run the tool.

    Raises:
        CodecDetError: if the checkpoint has no such part, or the file cannot be written.
    """
    from codec_det.errors import WeightsError
    from codec_det.files import atomic_file
    from codec_det.training.checkpoint import read_checkpoint

    if args.output.resolve() == Path(args.checkpoint).resolve():
        raise WeightsError(f"'{args.output}' is the checkpoint itself: give another file to write")
    weights = export(read_checkpoint(args.checkpoint), args.part, args.half)
    if not weights:
        raise WeightsError(
            f"'{args.checkpoint}' holds no {args.part}: give a checkpoint of tools/train_net.py"
        )
    with atomic_file(args.output) as partial:
        save_compressed({"model": weights}, partial)
    print(f"{args.output}: {len(weights)} tensors, {args.output.stat().st_size / 1e6:.2f} MB")


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(build_parser().parse_args, export_part, argv)


if __name__ == "__main__":
    run_program(main)
