"""Transforms in less time, against CompressAI's own layers."""

import copy
import io

import numpy as np
import pytest
import torch
from compressai.layers import GDN
from compressai.registry import MODELS
from torch import nn

from codec_det.bitstream.ids import CODEC_IDS
from codec_det.codec.learned import fast_transforms
from codec_det.codec.learned.bitstream_codec import PictureDecoder, picture_encoder
from codec_det.codec.learned.fast_transforms import FastTransform, half_size_kernel, speed_up
from codec_det.codec.learned.freeze import freeze_entropy_model
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.codec.table import find_codec, learned_codecs
from codec_det.data.scenes import render_scene
from codec_det.deploy.model_files import load_encoder, save_encoder

# CompressAI's codecs of variable rate are compared in test_levels.py; light ones have no fast g_a.
FAST = [
    name
    for name in learned_codecs()
    if not name.startswith("cheng2020")
    and not name.endswith(("-vbr", "-temporal", "-light"))
    and not find_codec(name).is_centred
    and find_codec(name).has_latents
]
HYPERPRIOR = "bmshj2018-hyperprior"


def make(name, n=8, m=12):
    """A codec with latents over several values and GDNs that mix channels, and CompressAI's own."""
    torch.manual_seed(1)
    codec = LearnedCodec(name, 1, n=n, m=m).eval()
    for layer in codec.modules():
        if isinstance(layer, GDN):
            layer.gamma.data += 0.2 * torch.rand_like(layer.gamma)
            layer.beta.data += torch.rand_like(layer.beta)
    codec.set_trainable(())
    last = codec.model.g_a[-1]
    last.weight.data *= 3 / codec.model.g_a(pictures(1)).std()
    codec.model.update()
    peer = MODELS[name](*codec.widths).eval()
    peer.load_state_dict(codec.model.state_dict())
    return codec, peer


def pictures(count, height=128, width=192):
    """Generated pictures (count, 3, H, W) in [0, 1], with channels last."""
    rng = np.random.default_rng(0)
    batch = np.stack([render_scene(rng, height, width)[0] for _ in range(count)])
    return torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(params=[2**10, 2**17], ids=["in pieces", "whole"])
def pieces(request, monkeypatch):
    """Pieces far smaller than a picture, the last of them not full, and one for all."""
    monkeypatch.setattr(fast_transforms, "PIECE_VALUES", request.param - 7)


# ---- Results ----


@torch.inference_mode()
def test_results_are_the_same_without_onednn():
    codec, _ = make(HYPERPRIOR)
    expected = codec.model.g_a(pictures(1))
    with torch.backends.mkldnn.flags(enabled=False):
        assert torch.allclose(codec.model.g_a(pictures(1)), expected, atol=1e-5)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("count", [1, 3])
@torch.inference_mode()
def test_latents_and_pictures_are_compressais(name, count, pieces):
    codec, peer = make(name)
    x = pictures(count)
    assert isinstance(codec.model.g_a, FastTransform)
    assert codec.model.g_a.applies(x)
    y, expected = codec.model.g_a(x), peer.g_a(x.contiguous())
    assert len(expected.round().unique()) > 5
    assert torch.allclose(y, expected, atol=1e-5)
    assert torch.equal(y.round(), expected.round())
    decoded = codec.model.g_s(y.round())
    assert decoded.shape == x.shape
    assert decoded.std() > 1e-3
    assert torch.allclose(decoded, peer.g_s(expected.round()), atol=1e-5)


@pytest.mark.parametrize("name", FAST)
@torch.inference_mode()
def test_estimates_are_compressais(name):
    codec, peer = make(name)
    x = pictures(2)
    decoded, bits, *_ = codec.code(x)
    out = peer(x.contiguous())
    expected = sum(-torch.log2(p).flatten(1).sum(1) for p in out["likelihoods"].values())
    assert torch.allclose(bits, expected, rtol=1e-4)
    assert torch.allclose(decoded, out["x_hat"], atol=1e-5)


@pytest.mark.parametrize("name", CODEC_IDS)
def test_files_hold_the_latents_of_the_plain_layers(name):
    codec, peer = make(name)
    entropy = freeze_entropy_model(name, codec.model)
    picture = (pictures(1)[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    fast = picture_encoder(codec.model, entropy).encode(picture)
    assert fast == picture_encoder(peer, entropy).encode(picture)
    decoded = PictureDecoder(codec.model.g_s, entropy).decode(fast)
    assert torch.allclose(decoded, PictureDecoder(peer.g_s, entropy).decode(fast), atol=1e-5)


@torch.inference_mode()
def test_the_picture_is_not_written_to():
    codec, _ = make(HYPERPRIOR)
    x = pictures(1)
    before = x.clone()
    y = codec.model.g_a(x)
    assert torch.equal(x, before)
    before = y.clone()
    codec.model.g_s(y)
    assert torch.equal(y, before)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 2)])
def test_a_convolution_at_half_the_size_is_the_transposed_one(size):
    layer = nn.ConvTranspose2d(4, 3, 5, 2, 2, 1)
    x = torch.randn(2, 4, *size)
    weight, bias = half_size_kernel(layer)
    assert weight.shape == (12, 4, 3, 3)
    quarters = torch.nn.functional.conv2d(x, weight, bias, padding=1)
    assert torch.allclose(torch.pixel_shuffle(quarters, 2), layer(x), atol=1e-6)


# ---- Where it applies ----


def test_deployed_models_are_loaded_into_it(tmp_path):
    codec, _ = make(HYPERPRIOR)
    entropy = freeze_entropy_model(codec.name, codec.model)
    path = tmp_path / "encoder.safetensors"
    save_encoder(path, codec, entropy)
    g_a = load_encoder(path).analysis.analyse.args[0].g_a
    assert isinstance(g_a, FastTransform)
    with torch.inference_mode():
        assert g_a.applies(pictures(1))
        assert torch.equal(g_a(pictures(1)), codec.model.g_a(pictures(1)))


def test_where_it_does_not_apply_the_layers_run():
    codec, _ = make(HYPERPRIOR)
    g_a = codec.model.g_a
    x = pictures(1)
    assert g_a.applies(x)
    assert not g_a.applies(x.contiguous())
    assert not g_a.applies(x.double())
    assert not g_a.applies(x.clone().requires_grad_())
    with torch.autocast("cpu", torch.bfloat16):
        assert not g_a.applies(x)
    codec.set_trainable(("encoder",))
    assert not g_a.applies(x)
    assert codec.model.g_s.applies(x)
    with torch.no_grad():
        assert g_a.applies(x)


def test_training_is_that_of_the_plain_layers():
    codec, peer = make(HYPERPRIOR)
    codec.double().set_trainable(("encoder", "decoder"))
    x = pictures(1).double()
    for model in (codec.model, peer.double().to(memory_format=torch.channels_last)):
        model.g_s(model.g_a(x)).square().sum().backward()
    expected = dict(peer.named_parameters())
    for name, parameter in codec.model.named_parameters():
        if name.startswith(("g_a", "g_s")):
            assert parameter.grad.abs().max() > 0, name
            error = (parameter.grad - expected[name].grad).abs().max()
            assert error < 1e-12 * parameter.grad.abs().max(), name


@torch.no_grad()
def test_weights_that_change_are_seen():
    codec, _ = make(HYPERPRIOR)
    other, peer = make(HYPERPRIOR)
    for layer in peer.modules():
        if isinstance(layer, (GDN, nn.Conv2d, nn.ConvTranspose2d)):
            next(layer.parameters()).mul_(1.1)
    x = pictures(1)
    before = codec.model.g_s(codec.model.g_a(x))
    codec.model.load_state_dict(peer.state_dict())
    after = codec.model.g_s(codec.model.g_a(x))
    assert torch.allclose(after, peer.g_s(peer.g_a(x)), atol=1e-5)
    assert not torch.allclose(after, before, atol=1e-3)
    assert torch.equal(other.model.g_s(other.model.g_a(x)), before)


@torch.inference_mode()
def test_copies_and_pickles_compute_the_same():
    codec, _ = make(HYPERPRIOR)
    x = pictures(1)
    expected = codec.model.g_a(x)
    file = io.BytesIO()
    torch.save(codec.model.g_a, file)
    file.seek(0)
    for g_a in (copy.deepcopy(codec.model.g_a), torch.load(file, weights_only=False)):
        assert isinstance(g_a, FastTransform)
        assert torch.equal(g_a(x), expected)


def test_other_transforms_are_left_as_they_are():
    model = MODELS["cheng2020-anchor"](8)
    assert speed_up(model.g_a) is model.g_a
    assert speed_up(model.g_s) is model.g_s
    codec, peer = make(HYPERPRIOR)
    assert list(codec.model.state_dict()) == list(peer.state_dict())
