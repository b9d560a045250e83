"""Hyper-synthesis in integers: the same to the last bit on any machine.

Decoder and encoder must agree on the table of every latent, or all that follows in the stream is
garbage; floating-point transforms differ between instruction sets, thread counts and libraries
(Ballé, Johnston, Minnen, "Integer networks for data compression with latent-variable models",
ICLR 2019). Here weights and activations are integers, carried in float64 through plain matrix
products. Those are exact in any order of summation as long as every partial sum stays below 2^53,
which :meth:`FixedPointTransform.partial_sums` proves from the weights and the range of the input.

Shape glossary: activations are (channels, height, width); weights (out, in, k, k), k odd.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Integers of this size and below are exact in float64.
EXACT = 2**53
SLOPE_BITS = 14
# Of fractional bits; the useful ones are half of it.
MAX_BITS = 30


class Layer(NamedTuple):
    """A convolution and its activation function.

    Attributes:
        weight: (out, in, k, k) integers, with the transform's fractional bits of weights.
        bias: (out,) integers, with the fractional bits of weights and activations together.
        upsampling: 1, a convolution of stride 1 with "same" padding; or s > 1, a transposed one
            of stride s that makes height and width exactly s times as large.
        slope: factor of negative outputs, in units of 2^-14: 0 is ReLU, 2^14 none.
    """

    weight: np.ndarray
    bias: np.ndarray
    upsampling: int
    slope: int


class FixedPointTransform:
    """A stack of convolutions in exact integer arithmetic.

    Args:
        layers: in order.
        weight_bits: fractional bits of weights.
        activation_bits: fractional bits of input and activations.

    Raises:
        ValueError: if the layers do not fit one another, or a setting is out of range.
    """

    def __init__(self, layers: Sequence[Layer], weight_bits: int, activation_bits: int) -> None:
        self.layers = tuple(layers)
        self.weight_bits = weight_bits
        self.activation_bits = activation_bits
        bits = (weight_bits, activation_bits)
        if not (all(is_whole(x, 1, MAX_BITS) for x in bits) and self.layers):
            raise ValueError(f"a layer at least, and 1 to {MAX_BITS} fractional bits are needed")
        channels = self.layers[0].weight.shape[1:2]
        for layer in self.layers:
            _check(layer, channels)
            channels = layer.weight.shape[:1]
        # Per layer and tap of the kernel (row, column), an (out, in) matrix.
        self._matrices = [
            np.ascontiguousarray(layer.weight.transpose(2, 3, 0, 1), np.float64)
            for layer in self.layers
        ]

    @property
    def output_bits(self) -> int:
        """Fractional bits of the output."""
        return self.weight_bits + self.activation_bits

    @property
    def margin(self) -> int:
        """Input samples to each side of its own that an output depends on."""
        # In samples of the output, of which a kernel reaches k // 2 where its layer is the last.
        scale, reach = 1, 0
        for layer in reversed(self.layers):
            reach += layer.weight.shape[2] // 2 * scale
            scale *= layer.upsampling
        return -(-reach // scale)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Integers (in, h, w) with ``activation_bits`` to int64 (out, H, W) with ``output_bits``.

        Exact if the input is within the range that :meth:`partial_sums` was given.
        """
        for i, (layer, matrices) in enumerate(zip(self.layers, self._matrices, strict=True)):
            if i > 0:
                x = self._rescale(x)
            convolve = _convolve if layer.upsampling == 1 else _upsample
            total = convolve(x.astype(np.float64), matrices, layer.upsampling)
            x = _activate(total.astype(np.int64) + layer.bias[:, None, None], layer.slope)
        return x

    def partial_sums(self, low: np.ndarray, high: np.ndarray) -> list[int]:
        """Per layer, a bound on every partial sum's magnitude, for inputs in [low, high].

        Args:
            low, high: (in,) integers per channel, with ``activation_bits``.
        """
        # Python's integers: a proof must not overflow.
        low, high = low.astype(object), high.astype(object)
        bounds = []
        for layer in self.layers:
            # Sums of 32-bit weights over a kernel's taps cannot overflow yet.
            positive, negative = (
                np.maximum(sign * layer.weight.astype(np.int64), 0).sum((2, 3)).astype(object)
                for sign in (1, -1)
            )
            magnitude = np.maximum(np.maximum(-low, high), 0)
            bias = layer.bias.astype(object)
            bounds.append(int(((positive + negative) @ magnitude + abs(bias)).max()))
            # A position at the border sees part of the taps only, so 0 is always among the inputs.
            low, high = np.minimum(low, 0), np.maximum(high, 0)
            low, high = (
                positive @ low - negative @ high + bias,
                positive @ high - negative @ low + bias,
            )
            low, high = (self._rescale(_activate(edge, layer.slope)) for edge in (low, high))
        return bounds

    def _rescale(self, x: np.ndarray) -> np.ndarray:
        """From ``output_bits`` to ``activation_bits``, rounding halves up."""
        return (x + (1 << self.weight_bits - 1)) >> self.weight_bits


def is_whole(value: object, low: int, high: int) -> bool:
    """Whether a setting is an integer in [low, high]."""
    return type(value) is int and low <= value <= high


def _check(layer: Layer, channels: tuple[int, ...]) -> None:
    """Raises ValueError if ``layer`` is none that takes ``channels``."""
    weight, bias = layer.weight, layer.bias
    sound = (
        weight.ndim == 4
        and weight.size > 0
        and weight.shape[1:2] == channels
        and weight.shape[2] == weight.shape[3]
        and weight.shape[2] % 2 == 1
        and bias.shape == weight.shape[:1]
        and weight.dtype == np.int32
        and bias.dtype == np.int64
    )
    if not sound:
        raise ValueError(f"weights {weight.shape} and bias {bias.shape} are no layer")
    if not (is_whole(layer.upsampling, 1, 16) and is_whole(layer.slope, 0, 1 << SLOPE_BITS)):
        raise ValueError(f"upsampling {layer.upsampling} or slope {layer.slope} is out of range")


def _activate(x: np.ndarray, slope: int) -> np.ndarray:
    if slope == 0:
        return np.maximum(x, 0)
    if slope == 1 << SLOPE_BITS:
        return x
    # (x * slope) >> SLOPE_BITS in two parts: x alone may take 53 of the 63 bits.
    low = x & (1 << SLOPE_BITS) - 1
    return np.where(x < 0, (x >> SLOPE_BITS) * slope + (low * slope >> SLOPE_BITS), x)


def _convolve(x: np.ndarray, matrices: np.ndarray, _: int) -> np.ndarray:
    """(in, h, w) to (out, h, w): one matrix product per tap, and none of im2col's memory."""
    taps = len(matrices)
    height, width = x.shape[1:]
    padded = np.pad(x, ((0, 0), (taps // 2,) * 2, (taps // 2,) * 2))
    total = np.zeros((matrices.shape[2], height * width))
    for row in range(taps):
        for column in range(taps):
            view = padded[:, row : row + height, column : column + width]
            total += matrices[row, column] @ view.reshape(len(x), -1)
    return total.reshape(-1, height, width)


def _upsample(x: np.ndarray, matrices: np.ndarray, stride: int) -> np.ndarray:
    """(in, h, w) to (out, s·h, s·w): each tap's product is added to its phase of the output."""
    taps = len(matrices)
    height, width = x.shape[1:]
    flat = x.reshape(len(x), -1)
    canvas = np.zeros((matrices.shape[2], stride * height + taps, stride * width + taps))
    for row in range(taps):
        for column in range(taps):
            view = canvas[:, row : row + stride * height : stride]
            view = view[:, :, column : column + stride * width : stride]
            view += (matrices[row, column] @ flat).reshape(-1, height, width)
    # Where PyTorch's padding k // 2 and output padding s - 1 put the output.
    start = taps // 2
    return canvas[:, start : start + stride * height, start : start + stride * width]
