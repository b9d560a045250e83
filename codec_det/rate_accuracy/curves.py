"""Rate–accuracy curves: results of runs, grouped.

A point is the runs that differ by nothing but their seed; of a codec of variable rate, at one level
each. A curve is the points of one regime, one codec and one coding scale, codec being its name, how
many levels it has, whether its encoder has gates, and settings other than its quality, by rising
rate; or the points of all scales, of which those on the Pareto front, the hull, count.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..codec.table import is_conventional
from ..errors import CodecDetError
from ..evaluation.metrics import BPP, Metric
from ..regimes import order_of
from .operating_points import configuration, default, name_points, operating_point
from .pareto import pareto_front
from .records import Result, check_comparable

UNCOMPRESSED = "uncompressed"

_CHAIN = "MODEL.WEIGHTS"

_ConfigOf = Callable[[Result], dict[str, Any]]

ESTIMATED = "estimated"
"""Marks curves of estimated bits among those of real ones."""


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
        """A figure of each run, such as "AP" or "bpp"; nan where it has none."""
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
        if not figures:
            return math.nan
        # Rounding must not take the mean of equal figures beyond them.
        return min(max(sum(figures) / len(figures), min(figures)), max(figures))

    def low(self, metric: str) -> float:
        """The least of the runs' figures."""
        return min(self.values(metric))

    def high(self, metric: str) -> float:
        """The greatest of the runs' figures."""
        return max(self.values(metric))

    @property
    def rate(self) -> float:
        """Mean over runs of the rate that curves are over."""
        return self.mean(self.results[0].rate.key)

    @property
    def lossless(self) -> int:
        """Pictures of all runs that are as they were, which the mean PSNR leaves out."""
        return sum(result.lossless for result in self.results)

    @property
    def scale(self) -> float:
        """Coding scale of the runs."""
        return self.results[0].scale

    @property
    def is_trained(self) -> bool:
        """Whether anything was fine-tuned, so that seeds matter."""
        return self.results[0].is_trained

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
        details: what else tells it from the others, such as settings of the codec.
        points: at least one; none of a :meth:`hull` in a metric that no point has.
        of_scales: whether points are of all coding scales; :meth:`hull` says which count.
    """

    label: str
    regime: str
    codec: str
    details: tuple[str, ...]
    points: tuple[Point, ...]
    of_scales: bool = False

    @property
    def is_level(self) -> bool:
        """Whether pictures are uncompressed: an accuracy without a rate worth a place."""
        return self.codec == "identity"

    @property
    def kind_of_rate(self) -> str:
        """ "real" or "estimated"; "" of a level."""
        return self.points[0].results[0].kind_of_rate

    @property
    def rate(self) -> Metric:
        """What it is over."""
        return self.points[0].results[0].rate

    @property
    def dataset(self) -> str:
        """Name of the test set."""
        return self.points[0].results[0].dataset

    def values(self, metric: str, seed: int | None = None) -> list[float]:
        """The mean of each point; see :meth:`Point.mean`."""
        return [point.mean(metric, seed) for point in self.points]

    def choose(self, rates: Sequence[float], values: Sequence[float]) -> list[int]:
        """Places of the points that count, by figures of all of them: all, or the Pareto front."""
        return pareto_front(rates, values) if self.of_scales else list(range(len(rates)))

    def hull(self, metric: str) -> Curve:
        """The curve in a metric: of several scales, the points that are best at their rates."""
        chosen = self.choose(self.values(self.rate.key), self.values(metric))
        return replace(self, points=tuple(self.points[i] for i in chosen))

    def hulls_with(self, point: Point, metrics: Iterable[str]) -> list[str]:
        """The metrics on whose hull one of the points is."""
        return [key for key in metrics if any(one is point for one in self.hull(key).points)]


def describe_scale(scale: float) -> str:
    """What curves and columns of pictures call a coding scale."""
    return f"scale {scale:g}"


def curves_of(results: Sequence[Result], *, hulls: bool = False) -> list[Curve]:
    """Group results into curves: levels first, then by regime in the study's order, and codec.

    Runs of one regime and codec at the same operating point that differ in any other config key but
    the seed are of different curves, which that key tells apart; but where MODEL.WEIGHTS alone
    leads from rate to rate, as with a light encoder for each rate's model, they are the points of
    one. Runs whose rates are of different kinds are of different curves: where there are both,
    curves of estimated bits say so.

    Args:
        hulls: whether a curve has the points of all coding scales, rather than of one; uncompressed
            pictures have a level for each scale.

    Raises:
        CodecDetError: if results are of different data sets.
    """
    check_comparable(results)
    families = _group(results, _family)
    several_kinds = len({result.kind_of_rate for result in results if result.is_compressed}) > 1
    several_codecs = len({result.codec for result in results if result.is_compressed}) > 1
    curves = []
    for family in families.values():
        name = _name(family[0], several_codecs)
        shared = _details(family[0], [other[0] for other in families.values()])
        kind = [ESTIMATED] if several_kinds and family[0].kind_of_rate == "estimated" else []
        config_of = _configurations(family)
        told_apart = _telling_keys(family, config_of)
        of_scales = hulls and family[0].is_compressed
        values = _values_of(config_of, told_apart)
        groups = _group(family, values if of_scales else lambda r, v=values: (r.scale, v(r)))
        for members in groups.values():
            first = members[0]
            config = config_of(first)
            scale = [] if of_scales or first.scale == 1 else [describe_scale(first.scale)]
            differing = (f"{key} {config.get(key, default(key))}" for key in told_apart)
            levels = [f"{first.levels} levels"] if first.levels > 1 else []
            gates = ["gates"] if first.is_gated else []
            details = *levels, *gates, *scale, *kind, *shared, *differing
            label = ", ".join([name, *details])
            points = _points(members, config_of, of_scales)
            curves.append(Curve(label, first.regime, first.codec, details, points, of_scales))
    return sorted(curves, key=_place)


def _group(results: Iterable[Result], key: Any) -> dict[Hashable, list[Result]]:
    groups = defaultdict(list)
    for result in results:
        groups[key(result)].append(result)
    return groups


def _family(result: Result) -> Hashable:
    """Regime, codec, detector and kind of rate: what runs of one curve have in common at least."""
    codec = result.record["codec"]
    metric = "" if is_conventional(codec["name"]) else codec.get("metric", "mse")
    settings = json.dumps(_settings(result), sort_keys=True)
    detector, kind = result.record.get("detector"), result.kind_of_rate
    coder = codec["name"], result.levels, result.is_gated, metric, settings
    return result.regime, coder, detector, kind


def _settings(result: Result) -> dict[str, Any]:
    """What shapes a conventional codec's bits, but for its quality."""
    settings = result.record["codec"].get("settings", {})
    return {key: value for key, value in settings.items() if key != "quality"}


def _name(result: Result, several_codecs: bool) -> str:
    """The regime, and the codec where there are several."""
    if not result.is_compressed:
        return UNCOMPRESSED if result.regime == "baseline" else f"{UNCOMPRESSED}, {result.regime}"
    return f"{result.regime}, {result.codec}" if several_codecs else result.regime


def _details(result: Result, families: Sequence[Result]) -> list[str]:
    """What of the codec, and which detector, is not the same in all families of the codec."""

    def properties(one: Result) -> dict[str, Any]:
        codec = one.record["codec"]
        own = {"metric": codec.get("metric"), "detector": one.record.get("detector")}
        return {**own, **_settings(one)}

    # A codec alone is told from chains by its regime's name.
    others = [
        properties(other)
        for other in families
        if other.codec == result.codec and other.has_detector == result.has_detector
    ]
    return [
        f"{key} {value}"
        for key, value in properties(result).items()
        if any(other.get(key) != value for other in others)
    ]


def _configurations(family: Sequence[Result]) -> _ConfigOf:
    """Gives the configuration of each run.

    Runs that start from a run of their own seed, as in a sweep, have that in common.
    """

    def start(result: Result) -> str:
        weights = str(configuration(result).get(_CHAIN))
        return weights.replace(f"-seed_{result.seed}/", "-seed_*/")

    weights = defaultdict(set)
    for result in family:
        weights[start(result)].add(configuration(result).get(_CHAIN))

    def config_of(result: Result) -> dict[str, Any]:
        several = len(weights[start(result)]) > 1
        return configuration(result) | ({_CHAIN: start(result)} if several else {})

    return config_of


def _values_of(config_of: _ConfigOf, keys: Iterable[str]) -> Callable[[Result], str]:
    return lambda result: json.dumps([config_of(result).get(key) for key in keys])


def _telling_keys(family: Sequence[Result], config_of: _ConfigOf) -> list[str]:
    """Config keys in which runs at one operating point differ, but for weights that lead along."""
    keys: dict[str, None] = {}
    for members in _group(family, lambda r: json.dumps(operating_point(r))).values():
        configurations = [config_of(member) for member in members]
        for key in dict.fromkeys(key for one in configurations for key in one):
            if any(one.get(key) != configurations[0].get(key) for one in configurations):
                keys[key] = None
    return [] if list(keys) == [_CHAIN] and _lead_along(family, config_of) else list(keys)


def _lead_along(family: Sequence[Result], config_of: _ConfigOf) -> bool:
    """Whether weights of the chain are all that leads from point to point, each to its own rate."""
    by_weights = _group(family, _values_of(config_of, [_CHAIN])).values()
    rates = {tuple(sorted(result.figure("bpp") for result in members)) for members in by_weights}
    return (
        len({json.dumps(operating_point(r)) for r in family}) == 1 < len(rates) == len(by_weights)
    )


def _points(results: Sequence[Result], config_of: _ConfigOf, of_scales: bool) -> tuple[Point, ...]:
    def everything(result: Result) -> str:
        whole = [operating_point(result), result.scale, config_of(result)]
        return json.dumps(whole, sort_keys=True)

    groups = list(_group(results, everything).values())
    places = [
        {**operating_point(group[0]), _CHAIN: config_of(group[0]).get(_CHAIN)} for group in groups
    ]
    # At several scales, they are the same: each is named once.
    distinct = [place for i, place in enumerate(places) if place not in places[:i]]
    known = name_points(distinct)
    names = [known[distinct.index(place)] for place in places]
    if of_scales:
        scales = (describe_scale(group[0].scale) for group in groups)
        names = [f"{name}, {scale}" for name, scale in zip(names, scales, strict=True)]
    points = [
        Point(tuple(sorted(group, key=lambda r: r.seed)), name)
        for group, name in zip(groups, names, strict=True)
    ]
    return tuple(sorted(points, key=lambda point: point.rate))


def _place(curve: Curve) -> tuple:
    program = is_conventional(curve.codec)
    return not curve.is_level, *order_of(curve.regime), program, curve.label


def rate_axis(curves: Sequence[Curve]) -> str:
    """What rates are of, in which unit, and of which kind."""
    compressed = [curve for curve in curves if not curve.is_level] or curves
    said = [curve.points[0].results[0].record.get("rate_is") for curve in compressed]
    unit = compressed[0].rate.unit
    if len({curve.kind_of_rate for curve in compressed}) > 1:
        return f"{unit}, real unless marked as estimated"
    if compressed[0].rate is not BPP:
        return f"{unit}, {compressed[0].kind_of_rate or 'uncompressed'} bits"
    return said[0] or unit


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
        return next(
            (c for c in curves if c.regime == "baseline" and not is_conventional(c.codec)),
            curves[0],
        )
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
