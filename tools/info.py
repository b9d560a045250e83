#!/usr/bin/env python
"""Say what coded files and deployed models are.

Of .cdet files: what wrote them, the size of the picture, and what it cost; with --model, also how
the bits divide among latents, hyper-latents and header. Files of a size that their model expects
have only its number in the model's list, and damage to files of version 2 is found only by reading
them whole: both need --model. Of encoder.safetensors, encoder.onnx and receiver.safetensors: codec,
fingerprint (a file can be decoded by a model of the same), expected sizes, the proof that its
arithmetic is exact, and what its transforms cost: thousands of multiply-accumulate operations per
pixel, those of GDN included, and parameters; with --memory, also how much memory each takes at its
peak, in a process of its own. Of a folder, all of these directly in it.

Of .cdetv streams: model, size, frames per second, key interval, how many frames of either kind, and
what they cost. What is lost is said with the reason, as by tools/decode.py; damage within predicted
frames, and sizes that the model expects, need --model, by which every frame is decoded.

A file that is damaged, or not of the model given, is named at the end, and the exit status is 1.
"""

from __future__ import annotations

from command_line import add_recursive, picture_size, positive, run_command, run_program

import argparse
import json
import math
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

# codec_det is imported where it is used: --help need not wait for PyTorch.
if TYPE_CHECKING:
    from codec_det.bitstream.entropy import EntropyModel
    from codec_det.bitstream.model_file import ModelFile
    from codec_det.bitstream.onnx_encoder import OnnxFile

Facts = dict[str, Any]

# Transforms that either side of a codec computes.
PARTS = {"encoder": ("g_a", "h_a", "h_s"), "receiver": ("h_s", "g_s")}
CODED, STREAM, MODELS = ".cdet", ".cdetv", (".safetensors", ".onnx")
EPILOG = """
examples:
  tools/info.py coded
  tools/info.py coded --model deploy/receiver.safetensors
  tools/info.py camera.cdetv --model deploy/receiver.safetensors
  tools/info.py deploy --json
  tools/info.py deploy --memory 768x512
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE|FOLDER", help="coded files, models, or both")
    add(
        "--model",
        type=Path,
        metavar="FILE",
        help="encoder or receiver of the coded files: say what their bits are spent on",
    )
    add(
        "--max-pixels",
        type=positive,
        metavar="N",
        # MAX_PIXELS, which is not imported yet.
        help="with --model: refuse files of larger pictures (default: 16777216)",
    )
    add(
        "--memory",
        type=picture_size,
        metavar="WIDTHxHEIGHT",
        help="measure the peak memory of models that code, or decode and detect in, a picture of "
        "this size (some seconds each)",
    )
    add("--json", action="store_true", help="print JSON: files, streams, models and failures")
    add_recursive(parser)
    return parser


def describe_coded(path: Path, entropy: EntropyModel | None, max_pixels: int) -> Facts:
    """What a coded file says of itself and, with its model, what its bits are spent on.

    Raises:
        BitstreamError: if it is damaged, or not of the model.
    """
    from codec_det.bitstream.container import overhead_bytes, unpack
    from codec_det.bitstream.expected import LEVEL_STEPS
    from codec_det.bitstream.ids import codec_name

    data = path.read_bytes()
    # A header alone costs no memory, whatever it asks for.
    header, stream = unpack(data, max_pixels if entropy else sys.maxsize)
    latents = entropy.read(data, max_pixels) if entropy else None
    size = latents.picture.size if latents else header.size
    facts: Facts = {
        "file": str(path),
        "version": header.version,
        "codec": codec_name(header.codec_id) if header.codec_id else None,
        "fingerprint": header.fingerprint.hex(),
        "height": None,
        "width": None,
        "bytes": len(data),
        "bpp": None,
        "header_bytes": overhead_bytes(header),
        "stream_bytes": len(stream),
    }
    if isinstance(size, tuple):
        facts |= {"height": size[0], "width": size[1], "bpp": 8 * len(data) / math.prod(size)}
    if entropy and latents:
        facts |= {"codec": entropy.codec, "bits": entropy.bits(latents)}
        if latents.picture.coded_size != size:
            facts["coded_height"], facts["coded_width"] = latents.picture.coded_size
        if latents.picture.level:
            facts["level"] = latents.picture.level / LEVEL_STEPS
    return facts


def read_model(path: Path) -> ModelFile | OnnxFile:
    """Metadata and entropy models of a deployed model of either kind and format.

    Raises:
        WeightsError: if it is damaged or no deployed model.
    """
    from codec_det.bitstream.model_file import load_model
    from codec_det.bitstream.onnx_encoder import open_onnx

    return open_onnx(path) if path.suffix.lower() == ".onnx" else load_model(path, None)


def describe_model(path: Path, size: tuple[int, int] | None) -> Facts:
    """What a deployed model is, with the memory it takes for a picture of a height and width.

    Raises:
        WeightsError: if it is damaged or no deployed model.
        CodecDetError: if the memory cannot be measured.
    """
    from codec_det.deploy.peak_memory import peak_memory
    from codec_det.errors import WeightsError
    from streams.describing import describe_prediction

    model = read_model(path)
    metadata, entropy = model.metadata, model.entropy
    try:
        facts: Facts = {
            "file": str(path),
            "kind": metadata["kind"],
            "codec": entropy.codec,
            "widths": list(metadata["codec"]["widths"]),
            "version": entropy.version,
            "fingerprint": entropy.fingerprint(entropy.version).hex(),
            "sha256": entropy.sha256,
            "sizes": [f"{width}x{height}" for height, width in entropy.expected.sizes],
            "scale": float(entropy.expected.scale),
            "levels": entropy.expected.levels,
            "gates": metadata["codec"].get("gated", False),
            "rates": dict(metadata.get("rates", {})),
            "bytes": path.stat().st_size,
            "made": dict(metadata["made"]),
        }
        # Files of earlier versions do not say it.
        parts = {
            k: v for k, v in metadata.get("complexity", {}).items() if k in PARTS[facts["kind"]]
        }
        if parts:
            facts["kmac_per_pixel"] = {k: float(v["kmac_per_pixel"]) for k, v in parts.items()}
            facts["parameters"] = sum(int(v["parameters"]) for v in parts.values())
        if "int8" in metadata:
            facts["int8"] = dict(metadata["int8"])
        if model.prediction is not None:
            facts |= describe_prediction(metadata, model.prediction)
        if metadata["kind"] == "receiver":
            facts["classes"] = [str(category["name"]) for category in metadata["categories"]]
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"'{path}' has other metadata than tools/export_model.py writes ({error!r}): export it "
            "again"
        ) from None
    if entropy.hyperprior is not None:
        transform = entropy.hyperprior.transform
        facts["weight_bits"] = transform.weight_bits
        facts["activation_bits"] = transform.activation_bits
        facts["partial_sums_log2"] = math.log2(max(entropy.partial_sums))
    if size is not None:
        facts["memory"] = {"height": size[0], "width": size[1], **peak_memory(path, size)._asdict()}
    return facts


def format_coded(files: Sequence[Facts]) -> str:
    """A table with a line per coded file, and a last one for all."""
    with_bits = "bits" in files[0]
    parts = ("latents", "hyper-latents", "header") if with_bits else ()
    heading = ["file", "codec", "model", "version", "size", "bytes", "bpp", "header", "stream"]
    rows = [[*heading, *parts]]
    rows += [
        [
            f["file"],
            f["codec"] or "?",
            f["fingerprint"],
            str(f["version"]),
            _size(f),
            *_costs(f, parts),
        ]
        for f in files
    ]
    if len(files) > 1:
        total = _add(files, parts)
        pixels = "?" if total["pixels"] is None else f"{total['pixels']} px"
        rows.append([f"{len(files)} files", "", "", "", pixels, *_costs(total, parts)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    # Names to the left, figures to the right.
    lines = [
        "  ".join(
            text.ljust(width) if i < 3 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    note = "model: fingerprint; header and stream: bytes"
    note += "; the rest: bits, by information content" * with_bits
    note += "; ?: known to the model alone (--model)" * any(f["bpp"] is None for f in files)
    return "\n".join([*lines, note])


def _size(facts: Facts) -> str:
    if facts["width"] is None:
        return "?"
    size = f"{facts['width']}x{facts['height']}"
    if "coded_width" in facts:
        size += f" as {facts['coded_width']}x{facts['coded_height']}"
    if "level" in facts:
        size += f" at level {facts['level']:.10g}"
    return size


def _costs(facts: Facts, parts: Sequence[str]) -> list[str]:
    bits = facts.get("bits", {})
    whole = sum(bits.values())
    return [
        str(facts["bytes"]),
        "?" if facts["bpp"] is None else f"{facts['bpp']:.4f}",
        str(facts["header_bytes"]),
        str(facts["stream_bytes"]),
        *(f"{bits[part]:.0f} ({bits[part] / whole:.1%})" for part in parts),
    ]


def _add(files: Sequence[Facts], parts: Sequence[str]) -> Facts:
    total: Facts = {k: sum(f[k] for f in files) for k in ("bytes", "header_bytes", "stream_bytes")}
    known = all(f["bpp"] is not None for f in files)
    total["pixels"] = sum(f["width"] * f["height"] for f in files) if known else None
    total["bpp"] = 8 * total["bytes"] / total["pixels"] if known else None
    total["bits"] = {part: sum(f["bits"][part] for f in files) for part in parts}
    return total


def format_model(facts: Facts) -> str:
    """What a deployed model is, in words."""
    lines = [
        f"{facts['file']}: {facts['kind']}, {facts['bytes'] / 1e6:.2f} MB",
        f"  codec         {facts['codec']}, widths {facts['widths']}" + ", gates" * facts["gates"],
        f"  fingerprint   {facts['fingerprint']} (SHA-256 {facts['sha256']})",
        f"  files         of version {facts['version']}",
        *textwrap.wrap(
            ", ".join(facts["sizes"]),
            initial_indent="  expects       ",
            subsequent_indent=" " * 16,
            width=100,
        ),
    ]
    if facts["scale"] < 1:
        lines.append(f"  coding scale  {facts['scale']:g}")
    if facts["levels"] > 1:
        rates = ", ".join(f"{level}: {bpp:.4f} bpp" for level, bpp in facts["rates"].items())
        known = f" (at {rates})" if rates else ""
        lines.append(f"  levels        0 to {facts['levels'] - 1}{known}")
    if "weight_bits" in facts:
        lines += [
            f"  precision     {facts['weight_bits']} fractional bits of weights, "
            f"{facts['activation_bits']} of activations",
            f"  partial sums  {_bounds(facts)}; exact below 2^53",
        ]
    else:
        lines.append("  precision     exact: tables alone, no arithmetic")
    if "stream_model" in facts:
        every = f", a key frame in {facts['key_interval']}" if "key_interval" in facts else ""
        lines.append(f"  sequences     streams of model {facts['stream_model']}{every}")
    if "kmac_per_pixel" in facts:
        costs = facts["kmac_per_pixel"]
        lines.append(
            f"  costs         {sum(costs.values()):.1f} kMAC per pixel ("
            + ", ".join(f"{part} {cost:.2f}" for part, cost in costs.items())
            + f"), {facts['parameters'] / 1e6:.2f} million parameters"
        )
    if "memory" in facts:
        memory = facts["memory"]
        loaded, peak = (memory[key] / 1e6 for key in ("loaded", "peak"))
        lines.append(
            f"  memory        {peak:.0f} MB at most with a picture of {memory['width']}x"
            f"{memory['height']}, {loaded:.0f} MB before it, on one thread"
        )
    if "int8" in facts:
        lines += [
            f"  8 bits        {', '.join(facts['int8']['layers'])}",
            f"  in float32    {', '.join(facts['int8']['float_layers']) or 'no convolution'}",
        ]
    if "classes" in facts:
        lines.append(f"  detects       {', '.join(facts['classes']) or 'nothing: a decoder alone'}")
    made = ", ".join(f"{key} {value}" for key, value in facts["made"].items())
    lines.append(f"  made          {made}")
    return "\n".join(lines)


def _bounds(facts: Facts) -> str:
    """On partial sums, rounded up."""
    of_pictures, *of_frames = (
        f"2^{math.ceil(10 * facts[key]) / 10:.1f}"
        for key in ("partial_sums_log2", "prediction_partial_sums_log2")
        if key in facts
    )
    return ", of the prediction of frames ".join([f"at most {of_pictures}", *of_frames])


def describe_files(args: argparse.Namespace) -> int:
    """Run the tool; returns the exit status.

    Raises:
        CodecDetError: if an input does not exist, or the model cannot be used.
    """
    from codec_det.bitstream.container import MAX_PIXELS
    from codec_det.bitstream.model_file import of_sequences
    from codec_det.deploy.file_batch import describe_failures, find_files, process
    from codec_det.deploy.streams import describe_lost
    from streams.describing import describe_stream, format_stream

    batch = find_files(
        args.files,
        frozenset({CODED, STREAM, *MODELS}),
        "coded files or models",
        recursive=args.recursive,
    )
    model = read_model(args.model) if args.model else None
    max_pixels = args.max_pixels or MAX_PIXELS

    def work(path: Path) -> Facts:
        if path.suffix.lower() in MODELS:
            return describe_model(path, args.memory)
        if path.suffix.lower() == STREAM:
            frames = of_sequences(args.model, model.entropy, model.prediction) if model else None
            return describe_stream(path, frames, max_pixels)
        return describe_coded(path, model and model.entropy, max_pixels)

    facts, failures = process(batch.files, work, 1, "file")
    if note := batch.describe_others():
        print(note, file=sys.stderr)
    models = [f for f in facts.values() if "kind" in f]
    streams = [f for f in facts.values() if "lost" in f]
    files = [f for f in facts.values() if "kind" not in f and "lost" not in f]
    if args.json:
        failed = [{"file": str(path), "reason": reason} for path, reason in failures]
        shown = {"files": files, "streams": streams, "models": models, "failures": failed}
        print(json.dumps(shown, indent=2))
    else:
        blocks = [*map(format_model, models), *map(format_stream, streams)]
        blocks += [format_coded(files)] if files else []
        if blocks:
            print("\n".join(blocks))
    damaged = [f for f in streams if f["lost"]]
    for stream in damaged:
        print(describe_lost(stream["file"], stream["lost"]), file=sys.stderr)
    if failures:
        print(describe_failures(failures, len(batch.files)), file=sys.stderr)
    return 1 if failures or damaged else 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(build_parser().parse_args, describe_files, argv)


if __name__ == "__main__":
    run_program(main)
