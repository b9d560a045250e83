"""With nothing coded, resizing behind the codec must cost no accuracy against the data mapper."""

import pytest
from detectron2.data import DatasetMapper, build_detection_test_loader
from detectron2.evaluation import COCOEvaluator, inference_on_dataset

from codec_det.config import load_config
from codec_det.data.loader import build_test_loader
from codec_det.data.register import register_datasets
from codec_det.data.shapes import generate
from codec_det.training.trainer import load_chain
from tests.conftest import CONFIGS


@pytest.mark.slow
def test_box_ap_equals_that_of_detectron2s_own_pipeline(tmp_path):
    json_file = generate(tmp_path / "set", 250, (128, 128), seed=5, progress=False)
    name = f"resized_{tmp_path.name}"
    cfg = load_config(
        str(CONFIGS / "shapes" / "baseline.yaml"),
        ["MODEL.DEVICE", "cpu", "MODEL.CODEC.NAME", "identity", "MODEL.CODEC.WEIGHTS", "",
         "INPUT.MIN_SIZE_TEST", "150", "DATALOADER.NUM_WORKERS", "0", "DATASETS.COCO_FORMAT",
         str([[name, str(json_file), str(tmp_path / "set" / "images")]])],
    )  # fmt: skip
    register_datasets(cfg)
    model = load_chain(cfg).eval()
    theirs = build_detection_test_loader(cfg, name, mapper=DatasetMapper(cfg, is_train=False))
    figures = [
        inference_on_dataset(m, loader, COCOEvaluator(name, output_dir=str(tmp_path)))["bbox"]["AP"]
        for m, loader in ((model, build_test_loader(cfg, name)), (model.detector, theirs))
    ]
    assert figures[0] > 40
    assert figures[0] == pytest.approx(figures[1], abs=0.1)
