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
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..evaluation.objects import Objects
from ..files import atomic_file
from ..runs import CodedPicture, Original
from .cells import Cell, bit_row, difference_row, display_size
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
    text_width,
    transform,
    write_centred,
)

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

# All in pixels.
MARGIN, GAP = 16, 12
TITLE_SIZE = 18
SWATCH = 22


@lru_cache
def class_colour(number: int) -> Colour:
    """The colour of a class by its place in the data set: the same in every picture of it.

    The first get chosen colours, further ones hues a golden section apart.
    """
    if number < len(CLASS_COLOURS):
        return CLASS_COLOURS[number]
    hue = (number - len(CLASS_COLOURS)) * 0.618034 % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.45, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


class Sheet:
    """Draws sheets of one data set's pictures in one style.

    Bits per position are drawn over the original in grey, differences around grey; each such row
    has one scale.

    Args:
        headings: title and subtitle of each run's column.
        class_names: by contiguous class.
        threshold: detections of lower scores are not drawn.
        shows: kinds of rows, in the order to draw them: "pictures", "bits" (those of
            :attr:`Coded.bit_map`), "difference".
    """

    def __init__(
        self,
        headings: Sequence[tuple[str, str]],
        class_names: Sequence[str],
        threshold: float,
        shows: Sequence[str] = ("pictures",),
    ) -> None:
        first = ("original", "ground truth") if "pictures" in shows else ("scale", "of each row")
        self.headings = [first, *headings]
        self.shows = shows
        self.class_names = class_names
        self.threshold = threshold

    def draw(self, rows: Sequence[tuple[Original, Sequence[CodedPicture]]]) -> Image.Image:
        """Headings, the rows of each picture, and the legend."""
        make = {"pictures": self._picture_row, "bits": bit_row, "difference": difference_row}
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

    def _picture_row(self, original: Original, coded: Sequence[CodedPicture]) -> list[Cell]:
        return [self._original(original), *(self._coded(each, original) for each in coded)]

    def _original(self, original: Original) -> Cell:
        height, width = original.picture.shape[:2]
        labels = [
            self._name(number) + " (crowd)" * crowd
            for number, crowd in zip(
                original.truth.classes.tolist(), original.truth.crowd.tolist(), strict=True
            )
        ]
        caption = f"image {original.image_id}, {width} x {height}"
        return Cell(original.picture, None, original.truth, labels, caption)

    def _coded(self, coded: CodedPicture, original: Original) -> Cell:
        found = coded.found.above(self.threshold)
        labels = [
            f"{self._name(number)} {score:.2f}"
            for number, score in zip(found.classes.tolist(), found.scores.tolist(), strict=True)
        ]
        psnr = f"{coded.psnr:.1f} dB" if math.isfinite(coded.psnr) else "lossless"
        ap = "-" if math.isnan(coded.ap) else f"{coded.ap:.1f}"
        caption = f"{coded.bpp:.3f} bpp · {psnr} · AP {ap}"
        return Cell(coded.picture, found, original.truth, labels, caption)

    def _name(self, number: int) -> str:
        known = number < len(self.class_names)
        return self.class_names[number] if known else f"class {number}"

    def _column_width(self, cells: Sequence[Cell]) -> int:
        """Wide enough for every picture, heading, caption and label."""
        widths = [display_size(*cell.picture.shape[:2])[1] for cell in cells]
        widths += [label_size(label)[0] + 1 for cell in cells for label in cell.labels]
        texts = [*(cell.caption for cell in cells), *(subtitle for _, subtitle in self.headings)]
        widths += [text_width(text, font(TEXT_SIZE)) for text in texts]
        widths += [text_width(title, font(TITLE_SIZE, True)) for title, _ in self.headings]
        return max(widths)

    def _panel(self, cell: Cell, column: int) -> Image.Image:
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
            colour = class_colour(number)
            if dashed:
                dashed_rectangle(draw, box, colour)
            else:
                # A dark rim sets bright lines off from bright pictures.
                draw.rectangle((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), outline=BLACK)
                draw.rectangle(box, outline=colour, width=LINE_WIDTH)

    def _draw_labels(
        self,
        draw: ImageDraw.ImageDraw,
        cell: Cell,
        boxes: Sequence[Box],
        panel_size: tuple[int, int],
    ) -> None:
        """The higher the score, the freer the place and the more on top."""
        order = np.argsort(-cell.labelled.scores, kind="stable").tolist()
        placed: list[Box] = []
        for i in order:
            placed.append(place_label(boxes[i], label_size(cell.labels[i]), panel_size, placed))
        for i, label in reversed(list(zip(order, placed, strict=True))):
            draw.rectangle(label, fill=class_colour(int(cell.labelled.classes[i])))
            middle = (label[0] + label[2]) / 2, (label[1] + label[3]) / 2
            draw.text(middle, cell.labels[i], fill=BLACK, font=font(LABEL_SIZE), anchor="mm")

    def _legend(self, cells: Sequence[Cell], width: int) -> Image.Image:
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
            draw.rectangle(swatch, fill=class_colour(number), outline=GREY)
        for (x, y), text in zip(corners, texts, strict=True):
            draw.text((x + SWATCH + 6, y + LINE / 2), text, BLACK, font(TEXT_SIZE), anchor="lm")
        return legend


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a sheet as PNG; the file appears when it is complete.

    Raises:
        CodecDetError: if it cannot be written.
    """
    with atomic_file(path) as partial:
        sheet.save(partial, format="PNG")
