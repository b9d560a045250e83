"""Convolutions in fewer products, against PyTorch's in float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from codec_det.bitstream import winograd
from codec_det.bitstream.fixed_point import EXACT, SLOPE_BITS, FixedPointTransform, Layer
from codec_det.bitstream.winograd import WinogradConvolution


def whole(rng, largest, *shape):
    return rng.integers(-largest, largest, shape, endpoint=True)


def expected(weight, x):
    """By Python's integers, which nothing overflows."""
    height, width = x.shape[1:]
    padded = np.pad(x.astype(object), ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(weight), height, width), object)
    for row in range(3):
        for column in range(3):
            view = padded[:, row : row + height, column : column + width]
            out += np.tensordot(weight[:, :, row, column].astype(object), view, 1)
    return out


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (3, 5), (4, 4), (9, 14)])
@pytest.mark.parametrize("tiles", [1, 10, 96])
def test_it_equals_pytorchs(size, tiles, monkeypatch):
    monkeypatch.setattr(winograd, "TILES", tiles)
    rng = np.random.default_rng(0)
    weight, x = whole(rng, 2**14, 5, 3, 3, 3).astype(np.int32), whole(rng, 2**17, 3, *size)
    out = WinogradConvolution(weight, EXACT)(x.astype(np.float64))
    theirs = F.conv2d(
        torch.from_numpy(x).double()[None], torch.from_numpy(weight).double(), None, 1, 1
    )
    assert out.shape == (5, *size)
    assert np.array_equal(out, theirs[0].numpy())


def test_it_is_exact_up_to_its_largest_input():
    rng = np.random.default_rng(1)
    # All at the limit, with signs that make every sum as large as it can be somewhere.
    weight = (2**31 - 1) * rng.choice([-1, 1], (4, 2, 3, 3)).astype(np.int64)
    weight[0] = 2**31 - 1
    convolution = WinogradConvolution(weight.astype(np.int32), EXACT)
    largest = convolution.largest_input
    assert 2**53 / 2**31 / 1500 < largest < 2**53 / 2**31 / 18
    x = largest * rng.choice([-1, 1], (2, 6, 6))
    x[:, :, :3] = largest
    assert np.array_equal(convolution(x.astype(np.float64)), expected(weight, x))


def test_a_kernel_of_zeros_takes_any_input():
    convolution = WinogradConvolution(np.zeros((1, 1, 3, 3), np.int32), EXACT)
    assert convolution.largest_input == (2**53 - 1) // 36
    assert not convolution(np.full((1, 2, 2), 2.0**40)).any()


def test_sums_too_large_for_it_are_computed_directly():
    rng = np.random.default_rng(2)
    weight = whole(rng, 2**20, 2, 3, 3, 3).astype(np.int32)
    layer = Layer(weight, np.zeros(2, np.int64), 1, 1 << SLOPE_BITS)
    transform = FixedPointTransform([layer], 14, 12)
    limit = WinogradConvolution(weight, EXACT).largest_input
    # Sums stay below 2^53, but those of Winograd's products need not.
    top = (EXACT - 1) // int(abs(weight.astype(np.int64)).sum((1, 2, 3)).max())
    assert limit < top
    for largest in (limit, limit + 1, top):
        x = largest * rng.choice([-1, 1], (3, 4, 5))
        assert np.array_equal(transform(x), expected(weight, x))
