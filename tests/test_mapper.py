import numpy as np
import pytest
import torch
from detectron2.structures import BoxMode
from PIL import Image

from codec_det.data.mapper import CodecDetectorMapper
from codec_det.errors import DatasetError


@pytest.fixture
def entry(tmp_path):
    path = tmp_path / "gradient.png"
    pixels = np.tile(np.arange(80, dtype=np.uint8), (40, 1))
    Image.fromarray(np.stack([pixels, pixels * 2, pixels * 3], -1)).save(path)
    annotation = {
        "bbox": [10, 10, 30, 20],
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": 1,
        "segmentation": [[10, 10, 30, 10, 30, 20]],
    }
    return {"file_name": str(path), "height": 40, "width": 80, "annotations": [annotation]}


def test_picture_keeps_its_size_and_truth_is_scaled(tiny_cfg, entry):
    cfg = tiny_cfg("INPUT.RANDOM_FLIP", "none", "MODEL.MASK_ON", True)
    out = CodecDetectorMapper(cfg, is_train=True)(entry)
    assert out["image"].shape == (3, 40, 80)
    # MAX_SIZE_TRAIN 128 limits the scale to 1.6.
    assert out["detector_size"] == (64, 128)
    assert out["instances"].image_size == (64, 128)
    assert out["instances"].gt_boxes.tensor.tolist() == [[16, 16, 48, 32]]
    assert out["instances"].gt_masks.polygons[0][0].tolist() == [16, 16, 48, 16, 48, 32]
    # BGR order of the config.
    assert out["image"][:, 0, 7].tolist() == [21, 14, 7]


@pytest.mark.parametrize("train", [True, False])
def test_size_0_leaves_pictures_as_they_are(tiny_cfg, entry, train):
    sizes = ("INPUT.MIN_SIZE_TRAIN", (0,), "INPUT.MIN_SIZE_TEST", 0)
    out = CodecDetectorMapper(tiny_cfg(*sizes, "INPUT.RANDOM_FLIP", "none"), is_train=train)(entry)
    assert out["detector_size"] == out["image"].shape[1:] == (40, 80)
    if train:
        assert out["instances"].gt_boxes.tensor.tolist() == [[10, 10, 30, 20]]


def test_flip_moves_picture_and_boxes_alike(tiny_cfg, entry):
    mapper = CodecDetectorMapper(tiny_cfg(), is_train=True)
    seen = set()
    for seed in range(8):
        np.random.seed(seed)  # noqa: NPY002
        out = mapper(entry)
        left = out["instances"].gt_boxes.tensor[0, 0].item()
        seen.add((out["image"][2, 0, 0].item(), left))
    assert seen == {(0, 16.0), (79, 80.0)}


def with_classes(entry, tmp_path, classes):
    path = tmp_path / "classes.png"
    Image.fromarray(classes).save(path)
    return {**entry, "sem_seg_file_name": str(path)}


def test_classes_of_pixels_move_with_the_picture_and_stay_classes(tiny_cfg, entry, tmp_path):
    # A class for each of 8 columns of 10 pixels; 255 is of no class.
    columns = np.array([0, 1, 2, 3, 4, 5, 6, 255], dtype=np.uint8).repeat(10)
    own = with_classes(entry, tmp_path, np.tile(columns, (40, 1)))
    mapper = CodecDetectorMapper(tiny_cfg(), is_train=True)
    seen = set()
    for seed in range(8):
        np.random.seed(seed)  # noqa: NPY002
        out = mapper(own)
        flipped = out["image"][2, 0, 0] > 0
        seen.add(bool(flipped))
        # The picture keeps its size, and classes are of the detector's: 16 pixels each.
        assert out["image"].shape == (3, 40, 80)
        assert out["sem_seg"].dtype == torch.int64
        expected = torch.tensor(columns[::10].astype(int)).repeat_interleave(16)
        expected = expected.flip(0) if flipped else expected
        assert torch.equal(out["sem_seg"], expected.expand(64, 128))
    assert seen == {False, True}


def test_classes_that_cannot_be_used_are_refused(tiny_cfg, entry, tmp_path):
    mapper = CodecDetectorMapper(tiny_cfg(), is_train=True)
    own = with_classes(entry, tmp_path, np.zeros((40, 81), np.uint8))
    with pytest.raises(DatasetError, match=r"classes.png' is 40x81 .*gradient.png' is 40x80"):
        mapper(own)
    with pytest.raises(DatasetError, match=r"cannot read the classes of pixels '.*none.png'"):
        mapper({**own, "sem_seg_file_name": str(tmp_path / "none.png")})


def test_evaluation_has_no_truth(tiny_cfg, entry, tmp_path):
    own = with_classes(entry, tmp_path, np.zeros((40, 80), np.uint8))
    out = CodecDetectorMapper(tiny_cfg(), is_train=False)(own)
    assert "sem_seg" not in out
    assert "instances" not in out
    assert "annotations" not in out
    assert out["detector_size"] == (64, 128)


def test_size_other_than_annotated_is_refused(tiny_cfg, entry):
    with pytest.raises(DatasetError, match=r"gradient.png' is 40x80 .* say 80x40: correct"):
        CodecDetectorMapper(tiny_cfg(), is_train=True)({**entry, "height": 80, "width": 40})


def test_rotated_by_exif_is_refused_where_annotations_disagree(tiny_cfg, entry, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 40)).save(tmp_path / "rotated.jpg", exif=exif)
    rotated = {**entry, "file_name": str(tmp_path / "rotated.jpg")}
    with pytest.raises(DatasetError, match="EXIF"):
        CodecDetectorMapper(tiny_cfg(), is_train=True)(rotated)
    out = CodecDetectorMapper(tiny_cfg(), is_train=False)({**rotated, "height": 80, "width": 40})
    assert out["image"].shape == (3, 80, 40)
