"""One model for every rate, from a config to records."""

import json
from pathlib import Path

import pytest
import torch
from compressai.registry import MODELS

from codec_det.codec.learned.bitstream_codec import BitstreamCodec
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.codec.table import build_codec
from codec_det.config_checks import check_config
from codec_det.errors import ConfigError, WeightsError
from codec_det.meta_arch import draw_levels
from codec_det.training.checkpoint import load_codec_weights
from codec_det.training.trainer import load_chain
from tests.test_train_net import command
from tools.train_net import main

CODECS = ("bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean", "cheng2020-anchor")
LEVELS = [
    *("MODEL.CODEC.LEVELS", "3", "MODEL.CODEC.LEVEL_BETAS", "[4.0, 2.0, 1.0]"),
    *("SOLVER.GAINS_LR", "0.01"),
]


def make(name, levels=3, spread=True):
    codec = LearnedCodec(name, 1, n=8, m=12 if "cheng" not in name else 0, levels=levels).eval()
    if spread and codec.gains:
        # A factor e from level to level; inverse gains undo it.
        steps = torch.arange(levels, dtype=torch.float32)[:, None]
        codec.gains.log_gains.data += steps
        codec.inverse_gains.log_gains.data -= steps
    return codec


@pytest.mark.parametrize("name", CODECS)
def test_gains_of_one_change_nothing(name):
    torch.manual_seed(0)
    fixed = make(name, levels=1)
    codec = make(name, spread=False)
    codec.load_state_dict(fixed.state_dict())  # a fixed-rate checkpoint
    images = [torch.rand(3, 40, 64), torch.rand(3, 64, 20)]
    wanted = fixed(images)
    found = codec(images, levels=[0.0, 1.5])
    for a, b in zip(wanted.reconstructions, found.reconstructions, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
    torch.testing.assert_close(wanted.bits, found.bits)


@pytest.mark.parametrize("name", CODECS)
def test_each_picture_of_a_batch_has_its_level(name):
    codec = make(name)
    for transform in {codec.model.g_a, getattr(codec.model, "h_a", codec.model.g_a)}:
        *_, last = (x for x in transform.modules() if isinstance(x, torch.nn.Conv2d))
        last.weight.data *= 30
    image = torch.rand(3, 64, 64)
    together = codec([image] * 4, levels=[2.0, 0.0, 0.5, 1.0])
    alone = [codec([image], levels=[level]) for level in (2.0, 0.0, 0.5, 1.0)]
    torch.testing.assert_close(together.bits, torch.cat([x.bits for x in alone]), rtol=1e-4, atol=1)
    bits = together.bits.tolist()
    assert bits[1] < bits[2] < bits[3] < bits[0]
    assert torch.equal(codec([image]).bits, alone[0].bits)  # the highest, unless told
    codec.level = 0.5
    assert torch.equal(codec([image]).bits, alone[2].bits)


def test_gains_between_levels_are_geometric_means():
    codec = make("bmshj2018-hyperprior")
    gains = codec.gains(torch.tensor([0.0, 0.5, 1.25, 2.0]))
    assert gains.shape == (4, 12, 1, 1)
    torch.testing.assert_close(gains[:, 0, 0, 0].log(), torch.tensor([0.0, 0.5, 1.25, 2.0]))


def test_gains_belong_to_encoder_decoder_and_synthesis():
    codec = make("bmshj2018-hyperprior")
    for part, trains in (("encoder", (True, False)), ("decoder", (False, True)),
                         ("synthesis", (False, True))):  # fmt: skip
        codec.set_trainable([part])
        found = codec.gains.log_gains.requires_grad, codec.inverse_gains.log_gains.requires_grad
        assert found == trains


def test_levels_of_a_batch_are_drawn_as_evenly_as_can_be():
    torch.manual_seed(0)
    assert draw_levels(range(1), 3) == [0, 0, 0]
    assert draw_levels([2], 3) == [2, 2, 2]
    assert sorted(draw_levels([1, 3], 4)) == [1, 1, 3, 3]
    for pictures in (4, 6, 8):
        levels = draw_levels(range(4), pictures)
        assert len(levels) == pictures
        assert {levels.count(level) for level in range(4)} <= {pictures // 4, -(-pictures // 4)}
    assert len({tuple(draw_levels(range(4), 4)) for _ in range(20)}) > 5
    clips = draw_levels(range(4), 12, clip_length=3)
    assert clips[::3] == clips[1::3] == clips[2::3]
    assert sorted(clips[::3]) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", CODECS[:3])
def test_files_are_of_their_level_and_decode_as_they_were_coded(name):
    codec = make(name)
    codec.refresh_tables()
    files = BitstreamCodec(codec)
    image = torch.rand(3, 40, 70).mul(255).round() / 255
    coded = codec([image] * 2, levels=[0.5, 1.0])
    real = files([image] * 2, levels=[0.5, 1.0])
    for a, b in zip(coded.reconstructions, real.reconstructions, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-3)
    data = files.encoder.encode(image.mul(255).byte().permute(1, 2, 0).numpy(), 0.5)
    assert files.entropy.read(data).picture.level == 32


def test_a_run_trains_all_levels_and_evaluates_each_in_one_command(tmp_path, tiny_set, tiny_cfg):
    opts = [*tiny_set, *LEVELS, "MODEL.CODEC.BITSTREAM", "True"]
    assert main(command(tmp_path, *opts)) == 0
    path = tmp_path / "results.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [r["level"] for r in records] == [0, 1, 2]
    assert [r["beta"] for r in records] == [4, 2, 1]
    assert all("bbox" in r["results"] for r in records)
    for level in range(3):
        assert (tmp_path / f"inference/tiny/level_{level}/per_image.csv").is_file()
    metrics = Path(tmp_path, "metrics.json").read_text()
    for name in ("bpp_0", "bpp_2", "beta_1", "level 2/rate/bpp"):
        assert f'"{name}": ' in metrics
    gains = torch.load(tmp_path / "model_final.pth")["model"]["codec.gains.log_gains"]
    assert (gains != 0).all()

    again = ["--eval-only", "OUTPUT_DIR", str(tmp_path), "MODEL.CODEC.LEVELS_TEST", "[0.5]"]
    assert main(again) == 0
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert (len(records), records[-1]["level"], records[-1]["beta"]) == (4, 0.5, None)
    chain = load_chain(tiny_cfg(*tiny_set, *LEVELS, "OUTPUT_DIR", str(tmp_path)), resume=True)
    assert torch.equal(chain.codec.gains.log_gains, gains)


def test_a_detector_for_one_level_is_trained_and_evaluated_at_that_alone(tmp_path, tiny_set):
    opts = [*tiny_set, *LEVELS, "MODEL.CODEC.LEVELS_TRAIN", "[1]", "MODEL.CODEC.TRAINABLE", "[]"]
    assert main(command(tmp_path, *opts)) == 0
    (record,) = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    assert (record["regime"], record["level"]) == ("T-FT", 1)
    metrics = Path(tmp_path, "metrics.json").read_text()
    assert '"bpp_1": ' in metrics
    assert '"bpp_0": ' not in metrics
    assert '"bpp_2": ' not in metrics


@pytest.mark.parametrize(
    ("opts", "said"),
    [
        (["MODEL.CODEC.LEVELS", "0"], "MODEL.CODEC.LEVELS is 0: it must be from 1 to 1024"),
        (["MODEL.CODEC.LEVELS", "3"], "nothing tells their rates apart: set MODEL.CODEC.LEVEL_B"),
        ([*LEVELS, "MODEL.CODEC.LEVEL_BETAS", "[2, 1]"], r"\[2, 1\], but the codec has 3 levels"),
        (["MODEL.CODEC.LEVEL_BETAS", "[2.0]"], "has 1 level: .* with one, MODEL.CODEC.BETA"),
        ([*LEVELS, "MODEL.CODEC.LEVEL_BETAS", "[1, 2, 4]"], r"lowest rate: give \[4, 2, 1\]"),
        ([*LEVELS, "MODEL.CODEC.LEVEL_TARGETS", "[0.2, 0.1, 0.3]"], r"give \[0.1, 0.2, 0.3\]"),
        ([*LEVELS, "MODEL.CODEC.LEVEL_TARGETS", "[0, 0.1, 0.3]"], "must be numbers above 0"),
        ([*LEVELS, "MODEL.CODEC.TARGET_BPP", "0.1"], "set it to 0, and MODEL.CODEC.LEVEL_TARGETS"),
        ([*LEVELS, "MODEL.CODEC.LEVELS_TEST", "[2.5]"], "has 2.5, but levels are 0 to 2"),
        ([*LEVELS, "MODEL.CODEC.LEVELS_TEST", "[0.3]"], "in steps of 1/64"),
        ([*LEVELS, "MODEL.CODEC.LEVELS_TEST", "[1, 1]"], "one is twice"),
        ([*LEVELS, "MODEL.CODEC.LEVELS_TRAIN", "[3]"], "has 3, but levels are 0 to 2$"),
        ([*LEVELS, "MODEL.CODEC.LEVELS_TRAIN", "[0.5]"], "must be a list of whole numbers"),
        (["MODEL.CODEC.LEVELS_TEST", "[1]"], r"MODEL.CODEC.LEVELS is 1: set it to '\[\]'"),
        ([*LEVELS, "MODEL.CODEC.NAME", "identity", "MODEL.CODEC.TRAINABLE", "[]"], "no learned"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(tiny_cfg, opts, said):
    with pytest.raises(ConfigError, match=said):
        check_config(tiny_cfg("MODEL.CODEC.TRAINABLE", "['encoder', 'decoder']", *opts))


def test_weights_of_other_levels_are_refused_and_say_so(tiny_cfg, tmp_path):
    path = tmp_path / "codec.pth"
    codec = make("bmshj2018-hyperprior")
    torch.save({"model": {f"codec.{k}": v for k, v in codec.state_dict().items()}}, path)
    for opts in ([], ["MODEL.CODEC.LEVELS", 4]):
        cfg = tiny_cfg("MODEL.CODEC.WEIGHTS", str(path), *opts)
        other = make("bmshj2018-hyperprior", levels=cfg.MODEL.CODEC.LEVELS)
        with pytest.raises(WeightsError, match="N, M, LEVELS and GATED"):
            load_codec_weights(other, cfg)
    same = make("bmshj2018-hyperprior", spread=False)
    load_codec_weights(same, tiny_cfg("MODEL.CODEC.WEIGHTS", str(path), "MODEL.CODEC.LEVELS", 3))
    assert torch.equal(same.gains.log_gains, codec.gains.log_gains)


VBR = ("bmshj2018-hyperprior-vbr", "mbt2018-mean-vbr")


@pytest.mark.parametrize("name", VBR)
def test_compressais_own_variable_rate_gives_what_its_model_gives(name, tiny_cfg, tmp_path):
    torch.manual_seed(0)
    peer = MODELS[name](8, 12, vr_entbttlnck=True).eval()
    peer.g_a[6].weight.data *= 60
    path = tmp_path / "zoo.pth.tar"
    torch.save({**peer.state_dict(), "QuantOffset": torch.zeros(1)}, path)
    cfg = tiny_cfg("MODEL.CODEC.NAME", name, "MODEL.CODEC.WEIGHTS", str(path))
    check_config(cfg)
    codec = build_codec(cfg).eval()
    load_codec_weights(codec, cfg)
    assert codec.levels == 8
    image = torch.rand(3, 64, 64)
    coded = codec([image] * 3, levels=[5.0, 0.0, 2.5])
    with torch.no_grad():
        for place, (s, scale) in enumerate(((5, 0), (0, 0), (2, peer.Gain[2:4].prod().sqrt()))):
            out = peer(image[None], s=s, inputscale=scale)
            bits = sum(-torch.log2(x).sum() for x in out["likelihoods"].values())
            torch.testing.assert_close(coded.bits[place], bits, rtol=1e-4, atol=0.1)
            found = coded.reconstructions[place]
            torch.testing.assert_close(found, out["x_hat"][0].clamp(0, 1), rtol=0, atol=1e-4)
    assert coded.bits[1] < coded.bits[2] < coded.bits[0]


def test_compressais_own_variable_rate_works_in_the_chain(tmp_path, tiny_set):
    betas = "[8, 7, 6, 5, 4, 3, 2, 1]"
    opts = ["MODEL.CODEC.NAME", VBR[1], "MODEL.CODEC.LEVEL_BETAS", betas]
    opts += ["MODEL.CODEC.LEVELS_TEST", "[0, 6.5]"]
    assert main(command(tmp_path, *tiny_set, *opts)) == 0
    path = tmp_path / "results.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(r["level"], r["beta"]) for r in records] == [(0, 8), (6.5, None)]
    assert records[0]["results"]["rate"]["bpp"] <= records[1]["results"]["rate"]["bpp"]


def test_compressais_own_variable_rate_has_no_files_and_says_why(tiny_cfg):
    codec = ("MODEL.CODEC.NAME", VBR[0])
    with pytest.raises(ConfigError, match=r"written to files .its quantization step goes"):
        check_config(tiny_cfg(*codec, "MODEL.CODEC.BITSTREAM", "True"))
    with pytest.raises(ConfigError, match=r"LEVELS is 4, but .* has 8 of its own: set it to 1"):
        check_config(tiny_cfg(*codec, "MODEL.CODEC.LEVELS", 4))
