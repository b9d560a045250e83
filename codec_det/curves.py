"""Rate–accuracy curves: results of runs, grouped.

A point is the runs that differ by nothing but their seed. A curve is the points of one regime and
one codec, codec being its name and settings other than its quality, by rising rate.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from .codec.names import LEARNED
from .errors import CodecDetError
from .records import Result, check_comparable

REGIMES = ("baseline", "T-FT", "C-FT", "J-FT", "E-FT", "ET-FT", "D-FT")
"""In the study's order."""

UNCOMPRESSED = "uncompressed"

# Where and how a run was made, which nothing that is measured follows from.
_CIRCUMSTANCES = {
    "SEED",
    "OUTPUT_DIR",
    "CUDNN_BENCHMARK",
    "VIS_PERIOD",
    "DATASETS.ROOT",
    "DATASETS.COCO_FORMAT",
    "DATASETS.TEST",
    "DATALOADER.NUM_WORKERS",
    "MODEL.DEVICE",
    "MODEL.CODEC.CACHE",
    "MODEL.CODEC.CACHE_GB",
    "MODEL.CODEC.CHECKPOINT_ACTIVATIONS",
    "SOLVER.CHECKPOINT_PERIOD",
    "TEST.EVAL_PERIOD",
}
# What leads from one point of a curve to the next, in the order in which it is named.
_OPERATING_POINT = ("QUALITY", "TARGET_BPP", "BETA", "WEIGHTS", "N", "M")
# What a chain that was not trained cannot depend on.
_OF_TRAINING = ("SOLVER.", "DATALOADER.", "DATASETS.", "INPUT.RANDOM_FLIP", "INPUT.CROP")
_OF_TRAINING_CODEC = ("BETA", "TARGET_BPP", "DISTORTION_WEIGHT", "QUANTIZATION")


@dataclass(frozen=True)
class Point:
    """Runs of the same config, but for the seed.

    Attributes:
        results: one of each run; at least one.
        name: the operating point, such as "quality 32", as it is called in its curve.
    """

    results: tuple[Result, ...]
    name: str

    def values(self, metric: str) -> list[float]:
        """A figure ("AP", "AP50", "PSNR", "bpp") of each run; nan where it has none."""
        return [result.figure(metric) for result in self.results]

    def mean(self, metric: str, seed: int | None = None) -> float:
        """Mean over runs, or over those of one seed, of a figure; nan where a run has none.

        Without any run of the seed it is nan, but for a chain that was not trained: it is the same
        with every seed.
        """
        results = self.results
        if seed is not None and self.is_trained:
            results = tuple(result for result in results if result.seed == seed)
        figures = [result.figure(metric) for result in results]
        return sum(figures) / len(figures) if figures else float("nan")

    def low(self, metric: str) -> float:
        """The least of the runs' figures."""
        return min(self.values(metric))

    def high(self, metric: str) -> float:
        """The greatest of the runs' figures."""
        return max(self.values(metric))

    @property
    def is_trained(self) -> bool:
        """Whether anything was fine-tuned, so that seeds matter."""
        return self.results[0].regime != "baseline"

    @property
    def seeds(self) -> list[int]:
        """Of the runs, in order, each once."""
        return sorted({result.seed for result in self.results})


@dataclass(frozen=True)
class Curve:
    """Points of one regime and codec by rising rate.

    Attributes:
        label: what to call it among the curves it was made with; no two have the same.
        regime: name of what was trained.
        codec: name of the codec, "identity" for uncompressed pictures.
        points: at least one.
    """

    label: str
    regime: str
    codec: str
    points: tuple[Point, ...]

    @property
    def is_level(self) -> bool:
        """Whether pictures are uncompressed: an accuracy without a rate worth a place."""
        return self.codec == "identity"

    @property
    def kind_of_rate(self) -> str:
        """ "real" or "estimated"; "" of a level."""
        return self.points[0].results[0].kind_of_rate

    @property
    def dataset(self) -> str:
        """Name of the test set."""
        return self.points[0].results[0].dataset

    def values(self, metric: str, seed: int | None = None) -> list[float]:
        """The mean of each point; see :meth:`Point.mean`."""
        return [point.mean(metric, seed) for point in self.points]


def curves_of(results: Sequence[Result]) -> list[Curve]:
    """Group results into curves: levels first, then by regime in the study's order, and codec.

    Runs of one regime and codec at the same operating point that differ in any other config key but
    the seed are of different curves, which that key tells apart.

    Raises:
        CodecDetError: if results are of different data sets or kinds of rate.
    """
    check_comparable(results)
    families = _group(results, _family)
    several_codecs = len({result.codec for result in results if result.is_compressed}) > 1
    curves = []
    for family in families.values():
        name = _family_name(family[0], families.values(), several_codecs)
        told_apart = _telling_keys(family)
        for members in _group(family, lambda r, k=told_apart: _values(r, k)).values():
            differences = [
                f"{key} {_configuration(members[0]).get(key, 'default')}" for key in told_apart
            ]
            label = ", ".join([name, *differences])
            curves.append(Curve(label, members[0].regime, members[0].codec, _points(members)))
    return sorted(curves, key=_place)


def _group(results: Iterable[Result], key: Any) -> dict[Hashable, list[Result]]:
    groups = defaultdict(list)
    for result in results:
        groups[key(result)].append(result)
    return groups


def _family(result: Result) -> Hashable:
    """Regime and codec: what runs of one curve have in common at least."""
    codec = result.record["codec"]
    metric = codec.get("metric", "mse") if codec["name"] in LEARNED else ""
    settings = json.dumps(codec.get("settings", {}), sort_keys=True)
    return result.regime, codec["name"], metric, settings, result.record.get("detector")


def _family_name(result: Result, families: Iterable[list[Result]], several_codecs: bool) -> str:
    """The regime, and as much of the codec as there is to be told apart."""
    if not result.is_compressed:
        name = UNCOMPRESSED if result.regime == "baseline" else f"{UNCOMPRESSED}, {result.regime}"
    else:
        name = f"{result.regime}, {result.codec}" if several_codecs else result.regime
    codec, detector = result.record["codec"], result.record.get("detector")
    others = [family[0] for family in families if family[0].codec == result.codec]
    if len({other.record["codec"].get("metric") for other in others}) > 1:
        name += f", {codec.get('metric')}"
    settings = [other.record["codec"].get("settings", {}) for other in others]
    for key, value in codec.get("settings", {}).items():
        if any(other.get(key) != value for other in settings):
            name += f", {key} {value}"
    if len({other.record.get("detector") for other in others}) > 1:
        name += f", {detector}"
    return name


def _configuration(result: Result) -> dict[str, Any]:
    """The changed config keys that figures follow from, beside the operating point's."""
    config = result.record.get("config", {})
    left_out = {*_CIRCUMSTANCES, *_codec_keys(_OPERATING_POINT), "MODEL.CODEC.SETTINGS"}
    if result.regime == "baseline":
        left_out |= {key for key in config if key.startswith(_OF_TRAINING) or "_TRAIN" in key}
        left_out |= set(_codec_keys(_OF_TRAINING_CODEC))
    return {key: value for key, value in config.items() if key not in left_out}


def _codec_keys(names: Iterable[str]) -> list[str]:
    return [f"MODEL.CODEC.{name}" for name in names]


def _operating_point(result: Result) -> dict[str, Any]:
    """What is at hand of QUALITY, TARGET_BPP, ..., by name."""
    config, codec = result.record.get("config", {}), result.record["codec"]
    point = {name: config.get(f"MODEL.CODEC.{name}") for name in _OPERATING_POINT}
    if result.regime == "baseline":
        point |= dict.fromkeys(_OF_TRAINING_CODEC)
    # A conventional codec's can be one that its key cannot hold.
    return {**point, "QUALITY": codec.get("quality")}


def _values(result: Result, keys: Iterable[str]) -> str:
    configuration = _configuration(result)
    return json.dumps([configuration.get(key) for key in keys])


def _telling_keys(family: Sequence[Result]) -> list[str]:
    """Config keys in which runs at one operating point differ."""
    keys: dict[str, None] = {}
    for members in _group(family, lambda r: json.dumps(_operating_point(r))).values():
        configurations = [_configuration(member) for member in members]
        for key in dict.fromkeys(key for one in configurations for key in one):
            if any(one.get(key) != configurations[0].get(key) for one in configurations):
                keys[key] = None
    return list(keys)


def _points(results: Sequence[Result]) -> tuple[Point, ...]:
    groups = list(
        _group(results, lambda r: json.dumps([_operating_point(r), _configuration(r)])).values()
    )
    names = _point_names([_operating_point(group[0]) for group in groups])
    points = [
        Point(tuple(sorted(group, key=lambda r: r.seed)), name)
        for group, name in zip(groups, names, strict=True)
    ]
    return tuple(sorted(points, key=lambda point: point.mean("bpp")))


def _point_names(points: Sequence[dict[str, Any]]) -> list[str]:
    """By the first key that tells all of them apart, else by all that differ."""
    varying = [key for key in points[0] if len({str(point[key]) for point in points}) > 1]
    alone = [key for key in varying if len({str(point[key]) for point in points}) == len(points)]
    keys = alone[:1] or varying or ["QUALITY"]
    return [", ".join(_name_value(key, point[key]) for key in keys) for point in points]


def _name_value(key: str, value: Any) -> str:
    if value is None:
        return f"{key} default"
    if key == "QUALITY":
        return f"quality {value:g}"
    if key == "TARGET_BPP":
        return f"target {value:g} bpp"
    if key == "WEIGHTS":
        # Runs call their last checkpoints alike: the folder says more.
        return "/".join(PurePosixPath(str(value).split("://")[-1]).parts[-2:])
    return f"{key} {value}"


def _place(curve: Curve) -> tuple:
    place = REGIMES.index(curve.regime) if curve.regime in REGIMES else len(REGIMES)
    return not curve.is_level, place, curve.regime, curve.codec not in LEARNED, curve.label


def find_anchor(curves: Sequence[Curve], label: str | None = None) -> Curve:
    """The curve that others are measured against.

    Args:
        label: of a curve, or its beginning up to a comma; None: the baseline of a learned codec, if
            there is one, else the first curve.

    Raises:
        CodecDetError: if no curve, or more than one, is meant.
    """
    curves = [curve for curve in curves if not curve.is_level]
    if not curves:
        raise CodecDetError("all results are of uncompressed pictures: there is no curve")
    if label is None:
        return next((c for c in curves if c.regime == "baseline" and c.codec in LEARNED), curves[0])
    meant = [curve for curve in curves if curve.label == label] or [
        curve for curve in curves if curve.label.startswith(f"{label},")
    ]
    if len(meant) != 1:
        count = "more than one curve is" if meant else "no curve is"
        raise CodecDetError(
            f"--anchor '{label}': {count} called that; choose one of "
            + ", ".join(f"'{curve.label}'" for curve in meant or curves)
        )
    return meant[0]
