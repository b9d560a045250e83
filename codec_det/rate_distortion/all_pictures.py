"""A codec over pictures, quality by quality, several pictures at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from ..codec.base import Codec
from ..deploy.cores import usable_cores
from ..deploy.file_batch import Failure, process
from .codec_choice import ESTIMATED, CodecChoice, describe_codec

Figures = TypeVar("Figures")


@dataclass(frozen=True)
class Measured(Generic[Figures]):
    """What was measured of a codec.

    Attributes:
        codecs: by quality, what :func:`describe_codec` says of the codec.
        figures: by quality, those of each picture that no quality failed on, in the files' order.
        failures: of any picture at any quality.
        workers: pictures that were coded at a time.
    """

    codecs: dict[float, dict[str, Any]]
    figures: dict[float, list[Figures]]
    failures: list[Failure]
    workers: int


def measure_all(
    choice: CodecChoice,
    codecs: dict[float, Codec],
    files: Sequence[Path],
    measure: Callable[[Codec, Path, str, float], Figures],
    *,
    workers: int | None,
    device: str,
    announce: Callable[[str], None],
) -> Measured[Figures]:
    """Measure pictures with a progress bar for each quality.

    Args:
        codecs: by quality, of :func:`codec_det.rate_distortion.codec_choice.open_codec`; each is
            dropped when it is done with.
        measure: what to do with codec, picture, device and coding scale; it may raise CodecDetError
            of a picture.
        workers: pictures at a time; None: one per usable core.
        announce: says what is measured next.

    Raises:
        CodecDetError: if a codec cannot be used.
    """
    described = {quality: describe_codec(choice, codec) for quality, codec in codecs.items()}
    # An estimating codec keeps the bits of its last batch in itself.
    workers = 1 if choice.rate_is == ESTIMATED else min(workers or usable_cores(), len(files))
    # Not of all cores: OMP_NUM_THREADS may say fewer.
    threads = max(torch.get_num_threads() // workers, 1)

    def work(path: Path, quality: float) -> Figures:
        # It counts for the calling thread alone: a new one would take all cores.
        torch.set_num_threads(threads)
        return measure(codecs[quality], path, device, choice.scale)

    measured: dict[float, dict[Path, Figures]] = {}
    failures: list[Failure] = []
    left = list(files)
    for quality in list(codecs):
        announce(f"{choice.title}, quality {quality:g}:")
        measured[quality], failed = process(left, partial(work, quality=quality), workers, "img")
        failures += failed
        left = [path for path in left if path in measured[quality]]
        del codecs[quality]
    figures = {quality: [found[path] for path in left] for quality, found in measured.items()}
    return Measured(described, figures if left else {}, failures, workers)
