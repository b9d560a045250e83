"""COCO's metrics, against pycocotools and by hand."""

import json
import math

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, coco_evaluation, inference_on_dataset
from detectron2.structures import Boxes, Instances
from faster_coco_eval.core.faster_eval_api import COCOeval as FastCOCOeval
from pycocotools import cocoeval

from codec_det.data.loader import build_test_loader
from codec_det.data.register import register_datasets
from codec_det.evaluation.coco import FastCOCOEvaluator
from codec_det.evaluation.places import MARGIN, PLACES
from codec_det.training.trainer import Trainer, load_chain

HEIGHT, WIDTH = 480, 640

# Neither contiguous nor sorted; the third has no objects.
CATEGORIES = [90, 3, 2**31 + 5, 11]
# The first has no objects, the last no detections.
IMAGES = [5, 2**53 - 1, 2**40 + 1, 17, 0, *range(1000, 1008)]

SIDES = [4, 16, 32, 50, 96, 120, 200]
# Around the limits of COCO's "small", "medium" and "large".
AREAS = [32**2 - 0.5, 32**2, 32**2 + 0.5, 96**2 - 0.5, 96**2, 96**2 + 0.5]


class Recorded:
    """Keeps what pycocotools' or the fast evaluation holds: arrays beyond the results."""

    def _derive_coco_results(self, coco_eval, iou_type, class_names=None):
        self.evaluations = {**getattr(self, "evaluations", {}), iou_type: coco_eval}
        return super()._derive_coco_results(coco_eval, iou_type, class_names)


class Fast(Recorded, FastCOCOEvaluator):
    pass


class Official(Recorded, COCOEvaluator):
    def __init__(self, name, output_dir=None):
        super().__init__(name, output_dir=output_dir, use_fast_impl=False)


def register(tmp_path, truth):
    """The name of a data set for detectron2."""
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    ids = sorted(category["id"] for category in truth["categories"])
    # detectron2 keeps names for as long as the process lives.
    name = f"coco_evaluation_{tmp_path}"
    MetadataCatalog.get(name).set(
        json_file=str(path),
        thing_dataset_id_to_contiguous_id={category: i for i, category in enumerate(ids)},
        thing_classes=[str(category) for category in ids],
    )
    return name


def instances(boxes, scores, classes):
    """Detections of a picture, as a detector gives them: float32, boxes as corners."""
    found = Instances((HEIGHT, WIDTH))
    found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    found.scores = torch.tensor(scores, dtype=torch.float32)
    found.pred_classes = torch.tensor(classes, dtype=torch.int64)
    return found


def evaluate(cls, name, detections):
    evaluator = cls(name)
    evaluator.reset()
    for image, found in detections.items():
        evaluator.process([{"image_id": image}], [{"instances": found}])
    return evaluator.evaluate(), getattr(evaluator, "evaluations", {})


def truth_of(annotations):
    return {
        "info": {},
        "images": [
            {"id": image, "height": HEIGHT, "width": WIDTH, "file_name": f"{image}.png"}
            for image in IMAGES
        ],
        "categories": [{"id": category, "name": str(category)} for category in CATEGORIES],
        "annotations": annotations,
    }


def random_case(seed):
    """Truth with crowds, and detections by image: near the truth and anywhere, with tied scores."""
    rng = np.random.default_rng(seed)
    annotations = []
    for image in IMAGES[1:]:
        for category in np.delete(CATEGORIES, 2).tolist():
            for _ in range(rng.integers(6)):
                width, height = rng.choice(SIDES, 2) + rng.choice([0, 0.5])
                x, y = rng.integers(0, 280, 2)
                area = rng.choice([width * height, width * height / 2, *AREAS])
                annotations.append(
                    {
                        "id": 10**6 + len(annotations),
                        "image_id": image,
                        "category_id": category,
                        "bbox": [float(v) for v in (x, y, width, height)],
                        "area": float(area),
                        "iscrowd": int(rng.random() < 0.15),
                    }
                )
    detections = {}
    for i, image in enumerate(IMAGES[:-1]):
        own = [a for a in annotations if a["image_id"] == image]
        # More than 100 are cut off.
        count = [130, 0, 5, 250, 40][i % 5]
        boxes, classes = [], []
        for _ in range(count):
            x, y, width, height = rng.random(4) * 200
            classes.append(rng.integers(len(CATEGORIES)))
            if own and rng.random() < 0.7:
                near = own[rng.integers(len(own))]
                x, y, width, height = near["bbox"] + rng.choice([0, 1, 4]) * rng.normal(size=4)
                classes[-1] = sorted(CATEGORIES).index(near["category_id"])
            boxes.append([x, y, x + max(width, 0), y + max(height, 0)])
        scores = rng.random(count)
        tied = rng.random(count) < 0.7
        detections[image] = instances(boxes, np.where(tied, scores.round(1), scores), classes)
    return truth_of(annotations), detections


def assert_equal(ours, theirs):
    """Of recorded evaluations: the 12 metrics and all the arrays."""
    assert isinstance(ours, FastCOCOeval)
    assert type(theirs) is cocoeval.COCOeval
    assert ours.stats.shape == theirs.stats.shape == (12,)
    assert np.allclose(ours.stats, theirs.stats, rtol=0, atol=1e-6)
    assert (ours.stats > 0).all()
    for key in ("precision", "recall", "scores"):
        assert ours.eval[key].shape == theirs.eval[key].shape
        assert np.allclose(ours.eval[key], theirs.eval[key], rtol=0, atol=1e-6), key


@pytest.mark.parametrize("seed", range(6))
def test_boxes_equal_pycocotools(tmp_path, seed):
    truth, detections = random_case(seed)
    name = register(tmp_path, truth)
    ours, fast = evaluate(Fast, name, detections)
    theirs, official = evaluate(Official, name, detections)
    assert_equal(fast["bbox"], official["bbox"])
    # What is of a place, pycocotools has not.
    ours["bbox"] = {key: ours["bbox"][key] for key in theirs["bbox"]}
    assert ours["bbox"] == pytest.approx(theirs["bbox"], abs=1e-6, nan_ok=True)
    # No objects of a category: no AP of it.
    without = [key for key, value in ours["bbox"].items() if math.isnan(value)]
    assert without == [f"AP-{CATEGORIES[2]}"]


def test_masks_equal_pycocotools(tmp_path):
    truth, detections = random_case(0)
    for annotation in truth["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h / 2]]
        annotation["iscrowd"] = 0
    # Of a few pictures: the masks of one are 0.3 MB each.
    detections = {image: found[:40] for image, found in list(detections.items())[1:6]}
    for found in detections.values():
        masks = torch.zeros(len(found), HEIGHT, WIDTH, dtype=torch.bool)
        for mask, corners in zip(masks, found.pred_boxes.tensor.int().clamp(min=0), strict=True):
            left, top, right, bottom = corners.tolist()
            mask[top:bottom, left:right] = True
        found.pred_masks = masks
    name = register(tmp_path, truth)
    ours, fast = evaluate(Fast, name, detections)
    theirs, official = evaluate(Official, name, detections)
    assert set(ours) == {"bbox", "segm"}
    assert_equal(fast["segm"], official["segm"])
    assert_equal(fast["bbox"], official["bbox"])
    assert ours["segm"] == pytest.approx(theirs["segm"], abs=1e-6, nan_ok=True)


def test_keypoints_are_left_to_detectron2(tmp_path):
    box = {"bbox": [10.0, 10.0, 100.0, 100.0], "area": 1e4, "iscrowd": 0}
    points = [20.0, 20.0, 2] * 17
    annotation = {**box, "id": 1, "image_id": 17, "category_id": 3}
    truth = truth_of([{**annotation, "keypoints": points, "num_keypoints": 17}])
    found = instances([[10, 10, 110, 110]], [0.9], [0])
    # detectron2 takes half a pixel off.
    found.pred_keypoints = torch.tensor(points).reshape(1, 17, 3) + torch.tensor([0.5, 0.5, 0])
    results, evaluations = evaluate(Fast, register(tmp_path, truth), {17: found})
    assert isinstance(evaluations["bbox"], FastCOCOeval)
    assert isinstance(evaluations["keypoints"], cocoeval.COCOeval)
    assert results["keypoints"]["AP"] == pytest.approx(100)


def test_by_hand(tmp_path):
    box = {"category_id": 3, "bbox": [10.0, 10.0, 100.0, 100.0], "area": 1e4, "iscrowd": 0}
    truth = truth_of([{**box, "id": 1, "image_id": 17}, {**box, "id": 2, "image_id": 0}])
    # IoU 0.74: right at the first five of ten thresholds. The other object is missed.
    found = instances([[10, 10, 110, 84]], [0.9], [0])
    results, _ = evaluate(Fast, register(tmp_path, truth), {17: found})
    # Half the recall: precision 1 at 51 of the 101 points 0, 0.01, ... 1.
    assert results["bbox"]["AP50"] == pytest.approx(100 * 51 / 101)
    assert results["bbox"]["AP75"] == 0
    assert results["bbox"]["AP"] == pytest.approx(100 * 51 / 101 / 2)
    assert results["bbox"]["APl"] == results["bbox"]["AP-3"] == results["bbox"]["AP"]


@pytest.mark.parametrize("detections", [{}, {17: instances([], [], [])}])
def test_no_detections_are_what_detectron2_makes_of_them(tmp_path, detections):
    truth, _ = random_case(0)
    name = register(tmp_path, truth)
    (ours, _), (theirs, _) = (evaluate(cls, name, detections) for cls in (Fast, Official))
    assert ours.keys() == theirs.keys()
    assert all(math.isnan(value) for value in ours.get("bbox", {}).values())


def test_detectron2_is_left_as_it_was(tmp_path):
    before = coco_evaluation.COCOeval_opt
    truth, detections = random_case(0)
    name = register(tmp_path, truth)
    evaluate(FastCOCOEvaluator, name, detections)
    assert coco_evaluation.COCOeval_opt is before
    with pytest.raises(AssertionError, match="do not correspond"):
        evaluate(FastCOCOEvaluator, name, {123456: detections[IMAGES[3]]})
    assert coco_evaluation.COCOeval_opt is before


def test_an_evaluation_of_the_chain_takes_it(tiny_cfg, tiny_set, tmp_path):
    cfg = tiny_cfg(*tiny_set, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0")
    register_datasets(cfg)
    evaluators = Trainer.build_evaluator(cfg, "tiny")._evaluators
    assert isinstance(evaluators[1], FastCOCOEvaluator)
    loader, chain = build_test_loader(cfg, "tiny"), load_chain(cfg).eval()
    ours, theirs = (
        inference_on_dataset(chain, loader, evaluator)
        for evaluator in (evaluators[1], Official("tiny", str(tmp_path)))
    )
    both = {key: ours["bbox"][key] for key in theirs["bbox"]}
    assert both == pytest.approx(theirs["bbox"], abs=1e-6, nan_ok=True)
    results = (tmp_path / "output/inference/tiny/coco_instances_results.json").read_text()
    assert len(json.loads(results)) > 100
    assert results == (tmp_path / "coco_instances_results.json").read_text()


def test_objects_near_sides_are_told_from_those_inside(tmp_path):
    near, inside = [8.0, 200.0, 50.0, 50.0], [300.0, 200.0, 50.0, 50.0]
    annotations = [
        {"id": i + 1, "image_id": image, "category_id": 3, "bbox": box, "area": 1.0, "iscrowd": 0}
        for i, (image, box) in enumerate(((17, near), (17, inside), (0, inside)))
    ]
    # All inside are found, nothing near a side but what is not there.
    found = {
        17: instances([[300, 200, 350, 250], [590, 300, 639, 350]], [0.5, 0.9], [0, 0]),
        0: instances([[300, 200, 350, 250]], [0.9], [0]),
    }
    results, _ = evaluate(Fast, register(tmp_path, truth_of(annotations)), found)
    assert results["bbox"]["APinside"] == pytest.approx(100)
    assert results["bbox"]["APside"] == 0
    assert 0 < results["bbox"]["AP"] < 100


@pytest.mark.parametrize("side", ["left", "top", "right", "bottom"])
def test_each_side_counts_up_to_its_margin(tmp_path, side):
    for distance, expected in ((MARGIN - 1, "side"), (MARGIN, "inside")):
        x, y = 300.0, 200.0
        if side in ("left", "right"):
            x = distance if side == "left" else WIDTH - 50 - distance
        else:
            y = distance if side == "top" else HEIGHT - 50 - distance
        box = {"bbox": [x, y, 50.0, 50.0], "area": 1.0, "iscrowd": 0}
        folder = tmp_path / expected
        folder.mkdir()
        name = register(folder, truth_of([{**box, "id": 1, "image_id": 17, "category_id": 3}]))
        found = {17: instances([[x, y, x + 50, y + 50]], [0.9], [0])}
        results = evaluate(Fast, name, found)[0]["bbox"]
        aps = {place: results[f"AP{place}"] for place in PLACES}
        assert aps.pop(expected) == pytest.approx(100)
        assert all(math.isnan(ap) for ap in aps.values())
