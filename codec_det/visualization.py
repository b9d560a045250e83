"""Pictures of what runs make of pictures: reconstructions and detections side by side.

A sheet has one column per run, and for each picture a row of each kind that it is to show:

.. code-block:: none

       original          baseline             J-FT
     ground truth     codec, quality     codec, quality
    ┌────────────┐    ┌────────────┐    ┌────────────┐
    │  picture   │    │  decoded   │    │  decoded   │
    └────────────┘    └────────────┘    └────────────┘
      image 7          bpp, PSNR, AP      bpp, PSNR, AP
    ┌────────────┐    ┌────────────┐    ┌────────────┐
    │ scale bar  │    │ bits, or   │    │  bits, or  │
    │            │    │ difference │    │ difference │
    └────────────┘    └────────────┘    └────────────┘
      image 7             figures            figures
    legend: one colour per class; detections solid, ground truth dashed
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from .colour_scales import BitScale, DifferenceScale, subtract
from .drawing import (
    BLACK,
    GREY,
    LABEL_SIZE,
    LINE,
    LINE_WIDTH,
    TEXT_SIZE,
    WHITE,
    Box,
    Colour,
    dashed_rectangle,
    font,
    label_size,
    place_label,
    scale_bar,
    text_panel,
    text_width,
    transform,
    write_centred,
)
from .files import atomic_file
from .runs import NOTHING, Coded, Objects, Original

NO_MAP = "no map: rate of a whole file"

# Bright, for black letters on them and for any picture behind them.
CLASS_COLOURS: tuple[Colour, ...] = (
    (255, 194, 51),
    (77, 210, 255),
    (124, 252, 90),
    (255, 140, 240),
    (255, 112, 90),
    (185, 162, 255),
    (46, 230, 182),
    (240, 240, 100),
)

# All in pixels. Pictures are shown enlarged by a whole factor, so that their longer side has
# SIDE_MIN or more, or reduced to SIDE_MAX.
SIDE_MIN, SIDE_MAX = 384, 1024
MARGIN, GAP = 16, 12
TITLE_SIZE = 18
SWATCH = 22


def class_colours(rows: Sequence[tuple[Original, Sequence[Coded]]]) -> dict[int, Colour]:
    """A colour for each class: those in the pictures first, then those only found in them.

    The first get chosen colours, further ones hues a golden section apart.
    """
    there = {c for original, _ in rows for c in original.truth.classes.tolist()}
    found = {c for _, coded in rows for each in coded for c in each.found.classes.tolist()}
    classes = [*sorted(there), *sorted(found - there)]
    colours = list(CLASS_COLOURS)
    for number in range(len(classes) - len(colours)):
        red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.45, 1.0)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return dict(zip(classes, colours, strict=False))


def display_size(height: int, width: int) -> tuple[int, int]:
    """Height and width, in pixels, to show a picture at."""
    longest = max(height, width)
    if longest > SIDE_MAX:
        return max(1, height * SIDE_MAX // longest), max(1, width * SIDE_MAX // longest)
    factor = math.ceil(SIDE_MIN / longest)
    return height * factor, width * factor


@dataclass(frozen=True)
class _Cell:
    """A picture, what is drawn on it, and the line below it.

    Attributes:
        solid: labelled objects.
        dashed: objects without labels; drawn first.
        labels: one per object of ``solid``, or of ``dashed`` where that is None.
    """

    picture: np.ndarray
    solid: Objects | None
    dashed: Objects
    labels: Sequence[str]
    caption: str

    @property
    def labelled(self) -> Objects:
        return self.dashed if self.solid is None else self.solid


class Sheet:
    """Draws sheets of one data set's pictures in one style.

    Bits per position are drawn over the original in grey, differences around grey; each such row
    has one scale.

    Args:
        headings: title and subtitle of each run's column.
        class_names: by contiguous class.
        colours: of every class that is drawn.
        threshold: detections of lower scores are not drawn.
        shows: kinds of rows, in the order to draw them: "pictures", "bits" (those of
            :attr:`Coded.bit_map`), "difference".
    """

    def __init__(
        self,
        headings: Sequence[tuple[str, str]],
        class_names: Sequence[str],
        colours: dict[int, Colour],
        threshold: float,
        shows: Sequence[str] = ("pictures",),
    ) -> None:
        first = ("original", "ground truth") if "pictures" in shows else ("scale", "of each row")
        self.headings = [first, *headings]
        self.shows = shows
        self.class_names = class_names
        self.colours = colours
        self.threshold = threshold

    def draw(self, rows: Sequence[tuple[Original, Sequence[Coded]]]) -> Image.Image:
        """Headings, the rows of each picture, and the legend."""
        make = {"pictures": self._picture_row, "bits": _bit_row, "difference": _difference_row}
        grid = [make[show](original, coded) for original, coded in rows for show in self.shows]
        column = self._column_width([cell for row in grid for cell in row])
        lefts = [MARGIN + i * (column + GAP) for i in range(len(self.headings))]
        width = lefts[-1] + column + MARGIN
        panels = [[self._panel(cell, column) for cell in row] for row in grid]
        legend = self._legend([cell for row in grid for cell in row], width - 2 * MARGIN)
        top = MARGIN + 2 * LINE + GAP // 2
        steps = [max(panel.height for panel in row) + LINE + MARGIN for row in panels]
        sheet = Image.new("RGB", (width, top + sum(steps) + legend.height + MARGIN), WHITE)
        draw = ImageDraw.Draw(sheet)
        for left, (title, subtitle) in zip(lefts, self.headings, strict=True):
            x, y = left + column // 2, MARGIN
            write_centred(draw, (x, y), title, font(TITLE_SIZE, True), BLACK)
            write_centred(draw, (x, y + LINE + 3), subtitle, font(TEXT_SIZE), GREY)
        for cells, row, step in zip(grid, panels, steps, strict=True):
            for left, cell, panel in zip(lefts, cells, row, strict=True):
                sheet.paste(panel, (left, top))
                below = left + column // 2, top + step - LINE - MARGIN + 4
                write_centred(draw, below, cell.caption, font(TEXT_SIZE), BLACK)
            top += step
        sheet.paste(legend, (MARGIN, top))
        return sheet

    def _picture_row(self, original: Original, coded: Sequence[Coded]) -> list[_Cell]:
        return [self._original(original), *(self._coded(each, original) for each in coded)]

    def _original(self, original: Original) -> _Cell:
        height, width = original.picture.shape[:2]
        labels = [
            self._name(number) + " (crowd)" * crowd
            for number, crowd in zip(
                original.truth.classes.tolist(), original.truth.crowd.tolist(), strict=True
            )
        ]
        caption = f"image {original.image_id}, {width} x {height}"
        return _Cell(original.picture, None, original.truth, labels, caption)

    def _coded(self, coded: Coded, original: Original) -> _Cell:
        found = coded.found.above(self.threshold)
        labels = [
            f"{self._name(number)} {score:.2f}"
            for number, score in zip(found.classes.tolist(), found.scores.tolist(), strict=True)
        ]
        psnr = f"{coded.psnr:.1f} dB" if math.isfinite(coded.psnr) else "lossless"
        ap = "-" if math.isnan(coded.ap) else f"{coded.ap:.1f}"
        caption = f"{coded.bpp:.3f} bpp · {psnr} · AP {ap}"
        return _Cell(coded.picture, found, original.truth, labels, caption)

    def _name(self, number: int) -> str:
        known = number < len(self.class_names)
        return self.class_names[number] if known else f"class {number}"

    def _column_width(self, cells: Sequence[_Cell]) -> int:
        """Wide enough for every picture, heading, caption and label."""
        widths = [display_size(*cell.picture.shape[:2])[1] for cell in cells]
        widths += [label_size(label)[0] + 1 for cell in cells for label in cell.labels]
        texts = [*(cell.caption for cell in cells), *(subtitle for _, subtitle in self.headings)]
        widths += [text_width(text, font(TEXT_SIZE)) for text in texts]
        widths += [text_width(title, font(TITLE_SIZE, True)) for title, _ in self.headings]
        return max(widths)

    def _panel(self, cell: _Cell, column: int) -> Image.Image:
        """The picture in the middle of the column, with boxes and labels."""
        height, width = display_size(*cell.picture.shape[:2])
        # Nearest: enlarged pixels stay what was decoded.
        enlarge, reduce = Image.Resampling.NEAREST, Image.Resampling.LANCZOS
        method = enlarge if width >= cell.picture.shape[1] else reduce
        panel = Image.new("RGB", (column, height), WHITE)
        left = (column - width) // 2
        panel.paste(Image.fromarray(cell.picture).resize((width, height), method), (left, 0))
        draw = ImageDraw.Draw(panel)
        scale = width / cell.picture.shape[1], height / cell.picture.shape[0]
        limits = left, 0, left + width - 1, height - 1
        self._draw_boxes(draw, cell.dashed, transform(cell.dashed.boxes, scale, limits), True)
        boxes = transform(cell.labelled.boxes, scale, limits)
        if cell.solid is not None:
            self._draw_boxes(draw, cell.solid, boxes, False)
        self._draw_labels(draw, cell, boxes, panel.size)
        return panel

    def _draw_boxes(
        self, draw: ImageDraw.ImageDraw, objects: Objects, boxes: Sequence[Box], dashed: bool
    ) -> None:
        # Detections come by falling score: the best ends on top.
        for box, number in reversed(list(zip(boxes, objects.classes.tolist(), strict=True))):
            colour = self.colours[number]
            if dashed:
                dashed_rectangle(draw, box, colour)
            else:
                # A dark rim sets bright lines off from bright pictures.
                draw.rectangle((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), outline=BLACK)
                draw.rectangle(box, outline=colour, width=LINE_WIDTH)

    def _draw_labels(
        self,
        draw: ImageDraw.ImageDraw,
        cell: _Cell,
        boxes: Sequence[Box],
        panel_size: tuple[int, int],
    ) -> None:
        """The higher the score, the freer the place and the more on top."""
        order = np.argsort(-cell.labelled.scores, kind="stable").tolist()
        placed: list[Box] = []
        for i in order:
            placed.append(place_label(boxes[i], label_size(cell.labels[i]), panel_size, placed))
        for i, label in reversed(list(zip(order, placed, strict=True))):
            draw.rectangle(label, fill=self.colours[int(cell.labelled.classes[i])])
            middle = (label[0] + label[2]) / 2, (label[1] + label[3]) / 2
            draw.text(middle, cell.labels[i], fill=BLACK, font=font(LABEL_SIZE), anchor="mm")

    def _legend(self, cells: Sequence[_Cell], width: int) -> Image.Image:
        """What lines mean, then the classes on this sheet, in lines of ``width`` pixels."""
        drawn = [objects for cell in cells for objects in (cell.labelled, cell.dashed)]
        shown = {number for objects in drawn for number in objects.classes.tolist()}
        if "pictures" not in self.shows:
            return Image.new("RGB", (width, 1), WHITE)
        texts = ["ground truth", f"detection, score ≥ {self.threshold:g}"]
        texts += [self._name(number) for number in sorted(shown)]
        corners, x, y = [], 0, 0
        for text in texts:
            length = SWATCH + 6 + text_width(text, font(TEXT_SIZE))
            if x and x + length > width:
                x, y = 0, y + LINE
            corners.append((x, y))
            x += length + 22
        legend = Image.new("RGB", (width, y + LINE), WHITE)
        draw = ImageDraw.Draw(legend)
        swatches = [(x, y + 3, x + SWATCH, y + LINE - 4) for x, y in corners]
        dashed_rectangle(draw, swatches[0], GREY)
        draw.rectangle(swatches[1], outline=GREY, width=LINE_WIDTH)
        for swatch, number in zip(swatches[2:], sorted(shown), strict=True):
            draw.rectangle(swatch, fill=self.colours[number], outline=GREY)
        for (x, y), text in zip(corners, texts, strict=True):
            draw.text((x + SWATCH + 6, y + LINE / 2), text, BLACK, font(TEXT_SIZE), anchor="lm")
        return legend


def _bit_row(original: Original, coded: Sequence[Coded]) -> list[_Cell]:
    """The scale, and where each run's bits go."""
    size = display_size(*original.picture.shape[:2])
    maps = [each.bit_map for each in coded if each.bit_map is not None]
    scale = BitScale([bit_map.density for bit_map in maps])
    first = scale_bar(scale, size) if maps else text_panel("no run has a map", size)
    cells = [_plain(first, f"image {original.image_id}: where the bits go")]
    for each in coded:
        if each.bit_map is None:
            cells.append(_plain(text_panel(NO_MAP, size), f"{each.bpp:.3f} bpp"))
            continue
        density, padding = each.bit_map.density, each.bit_map.padding_bits
        caption = f"estimated {each.bit_map.bits / density.size:.3f} bpp"
        caption += f", {padding / each.bit_map.bits:.0%} in the padding" if padding else ""
        cells.append(_plain(scale.draw(density, original.picture), caption))
    return cells


def _difference_row(original: Original, coded: Sequence[Coded]) -> list[_Cell]:
    """The scale, and how far each run's picture is from the original."""
    differences = [subtract(each.picture, original.picture) for each in coded]
    scale = DifferenceScale(differences)
    bar = scale_bar(scale, display_size(*original.picture.shape[:2]))
    cells = [_plain(bar, f"image {original.image_id}: {scale.factor} x difference")]
    for difference in differences:
        size = np.abs(difference)
        caption = f"{scale.factor} x difference · mean {size.mean():.1f}, most {size.max()}"
        cells.append(_plain(scale.draw(difference), caption))
    return cells


def _plain(picture: np.ndarray, caption: str) -> _Cell:
    return _Cell(picture, None, NOTHING, (), caption)


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a sheet as PNG; the file appears when it is complete.

    Raises:
        CodecDetError: if it cannot be written.
    """
    with atomic_file(path) as partial:
        sheet.save(partial, format="PNG")
