"""A sequence over time: frames in a row, where the bits of each go, and the bits of all.

.. code-block:: none

    run    ┌───────┐ ┌───────┐ ┌───────┐
           │ frame │ │ frame │ │ frame │   decoded, with detections
           └───────┘ └───────┘ └───────┘
           ┌───────┐ ┌───────┐ ┌───────┐
           │  map  │ │  map  │ │  map  │   of its bits; learned codecs only
           └───────┘ └───────┘ └───────┘
           ▌▖▖▖▖▖▖▖▌▖▖▖▖▖▖▖                  bits of every frame; dark: those above
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..evaluation.objects import Objects
from ..files import atomic_file
from ..runs import CodedPicture, Original
from .colour_scales import BitScale
from .visualization import class_colour

Frames = Sequence[tuple[Original, CodedPicture]]

# Inches, and dots per inch.
FRAME, BARS, WIDTH, DPI = 2.1, 1.5, 12.0, 100


def sequence_figure(
    runs: Sequence[tuple[str, Frames]], shown: Sequence[int], threshold: float
) -> Figure:
    """Frames of one sequence by several runs.

    Args:
        runs: name, and all frames in order of time, coded one after another.
        shown: places of the frames to show.
        threshold: detections of lower scores are not drawn.
    """
    heights = [FRAME * (1 + _has_maps(frames)) + BARS for _, frames in runs]
    figure = Figure(figsize=(WIDTH, sum(heights)), dpi=DPI, layout="constrained")
    parts = figure.subfigures(len(runs), 1, squeeze=False, height_ratios=heights)[:, 0]
    highest = max(_bits(coded) for _, frames in runs for _, coded in frames)
    for part, (name, frames) in zip(parts, runs, strict=True):
        part.suptitle(name, fontsize=11, fontweight="bold")
        ratios = [FRAME] * (1 + _has_maps(frames)) + [BARS]
        grid = part.add_gridspec(len(ratios), len(shown), height_ratios=ratios)
        for i, number in enumerate(shown):
            axes = part.add_subplot(grid[0, i])
            _draw_frame(axes, number, frames[number][1], threshold)
        if _has_maps(frames):
            places = [part.add_subplot(grid[1, i]) for i in range(len(shown))]
            _draw_maps(places, [frames[i] for i in shown])
        _draw_bars(part.add_subplot(grid[-1, :]), frames, shown, highest)
    return figure


def _has_maps(frames: Frames) -> bool:
    return all(coded.bit_map is not None for _, coded in frames)


def _bits(coded: CodedPicture) -> float:
    return coded.bpp * coded.picture.shape[0] * coded.picture.shape[1]


def _draw_frame(axes: Axes, number: int, coded: CodedPicture, threshold: float) -> None:
    axes.imshow(coded.picture, interpolation="nearest")
    axes.set_title(f"frame {number}: {_bits(coded):.0f} bits", fontsize=9)
    axes.set_axis_off()
    _draw_boxes(axes, coded.found.above(threshold))


def _draw_boxes(axes: Axes, objects: Objects) -> None:
    for (x0, y0, x1, y1), number in zip(objects.boxes, objects.classes.tolist(), strict=True):
        colour = tuple(part / 255 for part in class_colour(number))
        for line, width in (("black", 3.0), (colour, 1.6)):
            box = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=line, linewidth=width)
            axes.add_patch(box)


def _draw_maps(places: Sequence[Axes], frames: Frames) -> None:
    """With one scale, of what comes after the first, which is a key frame."""
    maps = [coded.bit_map for _, coded in frames if coded.bit_map is not None]
    scale = BitScale([one.density for one in maps[1:] or maps])
    for axes, (original, _), bit_map in zip(places, frames, maps, strict=True):
        axes.imshow(scale.draw(bit_map.density, original.picture), interpolation="nearest")
        axes.set_axis_off()
    places[0].set_title(
        f"bits per pixel, 0 (dark) to {scale.high:.2f} or more", fontsize=9, loc="left"
    )


def _draw_bars(axes: Axes, frames: Frames, shown: Sequence[int], highest: float) -> None:
    bits = [_bits(coded) for _, coded in frames]
    colours = ["#1F4E79" if i in shown else "#9DB8D2" for i in range(len(bits))]
    axes.bar(range(len(bits)), bits, color=colours, width=0.8)
    axes.set_ylim(0, 1.05 * highest)
    axes.margins(x=0.01)
    axes.set_ylabel("bits", fontsize=9)
    axes.set_xlabel("frame", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; the file appears when it is complete.

    Raises:
        CodecDetError: if it cannot be written.
    """
    with atomic_file(path) as partial:
        figure.savefig(partial, format="png")
