"""Which config keys make results differ, and which of them say only how a run is evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PLACES_AND_SPEED = frozenset(
    {
        *("OUTPUT_DIR", "DATASETS.ROOT", "MODEL.CODEC.CACHE", "MODEL.CODEC.CACHE_GB"),
        *("MODEL.DEVICE", "DATALOADER.NUM_WORKERS", "CUDNN_BENCHMARK"),
        "MODEL.CODEC.CHECKPOINT_ACTIVATIONS",
        # They follow from the data sets.
        *("MODEL.ROI_HEADS.NUM_CLASSES", "MODEL.RETINANET.NUM_CLASSES"),
    }
)
"""Config keys whose values make no other results."""

_DATA_SETS = ("DATASETS.COCO_FORMAT", "DATASETS.PICTURES")


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> set[str]:
    """Keys whose values make results differ, of two flat configs {"A.B": value}.

    Paths to other runs beside OUTPUT_DIR are compared relative to their common folder, which may
    have been moved.
    """
    missing = object()
    wanted, found = _comparable(wanted), _comparable(found)
    return {
        key
        for key in wanted.keys() | found.keys()
        if wanted.get(key, missing) != found.get(key, missing)
    }


def training_differences(wanted: dict[str, Any], found: dict[str, Any]) -> set[str]:
    """Those of :func:`differences` that make trained weights differ."""
    keys = {key for key in differences(wanted, found) if not _is_of_evaluation(key)}
    same = {key for key in _DATA_SETS if _training_sets(wanted, key) == _training_sets(found, key)}
    return keys - same


def some_keys(keys: set[str], limit: int = 3) -> str:
    """Names of the first keys, and how many more there are."""
    names = sorted(keys)
    more = f", ... {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _is_of_evaluation(key: str) -> bool:
    """As in TEST.AUG.ENABLED, DATASETS.TEST, MODEL.ROI_HEADS.SCORE_THRESH_TEST."""
    # Precise batch norm is part of the weights that are saved.
    tested = key.endswith(("_TEST", ".TEST")) or key.startswith("TEST.")
    return key == "MODEL.CODEC.BITSTREAM" or (tested and not key.startswith("TEST.PRECISE_BN."))


def _training_sets(config: dict[str, Any], key: str) -> list[Any]:
    names = config.get("DATASETS.TRAIN", ())
    return [list(entry) for entry in config.get(key, ()) if entry[0] in names]


def _comparable(config: dict[str, Any]) -> dict[str, Any]:
    prefix = f"{Path(config.get('OUTPUT_DIR', '')).parent}/"
    # As files have it: lists, no tuples.
    config = json.loads(json.dumps(config))
    return {
        key: value.removeprefix(prefix) if isinstance(value, str) else value
        for key, value in config.items()
        if key not in PLACES_AND_SPEED
    }
