"""Levels of codecs of variable rate: how many there are, which are evaluated, and what they are
called.

Level 0 is the lowest rate, and between two levels there are steps of 1/64. A codec of a fixed rate
has one level, which is never spoken of: where a level is given, its is None.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .bitstream.expected import LEVEL_STEPS
from .codec.table import find_codec

if TYPE_CHECKING:
    # Curves of results need none of it.
    from detectron2.config import CfgNode


def levels_of(cfg: CfgNode) -> int:
    """How many levels the codec of a config has: those of its architecture, or as it says."""
    entry = find_codec(cfg.MODEL.CODEC.NAME)
    return entry.levels if entry.levels > 1 or not entry.is_learned else cfg.MODEL.CODEC.LEVELS


def levels_to_train(cfg: CfgNode) -> list[int]:
    """Those that a config trains at: [0] of a fixed rate."""
    return list(cfg.MODEL.CODEC.LEVELS_TRAIN) or list(range(levels_of(cfg)))


def levels_to_test(cfg: CfgNode) -> list[float | None]:
    """Those that a config is evaluated at: [None] of a fixed rate."""
    if levels_of(cfg) == 1:
        return [None]
    return [float(x) for x in cfg.MODEL.CODEC.LEVELS_TEST or levels_to_train(cfg)]


def is_level(value: float, count: int) -> bool:
    """Whether files can have it as their level, of a codec that has ``count``."""
    return 0 <= value <= count - 1 and float(LEVEL_STEPS * value).is_integer()


def name_level(level: float) -> str:
    """In words; every step has its own."""
    return f"level {level:.10g}"


def inference_folder(folder: Path, dataset: str, level: float | None) -> Path:
    """Where a run keeps the detections of an evaluation."""
    place = folder / "inference" / dataset
    return place if level is None else place / name_level(level).replace(" ", "_")
