"""How far figures would move with other pictures of the same kind: bootstrap over the test set.

Pictures are drawn with replacement, as many as the set has, and AP of boxes and masks, rate
and distortion are worked out anew from each run's detections and per-picture figures. Frames
are drawn with their whole sequence, which is one draw: they are too much alike for less. A resample
has the same pictures in all runs, so that what is common to the runs cancels in their difference (a
paired bootstrap; Efron and Tibshirani, An Introduction to the Bootstrap, 1993). Intervals are
percentile intervals.

They say nothing of the spread between trainings: the runs are what they are. And repeated pictures
raise box AP, on 300 pictures by half a point: of a single AP, the interval lies that much too high.
In differences, and so in Bjøntegaard deltas, it cancels.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from detectron2.data import MetadataCatalog
from pycocotools.coco import COCO
from tqdm import tqdm

from ..data.register import register_datasets
from ..data.shapes import SPLITS, ensure_shapes
from ..errors import CodecDetError, DatasetError
from ..evaluation.metrics import metric_of
from ..evaluation.places import PLACES
from ..evaluation.rate import known_mean, mean_psnrs
from ..runs import open_run
from .bjontegaard_deltas import deltas
from .curves import Curve, Point
from .records import NET, Result
from .weighted_ap import Matches, load_truth, match

LEVEL = 95
"""Percent of resamples that an interval holds."""

# AP in percent; what detectron2's own, compiled evaluation rounds away is far below.
_TOLERANCE = 0.01
# An interval of the resamples that give a figure says little where many do not.
_MIN_USED = 0.9

_TASKS = ("bbox", "segm")
_AREAS = {
    "APs": "small",
    "APm": "medium",
    "APl": "large",
    **{f"AP{place}": place for place in PLACES},
}
_DISTORTIONS = ("PSNR", "PSNR_MSE", "MS-SSIM")
_COLUMNS = ("height", "width", "bits", "overhead_bits", "psnr", "ms_ssim", "fps")


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
        figures: by run folder and level, None of a fixed rate; then by metric, (resamples,).
        count: resamples.
        missing: why runs are not among them, in words, one line for each reason.
    """

    figures: dict[tuple[Path, float | None], dict[str, np.ndarray]]
    count: int
    missing: tuple[str, ...]

    def of_point(self, point: Point, metric: str) -> np.ndarray:
        """(resamples,): the mean over the point's runs; nan if one of them has none."""
        runs = [self.figures.get(_key(result), {}) for result in point.results]
        if not all(metric in run for run in runs):
            return np.full(self.count, np.nan)
        return np.mean([run[metric] for run in runs], axis=0)

    def of_bd(self, anchor: Curve, test: Curve, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """BD-rate and BD-quality, (resamples,) each; nan where a resample has none.

        Of curves of several coding scales, every resample has hulls of its own.
        """
        lines = self._lines(anchor, metric), self._lines(test, metric)
        both = [deltas(*of_anchor, *of_test) for of_anchor, of_test in zip(*lines, strict=True)]
        return np.array([d.rate.value for d in both]), np.array([d.quality.value for d in both])

    def _lines(self, curve: Curve, metric: str) -> Iterator[tuple[list[float], list[float]]]:
        """In each resample, rates and values of the points that count: all, if any has none."""
        rates, values = (
            np.stack([self.of_point(point, name) for point in curve.points], axis=1)
            for name in (curve.rate.key, metric)
        )
        for rate, quality in zip(rates.tolist(), values.tolist(), strict=True):
            known = np.isfinite([*rate, *quality]).all()
            chosen = curve.choose(rate, quality) if known else range(len(rate))
            yield [rate[i] for i in chosen], [quality[i] for i in chosen]


def _key(result: Result) -> tuple[Path, float | None]:
    return result.folder or Path(), result.level


def resample(
    results: Sequence[Result], count: int, metrics: Sequence[str], seed: int = 0
) -> Resamples:
    """Draw ``count`` test sets and work out every run's metrics, and its rate, on each.

    Runs whose detections are not there, or are not those of the record, are left out, and so are
    metrics that no file has by picture; ``missing`` says why. The same seed and set give the same
    draws.
    """
    known = [key for key in metrics if _is_ap(key) or key in _DISTORTIONS]
    figures: dict[tuple[Path, float | None], dict[str, np.ndarray]] = {}
    missing: dict[str, list[str]] = {}
    truths: dict[Path, COCO] = {}
    nothing_to_do = all(result.folder is None for result in results)
    for result in tqdm(results, f"{count} resamples", unit="run", disable=nothing_to_do):
        try:
            table = _Pictures.read(result, [*known, result.rate.key], truths)
        except CodecDetError as error:
            name = str(result.folder or result.record.get("config", {}).get("OUTPUT_DIR", "?"))
            missing.setdefault(str(error), []).append(name)
            continue
        figures[_key(result)] = table.figures(table.draw(count, seed))
    lines = tuple(
        f"{reason} ({len(names)} run(s): {', '.join(names[:3])}{', ...' * (len(names) > 3)})"
        for reason, names in missing.items()
    )
    if others := [key for key in metrics if key not in known]:
        lines += (f"no file has {', '.join(others)} by picture",)
    return Resamples(figures, count, lines)


@dataclass(frozen=True)
class _Pictures:
    """What is known of each picture of a run, by rising image id.

    Attributes:
        metrics: to work out.
        columns: of the file of pictures, (images,) each; PSNR in dB.
        sequences: (images,), which one a frame is of, from 0; of single pictures all differ.
        matches: by task and size of objects; of the same pictures.
    """

    metrics: Sequence[str]
    columns: dict[str, np.ndarray]
    sequences: np.ndarray
    matches: dict[tuple[str, str], Matches]

    @classmethod
    def read(cls, result: Result, metrics: Sequence[str], truths: dict[Path, COCO]) -> _Pictures:
        """Match a run's detections; raises CodecDetError where files lack or do not fit."""
        if result.folder is None:
            raise DatasetError("records of data files have no detections")
        metrics = [key for key in metrics if math.isfinite(result.figure(key))]
        place = result.detections
        detections, per_image = place / "coco_instances_results.json", place / "per_image.csv"
        wanted = dict.fromkeys(_match_of(key) for key in metrics if _is_ap(key))
        for path in (per_image, *([detections] if wanted else [])):
            if not path.is_file():
                raise DatasetError(f"{path.relative_to(result.folder)} is missing")
        with per_image.open(newline="") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: int(row["image_id"]))
        matches = {}
        if wanted:
            annotations = _annotations(result)
            if annotations not in truths:
                truths[annotations] = load_truth(annotations)
            matches = {one: match(truths[annotations], detections, *one) for one in wanted}
            for one in matches.values():
                if [int(row["image_id"]) for row in rows] != list(one.image_ids):
                    raise DatasetError(f"{per_image.name} is not of the pictures of {annotations}")
        numbers = [key for key in _COLUMNS if key in rows[0]]
        columns = {key: np.array([float(row[key]) for row in rows]) for key in numbers}
        if result.kind_of_rate == NET:
            columns["bits"] -= columns["overhead_bits"]
        names = [int(row.get("video_id", row["image_id"])) for row in rows]
        _, sequences = np.unique(names, return_inverse=True)
        pictures = cls(metrics, columns, sequences, matches)
        pictures.check(result)
        return pictures

    def draw(self, count: int, seed: int) -> np.ndarray:
        """How often each picture is in ``count`` resamples: (count, images)."""
        draws = self.sequences.max() + 1
        rng = np.random.default_rng(seed)
        return rng.multinomial(draws, np.full(draws, 1 / draws), size=count)[:, self.sequences]

    def check(self, result: Result) -> None:
        """Raise unless they give the figures of the record, so that they are of one evaluation."""
        once = self.figures(np.ones((1, len(self.columns["bits"])), dtype=np.int64))
        rate = result.rate.key
        aps = [key for key in self.metrics if metric_of(key).place[1] == "AP"]
        if not (
            all(math.isclose(once[k][0], result.figure(k), abs_tol=_TOLERANCE) for k in aps)
            and math.isclose(once[rate][0], result.figure(rate), rel_tol=1e-6)
        ):
            raise DatasetError("the files of each picture are not of the newest record")

    def figures(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """By metric, (resamples,), for (resamples, images) multiplicities."""
        column = self.columns
        pixels = column["height"] * column["width"]
        psnr, psnr_of_mse = mean_psnrs(column["psnr"], weights)
        known = {
            "bpp": (weights @ column["bits"]) / (weights @ pixels),
            "PSNR": psnr,
            "PSNR_MSE": psnr_of_mse,
        }
        if "fps" in column:
            known["kbps"] = (weights @ column["bits"]) / (weights @ (1 / column["fps"])) / 1000
        if "ms_ssim" in column:
            known["MS-SSIM"] = known_mean(column["ms_ssim"], weights)
        aps = {one: [m.aps(row) for row in weights] for one, m in self.matches.items()}
        for key in self.metrics:
            if _is_ap(key):
                name = metric_of(key).place[1]
                name = "AP" if name in _AREAS else name
                samples = [each.get(name, math.nan) for each in aps[_match_of(key)]]
                known[key] = np.array(samples)
        return {key: known[key] for key in self.metrics if key in known}


def _is_ap(key: str) -> bool:
    return metric_of(key).place[0] in _TASKS


def _match_of(key: str) -> tuple[str, str]:
    """Task and size of objects of an AP."""
    task, name = metric_of(key).place
    return task, _AREAS.get(name, "all")


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
