"""Whether a codec spoils what is near the sides of pictures.

Pictures are cut to sizes of many remainders by 64, to which codecs pad, and each cut is coded by
itself. The error of its outer 16 pixels is compared with that of the same pixels where more of the
picture is around them, so that what is hard to code there is hard in both:

.. code-block:: none

    ┌──────────────────────┐
    │ surroundings         │   coded once
    │   ┌──────────────┐   │
    │   │ cut          │   │   coded by itself at each size
    │   │   ┌──────┐   │   │
    │   │   │inside│   │   │
    │   │   └──────┘   │   │
    │   └──────────────┘   │
    └──────────────────────┘

A codec that was trained on crops padded on one side alone, where no loss falls, never learns that
side, and paints a stripe there in pictures that need no padding.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from ..codec.base import Codec
from ..coding_scale import shrink
from ..data.image_io import read_image
from ..errors import CodecDetError
from ..files import atomic_file
from ..pixels import to_uint8
from ..rate_accuracy.plots import PLOT_DPI
from .measurement import to_tensor

SIDES = ("left", "right", "top", "bottom")
BORDER = 16
"""Pixels from a side that are judged."""

WORST = -1.0
"""PSNR of a side less that of the same pixels inside, in dB, below which it is spoilt."""

_MULTIPLE = 64
# Multiples of 8, and some odd ones.
_REMAINDERS = (0, 1, 8, 16, 21, 24, 32, 40, 43, 48, 56, 63)
# Cuts are at most so much more than their remainder.
_MAX_BASE = 3 * _MULTIPLE
# Pixels around the cuts, and from a side that errors are drawn for.
_MARGIN = 32
SMALLEST = _MULTIPLE + max(_REMAINDERS) + 2 * _MARGIN
"""Pixels that pictures need in height and width."""


@dataclass(frozen=True)
class SideErrors:
    """Squared errors of cuts of one remainder, sums over pixels and channels, 1 being full range.

    Attributes:
        side: (4, distances) from each of :data:`SIDES`, in the cuts.
        amid: (4, distances), of the same pixels amid their surroundings.
        inside: of the cuts without their outer :data:`BORDER` pixels.
        values: that each of ``side`` and ``amid`` is the sum of.
        inside_values: the same of ``inside``.
    """

    side: np.ndarray
    amid: np.ndarray
    inside: float
    values: int
    inside_values: int

    def __add__(self, other: SideErrors) -> SideErrors:
        own, others = vars(self), vars(other)
        return SideErrors(**{name: own[name] + others[name] for name in own})

    @property
    def inside_psnr(self) -> float:
        """In dB; inf where nothing is lost."""
        return float(_psnr(np.array(self.inside / self.inside_values)))

    def psnrs(self, *, amid: bool = False) -> np.ndarray:
        """(4,) dB of the outer pixels of each side, in the cuts or amid their surroundings."""
        sums = (self.amid if amid else self.side)[:, :BORDER].sum(axis=1)
        return _psnr(sums / (BORDER * self.values))

    @property
    def differences(self) -> np.ndarray:
        """(4,) dB: PSNR of each side less that of the same pixels amid their surroundings."""
        side, amid = self.psnrs(), self.psnrs(amid=True)
        equal = np.isinf(side) & np.isinf(amid)
        return np.subtract(side, amid, out=np.zeros(4), where=~equal)


Borders = Mapping[int, SideErrors]
"""By remainder."""


def measure_borders(
    codec: Codec, path: Path, device: str = "cpu", scale: float = 1.0
) -> dict[int, SideErrors]:
    """Code the middle of a picture and what is cut of it; safe to do with several at a time.

    Args:
        scale: coding scale, at which cuts are taken.

    Raises:
        CodecDetError: if the picture cannot be read or coded, or is too small.
    """
    picture = shrink(read_image(path, "RGB"), scale)
    smaller = min(picture.shape[:2])
    if smaller < SMALLEST:
        raise CodecDetError(
            f"{smaller} pixels are too few for --borders, which needs {SMALLEST} in height and "
            "width"
        )
    base = min((smaller - SMALLEST) // _MULTIPLE * _MULTIPLE + _MULTIPLE, _MAX_BASE)
    side = base + max(_REMAINDERS) + 2 * _MARGIN
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    whole = to_tensor(picture[top : top + side, left : left + side], device)
    ends = {remainder: _MARGIN + base + remainder for remainder in _REMAINDERS}
    cuts = {r: whole[:, _MARGIN:end, _MARGIN:end] for r, end in ends.items()}
    with torch.inference_mode():
        decoded = codec([whole, *cuts.values()]).reconstructions
    around, *errors = (
        _square_errors(original, coded)
        for original, coded in zip([whole, *cuts.values()], decoded, strict=True)
    )
    return {
        remainder: _side_errors(error, around[_MARGIN:end, _MARGIN:end])
        for (remainder, end), error in zip(ends.items(), errors, strict=True)
    }


def _square_errors(original: torch.Tensor, coded: torch.Tensor) -> np.ndarray:
    """(H, W), sums over channels, of the reconstruction rounded to 8 bits."""
    error = original - to_uint8(coded).float() / 255
    return error.double().square().sum(dim=0).cpu().numpy()


def _side_errors(cut: np.ndarray, amid: np.ndarray) -> SideErrors:
    inside = cut[BORDER:-BORDER, BORDER:-BORDER]
    return SideErrors(
        _profiles(cut), _profiles(amid), float(inside.sum()), 3 * len(cut), 3 * inside.size
    )


def _profiles(errors: np.ndarray) -> np.ndarray:
    """(4, distances): sums along each of :data:`SIDES` of square (H, W) errors, by distance."""
    columns, rows = errors.sum(axis=0), errors.sum(axis=1)
    return np.stack([x[:_MARGIN] for x in (columns, columns[::-1], rows, rows[::-1])])


def _psnr(mse: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return -10 * np.log10(mse)


def add_up(pictures: Iterable[Borders]) -> dict[int, SideErrors]:
    """The errors of several pictures together; of one at least."""
    total: dict[int, SideErrors] = {}
    for borders in pictures:
        for remainder, errors in borders.items():
            total[remainder] = total[remainder] + errors if remainder in total else errors
    return total


def format_borders(borders: Borders) -> str:
    """A table: PSNR inside, and how much better or worse each side is than the same pixels amid."""
    lines = ["".join(f"{head:>9}" for head in ("pixels", "inside", *SIDES))]
    for remainder, errors in borders.items():
        cells = (f"{difference:+9.2f}" for difference in errors.differences)
        size = f"{_MULTIPLE}k+{remainder}"
        lines.append(f"{size:>9}{errors.inside_psnr:9.2f}{''.join(cells)}")
    return "\n".join(lines)


def verdict(borders: Borders) -> str:
    """Whether a side is spoilt, and at which sizes, in a sentence."""
    worst = []
    for i, side in enumerate(SIDES):
        spoilt = {r: e.differences[i] for r, e in borders.items() if e.differences[i] < WORST}
        if spoilt:
            sizes = ", ".join(f"{_MULTIPLE}k+{remainder}" for remainder in spoilt)
            worst.append(f"{side} by up to {-min(spoilt.values()):.2f} dB (sizes {sizes})")
    if worst:
        return f"BORDERS ARE SPOILT, more than {-WORST:g} dB worse than the inside: " + "; ".join(
            worst
        )
    lowest = min(errors.differences.min() for errors in borders.values())
    return (
        f"Borders are sound: no side is more than {-WORST:g} dB worse than the inside (worst: "
        f"{lowest:+.2f} dB)."
    )


def write_borders(points: Sequence[tuple[float, Borders]], path: Path) -> None:
    """Write a CSV with a line per quality and remainder, PSNR in dB."""
    heads = [f"{side}{what}" for what in ("", "_amid") for side in SIDES]
    with atomic_file(path) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("quality", "remainder", "inside", *heads))
        for quality, borders in points:
            for remainder, errors in borders.items():
                psnrs = *errors.psnrs(), *errors.psnrs(amid=True)
                cells = (f"{psnr:.3f}" for psnr in (errors.inside_psnr, *psnrs))
                writer.writerow((f"{quality:g}", remainder, *cells))


def plot_borders(title: str, points: Sequence[tuple[float, Borders]], path: Path) -> None:
    """Write PSNR by distance from each side as PNG, a row per quality, a line per remainder.

    Raises:
        CodecDetError: if it cannot be written.
    """
    size = (11, 1 + 2.4 * len(points))
    figure = Figure(figsize=size, dpi=PLOT_DPI, layout="constrained")
    grid: Any = figure.subplots(len(points), len(SIDES), sharex=True, sharey="row", squeeze=False)
    for row, (quality, borders) in zip(grid, points, strict=True):
        for i, (axes, side) in enumerate(zip(row, SIDES, strict=True)):
            _draw_side(axes, borders, i)
            axes.set_title(f"quality {quality:g}, {side}", fontsize=9)
        row[0].set_ylabel("PSNR (dB)")
    for axes in grid[-1]:
        axes.set_xlabel("pixels from the side")
    grid[0][-1].legend(fontsize=7, frameon=False)
    figure.suptitle(f"{title}: errors by distance from each side", fontsize=11)
    with atomic_file(path) as partial:
        figure.savefig(partial, format="png")


def _draw_side(axes: Any, borders: Borders, i: int) -> None:
    """All remainders in grey, the worst in colour; dashed: the same pixels amid the picture."""
    worst = min(borders, key=lambda remainder: borders[remainder].differences[i])
    for remainder, errors in borders.items():
        style: dict[str, Any] = {"color": "#BBBBBB", "linewidth": 0.8}
        if remainder == worst:
            style = {"color": "#D55E00", "linewidth": 1.8, "zorder": 3, "label": "worst size"}
        axes.plot(_psnr(errors.side[i] / errors.values), **style)
    errors = borders[worst]
    amid = _psnr(errors.amid[i] / errors.values)
    axes.plot(
        amid, color="black", linestyle="--", linewidth=1.2, zorder=4, label="amid the picture"
    )
    axes.axvline(BORDER - 0.5, color="#DDDDDD", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
