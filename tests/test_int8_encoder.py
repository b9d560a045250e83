"""Encoders in 8-bit integers: what is quantized, what it costs, and that receivers stay."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from codec_det.bitstream import tiles
from codec_det.bitstream.onnx_encoder import load_onnx_encoder, open_onnx
from codec_det.codec.learned.export_layers import for_export
from codec_det.codec.learned.freeze import freeze_entropy_model
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.deploy import int8_encoder
from codec_det.deploy.int8_encoder import choose_layers, find_layers, save_int8_encoder
from codec_det.deploy.model_files import save_onnx_encoder
from codec_det.errors import CodecDetError
from tests.deployed import random_picture
from tools import export_model, info

COSTS = {"a": 1.002, "b": 1.03, "c": 1.001, "d": 1.02}


@pytest.fixture(scope="module")
def codec():
    torch.manual_seed(0)
    codec = LearnedCodec("mbt2018-mean", 1, n=8, m=12).eval()
    with torch.no_grad():
        # Random weights make latents that are all zero.
        for part in (codec.model.g_a, codec.model.h_a):
            part[-1].weight.mul_(30)
    codec.model.update()
    return codec


@pytest.fixture(scope="module")
def source(codec, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "encoder.onnx"
    save_onnx_encoder(path, codec, freeze_entropy_model(codec.name, codec.model))
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(4):
        Image.fromarray(random_picture(96, 128, seed)).save(folder / f"{seed}.png")
    return sorted(folder.iterdir())


def cost(layers):
    return float(np.prod([COSTS[layer] for layer in layers])), 1.0


def test_layers_that_cost_most_stay_in_float():
    asked = []

    def measure(layers):
        asked.append(sorted(layers))
        return cost(layers)

    chosen, factors = choose_layers([*COSTS], measure)
    assert sorted(chosen) == ["a", "c"]
    assert factors == cost(chosen)
    # All, each alone, without b, without b and d.
    assert asked == [[*COSTS], *([name] for name in COSTS), ["a", "c", "d"], ["a", "c"]]


def test_nothing_is_left_out_without_need():
    asked = []
    chosen, _ = choose_layers(["a", "c"], lambda layers: asked.append(layers) or cost(layers))
    assert chosen == ["a", "c"]
    assert asked == [["a", "c"]]


def test_an_encoder_that_8_bits_ruin_is_refused():
    with pytest.raises(CodecDetError, match=r"no layer .* 1%: .* without --int8"):
        choose_layers(["b", "d"], lambda layers: (1.0, 1.5))


def test_layers_for_export_compute_the_same(codec):
    x = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for part in (codec.model.g_a, codec.model.h_a, codec.model.h_s):
            exported = for_export(part)
            expected = part(x)
            assert torch.allclose(exported(x), expected, atol=1e-4 * float(expected.abs().max()))
            assert [*map(type, part)] != [*map(type, exported)] or part is codec.model.h_a
            x = expected


@pytest.mark.slow  # imports and runs PyTorch's ONNX exporter
def test_an_encoder_in_8_bits_writes_for_the_same_receiver(source, pictures, tmp_path, capsys):
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "encoder_int8.onnx"
    outcome = save_int8_encoder(path, source, pictures)
    layers = find_layers(source)
    assert [*layers][:3] == ["g_a.0", "g_a.1", "g_a.2"]
    assert sorted([*outcome.layers, *outcome.float_layers]) == sorted(layers)
    assert "g_a.2" in outcome.layers
    assert outcome.rate * outcome.error <= int8_encoder.BOUND
    assert outcome.pictures == 4

    graph = onnx.load(path).graph
    kinds = {each.name: each.data_type for each in graph.initializer}
    weights = {x.name.split("/")[0]: x.input[1] for x in graph.node if x.op_type == "Conv"}
    for layer in outcome.layers:
        quantized = weights[layer].replace("DequantizeLinear_Output", "quantized")
        assert kinds[quantized] == onnx.TensorProto.INT8
    assert all(kinds[weights[x]] == onnx.TensorProto.FLOAT for x in outcome.float_layers)

    encoder, exact = load_onnx_encoder(path), load_onnx_encoder(source)
    assert encoder.entropy.sha256 == exact.entropy.sha256
    for seed in (7, 8):
        picture = random_picture(90, 131, seed)
        own, other = (exact.entropy.read(each.encode(picture)) for each in (encoder, exact))
        assert own.y.any()
        assert 0 < (own.y != other.y).mean() < 0.2
        assert np.abs(own.y - other.y).max() <= 2

    metadata = open_onnx(path).metadata
    assert metadata["int8"] == json.loads(json.dumps(outcome.facts()))
    assert info.main([str(path)]) == 0
    assert f"8 bits        {', '.join(outcome.layers)}" in capsys.readouterr().out


@pytest.mark.slow  # as the one before
def test_in_8_bits_tiles_are_the_whole_to_the_bit(source, pictures, tmp_path, monkeypatch):
    path = tmp_path / "encoder_int8.onnx"
    monkeypatch.setattr(int8_encoder, "BOUND", np.inf)
    outcome = save_int8_encoder(path, source, pictures)
    assert outcome.float_layers == ()
    encoder = load_onnx_encoder(path)
    picture = random_picture(200, 320, 5)
    whole = encoder.encode(picture)
    monkeypatch.setattr(tiles, "POSITIONS", 48)
    assert encoder.encode(picture) == whole


@pytest.mark.slow  # as the one before
def test_files_say_nothing_of_the_machine_that_exported_them(source):
    data = source.read_bytes()
    assert b".py" not in data
    assert b"stack_trace" not in data


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--int8", "--calibration", "{}"], "give --onnx and --calibration with it"),
        (["--onnx", "--int8"], "give --onnx and --calibration with it"),
        (["--onnx", "--calibration", "{}"], "--calibration is for encoders in 8 bits"),
        (["--onnx", "--int8", "--calibration", "{}/none"], "none' does not exist"),
        (["--onnx", "--int8", "--calibration", "{}"], "broken.png"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_first(tmp_path, capsys, options, message):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    options = [option.format(tmp_path) for option in options]
    arguments = [str(tmp_path / "run"), "--output-dir", str(tmp_path / "deploy"), *options]
    assert export_model.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "deploy").exists()
