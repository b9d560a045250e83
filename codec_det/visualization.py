"""What runs make of single pictures: reconstructions and detections side by side.

A sheet has one column per run and one row per picture:

.. code-block:: none

       original          baseline             J-FT
     ground truth     codec, quality     codec, quality
    ┌────────────┐    ┌────────────┐    ┌────────────┐
    │  picture   │    │  decoded   │    │  decoded   │
    └────────────┘    └────────────┘    └────────────┘
      image 7          bpp, PSNR, AP      bpp, PSNR, AP
    legend: one colour per class; detections solid, ground truth dashed

Pictures are (H, W, 3) uint8 RGB of original size. Boxes are (n, 4) x0, y0, x1, y1 in its pixels.
"""

from __future__ import annotations

import colorsys
import io
import math
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.structures import BoxMode
from PIL import Image, ImageDraw, ImageFont
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .config import load_config
from .data.image_io import read_image
from .data.mapper import CodecDetectorMapper
from .errors import CodecDetError
from .evaluation import distortion
from .pixels import to_codec
from .plots import atomic_file
from .regimes import Regime
from .results import RESULTS_FILE
from .trainer import load_chain

CONFIG_FILE, CHECKPOINT_TAG = "config.yaml", "last_checkpoint"

# ---- runs, pictures and what the one makes of the other ----


@dataclass(frozen=True)
class Run:
    """A run folder and the config it was made with."""

    folder: Path
    cfg: CfgNode

    @property
    def dataset(self) -> str:
        """The first test set."""
        return self.cfg.DATASETS.TEST[0]

    @property
    def regime(self) -> str:
        """Name of what was trained."""
        return Regime.from_config(self.cfg).name

    @property
    def codec(self) -> str:
        """Codec and operating point."""
        codec = self.cfg.MODEL.CODEC
        if codec.NAME == "identity":
            return "uncompressed"
        return f"{codec.NAME}, quality {codec.QUALITY}"


@dataclass(frozen=True)
class Objects:
    """What is in a picture, or what was found in it.

    Attributes:
        boxes: (n, 4) float.
        classes: (n,) int, contiguous from 0.
        scores: (n,) float in [0, 1]; of ground truth, 1.
        crowd: (n,) bool, regions of many objects; of detections, False.
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    crowd: np.ndarray

    def above(self, threshold: float) -> Objects:
        """Those with at least this score."""
        keep = self.scores >= threshold
        return Objects(self.boxes[keep], self.classes[keep], self.scores[keep], self.crowd[keep])


@dataclass(frozen=True)
class Original:
    """A picture of the test set and its ground truth."""

    image_id: int
    picture: np.ndarray
    truth: Objects


@dataclass(frozen=True)
class Coded:
    """What a run makes of a picture.

    Attributes:
        picture: reconstruction, rounded to 8 bits.
        found: all detections.
        bpp: estimated bits per pixel.
        psnr: dB, inf where nothing is lost.
        ap: box AP of this picture in percent, nan where there is nothing to find or no detector.
    """

    picture: np.ndarray
    found: Objects
    bpp: float
    psnr: float
    ap: float


def open_run(folder: str | Path) -> Run:
    """Read the config of a run folder; without a GPU, for the CPU.

    Raises:
        CodecDetError: if it is no run folder, its config does not fit this version, or its run has
            neither saved nor evaluated any model.
    """
    folder = Path(folder)
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise CodecDetError(
            f"'{folder}' has no {CONFIG_FILE}: give the OUTPUT_DIR of a run of tools/train_net.py"
        )
    if not any((folder / name).exists() for name in (CHECKPOINT_TAG, RESULTS_FILE)):
        raise CodecDetError(
            f"'{folder}' has neither a checkpoint nor results: its run has not got that far"
        )
    # The folder may have been moved, and the run made on another machine.
    opts = ["OUTPUT_DIR", str(folder)]
    if not torch.cuda.is_available():
        opts += ["MODEL.DEVICE", "cpu"]
    run = Run(folder, load_config(str(path), opts))
    if not run.cfg.DATASETS.TEST:
        raise CodecDetError(f"'{path}' has an empty DATASETS.TEST: there is nothing to show")
    return run


def check_same_dataset(runs: Sequence[Run]) -> None:
    """Raise :class:`CodecDetError` unless all runs have the same first test set."""
    if len({run.dataset for run in runs}) > 1:
        sets = ", ".join(f"{run.folder}: {run.dataset}" for run in runs)
        raise CodecDetError(
            f"the runs have different test sets ({sets}): give runs with the same DATASETS.TEST"
        )


def column_headings(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Title and subtitle of each run: regime and codec, and the folder where that is ambiguous."""
    headings = [(run.regime, run.codec) for run in runs]
    return [
        (f"{title} ({run.folder.name})" if headings.count((title, codec)) > 1 else title, codec)
        for run, (title, codec) in zip(runs, headings, strict=True)
    ]


def choose_entries(
    dataset: str, image_ids: Sequence[int] | None, count: int
) -> list[dict[str, Any]]:
    """Entries of a registered data set: those of ``image_ids``, else ``count`` evenly spread ones.

    Raises:
        CodecDetError: if an id is not in the data set.
    """
    entries = DatasetCatalog.get(dataset)
    if image_ids is None:
        places = np.linspace(0, len(entries) - 1, min(count, len(entries)))
        return [entries[round(place)] for place in places]
    by_id = {entry["image_id"]: entry for entry in entries}
    unknown = [str(image_id) for image_id in image_ids if image_id not in by_id]
    if unknown:
        raise CodecDetError(
            f"{dataset} has no image with id {', '.join(unknown)}: its {len(by_id)} ids go from "
            f"{min(by_id)} to {max(by_id)}"
        )
    return [by_id[image_id] for image_id in dict.fromkeys(image_ids)]


def read_original(entry: dict[str, Any]) -> Original:
    """The picture of a data set entry and its ground truth."""
    return Original(entry["image_id"], read_image(entry["file_name"], "RGB"), _truth(entry))


def _truth(entry: dict[str, Any]) -> Objects:
    annotations = entry.get("annotations", [])
    boxes = [
        BoxMode.convert(list(a["bbox"]), a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations
    ]
    return Objects(
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        classes=np.array([a["category_id"] for a in annotations], dtype=np.int64),
        scores=np.ones(len(annotations)),
        crowd=np.array([bool(a.get("iscrowd", 0)) for a in annotations], dtype=bool),
    )


def code_pictures(run: Run, entries: Sequence[dict[str, Any]]) -> Iterator[Coded]:
    """Rebuild a run's chain from its last checkpoint and pass pictures through, one at a time.

    A run without checkpoint was only evaluated: it has the weights of its config.

    Raises:
        WeightsError: if the weights cannot be loaded.
        DatasetError: if a picture cannot be read.
    """
    model = load_chain(run.cfg, resume=True).eval()
    mapper = CodecDetectorMapper(run.cfg, is_train=False)
    for entry in entries:
        mapped = mapper(entry)
        (output,) = model([mapped])
        decoded = output["reconstruction"].cpu()
        original = to_codec(mapped["image"], run.cfg.INPUT.FORMAT)
        found = _found(output)
        yield Coded(
            picture=decoded.permute(1, 2, 0).numpy(),
            found=found,
            bpp=output["bits"] / math.prod(decoded.shape[-2:]),
            psnr=distortion(original, decoded.float() / 255)["psnr"],
            ap=box_ap(_truth(entry), found) if "instances" in output else math.nan,
        )


def _found(output: dict[str, Any]) -> Objects:
    if "instances" not in output:
        return Objects(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, bool))
    instances = output["instances"].to("cpu")
    return Objects(
        boxes=instances.pred_boxes.tensor.double().numpy(),
        classes=instances.pred_classes.numpy(),
        scores=instances.scores.double().numpy(),
        crowd=np.zeros(len(instances), dtype=bool),
    )


def box_ap(truth: Objects, found: Objects) -> float:
    """COCO's box AP in percent over one picture; nan where it has no objects.

    Only classes that are in the picture count, as COCO defines it.
    """
    with redirect_stdout(io.StringIO()):  # pycocotools reports its progress
        evaluation = COCOeval(_coco(truth), _coco(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ap = float(evaluation.stats[0])
    return math.nan if ap < 0 else 100 * ap


def _coco(objects: Objects) -> COCO:
    """One picture's objects as pycocotools takes annotations, and the results it has loaded."""
    coco = COCO()
    extents = objects.boxes[:, 2:] - objects.boxes[:, :2]
    coco.dataset = {
        "images": [{"id": 1}],
        "categories": [{"id": c} for c in sorted(set(objects.classes.tolist()))],
        "annotations": [
            {
                "id": number,  # from 1: to COCOeval, 0 means no match
                "image_id": 1,
                "category_id": int(objects.classes[i]),
                "bbox": [*objects.boxes[i, :2].tolist(), *extents[i].tolist()],
                "area": float(extents[i].prod()),
                "iscrowd": int(objects.crowd[i]),
                "score": float(objects.scores[i]),
            }
            for number, i in enumerate(range(len(extents)), start=1)
        ],
    }
    coco.createIndex()
    return coco


# ---- drawing ----

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
