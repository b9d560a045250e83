import pytest
import torch
from detectron2 import model_zoo
from detectron2.data.transforms import ResizeTransform
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

from codec_det.config import add_codec_det_config

SMALL = [
    "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.RESNETS.STEM_OUT_CHANNELS", 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS", 16, "MODEL.RESNETS.WIDTH_PER_GROUP", 4,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN", 16, "MODEL.RPN.POST_NMS_TOPK_TEST", 16,
    "MODEL.CODEC.WEIGHTS", "", "MODEL.CODEC.N", 8, "MODEL.CODEC.M", 12,
]  # fmt: skip
DETECTORS = {
    "faster_rcnn_R_50_FPN_3x": ["MODEL.FPN.OUT_CHANNELS", 16],
    "faster_rcnn_R_50_C4_3x": [],
    "retinanet_R_50_FPN_3x": ["MODEL.FPN.OUT_CHANNELS", 16],
    "mask_rcnn_R_50_FPN_3x": ["MODEL.FPN.OUT_CHANNELS", 16],
}


def zoo_cfg(name, *opts):
    """A detectron2 model-zoo config, narrow, with its detector put behind a codec."""
    folder = "COCO-InstanceSegmentation" if "mask" in name else "COCO-Detection"
    cfg = model_zoo.get_config(f"{folder}/{name}.yaml")
    add_codec_det_config(cfg)
    cfg.MODEL.DETECTOR.META_ARCHITECTURE = cfg.MODEL.META_ARCHITECTURE
    cfg.MODEL.META_ARCHITECTURE = "CodecDetector"
    cfg.merge_from_list([*SMALL, *DETECTORS[name], *opts])
    return cfg


def entry(height=48, width=64, size=(72, 96)):
    truth = Instances(size)
    truth.gt_boxes = Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0]]))
    truth.gt_classes = torch.tensor([1])
    truth.gt_masks = PolygonMasks([[torch.tensor([8.0, 8, 40, 8, 40, 40]).numpy()]])
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    return {"image": image, "instances": truth, "detector_size": size}


@pytest.mark.parametrize("name", DETECTORS)
def test_composes_with_any_detector(name):
    cfg = zoo_cfg(name, "MODEL.CODEC.TRAINABLE", "['encoder', 'decoder']",
                  "MODEL.DETECTOR.TRAINABLE", True)  # fmt: skip
    model = build_model(cfg).train()
    with EventStorage() as storage:
        losses = model([entry(), entry(64, 48)])
        assert storage.latest()["bpp"][0] > 0
    assert {"loss_rate", "loss_aux"} < losses.keys()
    assert ("loss_mask" in losses) == ("mask" in name)
    sum(losses.values()).backward()
    assert model.codec.model.g_a[0].weight.grad.abs().sum() > 0
    assert any(p.grad is not None for p in model.detector.parameters())
    model.eval()
    (output,) = model([{"image": entry()["image"], "height": 48, "width": 64}])
    assert output["instances"].image_size == (48, 64)
    assert output["reconstruction"].shape == (3, 48, 64)
    assert output["reconstruction"].dtype == torch.uint8
    assert output["bits"] > 0


@pytest.mark.parametrize("name", DETECTORS)
def test_identity_gives_the_detections_of_the_detector_alone(name):
    cfg = zoo_cfg(name, "MODEL.CODEC.NAME", "identity", "MODEL.RETINANET.SCORE_THRESH_TEST", 0.0,
                  "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)  # fmt: skip
    model = build_model(cfg).eval()
    picture = entry()["image"]
    seen = []
    model.detector.register_forward_pre_hook(lambda _, args: seen.append(args[0][0]["image"]))
    (ours,) = model([{"image": picture, "detector_size": (48, 64)}])
    with torch.no_grad():
        (alone,) = model.detector([{"image": picture, "height": 48, "width": 64}])
    assert ours["bits"] == 24 * 48 * 64
    assert torch.equal(ours["reconstruction"], picture.flip(0))
    assert len(alone["instances"]) > 0
    assert torch.allclose(ours["instances"].scores, alone["instances"].scores, atol=1e-4)
    # Resized by the model on the one hand, by detectron2's mapper on the other.
    model([{"image": picture, "detector_size": (72, 96)}])
    theirs = ResizeTransform(48, 64, 72, 96).apply_image(picture.permute(1, 2, 0).numpy())
    difference = (seen[-1].permute(1, 2, 0) - torch.as_tensor(theirs.copy())).abs()
    assert difference.max() <= 1.01


@pytest.mark.parametrize(("shortest", "size"), [(64, (64, 96)), (0, (32, 48))])
def test_detector_size_follows_the_config_where_the_loader_gives_none(tiny_cfg, shortest, size):
    model = build_model(tiny_cfg("INPUT.MIN_SIZE_TEST", shortest)).eval()
    seen = {}
    model.detector.register_forward_pre_hook(lambda _, args: seen.update(args[0][0]))
    model([{"image": torch.zeros(3, 32, 48, dtype=torch.uint8)}])
    assert seen["image"].shape == (3, *size)
    assert (seen["height"], seen["width"]) == (32, 48)


def test_loss_is_tasks_plus_beta_bpp_plus_distortion(tiny_cfg):
    parts = ["MODEL.CODEC.TRAINABLE", "['encoder', 'decoder']", "MODEL.CODEC.QUANTIZATION",
             "straight_through", "MODEL.CODEC.BETA", 3.0]  # fmt: skip
    plain = build_model(tiny_cfg(*parts)).train()
    viewable = build_model(tiny_cfg(*parts, "MODEL.CODEC.DISTORTION_WEIGHT", 0.01)).train()
    viewable.load_state_dict(plain.state_dict())
    inputs = [entry(64, 64, (64, 64)), entry(64, 128, (64, 64))]
    with EventStorage() as storage:
        torch.manual_seed(0)
        losses = plain(inputs)
        of_first = storage.latest()["psnr"][0]
        bpp = storage.latest()["bpp"][0]
        torch.manual_seed(0)
        more = viewable(inputs)
        of_all = storage.latest()["psnr"][0]
    assert more.keys() - losses.keys() == {"loss_distortion"}
    images = [x["image"].flip(0) / 255 for x in inputs]
    coded = plain.codec(images)
    pixels = torch.tensor([64 * 64, 64 * 128])
    assert losses["loss_rate"].item() == pytest.approx(
        3 * (coded.bits / pixels).mean().item(), rel=1e-5
    )
    errors = torch.stack(
        [(a - b).square().mean() for a, b in zip(images, coded.reconstructions, strict=True)]
    )
    mse = errors.mean()
    assert more["loss_distortion"].item() == pytest.approx(0.01 * 255**2 * mse.item(), rel=1e-5)
    assert of_all == pytest.approx(-10 * torch.log10(mse).item(), rel=1e-5)
    assert of_first == pytest.approx(-10 * torch.log10(errors[0]).item(), rel=1e-5)
    assert bpp == pytest.approx((coded.bits.sum() / pixels.sum()).item(), rel=1e-5)


def test_frames_that_are_not_learnt_from_have_no_part_in_the_losses(tiny_cfg):
    name = ("MODEL.CODEC.NAME", "bmshj2018-hyperprior-temporal", "MODEL.CODEC.KEY_INTERVAL", 10)
    cfg = tiny_cfg(
        *("MODEL.CODEC.TRAINABLE", "['encoder', 'decoder']", *name, "INPUT.CLIP_LENGTH", 2),
        *("MODEL.CODEC.QUANTIZATION", "straight_through", "MODEL.CODEC.DISTORTION_WEIGHT", 0.01),
    )
    model = build_model(cfg).train()
    torch.manual_seed(3)
    # Two clips of a key frame, another that is not learnt from, and two that are.
    inputs = [entry(64, 64, (64, 64)) | {"burn_in": i % 4 < 2} for i in range(8)]
    with EventStorage():
        torch.manual_seed(0)
        losses = model(inputs)
        _, pixels = model.batch_rate
        for x in inputs[:2] + inputs[4:6]:
            del x["instances"]
        torch.manual_seed(0)
        same = model(inputs)
    assert pixels.sum() == 4 * 64 * 64
    assert {k: v.item() for k, v in losses.items()} == {k: v.item() for k, v in same.items()}
    images = [x["image"].flip(0) / 255 for x in inputs]
    with model.codec.burning_in(2):
        coded = model.codec(images)
    shown = [images[i] for i in (2, 3, 6, 7)]
    mse = torch.stack(
        [(a - b).square().mean() for a, b in zip(shown, coded.reconstructions, strict=True)]
    ).mean()
    expected = {"loss_rate": coded.bits.mean() / 64**2, "loss_distortion": 0.01 * 255**2 * mse}
    for key, value in expected.items():
        assert losses[key].item() == pytest.approx(value.item(), rel=1e-5)


def test_description_names_parts_and_loss(tiny_cfg):
    text = build_model(
        tiny_cfg("MODEL.CODEC.TRAINABLE", "['encoder']", "MODEL.CODEC.BETA", 2.5)
    ).describe()
    assert text.startswith("Regime E-FT: trains codec encoder (")
    assert text.endswith("Loss = Σ detector losses + 2.5·bpp")
    assert "trains nothing" in build_model(tiny_cfg()).describe()


def test_no_detector_trains_and_measures_a_codec_alone(tiny_cfg):
    cfg = tiny_cfg("MODEL.DETECTOR.META_ARCHITECTURE", "NoDetector", "MODEL.CODEC.TRAINABLE",
                   "['encoder', 'decoder']", "MODEL.CODEC.DISTORTION_WEIGHT", 0.01)  # fmt: skip
    model = build_model(cfg).train()
    with EventStorage():
        assert model([entry()]).keys() == {"loss_rate", "loss_distortion", "loss_aux"}
    (output,) = model.eval()([entry()])
    assert "instances" not in output
    assert output["bits"] > 0
    # Trained for the rate alone, nothing is decoded.
    model = build_model(cfg).train()
    model.distortion_weight = 0.0
    model.codec.model.g_s.register_forward_hook(lambda *_: pytest.fail("decoded for nothing"))
    with EventStorage():
        assert model([entry()]).keys() == {"loss_rate", "loss_aux"}
