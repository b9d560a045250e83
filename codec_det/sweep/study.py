"""The YAML of a sweep: its keys, and the check of their shape. configs/study/ has examples.

=================  ===============================================================================
output_dir         folder of the points' folders, relative to the current one
configs            config file of a regime, with "{regime}" in it: configs/bccd/{regime}.yaml
options            config keys of every grid point, as in {SOLVER.MAX_ITER: 100}
seeds              seeds of every grid point that trains (default: [0]); an entry may have others
num_gpus           GPUs of each point; 0: the CPU (default: one if there is one)
prepare            points by name, that others start from: config, target_bpp, beta, options
grid               list of entries, each with regimes and either operating_points or codec and
                   qualities; and scales, seeds, target_bpp, beta and options of all its points
operating_points   by name: target_bpp, beta, options; with MODEL.CODEC.LEVELS among the latter,
                   target_bpp and beta are lists, with a number for each level
codec, qualities   operating points <codec>_<quality>, with MODEL.CODEC.NAME and QUALITY
scales             each operating point at each MODEL.CODEC.SCALE, such as [1, 0.75, 0.5, 0.25];
                   below 1, it is called <operating point>_scale_<scale>
=================  ===============================================================================

``${name}`` in an option's value is the final weights of the prepared point of that name, or, as in
``${jft-rate_1}``, those of a point of the grid further up, of the same seed. Bits per pixel to end
at (target_bpp) and the first weight of the rate (beta) reach the regimes alone that train the rate,
of which R-FT has no use for the former. What an operating point says comes before what its entry
says, and that before what the study says.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ..coding_scale import MIN_SCALE
from ..errors import ConfigError

REGIME = "{regime}"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the YAML says of a run.

    Attributes:
        key: where in the YAML it is, for messages.
        target_bpp: bits per pixel to end at; a list by level where there are several.
        beta: first weight of the rate; the same.
        options: config keys and their values.
    """

    key: str
    target_bpp: float | list[float] | None = None
    beta: float | list[float] | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Preparation(Settings):
    """A point that others start from."""

    name: str
    config_file: str


@dataclass(frozen=True, kw_only=True)
class OperatingPoint(Settings):
    """A codec at a rate."""

    name: str


@dataclass(frozen=True)
class Entry:
    """Regimes, each at several operating points, all with the same seeds."""

    key: str
    regimes: list[str]
    operating_points: list[OperatingPoint]
    seeds: list[int]


@dataclass(frozen=True, kw_only=True)
class Study:
    """A sweep's YAML."""

    file: str
    output_dir: Path
    configs: str
    num_gpus: int | None
    prepare: list[Preparation]
    grid: list[Entry]


def read_study(path: Path) -> Study:
    """Read and check a YAML file, as far as it can be without the config files that it names.

    Raises:
        ConfigError: naming the key that is wrong.
    """
    try:
        with path.open(encoding="utf-8") as file:
            node = yaml.load(file, _UniqueKeys)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read '{path}' ({reason}): give a study's YAML file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"'{path}' is no YAML: {error}") from None
    try:
        return _study(str(path), node)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


class _UniqueKeys(yaml.SafeLoader):
    """Refuses what YAML forbids and PyYAML does not: of two equal keys, it keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key.value}' is there twice: rename one", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


SETTINGS = ("target_bpp", "beta", "options")


def _study(file: str, node: Any) -> Study:
    optional = ("options", "seeds", "num_gpus", "prepare")
    node = _mapping(node, "", ("output_dir", "configs", "grid"), optional)
    common = _options(node.get("options", {}), "options")
    configs = _text(node["configs"], "configs")
    if REGIME not in configs:
        raise ConfigError(
            f"configs: '{configs}' names one file: put {REGIME} where they differ, as in "
            f"configs/bccd/{REGIME}.yaml"
        )
    seeds = _seeds(node.get("seeds", [0]), "seeds")
    prepare = _named(node.get("prepare", {}), "prepare")
    gpus = node.get("num_gpus")
    return Study(
        file=file,
        output_dir=Path(_text(node["output_dir"], "output_dir")),
        configs=configs,
        num_gpus=None if gpus is None else _whole(gpus, "num_gpus"),
        prepare=[_preparation(name, value) for name, value in prepare.items()],
        grid=[
            _entry(value, f"grid[{index}]", common, seeds)
            for index, value in enumerate(_list(node["grid"], "grid"))
        ],
    )


def _seeds(node: Any, key: str) -> list[int]:
    seeds = [_whole(value, f"{key}[{index}]") for index, value in enumerate(_list(node, key))]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"{key}: {seeds} has one twice")
    return seeds


def _preparation(name: str, node: Any) -> Preparation:
    key = f"prepare.{name}"
    node = _mapping(node, key, ("config",), SETTINGS)
    return Preparation(
        name=name, config_file=_text(node["config"], f"{key}.config"), **_settings(node, key)
    )


def _entry(node: Any, key: str, common: dict[str, Any], seeds: list[int]) -> Entry:
    optional = ("operating_points", "codec", "qualities", "scales", "seeds", *SETTINGS)
    node = _mapping(node, key, ("regimes",), optional)
    regimes = [
        _text(value, f"{key}.regimes[{index}]")
        for index, value in enumerate(_list(node["regimes"], f"{key}.regimes"))
    ]
    own = _settings(node, key)
    own["options"] = {**common, **own["options"]}
    if {"codec", "qualities"} <= node.keys() and "operating_points" not in node:
        points = _qualities(node, key, own)
    elif "operating_points" in node and not {"codec", "qualities"} & node.keys():
        key_of_points = f"{key}.operating_points"
        points = [
            _operating_point(name, value, f"{key_of_points}.{name}", own)
            for name, value in _named(node["operating_points"], key_of_points).items()
        ]
    else:
        raise ConfigError(f"{key}: give either operating_points, or codec and qualities")
    scales = _scales(node["scales"], f"{key}.scales") if "scales" in node else [None]
    points = [_at_scale(point, scale) for scale in scales for point in points]
    own_seeds = _seeds(node["seeds"], f"{key}.seeds") if "seeds" in node else seeds
    return Entry(key, regimes, points, own_seeds)


def _scales(node: Any, key: str) -> list[float]:
    scales = []
    for index, value in enumerate(_list(node, key)):
        place = f"{key}[{index}]"
        number = _number(value, place)
        if number is None or not MIN_SCALE <= number <= 1:
            raise ConfigError(f"{place}: {value!r} is no scale: give one from 0.000001 to 1")
        scales.append(float(number))
    return scales


def _at_scale(point: OperatingPoint, scale: float | None) -> OperatingPoint:
    if scale is None:
        return point
    # Points at scale 1 are called as in a study without scales: what has been run counts.
    name = point.name if scale == 1 else f"{point.name}_scale_{scale:g}"
    return replace(point, name=name, options={**point.options, "MODEL.CODEC.SCALE": scale})


def _qualities(node: dict, key: str, own: dict[str, Any]) -> list[OperatingPoint]:
    codec = _text(node["codec"], f"{key}.codec")
    points = []
    for index, value in enumerate(_list(node["qualities"], f"{key}.qualities")):
        place = f"{key}.qualities[{index}]"
        options = {"MODEL.CODEC.NAME": codec, "MODEL.CODEC.QUALITY": _whole(value, place)}
        settings = {**own, "key": place, "options": {**own["options"], **options}}
        points.append(OperatingPoint(name=f"{codec}_{value}", **settings))
    return points


def _operating_point(name: str, node: Any, key: str, own: dict[str, Any]) -> OperatingPoint:
    node = _mapping({} if node is None else node, key, (), SETTINGS)
    settings = _settings(node, key)
    options = {**own["options"], **settings["options"]}
    given = {k: value for k, value in settings.items() if value is not None}
    return OperatingPoint(name=name, **{**own, **given, "options": options})


def _settings(node: dict, key: str) -> dict[str, Any]:
    return {
        "key": key,
        "target_bpp": _rate(node.get("target_bpp"), f"{key}.target_bpp"),
        "beta": _rate(node.get("beta"), f"{key}.beta"),
        "options": _options(node.get("options", {}), f"{key}.options"),
    }


def _options(node: Any, key: str) -> dict[str, Any]:
    node = {} if node is None else node
    for name, value in _named(node, key).items():
        if name == "OUTPUT_DIR":
            raise ConfigError(f"{key}.OUTPUT_DIR: folders follow from output_dir and point names")
        if value is None or isinstance(value, dict):
            raise ConfigError(
                f"{key}.{name}: {value!r} is no value; write whole keys, as in SOLVER.MAX_ITER: 100"
            )
    return node


def _mapping(
    node: Any, key: str, required: Sequence[str], optional: Sequence[str]
) -> dict[str, Any]:
    prefix = f"{key}: " if key else ""
    allowed = [*required, *optional]
    if not isinstance(node, dict):
        raise ConfigError(f"{prefix}{node!r} is no mapping with the keys {', '.join(allowed)}")
    for name in node:
        if name not in allowed:
            raise ConfigError(f"{prefix}unknown key '{name}'{did_you_mean(str(name), allowed)}")
    missing = [name for name in required if name not in node]
    if missing:
        raise ConfigError(f"{prefix}the key {missing[0]} is missing")
    return node


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """End of a message about an unknown name: the closest known one, or all."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f": did you mean {close[0]}?"
    return f": choose from {', '.join(known)}" if known else ": there is none"


def _named(node: Any, key: str) -> dict[str, Any]:
    if not isinstance(node, dict) or not all(isinstance(name, str) for name in node):
        raise ConfigError(f"{key}: {node!r} is no mapping from names")
    return node


def _list(node: Any, key: str) -> list:
    if not isinstance(node, list) or not node:
        raise ConfigError(f"{key}: {node!r} is no list of one or more")
    return node


def _text(node: Any, key: str) -> str:
    if not isinstance(node, str) or not node:
        raise ConfigError(f"{key}: {node!r} is no text")
    return node


def _whole(node: Any, key: str) -> int:
    if not isinstance(node, int) or isinstance(node, bool) or node < 0:
        raise ConfigError(f"{key}: {node!r} is no whole number of 0 or more")
    return node


def _rate(node: Any, key: str) -> float | list[float] | None:
    """A number, or one for each level."""
    if not isinstance(node, list):
        return _number(node, key)
    numbers = [_number(value, f"{key}[{index}]") for index, value in enumerate(_list(node, key))]
    return [number for number in numbers if number is not None]


def _number(node: Any, key: str) -> float | None:
    if node is not None and (not isinstance(node, (int, float)) or isinstance(node, bool)):
        raise ConfigError(f"{key}: {node!r} is no number")
    return node
