"""3x3 convolutions of whole numbers in 16 products where 36 are usual, and as exact.

A tile of 2x2 outputs depends on 4x4 inputs; sums and differences of those, multiplied by sums and
differences of the weights, need only be added up (Winograd's F(2x2, 3x3); Lavin, Gray, "Fast
algorithms for convolutional neural networks", CVPR 2016). Weights are taken fourfold, so that all
numbers are whole, and outputs are divided by four at the end: in float64 everything is exact as
long as every sum stays below 2^53, which :attr:`WinogradConvolution.largest_input` ensures.

Shape glossary: as in :mod:`codec_det.bitstream.fixed_point`.
"""

from __future__ import annotations

import numpy as np

# Tiles worked on at a time: matrix products want many, caches few.
TILES = 96


class WinogradConvolution:
    """A convolution of stride 1 with "same" padding.

    Args:
        weight: (out, in, 3, 3) integers of 32 bits.
        limit: what all sums must stay below.
    """

    def __init__(self, weight: np.ndarray, limit: int) -> None:
        outputs, inputs = weight.shape[:2]
        kernel = _four(_four(weight.astype(np.int64), 2), 3)
        # Per row and column of a tile of inputs, an (out, in) matrix.
        matrices = kernel.transpose(2, 3, 0, 1).reshape(16, outputs, inputs)
        self._matrices = np.ascontiguousarray(matrices, np.float64)
        # A tile's sums are of 4 inputs each, and an output adds up 9 of their products.
        self.largest_input = (limit - 1) // (36 * max(int(abs(matrices).sum(2).max()), 1))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(in, h, w) float64, no value above ``largest_input`` in magnitude, to (out, h, w)."""
        outputs, (height, width) = self._matrices.shape[1], x.shape[1:]
        rows, columns = -(-height // 2), -(-width // 2)
        padded = np.zeros((len(x), 2 * rows + 2, 2 * columns + 2))
        padded[:, 1 : height + 1, 1 : width + 1] = x
        # The last axes are rows and columns, each as tile and place in it.
        out = np.empty((outputs, rows, 2, columns, 2))
        step = max(TILES // columns, 1)
        for row in range(0, rows, step):
            part = padded[:, 2 * row : 2 * min(row + step, rows) + 2]
            out[:, row : row + step] = self._tiles(part, columns)
        out *= 0.25
        return out.reshape(outputs, 2 * rows, 2 * columns)[:, :height, :width]

    def _tiles(self, x: np.ndarray, columns: int) -> np.ndarray:
        """Inputs (in, 2·r + 2, 2·c + 2) to four times their outputs, (out, r, 2, c, 2)."""
        inputs, rows = len(x), x.shape[1] // 2 - 1
        sums = np.empty((4, 4, inputs, rows, columns))
        for i, own in enumerate(_differences([x[:, i : i + 2 * rows : 2] for i in range(4)])):
            taken = [own[:, :, j : j + 2 * columns : 2] for j in range(4)]
            for j, value in enumerate(_differences(taken)):
                sums[i, j] = value
        products = self._matrices @ sums.reshape(16, inputs, -1)
        products = products.reshape(4, 4, -1, rows, columns)
        out = np.empty((products.shape[2], rows, 2, columns, 2))
        for i, own in enumerate(_outputs(products)):
            for j, value in enumerate(_outputs(own)):
                out[:, :, i, :, j] = value
        return out


def _four(weight: np.ndarray, axis: int) -> np.ndarray:
    """Three weights along an axis to twice the four that a tile takes."""
    a, b, c = (weight.take(i, axis) for i in range(3))
    return np.stack([2 * a, a + b + c, a - b + c, 2 * c], axis)


def _differences(x: list[np.ndarray]) -> list[np.ndarray]:
    return [x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]]


def _outputs(x: np.ndarray) -> list[np.ndarray]:
    return [x[0] + x[1] + x[2], x[1] - x[2] - x[3]]
