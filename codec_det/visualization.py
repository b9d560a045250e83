"""Pictures of what runs make of pictures: reconstructions and detections side by side.

A sheet has one column per run and one row per picture:

.. code-block:: none

       original          baseline             J-FT
     ground truth     codec, quality     codec, quality
    ┌────────────┐    ┌────────────┐    ┌────────────┐
    │  picture   │    │  decoded   │    │  decoded   │
    └────────────┘    └────────────┘    └────────────┘
      image 7          bpp, PSNR, AP      bpp, PSNR, AP
    legend: one colour per class; detections solid, ground truth dashed
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .files import atomic_file
from .runs import Coded, Objects, Original

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]

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
BLACK, GREY, WHITE = (0, 0, 0), (100, 100, 100), (255, 255, 255)

# All in pixels. Pictures are shown enlarged by a whole factor, so that their longer side has
# SIDE_MIN or more, or reduced to SIDE_MAX.
SIDE_MIN, SIDE_MAX = 384, 1024
MARGIN, GAP = 16, 12
TITLE_SIZE, TEXT_SIZE, LABEL_SIZE = 18, 14, 12
LINE = 20  # from one line of text to the next
SWATCH = 22
LINE_WIDTH, DASH = 2, 6


@lru_cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    # matplotlib brings its fonts with it, so pictures are the same on every machine.
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf", name)), size)


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

    Args:
        headings: title and subtitle of each run's column.
        class_names: by contiguous class.
        colours: of every class that is drawn.
        threshold: detections of lower scores are not drawn.
    """

    def __init__(
        self,
        headings: Sequence[tuple[str, str]],
        class_names: Sequence[str],
        colours: dict[int, Colour],
        threshold: float,
    ) -> None:
        self.headings = [("original", "ground truth"), *headings]
        self.class_names = class_names
        self.colours = colours
        self.threshold = threshold

    def draw(self, rows: Sequence[tuple[Original, Sequence[Coded]]]) -> Image.Image:
        """Headings, one row per picture, and the legend."""
        grid = [[self._original(o), *(self._coded(c, o) for c in coded)] for o, coded in rows]
        column = self._column_width([cell for row in grid for cell in row])
        lefts = [MARGIN + i * (column + GAP) for i in range(len(self.headings))]
        width = lefts[-1] + column + MARGIN
        panels = [[self._panel(cell, column) for cell in row] for row in grid]
        legend = self._legend([cell for row in grid for cell in row], width - 2 * MARGIN)
        top = MARGIN + 2 * LINE + GAP // 2
        steps = [row[0].height + LINE + MARGIN for row in panels]
        sheet = Image.new("RGB", (width, top + sum(steps) + legend.height + MARGIN), WHITE)
        draw = ImageDraw.Draw(sheet)
        for left, (title, subtitle) in zip(lefts, self.headings, strict=True):
            x, y = left + column // 2, MARGIN
            _write_centred(draw, (x, y), title, _font(TITLE_SIZE, True), BLACK)
            _write_centred(draw, (x, y + LINE + 3), subtitle, _font(TEXT_SIZE), GREY)
        for cells, row, step in zip(grid, panels, steps, strict=True):
            for left, cell, panel in zip(lefts, cells, row, strict=True):
                sheet.paste(panel, (left, top))
                below = left + column // 2, top + panel.height + 4
                _write_centred(draw, below, cell.caption, _font(TEXT_SIZE), BLACK)
            top += step
        sheet.paste(legend, (MARGIN, top))
        return sheet

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
        widths += [_label_size(label)[0] + 1 for cell in cells for label in cell.labels]
        texts = [*(cell.caption for cell in cells), *(subtitle for _, subtitle in self.headings)]
        widths += [_text_width(text, _font(TEXT_SIZE)) for text in texts]
        widths += [_text_width(title, _font(TITLE_SIZE, True)) for title, _ in self.headings]
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
        self._draw_boxes(draw, cell.dashed, _transform(cell.dashed.boxes, scale, limits), True)
        boxes = _transform(cell.labelled.boxes, scale, limits)
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
                _dashed_rectangle(draw, box, colour)
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
            placed.append(_place_label(boxes[i], _label_size(cell.labels[i]), panel_size, placed))
        for i, label in reversed(list(zip(order, placed, strict=True))):
            draw.rectangle(label, fill=self.colours[int(cell.labelled.classes[i])])
            middle = (label[0] + label[2]) / 2, (label[1] + label[3]) / 2
            draw.text(middle, cell.labels[i], fill=BLACK, font=_font(LABEL_SIZE), anchor="mm")

    def _legend(self, cells: Sequence[_Cell], width: int) -> Image.Image:
        """What lines mean, then the classes on this sheet, in lines of ``width`` pixels."""
        drawn = [objects for cell in cells for objects in (cell.labelled, cell.dashed)]
        shown = {number for objects in drawn for number in objects.classes.tolist()}
        texts = ["ground truth", f"detection, score ≥ {self.threshold:g}"]
        texts += [self._name(number) for number in sorted(shown)]
        corners, x, y = [], 0, 0
        for text in texts:
            length = SWATCH + 6 + _text_width(text, _font(TEXT_SIZE))
            if x and x + length > width:
                x, y = 0, y + LINE
            corners.append((x, y))
            x += length + 22
        legend = Image.new("RGB", (width, y + LINE), WHITE)
        draw = ImageDraw.Draw(legend)
        swatches = [(x, y + 3, x + SWATCH, y + LINE - 4) for x, y in corners]
        _dashed_rectangle(draw, swatches[0], GREY)
        draw.rectangle(swatches[1], outline=GREY, width=LINE_WIDTH)
        for swatch, number in zip(swatches[2:], sorted(shown), strict=True):
            draw.rectangle(swatch, fill=self.colours[number], outline=GREY)
        for (x, y), text in zip(corners, texts, strict=True):
            draw.text((x + SWATCH + 6, y + LINE / 2), text, BLACK, _font(TEXT_SIZE), anchor="lm")
        return legend


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a sheet as PNG; the file appears when it is complete.

    Raises:
        CodecDetError: if it cannot be written.
    """
    with atomic_file(path) as partial:
        sheet.save(partial, format="PNG")


def _text_width(text: str, font: ImageFont.FreeTypeFont) -> int:
    return math.ceil(font.getlength(text))


def _label_size(text: str) -> tuple[int, int]:
    """Width and height of a label, in pixels."""
    return _text_width(text, _font(LABEL_SIZE)) + 6, LABEL_SIZE + 4


def _write_centred(
    draw: ImageDraw.ImageDraw,
    top: tuple[int, int],
    text: str,
    font: ImageFont.FreeTypeFont,
    colour: Colour,
) -> None:
    """One line below ``top``."""
    draw.text(top, text, fill=colour, font=font, anchor="ma")


def _transform(
    boxes: np.ndarray, scale: tuple[float, float], limits: tuple[int, int, int, int]
) -> list[Box]:
    """Boxes of a picture scaled to whole pixels within ``limits``, where the picture is shown."""
    low, high = np.array(limits[:2] * 2), np.array(limits[2:] * 2)
    shown = np.clip(np.rint(boxes * (scale * 2)) + low, low, high)
    return [tuple(box) for box in shown.tolist()]


def _dashed_rectangle(draw: ImageDraw.ImageDraw, box: Box, colour: Colour) -> None:
    """Dashes with black between them: seen on any background."""
    x0, y0, x1, y1 = box
    draw.rectangle(box, outline=BLACK, width=LINE_WIDTH)
    inner = LINE_WIDTH - 1
    for x in np.arange(x0, x1 + 1, 2 * DASH):
        for y in (y0, y1 - inner):
            draw.rectangle((x, y, min(x + DASH - 1, x1), y + inner), fill=colour)
    for y in np.arange(y0, y1 + 1, 2 * DASH):
        for x in (x0, x1 - inner):
            draw.rectangle((x, y, x + inner, min(y + DASH - 1, y1)), fill=colour)


def _place_label(
    box: Box, size: tuple[int, int], panel: tuple[int, int], placed: Sequence[Box]
) -> Box:
    """Above the box, or below or in it: in the panel, and least on other labels."""
    width, height = size
    x0, y0, x1, y1 = box
    corners = [
        (x, y) for y in (y0 - height - 1, y1 + 1, y0 + 2, y1 - height - 2) for x in (x0, x1 - width)
    ]
    limit_x, limit_y = panel[0] - width - 1, panel[1] - height - 1
    candidates = [
        (x, y, x + width, y + height)
        for x, y in ((max(0, min(x, limit_x)), max(0, min(y, limit_y))) for x, y in corners)
    ]
    return min(candidates, key=lambda label: sum(_overlap(label, other) for other in placed))


def _overlap(a: Box, b: Box) -> float:
    """Common area of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    return max(0.0, width) * max(0.0, height)
