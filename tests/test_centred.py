"""Codecs whose latents are amid their pixels."""

import copy
import logging

import numpy as np
import pytest
import torch

from codec_det.bitstream import tiles
from codec_det.codec.learned.bitstream_codec import BitstreamCodec, PictureDecoder, picture_encoder
from codec_det.codec.learned.freeze import freeze_entropy_model
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.codec.table import build_codec, find_codec, learned_codecs
from codec_det.config_checks import check_config
from codec_det.data.shapes import scenes
from codec_det.deploy.model_files import load_encoder, save_encoder, save_onnx_encoder
from codec_det.errors import WeightsError
from codec_det.pixels import psnr, to_uint8
from codec_det.training.checkpoint import load_codec_weights
from codec_det.training.trainer import load_chain
from tests.deployed import make_run, random_picture, tiny_config

CENTRED = [
    name
    for name in learned_codecs()
    if find_codec(name).is_centred
    and not (find_codec(name).predicts_frames or find_codec(name).full)
]
OFFSET = 7


def pair(name):
    """A centred codec and the usual one of the same weights, whose latents are lively."""
    torch.manual_seed(0)
    usual = LearnedCodec(name.removesuffix("-centred"), 1, n=8, m=12).eval()
    usual.model.g_a[-1].weight.data *= 40
    usual.model.g_s[-1].bias.data += 0.5
    usual.refresh_tables()
    centred = LearnedCodec(name, 1, n=8, m=12).eval()
    centred.load_state_dict(usual.state_dict())
    return centred, usual


def as_tensor(picture):
    return torch.from_numpy(picture).permute(2, 0, 1).float() / 255


def test_there_is_one_of_each_hyperprior_with_exact_files():
    assert CENTRED == ["bmshj2018-hyperprior-centred", "mbt2018-mean-centred"]


@pytest.mark.parametrize("name", CENTRED)
@pytest.mark.parametrize("size", [(1, 1), (16, 17), (64, 48), (65, 130)])
@torch.inference_mode()
def test_there_are_as_many_latents_as_usual(name, size):
    centred, usual = pair(name)
    x = as_tensor(random_picture(*size, 0))
    ours, theirs = centred([x]), usual([x])
    assert ours.latents[0].shape == theirs.latents[0].shape == (12, *(-(-s // 16) for s in size))
    assert ours.reconstructions[0].shape == x.shape
    assert not torch.equal(ours.latents[0], theirs.latents[0])


@torch.inference_mode()
def test_latents_and_pictures_are_the_usual_ones_moved():
    centred, usual = pair(CENTRED[0])
    x = as_tensor(random_picture(160, 176, 1))[None]
    y = centred.model.g_a(x)
    # A latent sees 30 pixels on either side.
    moved = usual.model.g_a(x[..., OFFSET:, OFFSET:])
    torch.testing.assert_close(y[..., 2:-2, 2:-2], moved[..., 2:-2, 2:-2], rtol=0, atol=1e-4)
    assert y.round().unique().numel() > 10
    z = centred.model.g_s(y)
    shown = usual.model.g_s(y)
    torch.testing.assert_close(
        z[..., 48 + OFFSET : -48, 48 + OFFSET : -48],
        shown[..., 48 : -48 - OFFSET, 48 : -48 - OFFSET],
        rtol=0,
        atol=1e-4,
    )


def test_every_latent_has_as_many_pixels_on_either_side():
    """What a single latent changes lies around the middle of its 16 pixels, in the corners too."""
    centred, _ = pair(CENTRED[0])
    y = torch.zeros(1, 12, 3, 3)
    with torch.inference_mode():
        empty = centred.model.g_s(y)
        for place in range(3):
            lit = y.clone()
            lit[0, :, place, place] = 5
            change = (centred.model.g_s(lit) - empty).abs().sum((0, 1))
            for axis in (0, 1):
                weight = change.sum(axis)
                window = weight[16 * place : 16 * place + 16]
                middle = (window * torch.arange(16)).sum() / window.sum()
                assert abs(middle - 7.5) < 1.5


@pytest.mark.parametrize("name", CENTRED)
def test_files_give_the_pictures_of_the_forward_pass(name):
    centred, _ = pair(name)
    images = [as_tensor(random_picture(*size, 3)) for size in ((40, 70), (64, 64))]
    with torch.inference_mode():
        forward = centred(images)
    real = BitstreamCodec(copy.deepcopy(centred))(images)
    for ours, theirs in zip(real.reconstructions, forward.reconstructions, strict=True):
        assert ours.shape == theirs.shape
        assert abs(to_uint8(ours).int() - to_uint8(theirs).int()).max() <= 1
    assert real.reconstructions[1].std() > 0.01


def test_files_and_pictures_are_the_same_in_tiles(monkeypatch):
    centred, _ = pair(CENTRED[1])
    entropy = freeze_entropy_model(CENTRED[1], centred.model)
    encoder = picture_encoder(centred.model, entropy)
    decoder = PictureDecoder(centred.model.g_s, entropy)
    picture = random_picture(313, 259, 6)
    whole = encoder.encode(picture)
    decoded = decoder.decode(whole)
    monkeypatch.setattr(tiles, "POSITIONS", 6)
    assert encoder.encode(picture) == whole
    torch.testing.assert_close(decoder.decode(whole), decoded, rtol=0, atol=1e-5)


@pytest.mark.slow  # imports and runs PyTorch's ONNX exporter
def test_exported_encoders_centre_too(tmp_path):
    centred, _ = pair(CENTRED[1])
    entropy = freeze_entropy_model(CENTRED[1], centred.model)
    save_encoder(tmp_path / "encoder.safetensors", centred, entropy)
    save_onnx_encoder(tmp_path / "encoder.onnx", centred, entropy)
    decoder = PictureDecoder(centred.model.g_s, entropy)
    for size in ((64, 64), (50, 33)):
        picture = random_picture(*size, 4)
        expected = picture_encoder(centred.model, entropy).encode(picture)
        assert load_encoder(tmp_path / "encoder.safetensors").encode(picture) == expected
        onnx = entropy.read(load_encoder(tmp_path / "encoder.onnx").encode(picture))
        latents = entropy.read(expected)
        assert (onnx.y != latents.y).mean() < 0.01
        assert len(np.unique(latents.y)) > 5
        assert decoder.decode(expected).shape == (3, *size)


def test_gradients_reach_all_weights_and_training_pads_anywhere():
    centred, _ = pair(CENTRED[0])
    centred.set_trainable(("encoder", "decoder"))
    centred.train()
    coded = centred([as_tensor(random_picture(40, 40, 5))])
    (coded.reconstructions[0].square().mean() + coded.bits.mean()).backward()
    assert all(p.grad is not None for p in centred.model.g_a.parameters())
    assert all(p.grad is not None for p in centred.model.g_s.parameters())


def test_weights_of_usual_codecs_are_a_start(tiny_cfg):
    packaged = "codec_det://shapes_codec_2.pth"
    cfg = tiny_cfg("MODEL.CODEC.NAME", CENTRED[0], "MODEL.CODEC.WEIGHTS", packaged,
                   "MODEL.CODEC.N", 32, "MODEL.CODEC.M", 48)  # fmt: skip
    check_config(cfg)
    codec = build_codec(cfg).eval()
    load_codec_weights(codec, cfg)
    ((picture, _),) = scenes(1, (128, 128), 3)
    x = as_tensor(picture)
    with torch.inference_mode():
        decoded = codec([x]).reconstructions[0]
    inside = (decoded - x)[:, 32:-32, 32:-32].square().mean()
    assert psnr(inside) > 20
    assert psnr(inside) > psnr((decoded - x)[:, :, :8].square().mean()) + 2


def test_weights_of_a_run_whose_latents_lie_elsewhere_are_for_training_alone(tmp_path, caplog):
    run = make_run(tmp_path / "usual", "MODEL.CODEC.NAME", "mbt2018-mean")
    whole = str(run / "model_final.pth")
    usual, centred = (
        tiny_config(tmp_path / name, "MODEL.CODEC.NAME", name, "MODEL.WEIGHTS", whole)
        for name in ("mbt2018-mean", "mbt2018-mean-centred")
    )
    load_chain(usual)
    with pytest.raises(WeightsError, match=r"trained as mbt2018-mean, .*of mbt2018-mean-centred"):
        load_chain(centred)
    codec_alone = tiny_config(
        tmp_path, "MODEL.CODEC.NAME", "mbt2018-mean-centred", "MODEL.CODEC.WEIGHTS", whole
    )
    with pytest.raises(WeightsError, match=r"trained as mbt2018-mean, .*MODEL\.CODEC\.NAME"):
        load_chain(codec_alone)
    with caplog.at_level(logging.WARNING):
        load_codec_weights(build_codec(codec_alone), codec_alone, strict=False)
    assert "which training has to move" in caplog.text


def test_no_encoder_is_learned_from_whose_latents_lie_elsewhere(tmp_path):
    run = make_run(tmp_path / "usual", "MODEL.CODEC.NAME", "mbt2018-mean")
    light = tiny_config(
        tmp_path,
        *("MODEL.CODEC.NAME", "mbt2018-mean-centred-light"),
        *("MODEL.CODEC.WEIGHTS", str(run / "model_final.pth")),
        *("MODEL.CODEC.DISTILLATION_WEIGHT", 1.0),
    )
    with pytest.raises(WeightsError, match="trained as mbt2018-mean, whose latents lie elsewhere"):
        load_codec_weights(build_codec(light), light, strict=False)
