"""The detector has as many classes as its data sets have categories, in the same order."""

import json
import logging

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from codec_det.config import load_config
from codec_det.data.classes import match_classes
from codec_det.data.register import check_datasets, register_datasets
from codec_det.errors import ConfigError, DatasetError

CELLS = ("Platelets", "RBC", "WBC")


@pytest.fixture
def make_cfg(tmp_path):
    """``make(train_names, test_names, *opts)``: a config of two data sets of one picture."""
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")

    def write(name, categories, first_id):
        box = {"id": 1, "image_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}
        coco = {
            "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
            "annotations": [{**box, "category_id": first_id}],
            "categories": [{"id": first_id + i, "name": n} for i, n in enumerate(categories)],
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(coco))
        return [name, f"{name}.json", "."]

    def make(train, test, *opts):
        sets = [write("classes_train", train, 1), write("classes_test", test, 5)]
        data = ["DATASETS.ROOT", str(tmp_path), "DATASETS.COCO_FORMAT", str(sets)]
        names = ["DATASETS.TRAIN", "('classes_train',)", "DATASETS.TEST", "('classes_test',)"]
        cfg = load_config("", [*data, *names, *opts])
        register_datasets(cfg)
        return cfg

    yield make
    for name in ("classes_train", "classes_test"):
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


@pytest.mark.parametrize(
    ("detector", "key"), [("GeneralizedRCNN", "ROI_HEADS"), ("RetinaNet", "RETINANET")]
)
@pytest.mark.parametrize("train", [True, False])
def test_default_gives_way_to_the_data_set(make_cfg, caplog, detector, key, train):
    cfg = make_cfg(CELLS, CELLS, "MODEL.DETECTOR.META_ARCHITECTURE", detector)
    with caplog.at_level(logging.WARNING):
        matched = match_classes(cfg, train=train)
    assert matched.MODEL[key].NUM_CLASSES == 3
    assert matched.is_frozen()
    assert cfg.MODEL[key].NUM_CLASSES == 80
    (line,) = caplog.messages
    assert line.startswith(f"MODEL.{key}.NUM_CLASSES is set to 3, as many as 'classes_train'")


def test_right_number_is_left_alone_without_a_word(make_cfg, caplog):
    cfg = make_cfg(CELLS, CELLS, "MODEL.ROI_HEADS.NUM_CLASSES", "3")
    assert match_classes(cfg, train=True) is cfg
    assert not caplog.messages


@pytest.mark.parametrize("count", [1, 2, 4, 79])
def test_wrong_number_is_refused(make_cfg, count):
    cfg = make_cfg(CELLS, CELLS, "MODEL.ROI_HEADS.NUM_CLASSES", str(count))
    with pytest.raises(ConfigError) as caught:
        match_classes(cfg, train=True)
    assert str(caught.value) == (
        f"MODEL.ROI_HEADS.NUM_CLASSES is {count}, but the data set 'classes_train' has 3 "
        "categories (Platelets, RBC, WBC): set it to 3, or leave it out"
    )


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    ("test", "message"),
    [
        (("Platelets", "WBC", "RBC"), "class 1 is 'RBC' in .*'classes_train', but 'WBC' in"),
        (("Platelets", "RBC"), "class 2 is 'WBC' in .*, but none in 'classes_test'"),
        ((*CELLS, "other"), "class 3 is none in .*, but 'other' in 'classes_test'"),
        (("platelets", "RBC", "WBC"), "class 0 is 'Platelets' in .*, but 'platelets' in"),
    ],
)
def test_other_categories_in_the_test_set_are_refused_by_name(make_cfg, test, message, train):
    with pytest.raises(DatasetError, match=message):
        match_classes(make_cfg(CELLS, test), train=train)


def test_evaluation_needs_no_training_set(make_cfg, tmp_path):
    cfg = make_cfg(("other",), CELLS)
    (tmp_path / "classes_train.json").unlink()
    assert match_classes(cfg, train=False).MODEL.ROI_HEADS.NUM_CLASSES == 3


def test_codec_alone_has_no_classes(make_cfg):
    cfg = make_cfg(CELLS, ("other",), "MODEL.DETECTOR.META_ARCHITECTURE", "NoDetector")
    assert match_classes(cfg, train=True) is cfg


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["DATASETS.TRAIN", "()"], "DATASETS.TRAIN is empty"),
        (["MODEL.MASK_ON", "True"], "no segmentation: 1. Add it, or set MODEL.MASK_ON False"),
        (["MODEL.KEYPOINT_ON", "True"], "MODEL.KEYPOINT_ON is True, and data set 'classes_"),
    ],
)
def test_data_sets_have_what_the_detector_trains_on(make_cfg, opts, message):
    with pytest.raises((ConfigError, DatasetError), match=message):
        check_datasets(make_cfg(CELLS, CELLS, *opts), train=True)


def test_a_detector_without_masks_needs_none(make_cfg):
    opts = ["MODEL.MASK_ON", "True", "MODEL.DETECTOR.META_ARCHITECTURE", "RetinaNet"]
    check_datasets(make_cfg(CELLS, CELLS, *opts), train=True)
