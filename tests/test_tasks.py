"""Tasks other than boxes: chains that segment, and what is refused before work."""

import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOPanopticEvaluator, SemSegEvaluator
from PIL import Image

from codec_det.config_checks import check_config
from codec_det.data.register import check_datasets, register_datasets
from codec_det.data.shapes import scenes
from codec_det.errors import ConfigError, DatasetError
from codec_det.evaluation import tasks
from codec_det.evaluation.coco import FastCOCOEvaluator
from codec_det.evaluation.results import read_records
from codec_det.evaluation.tasks import build_evaluators, check_tasks, tasks_of
from codec_det.rate_accuracy.records import Result
from codec_det.training.trainer import Trainer, load_chain

CLASSES = ("background", "object", "stripe")
SEGMENTOR = (
    *("MODEL.DETECTOR.META_ARCHITECTURE", "SemanticSegmentor"),
    *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", len(CLASSES), "MODEL.SEM_SEG_HEAD.CONVS_DIM", 32),
)


@pytest.fixture
def register():
    """Data sets for detectron2 that are gone after the test."""
    names = []

    def make(name, entries, **metadata):
        DatasetCatalog.register(name, lambda: entries)
        MetadataCatalog.get(name).set(**metadata)
        names.append(name)
        return name

    yield make
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def pixels(register, tmp_path):
    """Four pictures with a class for each pixel; some of the first have none."""
    entries = []
    for number, (picture, _) in enumerate(scenes(4, (64, 96), seed=5)):
        classes = (picture[..., 0] // 90).astype(np.uint8)
        classes[:8] = 255
        paths = [str(tmp_path / f"{number}{kind}.png") for kind in ("", "_classes")]
        for path, array in zip(paths, (picture, classes), strict=True):
            Image.fromarray(array).save(path)
        entries.append(
            {
                "file_name": paths[0],
                "sem_seg_file_name": paths[1],
                "image_id": number,
                "height": 64,
                "width": 96,
            }
        )
    truth = {"stuff_classes": list(CLASSES), "ignore_label": 255, "evaluator_type": "sem_seg"}
    return register("some_pixels", entries, **truth), entries


def on(name):
    return ("DATASETS.TRAIN", (name,), "DATASETS.TEST", (name,))


def test_a_segmentor_trains_behind_the_codec_and_is_measured(tiny_cfg, pixels, tmp_path):
    name, entries = pixels
    regime = ("MODEL.CODEC.TRAINABLE", ["encoder", "decoder"], "MODEL.DETECTOR.TRAINABLE", True)
    solver = ("SOLVER.MAX_ITER", 1, "SOLVER.IMS_PER_BATCH", 2)
    cfg = tiny_cfg(*SEGMENTOR, *on(name), *regime, *solver)
    check_config(cfg)
    check_datasets(cfg, train=True)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert trainer.storage.latest()["loss_sem_seg"][0] > 0
    result = Result(next(read_records(tmp_path / "output" / "results.jsonl")))
    assert result.figure("bpp") > 0
    # By hand, from what the saved chain makes of the pictures.
    chain = load_chain(cfg, resume=True).eval()
    loader = Trainer.build_test_loader(cfg, name)
    hits, either = np.zeros(3), np.zeros(3)
    for (entry,), source in zip(loader, entries, strict=True):
        found = chain([entry])[0]["sem_seg"].argmax(0).numpy()
        assert found.shape == (64, 96)
        truth = np.array(Image.open(source["sem_seg_file_name"]))
        for number in range(3):
            here, there = (found == number) & (truth != 255), truth == number
            hits[number] += (here & there).sum()
            either[number] += (here | there).sum()
    assert result.figure("mIoU") == pytest.approx(100 * (hits / either).mean())
    assert result.figure("IoU-object") == pytest.approx(100 * hits[1] / either[1])


def test_data_sets_have_the_evaluators_of_their_truth(tiny_cfg, register, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks.importlib.util, "find_spec", lambda name: name)
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    both = register(
        "some_panoptic",
        [],
        json_file=str(path),
        evaluator_type="coco_panoptic_seg",
        thing_classes=["cat"],
        thing_dataset_id_to_contiguous_id={1: 0},
        stuff_classes=list(CLASSES),
        stuff_dataset_id_to_contiguous_id={0: 0, 1: 1, 2: 2},
        ignore_label=255,
    )
    kinds = {
        "GeneralizedRCNN": [FastCOCOEvaluator],
        "SemanticSegmentor": [SemSegEvaluator],
        "PanopticFPN": [FastCOCOEvaluator, SemSegEvaluator, COCOPanopticEvaluator],
        "NoDetector": [],
    }
    for name, expected in kinds.items():
        cfg = tiny_cfg("MODEL.DETECTOR.META_ARCHITECTURE", name, *SEGMENTOR[2:])
        check_tasks(cfg, both, train=False)
        found = build_evaluators(cfg, both, str(tmp_path))
        assert [type(one) for one in found] == expected


def refusal(error, cfg, dataset, train=False):
    with pytest.raises(error) as caught:
        check_tasks(cfg, dataset, train=train)
    return str(caught.value)


def test_a_set_without_the_truth_is_refused_before_work(tiny_cfg, tiny_set):
    cfg = tiny_cfg(*tiny_set, *SEGMENTOR)
    register_datasets(cfg)
    for train in (False, True):
        with pytest.raises(DatasetError) as caught:
            check_datasets(cfg, train=train)
        assert (
            "META_ARCHITECTURE SemanticSegmentor predicts sem_seg, and data set 'tiny' has the "
            "truth of instances alone"
        ) in str(caught.value)
    panoptic = tiny_cfg(*tiny_set, *SEGMENTOR, SEGMENTOR[0], "PanopticFPN")
    # Its boxes can be measured, but its pixels not learnt.
    assert tasks_of(panoptic, "tiny") == ["instances"]
    check_tasks(panoptic, "tiny", train=False)
    assert "SEM_SEG_HEAD.NUM_CLASSES is 3, and data set 'tiny' has 0 stuff_classes" in (
        refusal(ConfigError, panoptic, "tiny", train=True)
    )


def test_classes_of_pixels_must_fit(tiny_cfg, pixels):
    name, entries = pixels
    four = tiny_cfg(*SEGMENTOR, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 4)
    assert "NUM_CLASSES is 4, and data set 'some_pixels' has 3" in refusal(ConfigError, four, name)
    zero = tiny_cfg(*SEGMENTOR, "MODEL.SEM_SEG_HEAD.IGNORE_VALUE", 0)
    assert "IGNORE_VALUE is 0, and data set 'some_pixels' has the ignore_label 255" in (
        refusal(ConfigError, zero, name)
    )
    entries[2]["sem_seg_file_name"] = "nowhere.png"
    said = refusal(DatasetError, tiny_cfg(*SEGMENTOR), name, train=True)
    assert f"'{entries[2]['file_name']}' has no file of classes of its pixels" in said


def test_kinds_of_sets_that_nothing_measures_are_named(tiny_cfg, register):
    name = register("some_lvis", [], evaluator_type="lvis")
    said = refusal(DatasetError, tiny_cfg(), name)
    assert "'some_lvis' is of evaluator_type 'lvis', which nothing here measures" in said


def test_panoptic_quality_needs_its_package(tiny_cfg, register, pixels, monkeypatch):
    monkeypatch.setattr(tasks.importlib.util, "find_spec", lambda name: None)
    _, entries = pixels
    truth = {"stuff_classes": list(CLASSES), "ignore_label": 255}
    name = register("some_things", entries, evaluator_type="coco_panoptic_seg", **truth)
    cfg = tiny_cfg(*SEGMENTOR, SEGMENTOR[0], "PanopticFPN")
    assert "needs the package panopticapi" in refusal(ConfigError, cfg, name)
    check_tasks(cfg, name, train=True)


def test_keypoints_need_names_flips_and_sigmas(tiny_cfg, register):
    on = ("MODEL.KEYPOINT_ON", True, "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", 2)
    plain = register("some_boxes", [])
    assert "'some_boxes' has no keypoint_names" in refusal(DatasetError, tiny_cfg(*on), plain)
    name = register("some_points", [], keypoint_names=["left", "right"])
    seventeen = tiny_cfg(*on[:2])
    assert "NUM_KEYPOINTS is 17, and data set 'some_points' has 2" in (
        refusal(ConfigError, seventeen, name)
    )
    assert "no keypoint_flip_map" in refusal(DatasetError, tiny_cfg(*on), name, train=True)
    assert "KEYPOINT_OKS_SIGMAS has 17 values, and there are 2 keypoints" in (
        refusal(ConfigError, tiny_cfg(*on), name)
    )
    MetadataCatalog.get(name).set(keypoint_flip_map=[("left", "right")])
    cfg = tiny_cfg(*on, "TEST.KEYPOINT_OKS_SIGMAS", [0.1, 0.1])
    for train in (False, True):
        check_tasks(cfg, name, train=train)


def test_a_codec_alone_is_measured_on_any_set(tiny_cfg, register, tmp_path):
    name = register("other_lvis", [], evaluator_type="lvis")
    cfg = tiny_cfg("MODEL.DETECTOR.META_ARCHITECTURE", "NoDetector")
    check_tasks(cfg, name, train=False)
    assert build_evaluators(cfg, name, str(tmp_path)) == []
