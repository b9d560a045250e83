"""Objects in the frames of a stream, for tools/detect.py."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from codec_det.bitstream.container import MAX_PIXELS
from codec_det.deploy.detections import to_results
from codec_det.deploy.model_files import load_prediction
from codec_det.deploy.streams import USUAL_FPS, StreamFile, save_video
from codec_det.errors import BitstreamError
from codec_det.files import atomic_file

from .decoding import the_stream

if TYPE_CHECKING:
    from detect import Detector


def open_stream(args: argparse.Namespace) -> StreamFile:
    """The stream of a command line.

    Raises:
        CodecDetError: if it cannot be used.
    """
    path = the_stream(args.files, args, ("recursive", "annotations", "watch"))
    return StreamFile(path, load_prediction(args.model), args.max_pixels or MAX_PIXELS)


def detect_stream(
    args: argparse.Namespace, stream: StreamFile, detector: Detector, results_path: Path
) -> int:
    """Detect in every frame of a stream, with the command line's detector; the exit status.

    Raises:
        CodecDetError: if nothing can be written.
    """
    start = time.perf_counter()
    results: list[dict[str, Any]] = []
    numbers: list[int] = []
    drawings = found(stream, detector, results, numbers)
    video = args.output_dir / f"{stream.path.stem}.mp4"
    if args.draw:
        save_video(video, drawings, stream.fps)
    else:
        for _ in drawings:
            pass
    seconds = time.perf_counter() - start
    with atomic_file(results_path) as partial:
        partial.write_text(json.dumps(results), encoding="utf-8")
    print(
        f"{len(results)} detections in {len(numbers)} frames; {stream.size} bytes; "
        f"{len(numbers) / seconds:.2f} frames per second"
    )
    print("image ids: numbers of frames, from 0")
    print(results_path)
    if args.draw and numbers:
        unsaid = "" if stream.fps else f", played at {USUAL_FPS:g} frames/s"
        print(f"{video}{unsaid}")
    if stream.lost:
        print(stream.describe_lost(), file=sys.stderr)
    return 1 if stream.lost else 0


def found(
    stream: StreamFile, detector: Detector, results: list[dict[str, Any]], numbers: list[int]
) -> Iterator[np.ndarray]:
    """Drawings of frames, if the detector draws; what it finds is added to ``results``.

    Args:
        numbers: of the frames that were used.
    """
    for frame in tqdm(stream.frames(), unit="frame"):
        try:
            instances, drawing = detector.detect(frame.latents)
        except BitstreamError as error:
            stream.lost.append(f"frame {frame.number}: {error}")
            continue
        numbers.append(frame.number)
        results += [
            {**result, "file_name": stream.path.name}
            for result in to_results(instances, frame.number, detector.receiver.categories)
        ]
        if drawing is not None:
            yield np.asarray(drawing)
