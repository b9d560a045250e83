"""COCO's metrics of as many pictures, objects and detections as in COCO, against detectron2's."""

from __future__ import annotations

import io
import json
import math
import tempfile
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, coco_evaluation
from detectron2.structures import Boxes, Instances

from codec_det.evaluation.coco import FastCOCOEvaluator

from .result import BenchmarkResult, BenchmarkRow
from .settings import BenchmarkSettings
from .timing import compare, in_turn

# Of COCO 2017 val, whose 5,000 pictures have 36,781 objects.
CLASSES = 80
OBJECTS = 7.36
# Of a picture: COCO's metrics take no more.
DETECTIONS = 100

# One of 5,000 pictures takes most of a minute where detectron2's extension is missing.
MAX_ROUNDS = 3

KINDS = (FastCOCOEvaluator, COCOEvaluator)

Detections = list[tuple[int, Instances]]


def measure(settings: BenchmarkSettings) -> BenchmarkResult:
    """Seconds from detections to results, files of results included.

    The notes say whether detectron2 took its compiled evaluation or pycocotools, and how far the
    results are apart.
    """
    detections, truth = synthetic_detections(settings.detected, settings.size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "truth.json")
        path.write_text(json.dumps(truth))
        # detectron2 keeps names for as long as the process lives.
        name = f"benchmark_{Path(folder).name}"
        MetadataCatalog.get(name).set(
            json_file=str(path),
            thing_classes=[category["name"] for category in truth["categories"]],
            thing_dataset_id_to_contiguous_id={i + 1: i for i in range(CLASSES)},
        )
        results: dict[str, dict[str, float]] = {}

        def evaluate(kind: type[COCOEvaluator]) -> None:
            results[kind.__name__] = _evaluate(kind(name, output_dir=folder), detections)

        sides = {kind.__name__: partial(evaluate, kind) for kind in KINDS}
        rounds = min(settings.rounds, MAX_ROUNDS)
        own, reference = in_turn(sides, rounds, label="box AP").values()
    compiled = coco_evaluation.COCOeval_opt is not coco_evaluation.COCOeval
    peer = f"detectron2, {'compiled' if compiled else 'pycocotools'}"
    row = BenchmarkRow("faster-coco-eval", peer, compare(own, reference), target=1.0)
    notes = {"pictures": len(detections), "largest difference": _difference(*results.values())}
    return BenchmarkResult([row], notes=notes)


def synthetic_detections(count: int, size: tuple[int, int]) -> tuple[Detections, dict[str, Any]]:
    """Detections by picture, half of them near objects; and the objects, in COCO's format.

    Args:
        count: pictures.
        size: (height, width) of them.
    """
    rng = np.random.default_rng(0)
    detections: Detections = []
    annotations: list[dict[str, Any]] = []
    height, width = size
    for image in range(count):
        boxes = _boxes(rng, min(rng.geometric(1 / OBJECTS), DETECTIONS), size)
        # Pictures have many objects of few classes.
        classes = rng.choice(rng.integers(CLASSES, size=3), len(boxes))
        for (left, top, right, bottom), c in zip(boxes.tolist(), classes.tolist(), strict=True):
            sides = right - left, bottom - top
            entry = {"image_id": image, "category_id": c + 1, "bbox": [left, top, *sides]}
            entry |= {"id": len(annotations) + 1, "area": math.prod(sides), "iscrowd": 0}
            annotations.append(entry)
        detections.append((image, _detected(rng, boxes, classes, size)))
    shape = {"height": height, "width": width}
    truth = {
        "info": {},
        "images": [{"id": i, "file_name": f"{i}.png", **shape} for i in range(count)],
        "categories": [{"id": i + 1, "name": f"class {i}"} for i in range(CLASSES)],
        "annotations": annotations,
    }
    return detections, truth


def _boxes(rng: np.random.Generator, count: int, size: tuple[int, int]) -> np.ndarray:
    """(count, 4) corners x0, y0, x1, y1 in pixels; most sides are of 20 to 150."""
    within = np.array(size[::-1])
    sides = np.minimum(np.exp(rng.normal(4, 1, (count, 2))), within)
    first = rng.random((count, 2)) * (within - sides)
    return np.concatenate([first, first + sides], axis=1)


def _detected(
    rng: np.random.Generator, boxes: np.ndarray, classes: np.ndarray, size: tuple[int, int]
) -> Instances:
    found = _boxes(rng, DETECTIONS, size)
    labels = rng.integers(CLASSES, size=DETECTIONS)
    near = rng.random(DETECTIONS) < 0.5
    objects = rng.integers(len(boxes), size=near.sum())
    found[near] = boxes[objects] + rng.normal(0, 4, (len(objects), 4))
    labels[near] = classes[objects]
    instances = Instances(size)
    instances.pred_boxes = Boxes(torch.from_numpy(found).float())
    instances.scores = torch.from_numpy(rng.random(DETECTIONS)).float()
    instances.pred_classes = torch.from_numpy(labels)
    return instances


def _evaluate(evaluator: COCOEvaluator, detections: Detections) -> dict[str, float]:
    evaluator.reset()
    # What it prints would disturb the progress bar.
    with redirect_stdout(io.StringIO()):
        for image, found in detections:
            evaluator.process([{"image_id": image}], [{"instances": found}])
        results: dict[str, float] = evaluator.evaluate()["bbox"]
    return results


def _difference(ours: dict[str, float], theirs: dict[str, float]) -> float:
    """The largest of any of their metrics, in percent points; nan in one alone gives nan."""
    pairs = [(ours[key], theirs[key]) for key in theirs]
    return float(np.max([abs(a - b) for a, b in pairs if not (math.isnan(a) and math.isnan(b))]))
