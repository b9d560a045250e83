"""What trains moves and everything else stays, bit for bit, after real training steps."""

import copy

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from codec_det.codec.table import build_codec
from codec_det.config import load_config
from codec_det.errors import ConfigError
from codec_det.regimes import Regime
from codec_det.training.checkpoint import load_codec_weights
from codec_det.training.solver import build_optimizer
from tests.conftest import CONFIGS

REGIMES = {
    "T-FT": ([], True),
    "C-FT": (["encoder", "decoder"], False),
    "J-FT": (["encoder", "decoder"], True),
    "E-FT": (["encoder"], False),
    "ET-FT": (["encoder"], True),
    "D-FT": (["synthesis"], False),
    "R-FT": (["entropy"], False),
}
TRANSFORMS = {
    "codec.model.g_a.": "analysis",
    "codec.model.h_a.": "hyper-analysis",
    "codec.model.g_s.": "synthesis",
    "detector.": "detector",
}


def batch(count=2, size=64):
    inputs = []
    for _ in range(count):
        truth = Instances((size, size))
        truth.gt_boxes = Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0]]))
        truth.gt_classes = torch.tensor([1])
        image = torch.randint(0, 256, (3, size, size), dtype=torch.uint8)
        inputs.append({"image": image, "instances": truth, "detector_size": (size, size)})
    return inputs


def train(cfg, model, steps=3):
    optimizer = build_optimizer(cfg, model)
    model.train()
    inputs = batch()
    with EventStorage() as storage:
        for _ in range(steps):
            loss = sum(model(inputs).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            storage.step()
    return storage


def make(tiny_cfg, parts, detector, *opts):
    cfg = tiny_cfg("MODEL.CODEC.TRAINABLE", str(parts), "MODEL.DETECTOR.TRAINABLE", detector, *opts)
    model = build_model(cfg)
    # Random analysis weights give latents that all round to zero, and so tell g_s nothing.
    with torch.no_grad():
        model.codec.model.g_a[-1].weight *= 100
    model.codec.refresh_tables()
    return cfg, model


def part_of(key):
    return next((part for start, part in TRANSFORMS.items() if key.startswith(start)), "entropy")


@pytest.mark.parametrize("name", REGIMES)
def test_trained_parts_move_and_the_rest_is_bit_identical(tiny_cfg, name):
    parts, detector = REGIMES[name]
    cfg, model = make(tiny_cfg, parts, detector)
    assert model.regime.name == name
    before = copy.deepcopy(model.state_dict())
    train(cfg, model)
    model.codec.refresh_tables()
    moved = {}
    for key, value in model.state_dict().items():
        same = value.shape == before[key].shape and torch.equal(value, before[key])
        moved.setdefault(part_of(key), {})[key] = not same
    trains = {
        "analysis": "encoder" in parts,
        "hyper-analysis": "encoder" in parts,
        "synthesis": bool({"decoder", "synthesis"} & set(parts)),
        "entropy": bool({"decoder", "entropy"} & set(parts)),
        "detector": detector,
    }
    for part, expected in trains.items():
        if not expected:
            assert not any(moved[part].values()), part
            continue
        weights = {k: m for k, m in moved[part].items() if k.endswith(("weight", "bias"))}
        # Heads for classes that no proposal matched may get no gradient; nearly all must move.
        assert sum(weights.values()) >= 0.9 * len(weights), part
    if trains["entropy"]:
        tables = {k: m for k, m in moved["entropy"].items() if k.endswith("_quantized_cdf")}
        assert tables["codec.model.entropy_bottleneck._quantized_cdf"]
    if detector:
        assert any(m for k, m in moved["detector"].items() if k.endswith("running_mean"))


@pytest.mark.parametrize("name", ["E-FT", "ET-FT"])
def test_a_decoder_deployed_before_decodes_what_the_tuned_encoder_writes(tiny_cfg, name):
    parts, detector = REGIMES[name]
    cfg, model = make(tiny_cfg, parts, detector, "SOLVER.CODEC_LR", 0.01)
    deployed = copy.deepcopy(model.codec.model).eval()
    train(cfg, model)
    model.codec.refresh_tables()
    model.eval()
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        written = model.codec.model.compress(picture)
        assert written["strings"] != deployed.compress(picture)["strings"]
        decoded = deployed.decompress(written["strings"], written["shape"])["x_hat"]
        expected = model.codec([picture[0]]).reconstructions[0]
    # Weights trained this fast give values of 10^5, whose float32 noise the clamp lets through at
    # zero and one; a picture decoded wrongly differs by one nearly everywhere.
    assert torch.allclose(decoded[0], expected, atol=1e-3)


def test_rft_sends_the_same_in_fewer_bits():
    opts = ["MODEL.CODEC.N", "32", "MODEL.CODEC.M", "48", "MODEL.CODEC.LEVELS", "1"]
    weights = ["MODEL.CODEC.WEIGHTS", "codec_det://shapes_codec_1.pth"]
    cfg = load_config(str(CONFIGS / "shapes/rft.yaml"), [*opts, *weights])
    codec = build_codec(cfg)
    load_codec_weights(codec, cfg)
    # Of a kind that these weights were not trained for.
    pictures = [(x / x.std() / 8 + 0.5).clamp(0, 1) for x in torch.randn(4, 3, 8, 8)]
    pictures = [F.interpolate(x[None], (64, 64), mode="bicubic")[0].clamp(0, 1) for x in pictures]

    def code():
        with torch.no_grad():
            return codec.eval()(pictures)

    before = code()
    codec.set_trainable(Regime.from_config(cfg).codec_parts)
    own = [p for name, p in codec.named_parameters() if "quantiles" not in name]
    optimizer = torch.optim.Adam([p for p in own if p.requires_grad], lr=1e-3)
    for _ in range(30):
        codec.train()
        bits = codec(pictures, pictures=False).bits.sum()
        optimizer.zero_grad()
        (bits / 1000).backward()
        optimizer.step()
    after = code()
    assert after.bits.sum() < 0.85 * before.bits.sum()
    # This codec has no means, so that latents are rounded as before.
    for old, new in zip(before.reconstructions, after.reconstructions, strict=True):
        assert torch.equal(old, new)


def test_a_frozen_codec_rounds_in_training(tiny_cfg):
    _, model = make(tiny_cfg, [], True)
    model.train()
    images = [torch.rand(3, 64, 64)]
    assert torch.equal(model.codec(images).bits, model.codec(images).bits)
    assert not model.codec(images).reconstructions[0].requires_grad


def test_frozen_batch_norm_keeps_its_statistics_while_the_detector_gives_losses(tiny_cfg):
    _, model = make(tiny_cfg, ["encoder"], False)
    model.train()
    norms = [m for m in model.detector.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(m.training for m in norms)
    with EventStorage():
        assert {"loss_cls", "loss_rpn_cls", "loss_rate"} <= model(batch()).keys()


def test_tft_gives_the_codec_no_gradient_bookkeeping(tiny_cfg):
    _, model = make(tiny_cfg, [], True)
    model.train()
    with EventStorage():
        losses = model(batch())
    assert not {"loss_rate", "loss_aux", "loss_distortion"} & losses.keys()
    sum(losses.values()).backward()
    assert all(p.grad is None for p in model.codec.parameters())


def test_dft_task_loss_alone(tiny_cfg):
    _, model = make(tiny_cfg, ["synthesis"], False)
    model.train()
    with EventStorage():
        assert "loss_rate" not in model(batch())


def test_unknown_part_is_refused():
    with pytest.raises(ConfigError, match=r"TRAINABLE names 'hyperprior': choose from encoder"):
        Regime(("hyperprior",))


def test_unnamed_regimes_say_their_parts():
    assert Regime(("decoder",), True).name == "decoder+detector"
    assert Regime(("encoder", "decoder", "synthesis")).name == "C-FT"


def test_regime_of_ones_own_trains_its_parts_alone_and_has_its_name(tiny_cfg):
    parts = ["roi_heads.box_head", "backbone.fpn_lateral2"]
    opts = ["MODEL.DETECTOR.TRAINABLE_PARTS", str(parts), "MODEL.REGIME", "heads"]
    cfg, model = make(tiny_cfg, ["encoder"], True, *opts)
    assert model.regime.name == "heads"
    assert "trains codec encoder, detector's roi_heads.box_head" in model.describe()
    before = copy.deepcopy(model.state_dict())
    train(cfg, model)
    after = model.state_dict()
    moved = {key for key in after if not torch.equal(before[key], after[key])}
    prefixes = ("codec.model.g_a.", "codec.model.h_a.", *(f"detector.{part}." for part in parts))
    assert all(key.startswith(prefixes) for key in moved)
    assert all(any(key.startswith(prefix) for key in moved) for prefix in prefixes[:3])


def test_regime_without_a_name_is_called_by_its_parts():
    assert Regime(("encoder",), True, ("backbone",)).name == "encoder+backbone"
    assert Regime(("encoder", "decoder", "synthesis"), True).name == "J-FT"
    assert Regime(("encoder", "synthesis")).name == "encoder+synthesis"


def test_parts_and_names_that_cannot_be_are_refused(tiny_cfg):
    with pytest.raises(
        ConfigError, match=r"'roi_head\.box_head'.* did you mean roi_heads\.box_head"
    ):
        make(tiny_cfg, [], True, "MODEL.DETECTOR.TRAINABLE_PARTS", "['roi_head.box_head']")
    with pytest.raises(ConfigError, match=r"but MODEL\.DETECTOR\.TRAINABLE is False"):
        Regime((), False, ("backbone",))
    with pytest.raises(ConfigError, match=r"MODEL\.REGIME is 'T-FT', which trains nothing of the"):
        Regime(("encoder",), True, (), "T-FT")
