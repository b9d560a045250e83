"""codec_det/deploy/receiver.py: a chain's detector and decoder in a file, and back."""

import json

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from safetensors import safe_open

from codec_det.bitstream.model_file import load_model, save_model
from codec_det.codec.learned.bitstream_codec import picture_encoder
from codec_det.codec.learned.freeze import freeze_entropy_model
from codec_det.data.coco_format import register_coco_format
from codec_det.data.register import register_datasets
from codec_det.deploy.receiver import dataset_categories, load_receiver, save_receiver
from codec_det.errors import BitstreamError, DatasetError, WeightsError
from codec_det.training.trainer import load_chain, real_bits
from tests.deployed import lively, random_picture, tiny_config

PICTURES = [random_picture(48, 64, 0), random_picture(70, 33, 1), random_picture(64, 64, 2)]
DETECTORS = {
    "two stages": ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "MODEL.RPN.POST_NMS_TOPK_TEST", 8],
    "one stage": [
        *("MODEL.DETECTOR.META_ARCHITECTURE", "RetinaNet", "MODEL.RETINANET.NUM_CLASSES", 6),
        *("MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone"),
        *("MODEL.RESNETS.OUT_FEATURES", ["res3", "res4", "res5"]),
        *("MODEL.FPN.IN_FEATURES", ["res3", "res4", "res5"], "INPUT.FORMAT", "RGB"),
        *("MODEL.RETINANET.SCORE_THRESH_TEST", 0.0, "MODEL.RETINANET.TOPK_CANDIDATES_TEST", 8),
    ],
}


def make(tmp_path, tiny_set, *opts):
    """A chain, its entropy model, and the receiver's file."""
    cfg = tiny_config(tmp_path / "secret_folder", *tiny_set, *opts)
    register_datasets(cfg)
    chain = lively(load_chain(cfg)).eval()
    entropy = freeze_entropy_model(chain.codec.name, chain.codec.model)
    path = tmp_path / "receiver.safetensors"
    save_receiver(path, chain, entropy, cfg, "tiny")
    return chain, entropy, path


@pytest.mark.parametrize("detector", DETECTORS)
def test_detections_are_those_of_the_chain(tmp_path, tiny_set, detector):
    chain, entropy, path = make(tmp_path, tiny_set, *DETECTORS[detector])
    receiver = load_receiver(path)
    assert receiver.has_detector
    encoder = picture_encoder(chain.codec.model, entropy)
    decoded = [receiver.decoder.decode(encoder.encode(picture)) for picture in PICTURES]
    found = receiver.detect(decoded, [picture.shape[:2] for picture in PICTURES])
    with real_bits(chain):
        for picture, ours, instances in zip(PICTURES, decoded, found, strict=True):
            stored = torch.from_numpy(picture).permute(2, 0, 1)
            stored = stored.flip(0) if chain.image_format == "BGR" else stored
            (theirs,) = chain([{"image": stored}])
            assert torch.equal((ours * 255).round().to(torch.uint8), theirs["reconstruction"])
            # One picture at a time: in a batch they are padded, which moves the last bits.
            (alone,) = receiver.detect([ours], [picture.shape[:2]])
            assert len(alone) == len(theirs["instances"]) > 0
            assert torch.equal(alone.pred_boxes.tensor, theirs["instances"].pred_boxes.tensor)
            assert torch.equal(alone.scores, theirs["instances"].scores)
            assert torch.equal(alone.pred_classes, theirs["instances"].pred_classes)
            assert instances.image_size == alone.image_size == picture.shape[:2]
    assert len({float(instances.scores.max()) for instances in found}) == 3


def test_nothing_of_training_is_in_the_file(tmp_path, tiny_set):
    opts = ["MODEL.CODEC.TRAINABLE", ["encoder", "decoder"], "MODEL.DETECTOR.TRAINABLE", True]
    _, _, path = make(tmp_path, tiny_set, *opts, "SOLVER.MAX_ITER", 12345)
    data = path.read_bytes()
    for text in (b"secret_folder", str(tmp_path).encode(), b"annotations.json", b"12345"):
        assert text not in data
    with safe_open(path, framework="np") as file:
        metadata = json.loads(file.metadata()["codec_det"])
        names = {key.split(".")[0] for key in file.keys()}  # noqa: SIM118
    assert names == {"entropy", "g_s", "detector"}
    assert metadata["codec"] == {"name": "bmshj2018-hyperprior", "widths": [8, 12]}
    chain = load_receiver(path).chain
    assert not any(p.requires_grad for p in chain.parameters())
    assert not chain.training


def test_pictures_of_any_size_are_limited(tmp_path, tiny_set):
    chain, entropy, path = make(tmp_path, tiny_set)
    data = picture_encoder(chain.codec.model, entropy).encode(PICTURES[0])
    assert load_receiver(path, max_pixels=48 * 64).decoder.decode(data).shape == (3, 48, 64)
    with pytest.raises(BitstreamError, match="limit"):
        load_receiver(path, max_pixels=48 * 64 - 1).decoder.decode(data)


def test_a_codec_alone_makes_a_decoder(tmp_path, tiny_set):
    none = ["MODEL.DETECTOR.META_ARCHITECTURE", "NoDetector"]
    chain, entropy, path = make(tmp_path, tiny_set, *none)
    receiver = load_receiver(path)
    assert not receiver.has_detector
    assert receiver.categories == []
    data = picture_encoder(chain.codec.model, entropy).encode(PICTURES[1])
    decoded = receiver.decoder.decode(data)
    assert decoded.shape == (3, 70, 33)
    with pytest.raises(WeightsError, match="no detector"):
        receiver.detect([decoded], [(70, 33)])


@pytest.fixture
def dataset(tmp_path):
    """``make(name, categories)``: registers a set of one picture; its annotations file."""
    made = []

    def make(name, categories):
        path = tmp_path / f"{name}.json"
        image = {"id": 1, "file_name": "1.png", "height": 8, "width": 8}
        path.write_text(
            json.dumps({"images": [image], "annotations": [], "categories": categories})
        )
        register_coco_format(name, path, tmp_path)
        made.append(name)
        return path

    yield make
    for name in made:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_categories_are_in_the_order_of_classes(dataset):
    dataset("cells", [{"id": 9, "name": "RBC"}, {"id": 2, "name": "WBC"}, {"id": 5, "name": "?"}])
    # Read for the first time, then from detectron2's metadata.
    for _ in range(2):
        assert dataset_categories("cells") == [
            {"id": 2, "name": "WBC"},
            {"id": 5, "name": "?"},
            {"id": 9, "name": "RBC"},
        ]
    coco = dataset_categories("coco_2017_val")
    assert (len(coco), coco[0], coco[-1]) == (
        80,
        {"id": 1, "name": "person"},
        {"id": 90, "name": "toothbrush"},
    )


def test_categories_without_ids_count_from_0():
    MetadataCatalog.get("without_ids").thing_classes = ["cat", "dog"]
    try:
        expected = [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
        assert dataset_categories("without_ids") == expected
    finally:
        MetadataCatalog.remove("without_ids")


def test_unknown_categories_are_refused(dataset, tmp_path, tiny_set):
    dataset("gone", [{"id": 1, "name": "one"}]).unlink()
    with pytest.raises(DatasetError, match=r"'gone'.*cannot be read.*DATASETS.ROOT"):
        dataset_categories("gone")
    with pytest.raises(DatasetError, match="'never_registered'"):
        dataset_categories("never_registered")
    with pytest.raises(DatasetError, match=r"has 5 classes.*'tiny' has 6 categories"):
        make(tmp_path, tiny_set, "MODEL.ROI_HEADS.NUM_CLASSES", 5)
    assert not (tmp_path / "receiver.safetensors").exists()


def rewrite(path, entropy, change):
    """Save a receiver again, with ``change(parts, metadata)`` applied."""
    file = load_model(path, "receiver", ("g_s", "detector"))
    parts = {name: file.part(name) for name in ("g_s", "detector")}
    metadata = dict(file.metadata)
    change(parts, metadata)
    for key in ("kind", "version", "entropy"):
        del metadata[key]
    save_model(path, "receiver", entropy, parts, metadata)


def _lose_a_tensor(parts, metadata):
    del parts["detector"]["roi_heads.box_predictor.cls_score.weight"]


def _name_no_such_detector(parts, metadata):
    metadata["config"] = metadata["config"].replace("GeneralizedRCNN", "MyDetector")


def _use_another_versions_config(parts, metadata):
    metadata["config"] += "FUTURE: 1\n"


def _lose_the_config(parts, metadata):
    del metadata["config"]


def _break_the_config(parts, metadata):
    metadata["config"] = "MODEL: [1"


def _name_another_codec(parts, metadata):
    metadata["config"] = metadata["config"].replace("bmshj2018-hyperprior", "jpeg")


def _lose_the_names(parts, metadata):
    metadata["categories"] = [{"id": 1}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_lose_a_tensor, "box_predictor.cls_score.weight"),
        (_name_no_such_detector, "'MyDetector', which is no registered detector"),
        (_use_another_versions_config, "FUTURE"),
        (_lose_the_config, "'config'"),
        (_break_the_config, "does not fit this version"),
        (_name_another_codec, "config is of the codec 'jpeg', but its entropy model of a bmshj"),
        (_lose_the_names, "what its detector's classes are"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, tiny_set, change, message):
    _, entropy, path = make(tmp_path, tiny_set)
    rewrite(path, entropy, change)
    with pytest.raises(WeightsError, match=message) as caught:
        load_receiver(path)
    assert str(path) in str(caught.value)
