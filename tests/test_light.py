"""Light encoders: what they cost, whose files they write, and how they learn from full ones."""

import copy

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import nn

from codec_det.bitstream import tiles
from codec_det.codec.learned.bitstream_codec import PictureDecoder, picture_encoder
from codec_det.codec.learned.complexity import complexity
from codec_det.codec.learned.fast_transforms import convolve_pixels
from codec_det.codec.learned.freeze import freeze_entropy_model
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.codec.table import find_codec, learned_codecs
from codec_det.config_checks import check_config
from codec_det.deploy.model_files import load_decoder, load_encoder, save_onnx_encoder
from codec_det.errors import ConfigError, WeightsError
from codec_det.training.checkpoint import ChainCheckpointer, load_codec_weights
from codec_det.training.trainer import load_chain
from tests.deployed import export, make_run, random_picture, tiny_config
from tests.test_regimes import batch, train
from tests.test_train_net import command, equal, weights
from tests.tile_margins import check_margin
from tools import train_net

LIGHT = [name for name in learned_codecs() if find_codec(name).full]
MEAN = "mbt2018-mean-light"
DISTILLED = [
    *("MODEL.CODEC.TRAINABLE", "['encoder']", "MODEL.DETECTOR.TRAINABLE", "False"),
    *("MODEL.CODEC.DISTILLATION_WEIGHT", "2.0", "MODEL.CODEC.BETA", "0.0"),
    *("MODEL.DETECTOR.LOSS_WEIGHT", "0.0", "SOLVER.CODEC_LR", "0.002"),
]


def make_full(name, **options):
    """A full codec whose latents spread over several values."""
    torch.manual_seed(0)
    full = LearnedCodec(find_codec(name).full, 1, n=8, m=12, **options).eval()
    full.model.g_a[-1].weight.data *= 40
    full.model.g_s[-1].bias.data += 0.5
    full.refresh_tables()
    return full


def make_light(name, full, **options):
    """A light codec that began with the weights of a full one."""
    light = LearnedCodec(name, 1, n=8, m=12, distillation_weight=1.0, **options).eval()
    light.load_state_dict(full.state_dict())
    light.model.g_a[-1].weight.data *= 20
    return light


def test_there_is_one_for_each_hyperprior_with_exact_files():
    assert {name: find_codec(name).full for name in LIGHT} == {
        f"{full}-light": full
        for kind in ("", "-centred")
        for full in (f"bmshj2018-hyperprior{kind}", f"mbt2018-mean{kind}")
    }


@pytest.mark.parametrize("name", LIGHT)
def test_encoder_is_light_and_the_rest_is_as_large_as_ever(name):
    light, full = (complexity(LearnedCodec(n, 1).model) for n in (name, find_codec(name).full))
    encoder = [sum(cost[k]["kmac_per_pixel"] for k in ("g_a", "h_a")) for cost in (light, full)]
    # By hand, of pixels: 7x7 from 3 to 64 at 1/16; 3x3 to 128, and two blocks, at 1/64; 5x5 to 192
    # at 1/256.
    blocks = 2 * (25 + 2 * 256) * 128
    g_a = 147 * 64 / 16 + (576 * 128 + blocks) / 64 + 3200 * 192 / 256
    if not find_codec(name).is_centred:  # which has a row and a column more
        assert light["g_a"]["kmac_per_pixel"] == pytest.approx(g_a / 1000)
        assert encoder[0] <= 8
        assert encoder[1] > 40
    assert {k: light[k] for k in ("h_s", "g_s")} == {k: full[k] for k in ("h_s", "g_s")}


@pytest.mark.parametrize("name", LIGHT)
def test_the_full_codecs_decoder_reads_what_a_light_encoder_writes(name):
    full = make_full(name)
    light = make_light(name, full)
    frozen = [freeze_entropy_model(codec.name, codec.model) for codec in (full, light)]
    assert frozen[0].sha256 == frozen[1].sha256
    encoder = picture_encoder(light.model, frozen[1])
    images = [random_picture(*size, 3) for size in ((40, 70), (64, 64))]
    decoder = PictureDecoder(full.model.g_s, frozen[0])
    tensors = [torch.from_numpy(x).permute(2, 0, 1).float() / 255 for x in images]
    with torch.inference_mode():
        expected = light(tensors).reconstructions
    for image, wanted in zip(images, expected, strict=True):
        data = encoder.encode(image)
        assert len(np.unique(frozen[0].read(data).y)) > 3
        torch.testing.assert_close(decoder.decode(data), wanted, rtol=0, atol=1e-4)


def test_margin_of_tiles_is_what_a_latent_sees_and_no_less():
    g_a = LearnedCodec(MEAN, 1, n=4, m=6).model.g_a
    # 7x7 at 1, 3x3 at 4, two of 5x5 and one more at 8 pixels a sample.
    check_margin(g_a, (400, 352), step=16, margin=-(-(3 + 4 + 2 * 16 + 16) // 16))


@pytest.mark.parametrize("name", [LIGHT[0], "mbt2018-mean-centred-light"])
def test_distance_is_that_of_latents(name):
    full = make_full(name)
    light = make_light(name, full)
    images = [torch.rand(3, 64, 80), torch.rand(3, 64, 64)]
    with light.teacher.watch() as seen, torch.no_grad():
        light(images, False)
        found = light.teacher.distance(seen)
        errors = [light.model.g_a(x[None]) - full.model.g_a(x[None]) for x in images]
    torch.testing.assert_close(found, torch.cat([e.flatten() for e in errors]).square().mean())
    assert found > 0.1


def test_gains_of_levels_are_the_full_codecs_and_latents_are_compared_without():
    full = make_full(MEAN, levels=2)
    full.gains.log_gains.data[0] = -1
    light = make_light(MEAN, full, levels=2)
    assert torch.equal(light.gains.log_gains, full.gains.log_gains)
    distances = []
    for level in (0, 1):
        with light.teacher.watch() as seen, torch.no_grad():
            light(
                [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))], True, [level]
            )
            distances.append(light.teacher.distance(seen))
    assert distances[0] == distances[1]


def distilled(tiny_cfg, tmp_path, *opts):
    """Config and chain of a distillation, ready to train."""
    weights_of_full = {f"codec.{k}": v for k, v in make_full(MEAN).state_dict().items()}
    torch.save({"model": weights_of_full}, tmp_path / "full.pth")
    cfg = tiny_cfg("MODEL.CODEC.NAME", MEAN, "MODEL.CODEC.WEIGHTS", str(tmp_path / "full.pth"),
                   *DISTILLED, *opts)  # fmt: skip
    check_config(cfg)
    model = build_model(cfg)
    load_codec_weights(model.codec, cfg)
    return cfg, model


def test_distillation_moves_the_encoder_alone_towards_the_full_one(tiny_cfg, tmp_path):
    cfg, model = distilled(tiny_cfg, tmp_path)
    inputs = [{k: v for k, v in x.items() if k != "instances"} for x in batch()]

    def loss():
        with EventStorage():
            torch.manual_seed(0)
            found = model.train()(inputs)
        assert found.keys() == {"loss_distillation"}
        return found["loss_distillation"]

    assert "Loss = 2·distance of latents" in model.describe()
    before, first = copy.deepcopy(model.state_dict()), loss()
    assert not any("teacher" in key for key in before)
    teacher = copy.deepcopy(model.codec.teacher._g_a.state_dict())
    model.detector.forward = None  # it is not needed
    model.codec.model.g_s.forward = None
    train(cfg, model, steps=20)
    assert loss() < 0.9 * first
    moved = {k for k, v in model.state_dict().items() if not torch.equal(before[k], v)}
    assert {key.split(".")[2] for key in moved} == {"g_a"}
    # A weight that trains, and gets no gradient, would stop DDP.
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert equal(teacher, model.codec.teacher._g_a.state_dict())


def test_a_distilled_chain_is_resumed_evaluated_and_trained_on(tmp_path, tiny_set, tiny_cfg):
    full = build_model(
        tiny_cfg("MODEL.ROI_HEADS.NUM_CLASSES", 6, "MODEL.CODEC.NAME", "mbt2018-mean")
    )
    full.codec.refresh_tables()
    ChainCheckpointer(full, str(tmp_path)).save("full")
    name = ["MODEL.CODEC.NAME", MEAN]
    start = ["MODEL.WEIGHTS", str(tmp_path / "full.pth")]
    opts = [*tiny_set, *DISTILLED, *name, *start]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train_net.main(command(whole, *opts)) == 0
    assert train_net.main(command(parts, *opts, "SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR",
                                  "SOLVER.MAX_ITER", "2", "DATASETS.TEST", "()")) == 0  # fmt: skip
    assert train_net.main(command(parts, *opts, flags=["--resume"])) == 0
    trained = weights(whole)
    assert trained.keys() == weights(parts).keys()
    fixed = [k for k in trained if not k.startswith("codec.model.g_a")]
    for folder in (whole, parts):
        own = weights(folder)
        assert all(torch.equal(own[k], full.state_dict()[k]) for k in fixed)
    # E-FT from there, with the usual loss.
    tuned = [*tiny_set, *name, "MODEL.WEIGHTS", str(whole / "model_final.pth"),
             "MODEL.CODEC.TRAINABLE", "['encoder']", "MODEL.DETECTOR.TRAINABLE", "False",
             "SOLVER.MAX_ITER", "1"]  # fmt: skip
    assert train_net.main(command(tmp_path / "eft", *tuned)) == 0


def test_weights_that_do_not_serve_are_refused_in_a_line(tiny_cfg, tmp_path, tiny_set, capsys):
    _, model = distilled(tiny_cfg, tmp_path)
    full = str(tmp_path / "full.pth")
    plain = tiny_cfg("MODEL.CODEC.NAME", MEAN, "MODEL.CODEC.WEIGHTS", full)
    with pytest.raises(WeightsError, match=r"encoder of mbt2018-mean, not the light.*distill_R50"):
        load_codec_weights(build_model(plain).codec, plain)
    wide = tiny_cfg("MODEL.CODEC.NAME", MEAN, *DISTILLED, "MODEL.CODEC.WEIGHTS", full,
                    "MODEL.CODEC.N", 16)  # fmt: skip
    with pytest.raises(WeightsError, match="no encoder that mbt2018-mean-light could learn from"):
        load_codec_weights(build_model(wide).codec, wide)
    ChainCheckpointer(model, str(tmp_path)).save("light")
    opts = [*tiny_set, *DISTILLED, "MODEL.CODEC.NAME", MEAN]
    for weights_of in ("", str(tmp_path / "light.pth")):
        own = ["MODEL.CODEC.WEIGHTS", weights_of]
        assert train_net.main(command(tmp_path / "none", *opts, *own)) == 2
        assert "has the encoder of a mbt2018-mean to learn from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"MODEL.CODEC.NAME": "mbt2018-mean"}, "no light encoder.*mbt2018-mean-light"),
        ({"MODEL.CODEC.TRAINABLE": "['decoder']"}, "has no 'encoder' that could learn"),
        ({"MODEL.CODEC.DISTILLATION_WEIGHT": "-1"}, "DISTILLATION_WEIGHT is -1"),
        (
            {"MODEL.CODEC.DISTILLATION_WEIGHT": "0"},
            "and DISTILLATION_WEIGHT: the codec would learn to send nothing",
        ),
    ],
)
def test_configs_of_distillation_that_cannot_work_are_refused(tiny_cfg, keys, said):
    opts = [x for item in keys.items() for x in item]
    with pytest.raises(ConfigError, match=said):
        check_config(tiny_cfg("MODEL.CODEC.NAME", MEAN, *DISTILLED, *opts))


def test_exported_encoder_writes_for_the_full_receiver(tmp_path, tiny_set):
    """By the tools, at a coding scale: the camera is replaced and the receiver stays."""
    opts = [*tiny_set, "MODEL.CODEC.NAME", "mbt2018-mean", "MODEL.CODEC.SCALE", "0.5"]
    old = export(make_run(tmp_path / "full", *opts), tmp_path / "old")
    weights_of_full = str(tmp_path / "full/model_final.pth")
    run = tmp_path / "light"
    run.mkdir()
    cfg = tiny_config(run, *opts, "MODEL.CODEC.NAME", MEAN, *DISTILLED,
                      "MODEL.WEIGHTS", weights_of_full)  # fmt: skip
    chain = load_chain(cfg)
    chain.codec.model.g_a[-1].weight.data *= 20
    (run / "config.yaml").write_text(cfg.dump())
    ChainCheckpointer(chain, str(run)).save("model_final")
    new = export(run, tmp_path / "new")
    data = load_encoder(new / "encoder.safetensors").encode(random_picture(96, 80, 1))
    picture = load_decoder(old / "receiver.safetensors").decode(data)
    assert picture.shape == (3, 48, 40)
    assert torch.equal(load_decoder(new / "receiver.safetensors").decode(data), picture)


@pytest.mark.slow  # imports and runs PyTorch's ONNX exporter
def test_onnx_encoder_is_the_same_whole_and_in_tiles(tmp_path, monkeypatch):
    full = make_full(MEAN)
    light = make_light(MEAN, full)
    entropy = freeze_entropy_model(light.name, light.model)
    save_onnx_encoder(tmp_path / "encoder.onnx", light, entropy)
    picture = random_picture(313, 259, 4)
    expected = entropy.read(picture_encoder(light.model, entropy).encode(picture))
    encoder = load_encoder(tmp_path / "encoder.onnx", 1)
    whole = encoder.encode(picture)
    assert (entropy.read(whole).y != expected.y).mean() < 0.01
    monkeypatch.setattr(tiles, "POSITIONS", 36)
    assert encoder.encode(picture) == whole


@pytest.mark.parametrize("count", [1, 3, 16])
@pytest.mark.parametrize("side", [8, 7])
def test_pixels_are_convolved_as_pytorch_does_it(count, side):
    layer = nn.Conv2d(6, 10, 1)
    x = torch.randn(count, 6, side, side).to(memory_format=torch.channels_last).requires_grad_()
    results = []
    for convolve in (layer, lambda x: convolve_pixels(layer, x)):
        y = convolve(x)
        results.append((y, *torch.autograd.grad(y.square().sum(), (x, layer.weight, layer.bias))))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert y.is_contiguous(memory_format=torch.channels_last)
    plain = x.detach().contiguous()
    torch.testing.assert_close(convolve_pixels(layer, plain), layer(plain))
