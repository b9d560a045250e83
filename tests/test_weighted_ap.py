"""Against pycocotools itself, on sets in which pictures are literally repeated."""

import copy
import io
import json
from contextlib import redirect_stdout

import numpy as np
import pytest
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from codec_det.rate_accuracy.weighted_ap import load_truth, match

IMAGES, CLASSES, BUSY, EMPTY = 14, 4, 2, 5


@pytest.fixture(scope="module")
def scene():
    """Annotations and detections: misses, false ones, crowds, a busy picture, an empty one."""
    rng = np.random.default_rng(1)
    annotations, found = [], []
    for image in range(1, IMAGES + 1):
        for _ in range(0 if image == EMPTY else rng.integers(1, 8)):
            box = [*rng.uniform(0, 80, 2), *rng.uniform(5, 40, 2)]
            category = int(rng.integers(1, CLASSES))  # none of the last class
            crowd = int(rng.random() < 0.15)
            annotations.append(
                {"image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd}
            )
            for _ in range(rng.integers(0, 3)):
                moved = (np.array(box) + rng.normal(0, 2, 4)).clip(1).tolist()
                found.append({"image_id": image, "category_id": category, "bbox": moved})
        # More than the 100 that COCO takes, in one picture.
        for _ in range(250 if image == BUSY else 4):
            box = [*rng.uniform(0, 80, 2), *rng.uniform(5, 40, 2)]
            category = 1 if image == BUSY else int(rng.integers(1, CLASSES + 1))
            found.append({"image_id": image, "category_id": category, "bbox": box})
    for number, one in enumerate(annotations, start=1):
        one |= {"id": number, "area": one["bbox"][2] * one["bbox"][3]}
    for one, score in zip(found, rng.permutation(len(found)), strict=True):
        one["score"] = (int(score) + 1) / (len(found) + 1)  # no two the same
    truth = {
        "images": [{"id": i} for i in range(1, IMAGES + 1)],
        "categories": [{"id": c} for c in range(1, CLASSES + 1)],
        "annotations": annotations,
    }
    return truth, found


def repeat(scene, weights):
    """The set in which picture i is there ``weights[i]`` times."""
    truth, found = scene
    images, annotations, detections = [], [], []
    for image, times in zip(truth["images"], weights, strict=True):
        for _ in range(times):
            number = len(images) + 1
            images.append({"id": number})
            for source, target in ((truth["annotations"], annotations), (found, detections)):
                own = [one for one in source if one["image_id"] == image["id"]]
                target += [{**one, "image_id": number} for one in own]
    for number, one in enumerate(annotations, start=1):
        one["id"] = number
    return {**truth, "images": images, "annotations": annotations}, detections


def reference(scene):
    """pycocotools' box AP and AP50 in percent, with its own parameters."""
    truth, found = copy.deepcopy(scene)
    with redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return 100 * evaluation.stats[:2]


def aps(matches, weights):
    figures = matches.aps(weights)
    return [figures["AP"], figures["AP50"]]


@pytest.fixture(scope="module")
def matches(scene, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    for name, content in zip(("truth", "found"), scene, strict=True):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return match(load_truth(folder / "truth.json"), folder / "found.json")


def test_with_each_picture_once_it_is_pycocotools_ap(scene, matches):
    expected = reference(scene)
    assert 5 < expected[0] < 95
    assert aps(matches, np.ones(IMAGES)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_it_is_pycocotools_ap_of_repeated_pictures(scene, matches, seed):
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES))
    assert weights.max() > 1
    assert weights.min() == 0
    expected = reference(repeat(scene, weights))
    assert aps(matches, weights) == pytest.approx(expected, abs=1e-9)


def with_masks(scene):
    """Triangles in the boxes, half of their area."""
    parts = copy.deepcopy(scene)
    parts[0]["images"] = [{**one, "height": 130, "width": 130} for one in parts[0]["images"]]
    for one in (*parts[0]["annotations"], *parts[1]):
        x, y, w, h = one["bbox"]
        one["segmentation"] = [[x, y, x + w, y, x, y + h]]
    for one in parts[0]["annotations"]:
        one["iscrowd"] = 0
    for one in parts[1]:
        # As results have masks.
        (one["segmentation"],) = mask.frPyObjects(one["segmentation"], 130, 130)
        one["segmentation"]["counts"] = one["segmentation"]["counts"].decode()
    return parts


@pytest.mark.parametrize(("task", "area"), [("segm", "all"), ("segm", "small"), ("bbox", "medium")])
def test_masks_and_sizes_are_pycocotools(scene, tmp_path, task, area):
    truth, found = with_masks(scene)
    for name, content in (("truth", truth), ("found", found)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    own = match(load_truth(tmp_path / "truth.json"), tmp_path / "found.json", task, area)
    with redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "truth.json"))
        # detectron2 leaves boxes out of the results that it has masks evaluated of.
        left_out = "bbox" if task == "segm" else ""
        results = [{key: one[key] for key in one if key != left_out} for one in found]
        evaluation = COCOeval(coco, coco.loadRes(results), task)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    places = {"all": (0, 1, 2), "small": (3,), "medium": (4,)}[area]
    figures = own.aps(np.ones(IMAGES))
    expected = [100 * evaluation.stats[place] for place in places]
    assert expected[0] > 1
    keys = ("AP", "AP50", "AP75")[: len(places)]
    assert [figures[key] for key in keys] == pytest.approx(expected, abs=1e-9)
    classes = [figures[f"AP-{number}"] for number in range(1, CLASSES)]
    assert np.mean(classes) == pytest.approx(figures["AP"])


def test_classes_that_were_not_drawn_do_not_count(scene, matches):
    truth, _ = scene
    counts = {
        i: len({a["category_id"] for a in truth["annotations"] if a["image_id"] == i + 1})
        for i in range(IMAGES)
    }
    fewest = min((i for i in counts if counts[i]), key=counts.get)
    weights = np.zeros(IMAGES, dtype=int)
    weights[fewest] = 3
    expected = reference(repeat(scene, weights))
    assert aps(matches, weights) == pytest.approx(expected, abs=1e-9)


def test_without_objects_there_is_no_ap(matches):
    weights = np.zeros(IMAGES, dtype=int)
    weights[EMPTY - 1] = 5
    assert np.isnan(aps(matches, weights)).all()
