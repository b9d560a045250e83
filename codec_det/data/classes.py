"""The detector's classes are the data sets' categories: as many, and in the same order."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path

from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..config import flatten
from ..detector_check import class_key
from ..errors import ConfigError, DatasetError

logger = logging.getLogger(__name__)


def match_classes(cfg: CfgNode, *, train: bool) -> CfgNode:
    """The config, its detector with as many classes as its data sets have categories.

    Where their number was left at detectron2's default, that of the data sets takes its place.
    Evaluation alone need not have the training set, and compares with it where it is there.

    Args:
        cfg: its data sets registered and checked.
        train: whether it is to train as well.

    Raises:
        ConfigError: if it says another number.
        DatasetError: if categories of two data sets differ.
    """
    key = class_key(cfg)
    names = _by_data_set([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST])
    if key is None or not names or not (train or cfg.DATASETS.TEST):
        return cfg
    first, categories = next(iter(names.items()))
    for other in names:
        _compare(first, categories, other, names[other])
    given, count = dict(flatten(cfg))[key], len(categories)
    if given == count:
        return cfg
    if given != dict(flatten(get_cfg())).get(key):
        raise ConfigError(
            f"{key} is {given}, but the data set '{first}' has {count} categories "
            f"({_some(categories)}): set it to {count}, or leave it out"
        )
    logger.warning("%s is set to %d, as many as '%s' has categories", key, count, first)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.merge_from_list([key, count])
    cfg.freeze()
    return cfg


def _by_data_set(datasets: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Names of the categories by class, of each data set that tells them."""
    names = {}
    for dataset in datasets:
        if dataset not in DatasetCatalog.list():
            continue
        metadata = MetadataCatalog.get(dataset)
        json_file = Path(metadata.get("json_file") or "")
        if metadata.get("thing_classes"):
            names[dataset] = tuple(metadata.thing_classes)
        elif json_file.is_file():
            status = json_file.stat()
            names[dataset] = _read_categories(json_file, status.st_size, status.st_mtime_ns)
    return names


@lru_cache(maxsize=64)
def _read_categories(json_file: Path, size: int, mtime: int) -> tuple[str, ...]:
    """Of an annotation file in COCO's format, by ascending id, which is detectron2's order."""
    categories = json.loads(json_file.read_bytes())["categories"]
    return tuple(c["name"] for c in sorted(categories, key=lambda c: c["id"]))


def _compare(one: str, names: Sequence[str], other: str, others: Sequence[str]) -> None:
    pairs = enumerate(zip_longest(names, others))
    found = next(((i, a, b) for i, (a, b) in pairs if a != b), None)
    if found:
        index, a, b = (x if x is None or isinstance(x, int) else f"'{x}'" for x in found)
        raise DatasetError(
            f"class {index} is {a or 'none'} in the data set '{one}', but {b or 'none'} in "
            f"'{other}': training and test sets need the same categories, in the same order of ids"
        )


def _some(names: Sequence[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
