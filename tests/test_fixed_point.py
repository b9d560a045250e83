"""The hyper-synthesis in integers, against PyTorch's convolutions of the same integers."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from codec_det.bitstream.fixed_point import (
    EXACT,
    MAX_BITS,
    SLOPE_BITS,
    FixedPointTransform,
    Layer,
)

IDENTITY = 1 << SLOPE_BITS
LEAKY = round(0.01 * 2**SLOPE_BITS)


def make_layer(rng, inputs, outputs, taps=3, upsampling=1, slope=IDENTITY, size=2**14):
    return Layer(
        rng.integers(-size, size, (outputs, inputs, taps, taps), endpoint=True).astype(np.int32),
        rng.integers(-(2**26), 2**26, outputs),
        upsampling,
        slope,
    )


def float64_layer(layer, x):
    """The same convolution by PyTorch, exact as long as sums stay below 2^53."""
    weight = torch.from_numpy(layer.weight).double()
    bias = torch.from_numpy(layer.bias).double()
    x = torch.from_numpy(x).double()[None]
    padding = layer.weight.shape[2] // 2
    if layer.upsampling == 1:
        out = F.conv2d(x, weight, bias, padding=padding)
    else:
        stride = layer.upsampling
        out = F.conv_transpose2d(
            x, weight.swapaxes(0, 1), bias, stride, padding, output_padding=stride - 1
        )
    return out[0].numpy().astype(np.int64)


@pytest.mark.parametrize(
    ("taps", "upsampling"), [(1, 1), (3, 1), (5, 1), (7, 1), (3, 2), (5, 2), (5, 4), (7, 2), (1, 2)]
)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (4, 3)])
def test_a_layer_equals_pytorchs(taps, upsampling, height, width):
    rng = np.random.default_rng(taps)
    layer = make_layer(rng, 3, 4, taps, upsampling)
    x = rng.integers(-(2**17), 2**17, (3, height, width))
    out = FixedPointTransform([layer], 14, 12)(x)
    assert out.dtype == np.int64
    assert out.shape == (4, height * upsampling, width * upsampling)
    assert np.array_equal(out, float64_layer(layer, x))


def test_a_stack_equals_pytorchs_with_whole_numbers_between():
    rng = np.random.default_rng(0)
    layers = [
        make_layer(rng, 3, 4, 5, 2, LEAKY),
        make_layer(rng, 4, 5, 5, 2, LEAKY),
        make_layer(rng, 5, 6, 3, 1, 0),
    ]
    x = rng.integers(-(2**15), 2**15, (3, 2, 3))
    expected = x
    for i, layer in enumerate(layers):
        if i:
            # To 12 fractional bits, halves up, in Python's integers.
            expected = np.vectorize(lambda v: (int(v) + 2**13) // 2**14)(expected)
        total = float64_layer(layer, expected)
        expected = np.vectorize(lambda v, s=layer.slope: v if v >= 0 else int(v) * s // 2**14)(
            total
        )
    out = FixedPointTransform(layers, 14, 12)(x)
    assert np.array_equal(out, expected)
    assert (out == 0).any()
    assert (out > 0).any()


def slope_of(slope, values):
    """What a layer whose only weight is one makes of values."""
    layer = Layer(np.ones((1, 1, 1, 1), np.int32), np.zeros(1, np.int64), 1, slope)
    x = np.array(values, np.int64).reshape(1, 1, -1)
    return FixedPointTransform([layer], 14, 12)(x).ravel().tolist()


def test_negative_outputs_are_scaled_and_rounded_down():
    assert LEAKY == 164
    # -1 · 164 / 2^14 is -0.01; -100 · 164 / 2^14 is -1.001; -2^14 · 164 / 2^14 is exact.
    assert slope_of(LEAKY, [0, 5, -1, -99, -100, -(2**14), -(2**14) - 1]) == [
        *(0, 5, -1, -1, -2, -164, -165)
    ]
    assert slope_of(0, [3, 0, -1, -(2**40)]) == [3, 0, 0, 0]
    assert slope_of(IDENTITY, [3, 0, -1, -(2**40)]) == [3, 0, -1, -(2**40)]


@pytest.mark.parametrize("slope", [1, LEAKY, IDENTITY - 1, IDENTITY])
def test_the_largest_sums_do_not_overflow(slope):
    values = [-EXACT + 1, -EXACT + 12345, -(2**49), -(2**49) - 1]
    assert slope_of(slope, values) == [value * slope >> SLOPE_BITS for value in values]


def test_halves_are_rounded_up_between_layers():
    one = np.ones((1, 1, 1, 1), np.int32)
    layers = [Layer(one, np.zeros(1, np.int64), 1, IDENTITY)] * 2
    x = np.array([[[-24, -9, -8, -7, 7, 8, 9, 24]]])
    # 16ths.
    assert FixedPointTransform(layers, 4, 4)(x).ravel().tolist() == [-1, -1, 0, 0, 0, 1, 1, 2]


# ---- The bound on sums ----


def partial_sums(layer, x):
    """Every partial sum of every output of a layer in the order of taps: the largest magnitude."""
    positions, (_, inputs, taps, _) = x.shape[1:], layer.weight.shape
    largest = 0
    padded = np.pad(x, ((0, 0), (taps // 2,) * 2, (taps // 2,) * 2)).astype(object)
    for out, weight in enumerate(layer.weight.astype(object)):
        for row, column in product(*map(range, positions)):
            total = 0
            window = padded[:, row : row + taps, column : column + taps]
            for channel in range(inputs):
                for product_ in (window[channel] * weight[channel]).ravel():
                    total += product_
                    largest = max(largest, abs(total))
            largest = max(largest, abs(total + int(layer.bias[out])))
    return largest


@pytest.mark.parametrize("seed", range(5))
def test_the_bound_is_never_passed(seed):
    rng = np.random.default_rng(seed)
    layers = [make_layer(rng, 2, 3, 3, 1, LEAKY), make_layer(rng, 3, 2, 3, 1, 0)]
    transform = FixedPointTransform(layers, 14, 12)
    low = rng.integers(-(2**16), 0, 2)
    high = low + rng.integers(1, 2**17, 2)
    bounds = transform.partial_sums(low, high)
    first = FixedPointTransform(layers[:1], 14, 12)
    for _ in range(5):
        inputs = [
            rng.integers(low[:, None, None], high[:, None, None], (2, 4, 4), endpoint=True),
            np.where(rng.random((2, 4, 4)) < 0.5, low[:, None, None], high[:, None, None]),
            np.where(layers[0].weight[0, :, :1, :1] > 0, high[:, None, None], low[:, None, None])
            + np.zeros((2, 4, 4), np.int64),
        ]
        for x in inputs:
            assert partial_sums(layers[0], x) <= bounds[0]
            between = transform._rescale(first(x))
            assert partial_sums(layers[1], between) <= bounds[1]
            assert abs(transform(x)).max() <= bounds[1]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_bound_of_one_layer_is_reached(sign):
    rng = np.random.default_rng(1)
    layer = make_layer(rng, 3, 1, 3)
    layer.bias[0] = sign * abs(layer.bias[0])
    limit = np.full(3, 50 << 12)
    (bound,) = FixedPointTransform([layer], 14, 12).partial_sums(-limit, limit)
    # At the centre of a 3x3 input every tap meets the input that it is worst with.
    worst = sign * np.sign(layer.weight[0]).astype(np.int64) * (50 << 12)
    out = FixedPointTransform([layer], 14, 12)(worst)
    assert out[0, 1, 1] == sign * bound


def test_the_bound_counts_what_a_border_leaves_out():
    # Inputs of 10 to 11 through +1 and -1: with a neighbour missing, 11 is left of their sum.
    weight = np.zeros((1, 1, 3, 3), np.int32)
    weight[0, 0, 1, 0], weight[0, 0, 1, 1] = 1, -1
    layer = Layer(weight, np.zeros(1, np.int64), 1, IDENTITY)
    follower = Layer(np.ones((1, 1, 1, 1), np.int32), np.zeros(1, np.int64), 1, IDENTITY)
    transform = FixedPointTransform([layer, follower], 1, 1)
    bounds = transform.partial_sums(np.array([10]), np.array([11]))
    out = transform(np.array([[[11, 11]]]))
    assert abs(out).max() == 5
    # Inputs of 10 and 11 alone would leave 1.
    assert bounds == [22, 6]


def test_the_bound_is_computed_without_overflow():
    largest = np.iinfo(np.int32).max
    layer = Layer(np.full((1, 64, 5, 5), largest, np.int32), np.array([2**62]), 1, IDENTITY)
    limit = np.full(64, 2**40)
    (bound,) = FixedPointTransform([layer], 14, 12).partial_sums(-limit, limit)
    assert bound == 64 * 25 * largest * 2**40 + 2**62
    assert bound > EXACT


def test_sums_at_the_bound_are_exact_in_float64():
    # 2^53 - 1 in one sum, in an order that passes through odd numbers.
    weight = np.array([2**26, 2**26 - 1], np.int32).reshape(1, 2, 1, 1)
    layer = Layer(weight, np.zeros(1, np.int64), 1, IDENTITY)
    x = np.array([2**26 - 1, 2**26 + 1]).reshape(2, 1, 1)
    transform = FixedPointTransform([layer], 14, 12)
    expected = int((weight.astype(object).reshape(2, 1, 1) * x).sum())
    assert transform(x).item() == expected
    (bound,) = transform.partial_sums(x.ravel(), x.ravel())
    assert expected == bound < EXACT


def test_results_do_not_depend_on_how_sums_are_ordered():
    rng = np.random.default_rng(0)
    layer = make_layer(rng, 64, 8, 5, 2)
    x = rng.integers(-(2**17), 2**17, (64, 6, 6))
    order = rng.permutation(64)
    shuffled = layer._replace(weight=np.ascontiguousarray(layer.weight[:, order]))
    out = FixedPointTransform([layer], 14, 12)(x)
    assert np.array_equal(out, FixedPointTransform([shuffled], 14, 12)(x[order]))


def test_fixed_point_is_the_real_transform_to_within_its_rounding():
    rng = np.random.default_rng(2)
    layers = [make_layer(rng, 2, 3, 3, 2, LEAKY), make_layer(rng, 3, 2, 3, 1)]
    x = rng.integers(-(2**12), 2**12, (2, 3, 3))
    out = FixedPointTransform(layers, 14, 12)(x) / 2**26
    y = x / 2**12
    for layer in layers:
        real = layer._replace(weight=layer.weight, bias=layer.bias)
        weight = torch.from_numpy(real.weight / 2**14)
        bias, inputs = torch.from_numpy(real.bias / 2**26), torch.from_numpy(y)[None]
        if layer.upsampling == 2:
            y = F.conv_transpose2d(inputs, weight.swapaxes(0, 1), bias, 2, 1, output_padding=1)
        else:
            y = F.conv2d(inputs, weight, bias, padding=1)
        y = (F.leaky_relu(y, 164 / 2**14) if layer.slope == LEAKY else y)[0].numpy()
    # Half a unit of 2^-12 at each of 27 inputs of weights up to 1.
    assert abs(out - y).max() < float(Fraction(27, 2**13)) + 1e-6
    assert abs(out).max() > 1


# ---- Refused ----


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": np.zeros((1, 1, 3), np.int32)}, "are no layer"),
        ({"weight": np.zeros((1, 2, 3, 3), np.int32)}, "are no layer"),
        ({"weight": np.zeros((1, 1, 3, 5), np.int32)}, "are no layer"),
        ({"weight": np.zeros((1, 1, 2, 2), np.int32)}, "are no layer"),
        ({"weight": np.zeros((0, 1, 3, 3), np.int32), "bias": np.zeros(0, np.int64)}, "no layer"),
        ({"weight": np.zeros((1, 1, 3, 3), np.int64)}, "are no layer"),
        ({"bias": np.zeros(2, np.int64)}, "are no layer"),
        ({"bias": np.zeros(1)}, "are no layer"),
        ({"upsampling": 0}, "upsampling 0"),
        ({"upsampling": 2.0}, "upsampling 2.0"),
        ({"upsampling": 10**9}, "is out of range"),
        ({"slope": -1}, "slope -1"),
        ({"slope": IDENTITY + 1}, "is out of range"),
    ],
)
def test_layers_that_are_none_are_refused(change, message):
    good = Layer(np.zeros((1, 1, 3, 3), np.int32), np.zeros(1, np.int64), 1, 0)
    FixedPointTransform([good, good], 14, 12)
    with pytest.raises(ValueError, match=message):
        FixedPointTransform([good, good._replace(**change)], 14, 12)


@pytest.mark.parametrize("bits", [0, -1, MAX_BITS + 1, 10**30, 14.0, "14", None])
def test_fractional_bits_out_of_range_are_refused(bits):
    good = Layer(np.zeros((1, 1, 3, 3), np.int32), np.zeros(1, np.int64), 1, 0)
    for both in ((bits, 12), (14, bits)):
        with pytest.raises(ValueError, match="1 to 30 fractional bits"):
            FixedPointTransform([good], *both)
    with pytest.raises(ValueError, match="a layer at least"):
        FixedPointTransform([], 14, 12)
