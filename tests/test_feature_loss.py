"""Distance of features: what it is, what it trains, and through which detector."""

import copy

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from codec_det.config_checks import check_config
from codec_det.errors import ConfigError
from codec_det.feature_loss import FeatureDistance
from codec_det.own_labels import OwnLabels
from codec_det.training.checkpoint import ChainCheckpointer
from tests.test_regimes import batch, make, train
from tests.test_train_net import command
from tools import train_net

BOTH = ["encoder", "decoder"]
FEATURES = ["MODEL.CODEC.FEATURE_WEIGHT", "2.0"]


def losses(model, inputs):
    with EventStorage():
        torch.manual_seed(0)
        return model.train()(inputs)


def test_distance_is_the_mean_over_levels_relative_to_the_original(tiny_cfg):
    names = ["p3", "p6"]
    _, model = make(tiny_cfg, BOTH, False, *FEATURES, "MODEL.CODEC.FEATURES", str(names),
                    "MODEL.CODEC.QUANTIZATION", "straight_through")  # fmt: skip
    inputs = batch()
    found = losses(model, inputs)
    assert {"loss_cls", "loss_features", "loss_rate"} < set(found)
    images = [x["image"].flip(0) / 255 for x in inputs]
    decoded = model.codec(images).reconstructions
    levels = []
    for pictures in (images, decoded):
        seen = [model.detector_input(x, p) for x, p in zip(inputs, pictures, strict=True)]
        levels.append(model.detector.backbone(model.detector.preprocess_image(seen).tensor))
    expected = [
        ((a[n] - b[n]) ** 2).mean() / (a[n] ** 2).mean() for a, b in [levels] for n in names
    ]
    torch.testing.assert_close(found["loss_features"], 2 * sum(expected) / 2)


def test_frozen_detector_is_run_once_for_both_losses(tiny_cfg):
    _, model = make(tiny_cfg, BOTH, False, *FEATURES)
    calls = []
    model.detector.backbone.register_forward_hook(lambda *_: calls.append(1))
    inputs = batch()
    both = losses(model, inputs)
    assert len(calls) == 2  # originals, decoded
    _, alone = make(tiny_cfg, BOTH, False, *FEATURES, "MODEL.DETECTOR.LOSS_WEIGHT", "0")
    alone.load_state_dict(model.state_dict())
    features = losses(alone, [{**x, "instances": None} for x in inputs])
    assert set(features) == {"loss_features", "loss_rate", "loss_aux"}
    assert features["loss_features"] == both["loss_features"]


def test_features_alone_train_the_codec_and_leave_the_detector(tiny_cfg):
    cfg, model = make(tiny_cfg, BOTH, False, *FEATURES, "MODEL.DETECTOR.LOSS_WEIGHT", "0")
    before = copy.deepcopy(model.state_dict())
    train(cfg, model)
    moved = {
        k.split(".")[0] for k, v in model.state_dict().items() if not torch.equal(before[k], v)
    }
    assert moved == {"codec"}
    assert "Loss = 2·feature distance + 1·bpp" in model.describe()


def test_reference_stays_as_the_detector_was_at_the_start(tiny_cfg):
    _, model = make(tiny_cfg, BOTH, True, *FEATURES)
    model.features.keep_reference()
    keys = set(model.state_dict())
    assert not any("reference" in key for key in keys)
    inputs = batch()
    first = losses(copy.deepcopy(model), inputs)["loss_features"]
    with torch.no_grad():
        for parameter in model.detector.parameters():
            parameter.zero_()
    torch.testing.assert_close(losses(model, inputs)["loss_features"], first)


@pytest.mark.parametrize(
    ("reference", "keys"),
    [(FeatureDistance, FEATURES), (OwnLabels, ["MODEL.DETECTOR.LABEL_SCORE", "0.01"])],
)
def test_training_compares_with_the_weights_it_began_from_also_after_resuming(
    tmp_path, tiny_set, tiny_cfg, monkeypatch, reference, keys
):
    start = build_model(tiny_cfg("MODEL.ROI_HEADS.NUM_CLASSES", 6))
    ChainCheckpointer(start, str(tmp_path)).save("start")
    references = []
    original = reference.keep_reference

    def keep(self):
        kept = original(self)
        references.append({k: v.clone() for k, v in self._reference.state_dict().items()})
        return kept

    monkeypatch.setattr(reference, "keep_reference", keep)
    opts = [
        *tiny_set,
        *keys,
        "MODEL.WEIGHTS",
        str(tmp_path / "start.pth"),
        "SOLVER.BASE_LR",
        "0.1",
    ]
    assert train_net.main(command(tmp_path / "run", *opts, "SOLVER.MAX_ITER", "2")) == 0
    assert (
        train_net.main(command(tmp_path / "run", *opts, "SOLVER.MAX_ITER", "3", flags=["--resume"]))
        == 0
    )
    part = start.detector.backbone if reference is FeatureDistance else start.detector
    wanted = part.state_dict()
    assert len(references) == 2
    for found in references:
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"MODEL.CODEC.FEATURES": "['res9']"},
            "'res9': the backbone returns p2, p3",
        ),
        ({"MODEL.DETECTOR.META_ARCHITECTURE": "NoDetector"}, "NoDetector has no backbone"),
    ],
)
def test_features_that_are_not_there_are_named(tiny_cfg, keys, said):
    opts = [x for item in keys.items() for x in item]
    with pytest.raises(ConfigError, match=said):
        build_model(tiny_cfg(*FEATURES, *opts))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"MODEL.CODEC.FEATURE_WEIGHT": "-1"}, "FEATURE_WEIGHT is -1"),
        ({"MODEL.DETECTOR.LOSS_WEIGHT": "0", "MODEL.DETECTOR.TRAINABLE": "True"}, "from nothing"),
        (
            {"MODEL.CODEC.FEATURE_WEIGHT": "1", "MODEL.DETECTOR.TRAINABLE": "True"},
            "features of",
        ),
        (
            {
                "MODEL.CODEC.FEATURE_WEIGHT": "1",
                "MODEL.DETECTOR.TRAINABLE": "True",
                "MODEL.CODEC.TRAINABLE": "['encoder']",
            },
            "MODEL.WEIGHTS is ''",
        ),
    ],
)
def test_losses_that_cannot_be_are_refused(tiny_cfg, keys, said):
    with pytest.raises(ConfigError, match=said):
        check_config(tiny_cfg(*[x for item in keys.items() for x in item]))
