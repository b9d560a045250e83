"""How far figures would move with other pictures of the same kind: bootstrap over the test set.

Pictures are drawn with replacement, as many as the set has, and box AP, bits per pixel and PSNR are
worked out anew from each run's detections and per-picture figures. A resample has the same pictures
in all runs, so that what is common to the runs cancels in their difference (a paired bootstrap;
Efron and Tibshirani, An Introduction to the Bootstrap, 1993). Intervals are percentile intervals.

They say nothing of the spread between trainings: the runs are what they are. And repeated pictures
raise box AP, on 300 pictures by half a point: of a single AP, the interval lies that much too high.
In differences, and so in Bjøntegaard deltas, it cancels.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from detectron2.data import MetadataCatalog
from pycocotools.coco import COCO
from tqdm import tqdm

from ..data.register import register_datasets
from ..data.shapes import SPLITS, ensure_shapes
from ..errors import CodecDetError, DatasetError
from ..runs import open_run
from .bjontegaard_deltas import deltas
from .curves import Curve, Point
from .records import Result
from .weighted_ap import Matches, load_truth, match

LEVEL = 95
"""Percent of resamples that an interval holds."""

# Box AP in percent; what detectron2's own, compiled evaluation rounds away is far below.
_TOLERANCE = 0.01
# An interval of the resamples that give a figure says little where many do not.
_MIN_USED = 0.9


@dataclass(frozen=True)
class Interval:
    """A percentile interval.

    Attributes:
        low, high: its ends; nan where too few resamples gave a figure.
        used: resamples that gave one.
        count: all resamples.
    """

    low: float
    high: float
    used: int
    count: int


def interval(samples: np.ndarray) -> Interval:
    """The middle :data:`LEVEL` percent of (resamples,), of which nan are left out."""
    known = samples[np.isfinite(samples)]
    if len(known) < max(_MIN_USED * len(samples), 1):
        return Interval(math.nan, math.nan, len(known), len(samples))
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(known, [tail, 100 - tail])
    return Interval(float(low), float(high), len(known), len(samples))


@dataclass(frozen=True)
class Resamples:
    """Figures of runs over resampled test sets.

    Attributes:
        figures: by run folder, then metric ("AP", "AP50", "PSNR", "bpp"), (resamples,).
        count: resamples.
        missing: why runs are not among them, in words, one line for each reason.
    """

    figures: dict[Path, dict[str, np.ndarray]]
    count: int
    missing: tuple[str, ...]

    def of_point(self, point: Point, metric: str) -> np.ndarray:
        """(resamples,): the mean over the point's runs; nan if one of them is missing."""
        runs = [self.figures.get(result.folder or Path(), {}) for result in point.results]
        if not all(runs):
            return np.full(self.count, np.nan)
        return np.mean([run[metric] for run in runs], axis=0)

    def of_bd(self, anchor: Curve, test: Curve, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """BD-rate and BD-quality, (resamples,) each; nan where a resample has none."""
        columns = [
            np.stack([self.of_point(point, name) for point in curve.points])
            for curve in (anchor, test)
            for name in ("bpp", metric)
        ]
        both = [deltas(*(column[:, i] for column in columns)) for i in range(self.count)]
        return np.array([d.rate.value for d in both]), np.array([d.quality.value for d in both])


def resample(results: Sequence[Result], count: int, seed: int = 0) -> Resamples:
    """Draw ``count`` test sets and work out every run's figures on each.

    Runs whose detections are not there, or are not those of the record, are left out; ``missing``
    says why. The same seed and set give the same draws.
    """
    figures: dict[Path, dict[str, np.ndarray]] = {}
    missing: dict[str, list[str]] = {}
    truths: dict[Path, COCO] = {}
    nothing_to_do = all(result.folder is None for result in results)
    for result in tqdm(results, f"{count} resamples", unit="run", disable=nothing_to_do):
        try:
            table = _Pictures.read(result, truths)
        except CodecDetError as error:
            name = str(result.folder or result.record.get("config", {}).get("OUTPUT_DIR", "?"))
            missing.setdefault(str(error), []).append(name)
            continue
        images = len(table.matches.image_ids)
        rng = np.random.default_rng(seed)
        weights = rng.multinomial(images, np.full(images, 1 / images), size=count)
        figures[table.folder] = table.figures(weights)
    lines = tuple(
        f"{reason} ({len(names)} run(s): {', '.join(names[:3])}{', ...' * (len(names) > 3)})"
        for reason, names in missing.items()
    )
    return Resamples(figures, count, lines)


@dataclass(frozen=True)
class _Pictures:
    """What is known of each picture of a run, in the order of ``matches.image_ids``.

    ``bits``, ``pixels`` and ``psnr`` (dB) are (images,).
    """

    folder: Path
    matches: Matches
    bits: np.ndarray
    pixels: np.ndarray
    psnr: np.ndarray

    @classmethod
    def read(cls, result: Result, truths: dict[Path, COCO]) -> _Pictures:
        """Match a run's detections; raises CodecDetError where files lack or do not fit."""
        if result.folder is None:
            raise DatasetError("records of data files have no detections")
        place = result.folder / "inference" / result.dataset
        detections, per_image = place / "coco_instances_results.json", place / "per_image.csv"
        for path in (detections, per_image):
            if not path.is_file():
                raise DatasetError(f"{path.relative_to(result.folder)} is missing")
        annotations = _annotations(result)
        if annotations not in truths:
            truths[annotations] = load_truth(annotations)
        with per_image.open(newline="") as file:
            rows = {int(row["image_id"]): row for row in csv.DictReader(file)}
        matches = match(truths[annotations], detections)
        if set(rows) != set(matches.image_ids):
            raise DatasetError(f"{per_image.name} is not of the pictures of {annotations}")
        ordered = [rows[image_id] for image_id in matches.image_ids]
        pictures = cls(
            folder=result.folder,
            matches=matches,
            bits=np.array([float(row["bits"]) for row in ordered]),
            pixels=np.array([float(row["height"]) * float(row["width"]) for row in ordered]),
            psnr=np.array([float(row["psnr"]) for row in ordered]),
        )
        pictures.check(result)
        return pictures

    def check(self, result: Result) -> None:
        """Raise unless they give the figures of the record, so that they are of one evaluation."""
        figures = self.figures(np.ones((1, len(self.bits)), dtype=np.int64))
        if not (
            math.isclose(figures["AP"][0], result.figure("AP"), abs_tol=_TOLERANCE)
            and math.isclose(figures["bpp"][0], result.figure("bpp"), rel_tol=1e-6)
        ):
            raise DatasetError("the files of each picture are not of the newest record")

    def figures(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """By metric, (resamples,), for (resamples, images) multiplicities."""
        ap = np.array([self.matches.ap(row) for row in weights])
        return {
            "AP": ap[:, 0],
            "AP50": ap[:, 1],
            "PSNR": weights @ self.psnr / weights.sum(axis=1),
            "bpp": (weights @ self.bits) / (weights @ self.pixels),
        }


def _annotations(result: Result) -> Path:
    """The file of the objects in a run's test set."""
    assert result.folder is not None
    register_datasets(open_run(result.folder).cfg)
    if result.dataset in SPLITS:
        return ensure_shapes(result.dataset)
    path = MetadataCatalog.get(result.dataset).get("json_file")
    if path is None or not Path(path).is_file():
        raise DatasetError(f"the annotations of {result.dataset} are not there ({path})")
    return Path(path)
