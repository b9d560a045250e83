"""Detections that a run's evaluation has saved: what it found, without running its model again."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog

from ..errors import CodecDetError
from ..evaluation.objects import Objects
from ..levels import inference_folder
from ..run_folder import CONFIG_FILE
from ..runs import Run

# detectron2's COCOEvaluator writes the first, our RateEvaluator the second.
DETECTIONS_FILE, PICTURES_FILE = "coco_instances_results.json", "per_image.csv"

SHOWN = 5  # of the culprits named in a message


def read_saved_detections(run: Run, entries: Sequence[dict[str, Any]]) -> dict[Any, Objects]:
    """What a run found in each picture of its test set, by image id.

    Args:
        run: of an :func:`codec_det.runs.open_run`.
        entries: all of detectron2's test set, which has been loaded.

    Raises:
        CodecDetError: if the run has saved no detections of this test set, those cannot be read,
            or they are of other pictures or classes.
    """
    folder = inference_folder(run.folder, run.dataset, run.level)
    try:
        results = json.loads((folder / DETECTIONS_FILE).read_bytes())
        with (folder / PICTURES_FILE).open(newline="") as file:
            evaluated = {row["image_id"] for row in csv.DictReader(file)}
        by_image: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
        for result in results:
            by_image[result["image_id"]].append(result)
        _check_pictures(run, {entry["image_id"] for entry in entries}, evaluated, by_image)
        classes = MetadataCatalog.get(run.dataset).thing_dataset_id_to_contiguous_id
        return {e["image_id"]: _objects(by_image[e["image_id"]], classes) for e in entries}
    except FileNotFoundError:
        raise CodecDetError(_describe_absence(run, folder)) from None
    except OSError as error:
        raise CodecDetError(
            f"cannot read '{error.filename}' ({error.strerror}): check its permissions"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, CodecDetError):
            raise
        raise CodecDetError(
            f"the saved detections in '{folder}' are damaged or of other classes than "
            f"{run.dataset} has ({error!r}): {_remedy(run)}"
        ) from None


def _check_pictures(
    run: Run, known: Collection[Any], evaluated: Collection[str], found_in: Collection[Any]
) -> None:
    """Raise :class:`CodecDetError` unless the run has evaluated exactly the known pictures."""
    lacking = [image_id for image_id in sorted(known) if str(image_id) not in evaluated]
    # Ids in the CSV are text.
    texts = {str(image_id) for image_id in known}
    others = sorted({*evaluated, *map(str, found_in)} - texts)
    for ids, fault in ((lacking, "without image"), (others, "on another data set, with image")):
        if ids:
            raise CodecDetError(
                f"the detections of '{run.folder}' were saved {fault} {some(ids)}, unlike what "
                f"{run.dataset} now has: {_remedy(run)}"
            )


def _objects(results: Sequence[dict[str, Any]], classes: Mapping[int, int]) -> Objects:
    """One picture's detections out of COCO's format.

    Raises:
        KeyError: if a class is not known.
    """
    boxes = np.array([result["bbox"] for result in results], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Objects(
        boxes=boxes,
        classes=np.array([classes[result["category_id"]] for result in results], dtype=np.int64),
        scores=np.array([result["score"] for result in results], dtype=np.float64),
        crowd=np.zeros(len(results), dtype=bool),
    )


def _describe_absence(run: Run, folder: Path) -> str:
    saved = sorted(path.parent.name for path in folder.parent.glob(f"*/{DETECTIONS_FILE}"))
    elsewhere = f"; it has those of {', '.join(saved)}" if saved else ""
    remedy = _remedy(run)
    if run.cfg.MODEL.DETECTOR.META_ARCHITECTURE == "NoDetector":
        remedy = "it has no detector, so give another run"
    return f"'{run.folder}' has no saved detections of {run.dataset}{elsewhere}: {remedy}"


def _remedy(run: Run) -> str:
    return (
        f"evaluate it with tools/train_net.py --config-file {run.folder / CONFIG_FILE} --eval-only "
        f"--resume OUTPUT_DIR {run.folder}, or choose pictures by id or at random"
    )


def some(names: Sequence[object]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(str, names[:SHOWN])) + more
