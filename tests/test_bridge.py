"""Detecting in decoded latents: what the detector is given, what trains, and what never runs."""

import copy

import pytest
import torch
from detectron2.evaluation import inference_on_dataset
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from codec_det.bridge import Bridge, DecodedLatents, features_to_make, take_latents
from codec_det.config import load_config
from codec_det.config_checks import check_config
from codec_det.data.loader import build_test_loader
from codec_det.data.register import register_datasets
from codec_det.data.shapes import generate
from codec_det.errors import ConfigError, WeightsError
from codec_det.evaluation.tasks import build_evaluators
from codec_det.regimes import Regime
from codec_det.training.checkpoint import ChainCheckpointer
from codec_det.training.trainer import load_chain, real_bits
from tests.conftest import CONFIGS
from tests.deployed import lively
from tests.test_receiver import DETECTORS
from tests.test_regimes import batch, make, part_of, train

LATENTS = [
    *("MODEL.CODEC.DECODED", "latents", "MODEL.BRIDGE.WIDTH", "16", "MODEL.BRIDGE.BLOCKS", "1")
]
REGIMES = {
    "LT-FT": ([], True),
    "LE-FT": (["encoder"], False),
    "LJ-FT": (["encoder", "decoder"], True),
}
FPN = {"res2": 4, "res3": 8, "res4": 16}
C4 = [
    *("MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.OUT_FEATURES", "['res4']"),
    *("MODEL.RPN.IN_FEATURES", "['res4']", "MODEL.ROI_HEADS.IN_FEATURES", "['res4']"),
    *("MODEL.ROI_HEADS.NAME", "Res5ROIHeads", "MODEL.ANCHOR_GENERATOR.SIZES", "[[16, 32, 64]]"),
    *("MODEL.ROI_BOX_HEAD.NAME", "", "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", "8"),
]
MASK = [
    *("MODEL.MASK_ON", "True", "MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead"),
    *("MODEL.ROI_MASK_HEAD.NUM_CONV", "1", "MODEL.ROI_MASK_HEAD.CONV_DIM", "8"),
]


def chain_of(tiny_cfg, *opts):
    return lively(load_chain(tiny_cfg("MODEL.CODEC.WEIGHTS", "", *opts))).eval()


def image(height, width):
    return {"image": torch.randint(0, 256, (3, height, width), dtype=torch.uint8)}


@pytest.mark.parametrize("stage", FPN)
@pytest.mark.parametrize("detector", ["FPN", "Mask R-CNN", "one stage", "C4"])
def test_every_detector_gets_its_features(tiny_cfg, detector, stage):
    opts = {"FPN": [], "Mask R-CNN": MASK, "C4": C4, **DETECTORS}[detector]
    chain = chain_of(tiny_cfg, *LATENTS, "MODEL.BRIDGE.STAGE", stage, *opts)
    wanted = {"one stage": ["res3", "res4"], "C4": ["res4"]}.get(detector, list(FPN))
    reached = [name for name in FPN if FPN[name] <= FPN[stage]]
    made = {name for name in reached if name in wanted} | {stage}
    assert chain.bridge.strides == {name: FPN[name] for name in made}
    outputs = chain([image(64, 64), image(50, 90)])
    assert [x["instances"].image_size for x in outputs] == [(64, 64), (50, 90)]
    pictures = chain.detector([chain.detector_input({}, torch.rand(3, 64, 64))])
    assert "instances" in pictures[0]  # as ever


def test_later_stages_take_features_for_those_of_a_picture(tiny_cfg):
    chain = chain_of(tiny_cfg, *LATENTS)
    backbone = chain.detector.backbone
    picture = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = backbone(picture)
        early = backbone.bottom_up(picture)
        found = backbone({name: early[name] for name in ("res2", "res3", "res4")})
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", REGIMES)
def test_trained_parts_move_and_the_rest_is_bit_identical(tiny_cfg, name):
    parts, detector = REGIMES[name]
    cfg, model = make(tiny_cfg, parts, detector, *LATENTS)
    assert model.regime.name == name
    before = copy.deepcopy(model.state_dict())
    train(cfg, model)
    model.codec.refresh_tables()
    moved = {}
    for key, value in model.state_dict().items():
        idle = key.startswith(tuple(f"detector.backbone.bottom_up.{x}." for x in IDLE))
        part = "bridge" if key.startswith("bridge.") else "idle" if idle else part_of(key)
        same = value.shape == before[key].shape and torch.equal(value, before[key])
        moved.setdefault(part, []).append(not same)
    trains = {
        "bridge": True,
        "analysis": "encoder" in parts,
        "hyper-analysis": "encoder" in parts,
        "entropy": "decoder" in parts,
        "detector": detector,
        # What does not run has nothing to learn from.
        "synthesis": False,
        "idle": False,
    }
    assert {part: any(values) for part, values in moved.items()} == trains
    assert all(moved["bridge"])


IDLE = ("stem", "res2", "res3", "res4")


def test_with_ltft_a_stream_decodes_to_the_same_picture(tiny_cfg):
    cfg, model = make(tiny_cfg, [], True, *LATENTS)
    picture = torch.rand(3, 50, 70)
    with real_bits(model):
        before = model.codec([picture])
    train(cfg, model)
    model.codec.refresh_tables()
    with real_bits(model.eval()):
        after = model.codec([picture])
    assert after.bits == before.bits
    assert torch.equal(after.latents[0], before.latents[0])
    assert torch.equal(after.reconstructions[0], before.reconstructions[0])


@pytest.mark.parametrize("files", [False, True])
def test_no_picture_is_decoded_unless_somebody_wants_one(tiny_cfg, files, monkeypatch):
    chain = chain_of(tiny_cfg, *LATENTS)
    if files:
        context = real_bits(chain)
        context.__enter__()
    g_s = (chain.codec.codec if files else chain.codec).model.g_s
    calls = []
    g_s.register_forward_hook(lambda *_: calls.append(1))
    (output,) = chain([image(40, 60)])
    assert "reconstruction" not in output
    assert not calls
    chain.shows_pictures = True
    (shown,) = chain([image(40, 60)])
    assert shown["reconstruction"].shape == (3, 40, 60)
    assert calls


def test_training_decodes_pictures_only_for_people(tiny_cfg):
    for weight, decoded in ((0.0, False), (0.1, True)):
        opts = ["MODEL.CODEC.DISTORTION_WEIGHT", weight]
        cfg, model = make(tiny_cfg, ["encoder", "decoder"], True, *LATENTS, *opts)
        before = model.codec.model.g_s[-1].weight.clone()
        storage = train(cfg, model)
        assert ("psnr" in storage.latest()) == decoded
        assert torch.equal(model.codec.model.g_s[-1].weight, before) != decoded


def test_latents_in_training_lie_where_the_picture_begins(tiny_cfg):
    _, model = make(tiny_cfg, ["encoder", "decoder"], True, *LATENTS)
    codec, picture = model.codec.eval(), torch.rand(3, 40, 60)
    expected = codec([picture]).latents[0]
    codec.training = True  # the codec itself pads; its layers still round
    for _ in range(5):
        assert torch.equal(codec([picture], pictures=False).latents[0], expected)


def test_fitting_needs_no_annotations_and_moves_the_bridge_alone(tiny_cfg):
    opts = ["MODEL.CODEC.FEATURE_WEIGHT", "1.0", "MODEL.DETECTOR.LOSS_WEIGHT", "0"]
    cfg, model = make(tiny_cfg, [], False, *LATENTS, *opts, "SOLVER.BRIDGE_LR", 0.01)
    assert model.regime.name == "bridge"
    inputs = [{key: x[key] for key in ("image", "detector_size")} for x in batch()]
    before = copy.deepcopy(model.state_dict())
    distances = []
    from codec_det.training.solver import build_optimizer

    optimizer = build_optimizer(cfg, model)
    with EventStorage():
        for _ in range(20):
            losses = model.train()(inputs)
            assert set(losses) == {"loss_features"}
            distances.append(losses["loss_features"].item())
            optimizer.zero_grad()
            losses["loss_features"].backward()
            optimizer.step()
    assert distances[-1] < 0.8 * distances[0]
    moved = {k for k, v in model.state_dict().items() if not torch.equal(before[k], v)}
    assert {key.split(".")[0] for key in moved} == {"bridge"}


def test_frozen_codecs_code_a_picture_once(tiny_cfg):
    _, model = make(tiny_cfg, [], True, *LATENTS)
    calls = []
    model.codec.model.g_a.register_forward_hook(lambda *_: calls.append(1))
    pictures = [torch.randint(0, 256, (3, 64, 64)) / 255]
    first, again = (model.kept(pictures) for _ in range(2))
    assert len(calls) == 1
    anew = model.codec.eval()(pictures)
    for coded in (first, again):
        assert coded.reconstructions == []
        assert torch.equal(coded.latents[0], anew.latents[0])
        assert torch.equal(coded.bits, anew.bits)


class Ramp(Bridge):
    """Gives each position the pixel column and row of its centre in the coded picture."""

    def forward(self, latents):
        found = {}
        for name, stride in self.strides.items():
            height, width = (side * 16 // stride for side in latents.shape[-2:])
            rows, columns = ((torch.arange(n) + 0.5) * stride for n in (height, width))
            grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
            found[name] = grid[None].expand(len(latents), -1, -1, -1)
        return found


@pytest.mark.parametrize("factor", [1, 2, 1.5, 0.5])
def test_features_are_of_the_place_that_the_detector_sees(tiny_cfg, factor):
    chain = chain_of(tiny_cfg, *LATENTS)
    detector = chain.detector
    features = {"res2": ShapeSpec(channels=2, stride=4), "res3": ShapeSpec(channels=2, stride=8)}
    detector.preprocess_image._bridge = Ramp(12, 16, features, width=4, blocks=0)
    coded = [(100, 130), (72, 60)]
    sizes = [tuple(round(side * factor) for side in size) for size in coded]
    latents = [DecodedLatents(torch.zeros(12, -(-h // 16), -(-w // 16)), (h, w)) for h, w in coded]
    inputs = [
        chain.detector_input({"detector_size": size, "height": 1, "width": 1}, x)
        for x, size in zip(latents, sizes, strict=True)
    ]
    images = detector.preprocess_image(inputs)
    assert images.image_sizes == sizes
    height, width = (-(-max(x) // 32) * 32 for x in zip(*sizes, strict=True))
    for name, stride in {"res2": 4, "res3": 8}.items():
        assert images.tensor[name].shape == (2, 2, height // stride, width // stride)
        for i, (h, w) in enumerate(sizes):
            # Borders aside, where resizing runs out of neighbours.
            rows, columns = ((torch.arange(n // stride) + 0.5) * stride for n in (h, w))
            found = images.tensor[name][i, :, : len(rows), : len(columns)]
            inner = slice(2, -2)
            expected = rows[:, None].expand(-1, len(columns)) / factor
            torch.testing.assert_close(
                found[0, inner, inner], expected[inner, inner], rtol=0, atol=0.1 * stride
            )
            expected = columns.expand(len(rows), -1) / factor
            torch.testing.assert_close(
                found[1, inner, inner], expected[inner, inner], rtol=0, atol=0.1 * stride
            )


class Ideal(Bridge):
    """Gives what the detector itself has of the decoded picture."""

    def __init__(self, chain):
        super().__init__(48, 16, features_to_make(chain.detector, "res4"), width=4, blocks=0)
        self.of = [chain.codec.model.g_s, chain.detector]

    def forward(self, latents):
        g_s, detector = self.of
        pictures = [255 * picture.flip(0) for picture in g_s(latents).clamp(0, 1)]
        resnet = detector.backbone.bottom_up
        x = resnet.stem(detector.preprocess_image([{"image": x} for x in pictures]).tensor)
        return {name: (x := getattr(resnet, name)(x)) for name in self.strides}


def test_another_input_size_costs_latents_no_more_than_pictures(tmp_path):
    # The packaged detector, which was trained for pictures of 128x128.
    path = generate(tmp_path / "set", 120, (128, 128), seed=5, progress=False)
    options = [
        *("MODEL.DEVICE", "cpu", "MODEL.CODEC.WEIGHTS", "codec_det://shapes_codec_3.pth"),
        *("DATASETS.COCO_FORMAT", str([["sizes", str(path), str(path.parent / "images")]])),
        *("DATASETS.TEST", ("sizes",), "DATALOADER.NUM_WORKERS", 0, "OUTPUT_DIR", str(tmp_path)),
    ]
    config = str(CONFIGS / "shapes" / "baseline.yaml")
    chain = load_chain(load_config(config, options)).eval()
    register_datasets(load_config(config, options))
    ideal = Ideal(chain)
    take_latents(chain.detector, ideal)

    def box_ap(size, bridge):
        chain.bridge = bridge
        cfg = load_config(config, [*options, "INPUT.MIN_SIZE_TEST", size])
        evaluators = build_evaluators(cfg, "sizes", str(tmp_path))
        loader = build_test_loader(cfg, "sizes")
        return inference_on_dataset(chain, loader, evaluators)["bbox"]["AP"]

    pictures, latents = ({n: box_ap(n, b) for n in (128, 160)} for b in (None, ideal))
    assert pictures[128] > 30
    assert latents[128] == pytest.approx(pictures[128], abs=0.1)
    assert latents[160] - latents[128] > pictures[160] - pictures[128] - 1


def test_detections_are_in_pixels_of_the_picture_whatever_the_detector_size(tiny_cfg):
    chain = chain_of(tiny_cfg, *LATENTS, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
    sizes = []
    chain.detector.proposal_generator.register_forward_pre_hook(
        lambda _, inputs: sizes.extend(inputs[0].image_sizes)
    )
    entry = image(40, 60)
    (small,) = chain([{**entry, "detector_size": (40, 60)}])
    (large,) = chain([{**entry, "detector_size": (80, 120)}])
    assert sizes == [(40, 60), (80, 120)]
    for output in (small, large):
        assert output["instances"].image_size == (40, 60)
        assert output["instances"].pred_boxes.tensor.max() <= 60


def test_small_pictures_are_seen_at_the_detectors_size(tiny_cfg):
    chain = chain_of(tiny_cfg, *LATENTS, "MODEL.CODEC.SCALE", "0.5")
    coded = chain._code([torch.rand(3, 50, 81)], [image(50, 81)], pictures=False)
    (latents,) = chain._for_detector([torch.rand(3, 50, 81)], coded)
    assert latents.size == (25, 41)
    assert latents.values.shape == (12, 2, 3)
    (output,) = chain([image(50, 81)])
    assert output["instances"].image_size == (50, 81)


def test_starts_from_a_picture_chain_and_evaluates_with_a_bridge_alone(tmp_path, tiny_cfg):
    pictures = build_model(tiny_cfg())
    ChainCheckpointer(pictures, str(tmp_path)).save("pictures")
    path = str(tmp_path / "pictures.pth")
    model = build_model(tiny_cfg(*LATENTS))
    ChainCheckpointer(model, str(tmp_path)).load(path, checkpointables=[])
    loaded, wanted = model.state_dict(), pictures.state_dict()
    assert all(torch.equal(loaded[key], wanted[key]) for key in wanted)
    with pytest.raises(WeightsError, match=r"lack .*bridge\.trunk.*MODEL\.BRIDGE"):
        load_chain(tiny_cfg(*LATENTS, "MODEL.WEIGHTS", path))


def test_names_of_regimes_are_of_chains_with_or_without_a_bridge():
    assert Regime((), True, bridge=True).name == "LT-FT"
    assert Regime(("decoder",), False, bridge=True).name == "decoder+bridge"
    with pytest.raises(ConfigError, match="with a bridge"):
        Regime((), True, label="LT-FT")
    assert Regime(bridge=True).trains
    assert not Regime().trains


@pytest.mark.parametrize(
    ("opts", "said"),
    [
        (["MODEL.CODEC.NAME", "identity"], "the codec 'identity' has none"),
        (["MODEL.DETECTOR.META_ARCHITECTURE", "NoDetector"], "nothing detects in them"),
        (["MODEL.BACKBONE.NAME", "build_mnetv2_backbone"], "choose from"),
        (["MODEL.BRIDGE.STAGE", "res5"], "must be res2, res3 or res4"),
        (["MODEL.BRIDGE.WIDTH", "0"], "MODEL.BRIDGE.WIDTH is 0"),
        (["MODEL.DETECTOR.LOSS_WEIGHT", "0"], "the bridge would learn from nothing"),
        (
            [
                *(*C4, "MODEL.RESNETS.OUT_FEATURES", "['res3']", "MODEL.BRIDGE.STAGE", "res4"),
                *("MODEL.RPN.IN_FEATURES", "['res3']", "MODEL.ROI_HEADS.IN_FEATURES", "['res3']"),
            ],
            "'res4': the backbone has res2, res3",
        ),
    ],
)
def test_what_cannot_be_bridged_is_named(tiny_cfg, opts, said):
    with pytest.raises(ConfigError, match=said):
        check_config(tiny_cfg(*LATENTS, *opts))


def test_needed_features_are_those_that_are_looked_at(tiny_cfg):
    detector = build_model(tiny_cfg()).detector
    made = features_to_make(detector, "res3")
    assert {k: (v.channels, v.stride) for k, v in made.items()} == {
        "res2": (16, 4),
        "res3": (32, 8),
    }
    assert list(features_to_make(detector, "res2")) == ["res2"]
