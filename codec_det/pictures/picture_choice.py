"""Which pictures of a data set to show.

Each choice is a list of entries of detectron2's data set, which must be registered.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog
from tqdm import tqdm

from ..errors import CodecDetError, DatasetError
from ..evaluation.objects import ground_truth
from ..evaluation.picture_ap import box_ap
from ..runs import Run
from .saved_detections import read_saved_detections, some

Entry = dict[str, Any]


def by_ids(dataset: str, image_ids: Sequence[int]) -> list[Entry]:
    """Those with the given ids, in their order, each once.

    Raises:
        CodecDetError: if an id is not in the data set.
    """
    by_id = {entry["image_id"]: entry for entry in DatasetCatalog.get(dataset)}
    unknown = [image_id for image_id in image_ids if image_id not in by_id]
    if unknown:
        raise CodecDetError(
            f"{dataset} has no image with id {some(unknown)}: its {len(by_id)} ids go from "
            f"{min(by_id)} to {max(by_id)}"
        )
    return [by_id[image_id] for image_id in dict.fromkeys(image_ids)]


def evenly(dataset: str, count: int) -> list[Entry]:
    """``count``, or all if there are fewer, evenly spread from the first to the last."""
    entries = DatasetCatalog.get(dataset)
    places = np.linspace(0, len(entries) - 1, min(count, len(entries)))
    return [entries[round(place)] for place in places]


def of_sequence(dataset: str, sequence: int) -> list[Entry]:
    """All frames of a sequence, in order of time.

    Raises:
        CodecDetError: if the data set has none of that id.
    """
    entries = DatasetCatalog.get(dataset)
    found = [entry for entry in entries if entry.get("video_id") == sequence]
    if not found:
        known = sorted({entry["video_id"] for entry in entries if "video_id" in entry})
        there = (
            f"its {len(known)} ids go from {known[0]} to {known[-1]}" if known else "it has none"
        )
        raise CodecDetError(f"--sequence {sequence}: {dataset} has no such sequence; {there}")
    return sorted(found, key=lambda entry: entry["frame_id"])


def at_random(dataset: str, count: int, seed: int) -> list[Entry]:
    """``count``, or all if there are fewer, drawn without bias, in the data set's order.

    The same seed draws the same; a larger count only adds to them.
    """
    entries = DatasetCatalog.get(dataset)
    drawn = np.random.default_rng(seed).permutation(len(entries))[:count]
    return [entries[place] for place in sorted(drawn)]


def by_disagreement(a: Run, b: Run, count: int) -> list[Entry]:
    """``count`` whose box AP differs most between two runs of one test set, most first.

    By the detections that the runs' evaluations have saved: no model runs. Pictures without
    objects have no AP and are not chosen.

    Raises:
        CodecDetError: if a run has saved none, they are not of this data set, or no picture has
            objects.
    """
    entries = DatasetCatalog.get(a.dataset)
    found_a, found_b = (read_saved_detections(run, entries) for run in (a, b))
    difference = []
    for entry in tqdm(entries, desc="box AP by picture", unit="img"):
        truth = ground_truth(entry)
        aps = [box_ap(truth, found[entry["image_id"]]) for found in (found_a, found_b)]
        difference.append(abs(aps[0] - aps[1]))
    # Equal ones stay in the data set's order, and nan comes last.
    order = np.argsort(-np.array(difference), kind="stable")
    chosen = [entries[i] for i in order[:count] if not np.isnan(difference[i])]
    if not chosen:
        raise CodecDetError(
            f"no picture of {a.dataset} has annotated objects, so runs cannot disagree by AP: "
            "choose pictures by id or at random"
        )
    return chosen


def check_files(entries: Sequence[Entry]) -> None:
    """Raise :class:`DatasetError` that names the pictures whose files are missing, if any are."""
    missing = [entry for entry in entries if not Path(entry["file_name"]).is_file()]
    if missing:
        files = some([f"{entry['image_id']} ('{entry['file_name']}')" for entry in missing])
        raise DatasetError(
            f"{len(missing)} of {len(entries)} chosen pictures have no file, image {files}: put "
            "them there, or choose others"
        )
