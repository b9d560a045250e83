"""Training by what the detector finds in the original pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from codec_det.config import load_config
from codec_det.config_checks import check_config
from codec_det.data.shapes import scenes
from codec_det.errors import CodecDetError, ConfigError
from codec_det.evaluation.tasks import check_tasks
from codec_det.own_labels import PATIENCE, OwnLabels
from codec_det.training.trainer import load_chain
from tests.conftest import CONFIGS
from tests.test_feature_loss import losses
from tools import train_net

SCORE = 0.5
LABELS = ["MODEL.DETECTOR.LABEL_SCORE", str(SCORE)]


def shapes_config(*opts):
    return load_config(str(CONFIGS / "shapes/jft.yaml"), ["MODEL.DEVICE", "cpu", *LABELS, *opts])


@pytest.fixture(scope="module")
def chain():
    """The packaged detector of shapes, which finds most of them."""
    return load_chain(shapes_config())


@pytest.fixture(scope="module")
def pictures():
    """Inputs of the chain; the last has nothing in it."""
    found = [picture for picture, _ in scenes(3, (128, 128), seed=5)]
    found.append(np.full((128, 128, 3), 90, np.uint8))
    images = [torch.from_numpy(x[:, :, ::-1].transpose(2, 0, 1).copy()) for x in found]
    return [{"image": image, "detector_size": (96, 96)} for image in images]


def originals(chain, pictures):
    images = [x["image"].flip(0) / 255 for x in pictures]
    return [chain.detector_input(x, image) for x, image in zip(pictures, images, strict=True)]


def test_labels_are_detections_in_the_picture_that_the_detector_is_given(chain, pictures):
    inputs = originals(chain, pictures)
    labels = chain.labels(inputs)
    with torch.no_grad():
        found = chain.eval().detector(inputs)
    counts = []
    for label, output in zip(labels, found, strict=True):
        sure = output["instances"][output["instances"].scores >= SCORE]
        assert label.image_size == (96, 96)
        # Detections are returned in the original's 128 rows and columns, of which these are 3/4.
        torch.testing.assert_close(label.gt_boxes.tensor, sure.pred_boxes.tensor * 96 / 128)
        assert label.gt_classes.tolist() == sure.pred_classes.tolist()
        counts.append(len(label))
    assert min(counts[:3]) > 0
    assert counts[3] == 0


def test_losses_are_those_of_annotations_that_say_the_same(chain, pictures, monkeypatch):
    found = losses(chain, [{**x, "instances": None} for x in pictures])
    labels = chain.labels(originals(chain, pictures))
    monkeypatch.setattr(chain, "labels", None)
    wanted = losses(chain, [{**x, "instances": y} for x, y in zip(pictures, labels, strict=True)])
    assert found.keys() == wanted.keys() > {"loss_cls", "loss_rpn_loc", "loss_rate"}
    for name, loss in wanted.items():
        torch.testing.assert_close(found[name], loss)
    assert "by its own labels" not in chain.describe()


def test_labels_stay_those_of_the_start(pictures):
    chain = load_chain(shapes_config())
    chain.labels.keep_reference()
    inputs = originals(chain, pictures)
    before = chain.labels(inputs)
    with torch.no_grad():
        for parameter in chain.detector.parameters():
            parameter.zero_()
    after = chain.labels(inputs)
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a.gt_boxes.tensor, b.gt_boxes.tensor)
    assert sum(map(len, after)) > 0
    assert not any("_reference" in key for key in chain.state_dict())
    assert "Σ detector losses by its own labels" in chain.describe()


def test_a_detector_that_finds_nothing_is_no_teacher(chain, pictures):
    labels = OwnLabels(chain.detector, SCORE)
    inputs = originals(chain, pictures)
    assert [len(x) for x in labels([inputs[3]] * (PATIENCE - 1))] == [0] * (PATIENCE - 1)
    with pytest.raises(CodecDetError, match=f"in the first {PATIENCE} pictures .* finds nothing"):
        labels([inputs[3]])
    labels = OwnLabels(chain.detector, SCORE)
    labels(inputs)
    labels([inputs[3]] * PATIENCE)  # once it has found something, a dull night may follow


@pytest.mark.parametrize(
    ("opts", "said"),
    [
        (["MODEL.DETECTOR.LABEL_SCORE", "1.0"], "LABEL_SCORE is 1.0: it must be from 0 to below 1"),
        (["MODEL.WEIGHTS", ""], "MODEL.WEIGHTS is ''"),
    ],
)
def test_what_cannot_label_is_refused(opts, said):
    with pytest.raises(ConfigError, match=said):
        check_config(shapes_config(*opts))


@pytest.mark.parametrize(
    ("opts", "said"),
    [
        (["MODEL.MASK_ON", "True"], "MODEL.MASK_ON is True"),
        (["MODEL.DETECTOR.META_ARCHITECTURE", "SemanticSegmentor"], "SemanticSegmentor"),
    ],
)
def test_labels_are_of_boxes_alone(opts, said):
    with pytest.raises(ConfigError, match=f"labels boxes alone .*{said}"):
        check_tasks(shapes_config(*opts), "shapes_train", train=True)


def test_codec_trains_on_a_folder_of_pictures(tmp_path):
    (tmp_path / "street").mkdir()
    for i, (picture, _) in enumerate(scenes(2, (128, 128), seed=5)):
        Image.fromarray(picture).save(tmp_path / f"street/{i}.png")
    run = tmp_path / "run"
    words = ["--config-file", str(CONFIGS / "shapes/cft_unlabelled.yaml"), "MODEL.DEVICE", "cpu"]
    words += ["DATASETS.PICTURES", f"[['street_labelled', '{tmp_path / 'street'}']]"]
    words += ["DATASETS.TRAIN", "('street_labelled',)", "DATASETS.TEST", "()"]
    words += ["SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "1", "OUTPUT_DIR", str(run)]
    assert train_net.main(words) == 0
    metrics = (run / "metrics.json").read_text()
    assert '"loss_cls": ' in metrics
    assert '"loss_features": ' not in metrics
