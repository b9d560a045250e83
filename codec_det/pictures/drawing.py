"""Lines, boxes, labels and bars, in whole pixels: what pictures of results are drawn with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .colour_scales import Scale

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]

BLACK, GREY, WHITE = (0, 0, 0), (100, 100, 100), (255, 255, 255)
TEXT_SIZE, LABEL_SIZE = 14, 12
LINE = 20  # from one line of text to the next
LINE_WIDTH, DASH = 2, 6
BAR_LENGTH, BAR_HEIGHT = 240, 22


@lru_cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font of all text, ``size`` pixels high."""
    # matplotlib brings its fonts with it, so pictures are the same on every machine.
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf", name)), size)


def text_width(text: str, face: ImageFont.FreeTypeFont) -> int:
    """In pixels."""
    return math.ceil(face.getlength(text))


def label_size(text: str) -> tuple[int, int]:
    """Width and height of a label, in pixels."""
    return text_width(text, font(LABEL_SIZE)) + 6, LABEL_SIZE + 4


def write_centred(
    draw: ImageDraw.ImageDraw,
    top: tuple[int, int],
    text: str,
    face: ImageFont.FreeTypeFont,
    colour: Colour,
) -> None:
    """One line below ``top``."""
    draw.text(top, text, fill=colour, font=face, anchor="ma")


def transform(
    boxes: np.ndarray, scale: tuple[float, float], limits: tuple[int, int, int, int]
) -> list[Box]:
    """Boxes of a picture scaled to whole pixels within ``limits``, where the picture is shown."""
    low, high = np.array(limits[:2] * 2), np.array(limits[2:] * 2)
    shown = np.clip(np.rint(boxes * (scale * 2)) + low, low, high)
    return [tuple(box) for box in shown.tolist()]


def dashed_rectangle(draw: ImageDraw.ImageDraw, box: Box, colour: Colour) -> None:
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


def place_label(
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


def scale_bar(scale: Scale, size: tuple[int, int]) -> np.ndarray:
    """What a scale's colours mean, (H, W, 3) uint8 RGB, in the middle of at least ``size``."""
    labels = [f"{value:.3g}" for value in (scale.low, (scale.low + scale.high) / 2, scale.high)]
    # Labels at the ends reach out by half of their width.
    reach = max(text_width(label, font(TEXT_SIZE)) for label in labels)
    title = text_width(scale.title, font(TEXT_SIZE))
    height = max(size[0], 2 * LINE + BAR_HEIGHT + 12)
    width = max(size[1], max(title, BAR_LENGTH + reach) + 8)
    image = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(image)
    left, top = (width - BAR_LENGTH) // 2, (height - BAR_HEIGHT) // 2
    values = np.linspace(scale.low, scale.high, BAR_LENGTH)
    colours = np.broadcast_to(scale.colours(values), (BAR_HEIGHT, BAR_LENGTH, 3))
    image.paste(Image.fromarray(np.ascontiguousarray(colours)), (left, top))
    draw.rectangle((left - 1, top - 1, left + BAR_LENGTH, top + BAR_HEIGHT), outline=GREY)
    write_centred(draw, (width // 2, top - LINE - 2), scale.title, font(TEXT_SIZE), BLACK)
    for place, label in zip((0, BAR_LENGTH // 2, BAR_LENGTH - 1), labels, strict=True):
        x, below = left + place, top + BAR_HEIGHT
        draw.line((x, below, x, below + 4), fill=GREY)
        write_centred(draw, (x, below + 6), label, font(TEXT_SIZE), BLACK)
    return np.array(image)


def text_panel(text: str, size: tuple[int, int]) -> np.ndarray:
    """A line in the middle of a framed area of at least ``size``, (H, W, 3) uint8 RGB."""
    width = max(size[1], text_width(text, font(TEXT_SIZE)) + 16)
    height = max(size[0], 2 * LINE)
    image = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width - 1, height - 1), outline=GREY)
    write_centred(draw, (width // 2, (height - LINE) // 2), text, font(TEXT_SIZE), GREY)
    return np.array(image)
