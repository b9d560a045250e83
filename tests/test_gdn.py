"""GDN with a backward pass of its own, against CompressAI's under autograd."""

import copy

import pytest
import torch
from compressai.layers import GDN

from codec_det.codec.learned import gdn as module
from codec_det.codec.learned.convolutions import set_gradient_dtype
from codec_det.codec.learned.gdn import set_gdn_gradients


def make(inverse, channels=6, dtype=torch.float32):
    """CompressAI's layer, and a copy with our gradients; neighbours matter in both."""
    layer = GDN(channels, inverse=inverse).to(dtype)
    layer.gamma.data += 0.1 * torch.rand(channels, channels, dtype=dtype)
    layer.beta.data += torch.rand(channels, dtype=dtype)
    ours = copy.deepcopy(layer)
    set_gdn_gradients(ours)
    return layer, ours


def gradients(layer, x):
    """Output and gradients of input, beta and gamma, for an uneven loss."""
    layer.zero_grad()
    x = x.clone().requires_grad_()
    y = layer(x)
    (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
    return [y.detach(), x.grad, layer.beta.grad, layer.gamma.grad]


def picture(*shape, dtype=torch.float32):
    return (3 * torch.randn(shape, dtype=dtype)).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("piece", [12, 2**16])
def test_results_and_gradients_are_those_of_autograd(inverse, piece, monkeypatch):
    monkeypatch.setattr(module, "PIECE_VALUES", piece)
    layer, ours = make(inverse, dtype=torch.float64)
    x = picture(2, 6, 5, 7, dtype=torch.float64)
    for one, other in zip(gradients(layer, x), gradients(ours, x), strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("inverse", [False, True])
def test_float32_is_as_exact(inverse):
    layer, ours = make(inverse, channels=32)
    x = picture(2, 32, 24, 40)
    for one, other in zip(gradients(layer, x), gradients(ours, x), strict=True):
        assert (one - other).abs().max() < 1e-6 * one.abs().max()


def test_keeps_two_maps_instead_of_three():
    def kept(layer):
        storages = {}

        def pack(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            y = layer(x)
        return sum(storages.values()) / (y.numel() * y.element_size())

    layer, ours = make(inverse=False)
    x = picture(1, 6, 64, 64).requires_grad_()
    assert kept(ours) < 2.1
    assert kept(layer) > 2.9


@pytest.mark.parametrize("frozen", ["layer", "input"])
def test_what_is_frozen_gets_no_gradient(frozen):
    layer, ours = make(inverse=False)
    x = picture(1, 6, 8, 8).requires_grad_(frozen == "layer")
    for one in (layer, ours):
        one.requires_grad_(frozen == "input")
    found = []
    for one in (layer, ours):
        x.grad = None
        one(x).square().sum().backward()
        found.append(x.grad if frozen == "layer" else one.gamma.grad)
        assert (x.grad is None) == (frozen == "input")
        assert (one.gamma.grad is None) == (frozen == "layer")
    assert torch.allclose(*found, rtol=1e-4, atol=1e-5)


def test_other_layouts_and_evaluation_are_compressais():
    layer, ours = make(inverse=True)
    x = torch.randn(1, 6, 8, 8)
    assert torch.equal(layer(x), ours(x))
    with torch.no_grad():
        assert torch.equal(layer(picture(1, 6, 8, 8) * 0 + 1), ours(picture(1, 6, 8, 8) * 0 + 1))


@pytest.mark.parametrize("inverse", [False, True])
def test_bfloat16_rounds_gradients_alone(inverse):
    layer, ours = make(inverse, channels=16)
    set_gradient_dtype(ours, torch.bfloat16)
    x = picture(2, 16, 8, 12)
    (y, *wanted), (own_y, *found) = gradients(layer, x), gradients(ours, x)
    assert torch.allclose(y, own_y, rtol=1e-5, atol=1e-6)
    for one, other in zip(wanted, found, strict=True):
        assert other.dtype == torch.float32
        assert (one - other).norm() < 1e-2 * one.norm()
    assert not torch.allclose(wanted[2], found[2], rtol=1e-4)
