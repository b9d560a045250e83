#!/usr/bin/env python
"""Detect objects in files of tools/encode.py: from what was sent to OUTPUT_DIR/detections.json.

The model is the receiver.safetensors that tools/export_model.py made from a run with a detector; it
decodes the files, too, or detects in their latents without decoding a picture. detections.json is a
list of results in the format of COCO, with the file that each is from: {"image_id", "category_id",
"bbox": [x, y, width, height] in pixels of the picture that was sent, "score", "file_name"}; loadRes
of pycocotools takes it.

Image ids are, with --annotations, those of the pictures there whose names are, but for the suffix,
those of the files; else the numbers in the files' names, if every name is a number as in COCO; else
1, 2, ... in order. Which it was is said at the end.

Of a stream (.cdetv), which is given alone, every frame is used; image ids are numbers of frames,
from 0. With --draw, OUTPUT_DIR/<its name>.mp4 shows what was found. Frames that are lost, through
damage or because a frame before them is, are named at the end and never shown; the exit status is
then 1. The model is that of a codec of sequences, whose name ends in -temporal.

Of a folder, the .cdet files directly in it are used. A file that is damaged, or of another model,
is named at the end, the others are used all the same, and the exit status is 1.

With --watch, the files of one folder are used as they are written to it, for as long as the program
runs: each once, when its size and time have not changed for a second. Each adds a line to
OUTPUT_DIR/detections.jsonl: {"name", "size", "mtime_ns"} of the file, and "detections", as above
but without ids and names, or "error". Killed at any moment and started again, it goes on where it
was. When nothing can be written it says so, and goes on when there is room.

Where the processor has AVX512_BF16, the decoder's inner layers are computed in bfloat16, which is
faster, and the tool says so; scores then differ a little from those in float32.
"""

from __future__ import annotations

from command_line import add_recursive, fraction, positive, run_command, run_program, watched_folder

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

# codec_det is imported where it is used: --help need not wait for PyTorch.
if TYPE_CHECKING:
    from detectron2.structures import Instances
    from PIL.Image import Image

    from codec_det.bitstream.entropy import Latents
    from codec_det.codec.learned.bitstream_codec import PictureDecoder
    from codec_det.deploy.receiver import Receiver

DETECTIONS = "detections.json"
WATCHED = "detections.jsonl"
# Without --score-threshold: box AP counts every detection, and people see too many.
DRAWN_FROM = 0.5
EPILOG = """
examples:
  files named as COCO's pictures are
    tools/detect.py coded --model deploy/receiver.safetensors --output-dir found
  other files, with pictures of what was found
    tools/detect.py coded --model deploy/receiver.safetensors --output-dir found --draw
  to be evaluated against a data set's annotations
    tools/detect.py coded --model deploy/receiver.safetensors --output-dir found \\
        --annotations /data/cells/val.json
  the frames of a camera, and a video of what was found
    tools/detect.py camera.cdetv --model deploy/receiver.safetensors --output-dir found --draw
"""


class Found(NamedTuple):
    """What a file took and gave: bytes, pixels of its picture as it was taken, COCO's results."""

    size: int
    pixels: int
    results: list[dict[str, Any]]


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
        help="what to detect in: .cdet files, or one stream",
    )
    add("--model", type=Path, required=True, metavar="FILE", help="receiver.safetensors")
    add("--output-dir", type=Path, required=True, metavar="FOLDER", help="where results go")
    add(
        "--draw",
        action="store_true",
        help="write <name>.png for each file: the decoded picture with what was found in it; of a "
        "stream <name>.mp4",
    )
    add(
        "--decoder",
        type=Path,
        metavar="FILE",
        help="decoder.safetensors: what decodes pictures to draw in, where the model detects in "
        "latents and cannot",
    )
    add(
        "--score-threshold",
        type=fraction,
        metavar="S",
        help="leave out detections of lower scores, 0 to 1 (default: all that the detector gives, "
        f"as box AP counts them, but draw only those of {DRAWN_FROM} or more)",
    )
    add("--annotations", type=Path, metavar="JSON", help="in COCO's format: take image ids from it")
    add(
        "--max-pixels",
        type=positive,
        metavar="N",
        # MAX_PIXELS, which is not imported yet.
        help="refuse files of larger pictures, which need much memory (default: 16777216)",
    )
    add("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    add_recursive(parser, "; drawings get the same folders")
    add("--watch", action="store_true", help="use files as they are written to the one FOLDER")
    return parser


class Detector:
    """Works on files, one at a time.

    Args:
        receiver: with a detector.
        threshold: leave out detections of lower scores; None: none.
        painter: decodes pictures to draw in; None: draw nothing.
        drawings: folder for them.
    """

    def __init__(
        self,
        receiver: Receiver,
        threshold: float | None,
        painter: PictureDecoder | None,
        drawings: Path,
    ) -> None:
        from codec_det.deploy.detections import DetectionSheet

        self.receiver = receiver
        self.painter = painter
        self.threshold = threshold or 0.0
        self.drawings = drawings
        drawn_from = DRAWN_FROM if threshold is None else threshold
        self._sheet = DetectionSheet(receiver.categories, drawn_from)

    def work(self, path: Path, name: str, image_id: int) -> Found:
        """Decode a file, detect in it and, if wanted, draw.

        Args:
            name: of the drawing and in the results, without suffix.

        Raises:
            CodecDetError: if it cannot be decoded, or nothing can be written.
        """
        from codec_det.deploy.detections import to_results
        from codec_det.pictures.visualization import save_sheet

        data = path.read_bytes()
        decoder = self.receiver.decoder
        latents = decoder.entropy.read(data, decoder.max_pixels)
        instances, drawing = self.detect(latents)
        if drawing is not None:
            save_sheet(drawing, self.drawings / f"{name}.png")
        results = [
            {**result, "file_name": f"{name}{path.suffix}"}
            for result in to_results(instances, image_id, self.receiver.categories)
        ]
        return Found(len(data), math.prod(latents.picture.size), results)

    def detect(self, latents: Latents) -> tuple[Instances, Image | None]:
        """What is found in the picture of decoded latents, and a drawing of it, if wanted.

        Raises:
            CodecDetError: if it cannot be decoded.
        """
        from codec_det.bridge import DecodedLatents
        from codec_det.errors import CodecDetError
        from codec_det.evaluation.objects import Objects
        from codec_det.pixels import enlarge, to_uint8

        size = latents.picture.size
        try:
            decoded = self.receiver.decoder.synthesize(latents)
            (instances,) = self.receiver.detect([decoded], [size])
            if self.painter is not None and isinstance(decoded, DecodedLatents):
                decoded = self.painter.synthesize(latents)
        except RuntimeError as error:
            # PyTorch has no narrower class for memory that runs out.
            raise CodecDetError(f"PyTorch cannot decode it or detect in it: {error}") from error
        instances = instances[instances.scores >= self.threshold]
        if self.painter is None or isinstance(decoded, DecodedLatents):
            return instances, None
        shown = to_uint8(enlarge(decoded, size)).permute(1, 2, 0).cpu().numpy()
        masks = instances.pred_masks.numpy() if instances.has("pred_masks") else None
        return instances, self._sheet.draw_one(shown, Objects.found(instances), masks)


def open_detector(args: argparse.Namespace) -> tuple[Detector, str]:
    """The detector of a command line, with its folder, and a note on how it computes or "".

    Raises:
        CodecDetError: if it cannot be used.
    """
    import torch

    from codec_det.bitstream.container import MAX_PIXELS
    from codec_det.codec.learned.precision import BFLOAT16_NOTE, transforms_dtype
    from codec_det.deploy.receiver import load_receiver
    from codec_det.errors import WeightsError
    from codec_det.files import make_folder

    dtype = transforms_dtype(args.device)
    receiver = load_receiver(args.model, args.device, args.max_pixels or MAX_PIXELS, dtype)
    if not receiver.has_detector:
        raise WeightsError(
            f"'{args.model}' has no detector, only a decoder: export a run that has one, or use "
            "tools/decode.py"
        )
    painter = choose_painter(args, receiver) if args.draw else None
    make_folder(args.output_dir, "--output-dir")
    detector = Detector(receiver, args.score_threshold, painter, args.output_dir)
    return detector, BFLOAT16_NOTE if dtype == torch.bfloat16 else ""


def detect(args: argparse.Namespace) -> int:
    """Run the tool; returns the exit status.

    Raises:
        CodecDetError: if something is wrong with anything but a file.
    """
    if any(path.suffix.lower() == ".cdetv" for path in args.files):
        # Slow to import, and no other use has streams.
        from streams.detecting import detect_stream, open_stream

        stream = open_stream(args)
        detector, note = open_detector(args)
        if note:
            print(note)
        return detect_stream(args, stream, detector, args.output_dir / DETECTIONS)
    if not args.watch:
        return detect_files(args)
    try:
        watch_files(args)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{args.output_dir / WATCHED} is complete") from None


def watch_files(args: argparse.Namespace) -> NoReturn:
    """Use what is written to a folder, until the process ends.

    Raises:
        CodecDetError: if it cannot begin.
    """
    from codec_det.deploy.watch import Arrival, Journal, Watcher

    folder = watched_folder(args.files, args, ("recursive", "annotations"))
    detector, note = open_detector(args)
    if note:
        print(note, flush=True)
    # A line is all that remains of a file, so that there is nothing between it and the result.
    journal = Journal(args.output_dir / WATCHED, grows=True)

    def commit(arrival: Arrival, found: Found) -> None:
        own = ("image_id", "file_name")
        detections = [{k: v for k, v in each.items() if k not in own} for each in found.results]
        journal.add(arrival, detections=detections)
        print(f"{arrival.name}: {len(detections)} detections", flush=True)

    Watcher(
        folder,
        frozenset({".cdet"}),
        journal,
        lambda path: detector.work(path, path.stem, 0),
        commit,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    ).run()


def detect_files(args: argparse.Namespace) -> int:
    """Use files that are there; returns the exit status."""
    from codec_det.deploy.detections import choose_image_ids
    from codec_det.deploy.file_batch import describe_failures, find_files, process
    from codec_det.files import atomic_file

    batch = find_files(
        args.files,
        frozenset({".cdet"}),
        "coded pictures",
        recursive=args.recursive,
        distinct_names=True,
    )
    image_ids, source = choose_image_ids(batch.names, args.annotations)
    detector, note = open_detector(args)
    start = time.perf_counter()
    found, failures = process(
        batch.files, lambda p: detector.work(p, batch.names[p], image_ids[p]), 1, "img"
    )
    seconds = time.perf_counter() - start
    if others := batch.describe_others():
        print(others, file=sys.stderr)
    results = [result for each in found.values() for result in each.results]
    with atomic_file(args.output_dir / DETECTIONS) as partial:
        partial.write_text(json.dumps(results), encoding="utf-8")
    print(describe(list(found.values()), seconds))
    print(f"image ids: {source}")
    if note:
        print(note)
    print(args.output_dir / DETECTIONS)
    if failures:
        print(describe_failures(failures, len(batch.files)), file=sys.stderr)
    return 1 if failures else 0


def choose_painter(args: argparse.Namespace, receiver: Receiver) -> PictureDecoder:
    """What decodes the pictures to draw in: the receiver's own decoder, or that of --decoder.

    Raises:
        WeightsError: if there is neither, or the latter is of another codec.
    """
    from codec_det.codec.learned.bitstream_codec import PictureDecoder
    from codec_det.deploy.model_files import load_decoder
    from codec_det.errors import WeightsError

    own = receiver.decoder
    if args.decoder:
        painter = load_decoder(args.decoder, args.device, own.max_pixels)
        if painter.entropy.sha256 != own.entropy.sha256:
            raise WeightsError(
                f"--decoder '{args.decoder}' is of another codec than '{args.model}': give the "
                "decoder.safetensors that was exported with it"
            )
        return painter
    if isinstance(own, PictureDecoder):
        return own
    raise WeightsError(
        f"'{args.model}' detects in latents and decodes no picture to draw in: give --decoder, the "
        "decoder.safetensors that was exported with it, or leave out --draw"
    )


def describe(found: Sequence[Found], seconds: float) -> str:
    """How many pictures, bits and detections."""
    size, pixels = (sum(getattr(each, key) for each in found) for key in ("size", "pixels"))
    rate = f", {8 * size / pixels:.4f} bpp" if pixels else ""
    count = sum(len(each.results) for each in found)
    return (
        f"{count} detections in {len(found)} pictures; {size} bytes, {pixels} pixels{rate}; "
        f"{seconds:.2f} s"
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(
        build_parser().parse_args, detect, argv, interrupted=f"{DETECTIONS} was not written"
    )


if __name__ == "__main__":
    run_program(main)
