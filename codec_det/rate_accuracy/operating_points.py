"""What a run measured: its operating point, and everything else that figures follow from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

from ..codec.table import is_conventional
from ..config import flatten, get_codec_det_cfg
from ..config_differences import PLACES_AND_SPEED
from ..levels import name_level
from .records import Result

_CODEC = "MODEL.CODEC."
# Where and how a run was made, which nothing that is measured follows from.
_CIRCUMSTANCES = PLACES_AND_SPEED | {
    "SEED",
    "VIS_PERIOD",
    "DATASETS.COCO_FORMAT",
    "DATASETS.PICTURES",
    "DATASETS.TEST",
    "SOLVER.CHECKPOINT_PERIOD",
    "TEST.EVAL_PERIOD",
}
# What leads from one point of a curve to the next, in the order in which it is named.
_OPERATING_POINT = ("QUALITY", "TARGET_BPP", "BETA", "WEIGHTS", "N", "M")
# What a chain that was not trained cannot depend on.
_OF_TRAINING = (
    "SOLVER.",
    "DATALOADER.",
    "DATASETS.",
    "INPUT.RANDOM_FLIP",
    "INPUT.CROP",
    "MODEL.CODEC.BETA",
    "MODEL.CODEC.TARGET_BPP",
    "MODEL.CODEC.LEVEL_BETAS",
    "MODEL.CODEC.LEVEL_TARGETS",
    "MODEL.CODEC.DISTORTION_WEIGHT",
    "MODEL.CODEC.QUANTIZATION",
)


def configuration(result: Result) -> dict[str, Any]:
    """The changed config keys that figures follow from, beside the operating point's.

    Coding scale and number of levels are not among them: they tell curves apart whatever their
    operating points.
    """
    apart = ("SCALE", "LEVELS", "LEVELS_TEST")
    left_out = _CIRCUMSTANCES | {_CODEC + name for name in (*_OPERATING_POINT, *apart)}
    # Models that were trained for a level each are a curve together.
    alone = {_CODEC + "LEVELS_TRAIN": [result.level]}
    return {
        key: "one each" if alone.get(key) == value else value
        for key, value in result.record.get("config", {}).items()
        if key not in left_out and not _is_idle(key, result)
    }


def _is_idle(key: str, result: Result) -> bool:
    """Whether nothing that is measured follows from a key, in a chain as this."""
    if key.startswith(_CODEC) and (is_conventional(result.codec) or not result.is_compressed):
        return True  # what there is to know of it, the record has beside the config
    return not result.is_trained and (key.startswith(_OF_TRAINING) or "_TRAIN" in key)


def operating_point(result: Result) -> dict[str, Any]:
    """LEVEL, QUALITY, TARGET_BPP, ... by name; None where it does not matter."""
    config = result.record.get("config", {})
    point = {
        name: None if _is_idle(key, result) else config.get(key, default(key))
        for name in _OPERATING_POINT
        for key in [_CODEC + name]
    }
    # A conventional codec's can be one that its key cannot hold; no codec has none.
    quality = result.record["codec"].get("quality") if result.is_compressed else None
    return {"LEVEL": result.level, **point, "QUALITY": quality}


@lru_cache(maxsize=1)
def _defaults() -> dict[str, Any]:
    return dict(flatten(get_codec_det_cfg()))


def default(key: str) -> Any:
    """The value of a config key that a record does not say, as nobody had changed it."""
    return _defaults().get(key, "default")


def name_points(points: Sequence[dict[str, Any]]) -> list[str]:
    """By the first key that tells all of them apart, else by all that differ; "" of no codec."""
    varying = [key for key in points[0] if len({str(point[key]) for point in points}) > 1]
    alone = [key for key in varying if len({str(point[key]) for point in points}) == len(points)]
    keys = alone[:1] or varying or ["QUALITY"]
    return [", ".join(_name_value(key, point[key]) for key in keys) for point in points]


def name_differences(points: Sequence[dict[str, Any]]) -> list[str]:
    """Each by its quality, and by all else that differs where it matters; "" of no codec."""
    keys = ["QUALITY"]
    for key in points[0]:
        values = {str(point[key]) for point in points if point[key] is not None}
        keys += [key] if len(values) > 1 and key != "QUALITY" else []
    return [
        ", ".join(_name_value(key, point[key]) for key in keys if point[key] is not None)
        for point in points
    ]


def _name_value(key: str, value: Any) -> str:
    if key == "LEVEL":
        return "" if value is None else name_level(value)
    if key == "QUALITY":
        return "" if value is None else f"quality {value:g}"
    if key == "TARGET_BPP":
        return f"target {value:g} bpp" if value else "no target"
    if value is None or (key in ("N", "M") and not value):
        return f"{key} default"
    if key.endswith("WEIGHTS"):
        # Runs call their last checkpoints alike: the folder says more.
        return "/".join(PurePosixPath(str(value).split("://")[-1]).parts[-2:])
    return f"{key} {value}"
