"""What is deployed of a chain that detects in latents: no synthesis transform, nor early stages."""

import json

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from codec_det.codec.learned import learned_codec
from codec_det.codec.learned.bitstream_codec import picture_encoder
from codec_det.data.register import register_datasets
from codec_det.deploy.model_files import load_decoder
from codec_det.deploy.receiver import load_receiver
from codec_det.errors import WeightsError
from codec_det.runs import open_run
from codec_det.training.trainer import load_chain, real_bits
from tests.deployed import SIZES, encode, export, make_run, random_picture
from tests.test_bridge import LATENTS
from tools import decode, detect

THRESHOLD = ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "MODEL.RPN.POST_NMS_TOPK_TEST", 8]


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_set):
    """A run, what was exported of it, and files of its encoder."""
    folder = tmp_path_factory.mktemp("latents")
    run = make_run(folder / "run", *tiny_set, *LATENTS, *THRESHOLD)
    deploy = export(run, folder / "deploy")
    encode(deploy, folder / "coded")
    return run, deploy, folder / "coded"


def parts_of(path):
    with safe_open(path, framework="np") as file:
        return sorted(file.keys())


def test_a_receiver_has_the_bridge_and_what_runs_behind_it(made):
    names = parts_of(made[1] / "receiver.safetensors")
    assert {name.split(".")[0] for name in names} == {"bridge", "detector", "entropy"}
    stages = {name.split(".")[3] for name in names if name.startswith("detector.backbone.bottom")}
    assert stages == {"res5"}
    assert {x.split(".")[0] for x in parts_of(made[1] / "decoder.safetensors")} == {
        "entropy",
        "g_s",
    }


def test_detections_are_those_of_the_chain_and_no_codec_is_built(made, monkeypatch):
    run, deploy, coded = made
    cfg = open_run(run).cfg
    register_datasets(cfg)
    chain = load_chain(cfg, resume=True).eval()
    expected = {}
    with real_bits(chain):
        for seed, (name, size) in enumerate(SIZES.items()):
            stored = torch.from_numpy(random_picture(*size, seed)).permute(2, 0, 1).flip(0)
            expected[name] = chain([{"image": stored}])[0]["instances"]

    def refuse(*_, **__):
        raise AssertionError("a codec is built")

    monkeypatch.setattr(learned_codec.LearnedCodec, "__init__", refuse)
    receiver = load_receiver(deploy / "receiver.safetensors")
    assert not any(p.requires_grad for p in receiver.chain.parameters())
    for name, theirs in expected.items():
        data = (coded / f"{name}.cdet").read_bytes()
        (ours,) = receiver.detect([receiver.decoder.decode(data)], [SIZES[name]])
        assert len(ours) > 0
        assert ours.image_size == SIZES[name]
        assert torch.equal(ours.pred_boxes.tensor, theirs.pred_boxes.tensor)
        assert torch.equal(ours.scores, theirs.scores)


def test_files_decode_to_pictures_by_the_decoder_alone(made, tmp_path, capsys):
    _, deploy, coded = made
    command = [str(coded), "--output-dir", str(tmp_path), "--model"]
    assert decode.main([*command, str(deploy / "decoder.safetensors")]) == 0
    assert Image.open(tmp_path / "second.png").size == SIZES["second"][::-1]
    assert decode.main([*command, str(deploy / "receiver.safetensors")]) == 2
    assert "detects in latents" in capsys.readouterr().err
    with pytest.raises(WeightsError, match=r"give the decoder\.safetensors"):
        load_decoder(deploy / "receiver.safetensors")


def test_the_tool_draws_in_pictures_that_the_decoder_decodes(made, tmp_path, capsys):
    _, deploy, coded = made
    command = [str(coded), "--model", str(deploy / "receiver.safetensors")]
    command += ["--output-dir", str(tmp_path / "found"), "--draw"]
    assert detect.main(command) == 2
    assert "give --decoder" in capsys.readouterr().err
    assert not (tmp_path / "found").exists()
    assert detect.main([*command, "--decoder", str(deploy / "decoder.safetensors")]) == 0
    results = json.loads((tmp_path / "found" / "detections.json").read_text())
    assert {result["file_name"] for result in results} == {f"{name}.cdet" for name in SIZES}
    assert sorted(path.name for path in (tmp_path / "found").glob("*.png")) == [
        f"{name}.png" for name in sorted(SIZES)
    ]
    pixels = sum(height * width for height, width in SIZES.values())
    assert f"{pixels} pixels" in capsys.readouterr().out


def test_a_picture_receiver_of_the_same_codec_reads_the_files(made, tmp_path):
    run, _, coded = made
    cfg = open_run(run).cfg
    chain = load_chain(cfg, resume=True).eval()
    entropy_of = export(run, tmp_path / "again")
    decoder = load_decoder(entropy_of / "decoder.safetensors")
    picture = random_picture(*SIZES["first"], 0)
    assert (
        picture_encoder(chain.codec.model, decoder.entropy).encode(picture)
        == (coded / "first.cdet").read_bytes()
    )
    with real_bits(chain):
        (expected,) = chain.codec(
            [torch.from_numpy(picture).permute(2, 0, 1) / 255]
        ).reconstructions
    assert torch.equal(decoder.decode((coded / "first.cdet").read_bytes()), expected)
