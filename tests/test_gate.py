"""Encoders with gates: open at first, trained alone, in files of the codec without them."""

import copy

import pytest
import torch
from detectron2.modeling import build_model

from codec_det.codec.learned.gate import GatedAnalysis
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.codec.learned.temporal_codec import TemporalCodec
from codec_det.config_checks import check_config
from codec_det.deploy.model_files import load_decoder, load_encoder
from codec_det.errors import ConfigError
from codec_det.training.checkpoint import ChainCheckpointer
from codec_det.training.solver import parameter_groups
from codec_det.training.trainer import load_chain
from tests.deployed import export, make_run, random_picture, tiny_config
from tests.test_regimes import train
from tests.tile_margins import check_margin
from tools import info

GATED = ("MODEL.CODEC.GATED", "True")
CODEC_STILL = ("SOLVER.CODEC_LR", 0.0)
ALONE = (*GATED, "MODEL.CODEC.TRAINABLE", "['gate']", "MODEL.CODEC.BETA", "4.0")


def shut(codec, share=0.5):
    """Shut the gates of the first channels, whatever is seen."""
    last = codec.model.g_a.gate[-1]
    with torch.no_grad():
        last.bias[: int(share * len(last.bias))] = -1


@pytest.mark.parametrize("kind", [LearnedCodec, TemporalCodec])
@pytest.mark.parametrize("name", ["bmshj2018-hyperprior", "mbt2018-mean-centred"])
def test_weights_without_gates_are_those_of_open_ones(name, kind):
    torch.manual_seed(0)
    name += "-temporal" * (kind is TemporalCodec)
    usual = kind(name, 1, n=8, m=12).eval()
    usual.model.g_a[-1].weight.data *= 40
    gated = kind(name, 1, n=8, m=12, gated=True).eval()
    gated.load_state_dict(usual.state_dict())
    picture = torch.rand(1, 3, 48, 64)
    with torch.no_grad():
        wanted, found = usual(picture), gated(picture)
        shut(gated)
        closed = gated(picture)
    assert torch.equal(wanted.bits, found.bits)
    assert torch.equal(wanted.reconstructions[0], found.reconstructions[0])
    assert not torch.equal(closed.reconstructions[0], found.reconstructions[0])
    assert closed.bits < 0.9 * found.bits
    again = kind(name, 1, n=8, m=12, gated=True)
    again.load_state_dict(gated.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), gated.parameters(), strict=True)
    )


def test_gates_are_a_part_of_the_encoder():
    codec = LearnedCodec("mbt2018-mean", 1, n=8, m=12, gated=True)
    own = {id(p) for p in codec.model.g_a.gate.parameters()}
    for parts, expected in (([], set()), (["gate"], own), (["decoder"], set())):
        codec.set_trainable(parts)
        trains = {id(p) for p in codec.model.g_a.parameters() if p.requires_grad}
        assert trains == expected
        assert codec.trains_encoder == bool(expected)
    codec.set_trainable(["encoder"])
    assert all(p.requires_grad for p in codec.model.g_a.parameters())
    assert "gate" not in LearnedCodec("mbt2018-mean", 1, n=8, m=12).parts()


@pytest.mark.parametrize(("detector", "name"), [("False", "G-FT"), ("True", "GT-FT")])
def test_gates_train_alone(tiny_cfg, detector, name):
    cfg = tiny_cfg(
        *ALONE, "MODEL.DETECTOR.TRAINABLE", detector, "SOLVER.GATE_LR", 0.01, *CODEC_STILL
    )
    model = build_model(cfg)
    assert model.regime.name == name
    model.codec.model.g_a.transform[-1].weight.data *= 100
    model.codec.refresh_tables()
    rates = {group["lr"] for group in parameter_groups(cfg, model)}
    assert rates == {0.01, *([cfg.SOLVER.BASE_LR] if model.regime.detector else [])}
    before = copy.deepcopy(model.codec.state_dict())
    train(cfg, model)
    after = model.codec.state_dict()
    moved = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert moved == {f"model.{key}" for key in _names(model) if ".gate." in key}
    # The rate pulls them to.
    y = model.codec.model.g_a.transform(torch.rand(1, 3, 64, 64))
    assert model.codec.eval().model.g_a.gates(y).mean() < 0.999


def _names(model):
    return {name for name, _ in model.codec.model.named_parameters()}


def test_gates_that_are_shut_can_open_again():
    torch.manual_seed(0)
    analysis = GatedAnalysis(torch.nn.Identity(), 3).train()
    y = torch.randn(2, 3, 8, 8)
    for bias, wanted in ((-3.0, 1), (3.0, 0)):
        analysis.zero_grad()
        analysis.gate[-1].bias.data.fill_(bias)
        gates = analysis.gates(y)
        assert gates.unique().tolist() == [1.0 - wanted]
        (gates - wanted).square().sum().backward()
        assert (analysis.gate[-1].bias.grad.sign() == gates.mean() - wanted).all()


def test_margin_of_tiles_is_what_a_latent_sees_and_no_less(monkeypatch):
    # Of wide open gates, what they see is lost in the limit.
    monkeypatch.setattr(GatedAnalysis, "gates", lambda self, y: self.gate(y))
    g_a = GatedAnalysis(torch.nn.Conv2d(3, 6, 5, 4, padding=2), 6).eval()
    # 5x5 at 1, two of 3x3 at 4 pixels a sample.
    check_margin(g_a, (160, 160), step=4, margin=-(-(2 + 2 * 4) // 4))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_set):
    """Deployed: a run, and the same with gates, of which half are shut."""
    folder = tmp_path_factory.mktemp("runs")
    usual = make_run(folder / "usual", *tiny_set, "MODEL.CODEC.NAME", "mbt2018-mean")
    own = (
        "MODEL.CODEC.NAME",
        "mbt2018-mean",
        "MODEL.CODEC.WEIGHTS",
        str(usual / "model_final.pth"),
    )
    cfg = tiny_config(folder / "gated", *tiny_set, *own, *GATED)
    (folder / "gated").mkdir()
    (folder / "gated" / "config.yaml").write_text(cfg.dump())
    chain = load_chain(cfg)
    shut(chain.codec)
    ChainCheckpointer(chain, str(folder / "gated")).save("model_final")
    return usual, folder / "gated"


@pytest.mark.slow  # imports and runs PyTorch's ONNX exporter
def test_receivers_without_gates_read_what_encoders_with_gates_write(
    runs, tiny_set, tmp_path, capsys
):
    usual, gated = (export(run, tmp_path / run.name, "--onnx") for run in runs)
    said = capsys.readouterr().out
    assert said.count("mbt2018-mean, widths 8, 12, gates;") == 1
    assert info.main([str(gated / "encoder.onnx")]) == 0
    assert "mbt2018-mean, widths [8, 12], gates" in capsys.readouterr().out
    decoder = load_decoder(usual / "receiver.safetensors")
    picture = random_picture(48, 64, 0)
    data = {
        (folder.name, name): load_encoder(folder / name).encode(picture)
        for folder in (usual, gated)
        for name in ("encoder.safetensors", "encoder.onnx")
    }
    assert data["gated", "encoder.onnx"] == data["gated", "encoder.safetensors"]
    assert data["gated", "encoder.onnx"] != data["usual", "encoder.onnx"]
    own = ("MODEL.CODEC.NAME", "mbt2018-mean", *GATED)
    chain = load_chain(tiny_config(runs[1], *tiny_set, *own), resume=True)
    tensor = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
    with torch.inference_mode():
        (wanted,) = chain.codec.eval()([tensor]).reconstructions
    found = decoder.decode(data["gated", "encoder.safetensors"])
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("opts", "said"),
    [
        (("MODEL.CODEC.TRAINABLE", "['gate']"), "names 'gate', but the encoder has no gates"),
        ((*GATED, "MODEL.CODEC.NAME", "webp"), "the encoder of webp can have no gates"),
        (
            (
                *(*GATED, "MODEL.CODEC.NAME", "mbt2018-mean-light"),
                *("MODEL.CODEC.DISTILLATION_WEIGHT", 1.0),
            ),
            "what the full encoder has, gates leave out",
        ),
    ],
)
def test_config_refuses_what_cannot_be_gated(tiny_cfg, opts, said):
    with pytest.raises(ConfigError, match=said):
        check_config(tiny_cfg(*opts))
