"""Convolutions with a backward pass of their own, against PyTorch's under autograd."""

import copy

import pytest
import torch
from torch import nn

from codec_det.codec.learned.convolutions import set_convolution_gradients, set_gradient_dtype

HALVING, DOUBLING, TO_PICTURES = (
    lambda: nn.Conv2d(4, 6, 5, 2, 2),
    lambda: nn.ConvTranspose2d(4, 6, 5, 2, 2, 1),
    lambda: nn.ConvTranspose2d(4, 3, 5, 2, 2, 1),
)
LAYERS = pytest.mark.parametrize("make", [HALVING, DOUBLING, TO_PICTURES])


def pair(make, dtype):
    """PyTorch's layer, and a copy with our gradients."""
    layer = make().to(dtype).to(memory_format=torch.channels_last)
    ours = copy.deepcopy(layer)
    set_convolution_gradients(nn.ModuleList([ours]))
    assert type(ours) is not type(layer)
    return layer, ours


def picture(*shape, dtype):
    return torch.randn(shape, dtype=dtype).contiguous(memory_format=torch.channels_last)


def gradients(layer, x):
    """Output and gradients of input, weight and bias, for an uneven loss."""
    x = x.clone().requires_grad_()
    y = layer(x)
    (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
    return [y.detach(), x.grad, layer.weight.grad, layer.bias.grad]


@LAYERS
@pytest.mark.parametrize("size", [(6, 10), (7, 5)])
def test_results_and_gradients_are_those_of_autograd(make, size):
    layer, ours = pair(make, torch.float64)
    x = picture(2, 4, *size, dtype=torch.float64)
    for one, other in zip(gradients(layer, x), gradients(ours, x), strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


@LAYERS
def test_bfloat16_rounds_gradients_alone(make):
    layer, ours = pair(make, torch.float32)
    set_gradient_dtype(ours, torch.bfloat16)
    x = picture(2, 4, 16, 24, dtype=torch.float32)
    (y, *wanted), (own_y, *found) = gradients(layer, x), gradients(ours, x)
    assert torch.allclose(y, own_y, rtol=1e-5, atol=1e-6)
    assert all(gradient.dtype == torch.float32 for gradient in found)
    for one, other in zip(wanted, found, strict=True):
        assert (one - other).norm() < 5e-3 * one.norm()
    assert not torch.allclose(wanted[1], found[1], rtol=1e-5)


@LAYERS
@pytest.mark.parametrize("frozen", ["layer", "input"])
def test_what_is_frozen_gets_no_gradient(make, frozen):
    layer, ours = pair(make, torch.float32)
    x = picture(1, 4, 8, 8, dtype=torch.float32).requires_grad_(frozen == "layer")
    found = []
    for one in (layer, ours):
        one.requires_grad_(frozen == "input")
        x.grad = None
        one(x).square().sum().backward()
        found.append(x.grad if frozen == "layer" else one.weight.grad)
        assert (x.grad is None) == (frozen == "input")
        assert (one.weight.grad is None) == (frozen == "layer")
    assert torch.allclose(*found, rtol=1e-4, atol=1e-4)


def test_other_layers_and_layouts_are_pytorchs():
    others = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.ConvTranspose2d(6, 3, 4, 2, 1))
    set_convolution_gradients(others)
    assert [type(layer) for layer in others] == [nn.Conv2d, nn.ConvTranspose2d]
    layer, ours = pair(DOUBLING, torch.float32)
    x = torch.randn(1, 4, 8, 8)
    assert torch.equal(layer(x), ours(x))
    with torch.no_grad():
        x = x.contiguous(memory_format=torch.channels_last)
        assert torch.equal(layer(x), ours(x))
