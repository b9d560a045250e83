"""MS-SSIM against the implementation that CompressAI reports by."""

import pytest
import pytorch_msssim
import torch
from torch.nn.functional import interpolate

from codec_det.ms_ssim import MIN_SIDE, ms_ssim


def picture(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 16 + 2, width // 16 + 2, generator=generator)
    return interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 1)


@pytest.mark.parametrize("size", [(161, 161), (176, 300), (243, 205), (480, 640)])
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.3])
def test_equals_pytorch_msssim(size, noise):
    x = picture(*size)
    y = (x + noise * torch.randn_like(x)).clamp(0, 1)
    expected = pytorch_msssim.ms_ssim(x[None], y[None], data_range=1.0)
    assert ms_ssim(x, y).item() == pytest.approx(expected.item(), abs=1e-6)


def test_flat_and_opposite_pictures():
    flat = torch.full((3, 200, 200), 0.5)
    x = picture(200, 200)
    for one, other in ((flat, flat), (flat, 0.2 * flat), (x, 1 - x), (x, flat)):
        expected = pytorch_msssim.ms_ssim(one[None], other[None], data_range=1.0)
        assert ms_ssim(one, other).item() == pytest.approx(expected.item(), abs=1e-6)


def test_refuses_what_has_no_coarsest_scale():
    with pytest.raises(ValueError, match="161 is least"):
        ms_ssim(torch.zeros(3, MIN_SIDE - 1, 300), torch.zeros(3, MIN_SIDE - 1, 300))
