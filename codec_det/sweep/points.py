"""The points of a study, in the order they run, each with its whole config, checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from glob import glob
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from ..config import flatten, load_config
from ..config_checks import check_config
from ..data.classes import match_classes
from ..data.register import check_datasets, register_datasets
from ..errors import CodecDetError, ConfigError
from ..evaluation.results import SET_ASIDE
from ..regimes import Regime
from .study import REGIME, Entry, OperatingPoint, Settings, Study, did_you_mean

FINAL_WEIGHTS = "model_final.pth"

# Ends of the keys that say what a detector needs of its data sets.
_OF_DETECTOR = ("META_ARCHITECTURE", "NUM_CLASSES", "MASK_ON", "MASK_FORMAT", "KEYPOINT_ON")

_REFERENCE = re.compile(r"\$\{(.*?)\}")
_NAME = re.compile(r"\w[\w.+-]*")


@dataclass(frozen=True, kw_only=True)
class StudyPoint:
    """One run.

    Attributes:
        name: of the point and its folder.
        key: where in the YAML it is, for messages.
        folder: its OUTPUT_DIR.
        options: config keys that it sets, OUTPUT_DIR among them.
        needs: names of the points whose final weights it starts from.
        prepares: whether it is there for others to start from, and no result of the study.
        is_started_from: whether others start from its final weights.
        evaluates: whether it trains nothing.
        cfg: its whole config.
    """

    name: str
    key: str
    folder: Path
    config_file: str
    options: dict[str, Any]
    needs: tuple[str, ...]
    prepares: bool
    is_started_from: bool
    evaluates: bool
    cfg: CfgNode


def read_overrides(words: Sequence[str]) -> dict[str, str]:
    """Config keys of a command line, KEY VALUE KEY VALUE ...

    Raises:
        ConfigError: if a value is missing or a key is the sweep's own.
    """
    if len(words) % 2:
        raise ConfigError(f"'{words[-1]}' has no value: give config keys as KEY VALUE pairs")
    overrides = dict(zip(words[::2], words[1::2], strict=True))
    for key, remedy in (("OUTPUT_DIR", "output_dir"), ("SEED", "seeds")):
        if key in overrides:
            raise ConfigError(f"{key} differs from point to point: set {remedy} in the YAML")
    return overrides


def expand(study: Study, overrides: Mapping[str, str], num_gpus: int | None) -> list[StudyPoint]:
    """All points: prepared ones by dependency, then those without seed, then seed by seed.

    Args:
        overrides: config keys of all points, prepared ones too.
        num_gpus: 0 puts all points on the CPU.

    Raises:
        ConfigError: for the first point whose config cannot work, naming its place in the YAML.
    """
    device = {"MODEL.DEVICE": "cpu"} if num_gpus == 0 else {}
    maker = _Maker(study, {**device, **overrides})
    points = maker.prepared()
    turns: dict[str, int] = {}
    seeded: list[StudyPoint] = []
    for entry in study.grid:
        for operating_point in entry.operating_points:
            for regime in entry.regimes:
                of_regime = maker.grid(entry, operating_point, regime)
                if of_regime[0].evaluates:
                    points += of_regime
                else:
                    seeded += of_regime
                for own, point in enumerate(of_regime):
                    turns[point.name] = max(own, *(turns.get(name, 0) for name in point.needs), 0)
    # sorted() keeps the order within a seed.
    points += sorted(seeded, key=lambda point: turns[point.name])
    _check_names(study, points)
    needed = {name for point in points for name in point.needs}
    return [replace(point, is_started_from=point.name in needed) for point in points]


def check_data(points: Sequence[StudyPoint]) -> None:
    """Check the data sets of all points, each once.

    Raises:
        ConfigError: naming the point whose data set is unknown or damaged.
    """
    seen = set()
    for point in points:
        sets = point.cfg.DATASETS
        train = () if point.evaluates else sets.TRAIN
        detector = [(k, v) for k, v in flatten(point.cfg) if k.endswith(_OF_DETECTOR)]
        given = str([sets.COCO_FORMAT, sets.PICTURES])
        key = (given, sets.ROOT, sets.TEST, train, str(detector))
        if key not in seen:
            seen.add(key)
            with _at(f"point {point.name}"):
                register_datasets(point.cfg)
                check_datasets(point.cfg, train=not point.evaluates)
                match_classes(point.cfg, train=not point.evaluates)


class _Maker:
    """Makes the points of a study."""

    def __init__(self, study: Study, overrides: Mapping[str, str]) -> None:
        self._study = study
        self._overrides = overrides
        self._prepared = {preparation.name: preparation for preparation in study.prepare}
        # Of the grid, by name and seed, those that train and were made so far.
        self._trained: dict[tuple[str, int | None], str] = {}

    def prepared(self) -> list[StudyPoint]:
        for p in self._prepared.values():
            if not Path(p.config_file).is_file():
                raise ConfigError(
                    f"{self._study.file}: {p.key}.config: there is no file '{p.config_file}'"
                )
        points = {
            name: self._make(p, name, p.config_file, {**p.options, **_rate(p)}, prepares=True)
            for name, p in self._prepared.items()
        }
        try:
            order = TopologicalSorter({name: p.needs for name, p in points.items()}).static_order()
            ordered = [points[name] for name in order]
        except CycleError as error:
            circle = " <- ".join(error.args[1])
            raise ConfigError(
                f"{self._study.file}: prepare: {circle} start from each other: let one start from "
                "other weights"
            ) from None
        for point in ordered:
            if point.evaluates:
                raise ConfigError(
                    f"{self._study.file}: {point.key}: nothing trains, so there would be no "
                    "weights to start from: choose another config"
                )
        return ordered

    def grid(self, entry: Entry, operating_point: OperatingPoint, regime: str) -> list[StudyPoint]:
        """The points of all seeds; the only one of a regime that trains nothing."""
        config_file = self._config_file(entry, regime)
        if "SEED" in operating_point.options:
            raise ConfigError(f"{self._study.file}: {entry.key}: SEED is set by the key seeds")
        name = f"{regime}-{operating_point.name}"
        options = dict(operating_point.options)
        with _at(f"{self._study.file}: {operating_point.key}, point {name}"):
            cfg = load_config(config_file, as_words({**options, **self._overrides}))
            options |= _rate(operating_point, Regime.from_config(cfg))
        if not Regime.from_config(cfg).trains:
            return [self._make(operating_point, name, config_file, options)]
        points = []
        for seed in entry.seeds:
            own = {**options, "SEED": seed}
            point = self._make(operating_point, f"{name}-seed_{seed}", config_file, own)
            self._trained[name, seed] = point.name
            points.append(point)
        return points

    def _config_file(self, entry: Entry, regime: str) -> str:
        configs = self._study.configs
        file = configs.replace(REGIME, regime)
        if Path(file).is_file():
            return file
        name = re.escape(configs).replace(re.escape(REGIME), "(.*)")
        others = glob(configs.replace(REGIME, "*"))  # noqa: PTH207 (Path's is for relative ones)
        matches = (re.fullmatch(name, other) for other in others)
        known = [match.group(1) for match in matches if match]
        raise ConfigError(
            f"{self._study.file}: {entry.key}.regimes: '{regime}' has no config file "
            f"'{file}'{did_you_mean(regime, known)}"
        )

    def _make(
        self,
        settings: Settings,
        name: str,
        config_file: str,
        options: Mapping[str, Any],
        *,
        prepares: bool = False,
    ) -> StudyPoint:
        place = f"{self._study.file}: {settings.key}"
        folder = self._study.output_dir / name
        needs: list[str] = []
        own = {
            key: self._resolve(value, f"{place}.options.{key}", needs, options.get("SEED"))
            for key, value in {**options, **self._overrides}.items()
        }
        own["OUTPUT_DIR"] = str(folder)
        with _at(f"{place}, point {name}"):
            cfg = load_config(config_file, as_words(own))
            evaluates = not Regime.from_config(cfg).trains
            check_config(cfg, train=not evaluates)
            _check_for_sweep(cfg)
        return StudyPoint(
            name=name,
            key=settings.key,
            folder=folder,
            config_file=config_file,
            options=own,
            needs=tuple(dict.fromkeys(needs)),
            prepares=prepares,
            is_started_from=prepares,
            evaluates=evaluates,
            cfg=cfg,
        )

    def _resolve(self, value: Any, key: str, needs: list[str], seed: int | None) -> Any:
        """``value`` with the paths of the points that it refers to, which are added to needs."""

        def path_of(match: re.Match) -> str:
            name = match.group(1)
            found = name if name in self._prepared else self._trained.get((name, seed))
            if found is None:
                known = [*self._prepared, *(n for n, s in self._trained if s == seed)]
                raise ConfigError(
                    f"{key}: ${{{name}}} is neither among prepare nor a point of the grid before "
                    f"this one and of its seed{did_you_mean(name, known)}"
                )
            needs.append(found)
            return str(self._study.output_dir / found / FINAL_WEIGHTS)

        return _REFERENCE.sub(path_of, value) if isinstance(value, str) else value


def _rate(settings: Settings, regime: Regime | None = None) -> dict[str, Any]:
    """Config keys of the rate, without those that ``regime`` has no use for."""
    reaches, weighs = (regime.trades_rate, regime.trains_rate) if regime else (True, True)
    given = (
        ("TARGET_BPP", "LEVEL_TARGETS", settings.target_bpp if reaches else None),
        ("BETA", "LEVEL_BETAS", settings.beta if weighs else None),
    )
    # Keys are floats; of a whole number, the config says that its type is wrong.
    return {
        f"MODEL.CODEC.{by_level if isinstance(value, list) else alone}": (
            [float(x) for x in value] if isinstance(value, list) else float(value)
        )
        for alone, by_level, value in given
        if value is not None
    }


def as_words(options: Mapping[str, Any]) -> list[str]:
    """Config keys and values as a command line has them."""
    return [word for key, value in options.items() for word in (key, str(value))]


def _check_for_sweep(cfg: CfgNode) -> None:
    if not cfg.DATASETS.TEST:
        raise ConfigError("DATASETS.TEST is empty: without an evaluation, no point is ever done")
    if cfg.SOLVER.REFERENCE_WORLD_SIZE:
        raise ConfigError(
            "SOLVER.REFERENCE_WORLD_SIZE makes the schedule depend on the number of GPUs, so that "
            "points do not compare: set it to 0"
        )


def _check_names(study: Study, points: Sequence[StudyPoint]) -> None:
    by_name: dict[str, StudyPoint] = {}
    for point in points:
        place = f"{study.file}: {point.key}"
        if not _NAME.fullmatch(point.name) or SET_ASIDE in point.name:
            raise ConfigError(
                f"{place}: '{point.name}' cannot name a folder of results: use letters, digits, "
                f"'_', '.', '+' and '-', and not '{SET_ASIDE}'"
            )
        other = by_name.setdefault(point.name, point)
        if other is not point:
            raise ConfigError(
                f"{place}: the point {point.name} is at {other.key} already: rename one, or name "
                "each regime once"
            )


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Within it, errors say where they come from."""
    try:
        yield
    except CodecDetError as error:
        raise ConfigError(f"{place}: {error}") from None
