"""Pictures of the page: originals, what runs make of them, and where runs spend their bits.

A layer is one of these for every picture; the page lays two on each other. Its key is "original",
or "picture" or "bits" and the place of its run in the list of those shown.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from PIL import Image
from tqdm import tqdm

from ..colour_scales import BitScale
from ..curves import Curve
from ..data.register import check_datasets, register_datasets
from ..errors import CodecDetError
from ..picture_choice import Entry, by_disagreement, check_files, evenly
from ..runs import (
    CHECKPOINT_TAG,
    Coded,
    Objects,
    Original,
    Run,
    code_pictures,
    open_run,
    read_original,
)
from ..visualization import Colour, class_colours

THRESHOLD = 0.5  # detections of lower scores are not drawn

SIDE_MAX = 640  # pixels; larger pictures are reduced to it
# Up to this many pixels a side, pictures are kept exact: they are enlarged, and artefacts show.
EXACT_SIDE = 320
WEBP_QUALITY = 90


@dataclass(frozen=True)
class Shown:
    """A run whose pictures are shown, what to call it, and its box AP on the whole test set."""

    name: str
    run: Run
    ap: float


@dataclass(frozen=True)
class Gallery:
    """What there is to show; empty where nothing can be.

    Attributes:
        shown: runs.
        rows: of every picture, the original and what each run makes of it, in the runs' order.
        notes: what was left out, and why.
    """

    shown: Sequence[Shown] = ()
    rows: Sequence[tuple[Original, Sequence[Coded]]] = ()
    notes: list[str] = field(default_factory=list)

    def section(self) -> dict[str, Any] | None:
        """What the template shows around the pictures; None if there are none."""
        if not self.rows or not self.shown:
            return None
        aps = [each.ap for each in self.shown]
        names = self._class_names()
        return {
            "note": self._note(),
            "groups": self._groups(),
            "left": "picture0" if len(self.shown) > 1 else "original",
            "right": f"picture{aps.index(max(aps))}",
            "threshold": THRESHOLD,
            "classes": [
                (names.get(number, f"class {number}"), _css(colour))
                for number, colour in sorted(self._colours().items())
            ],
            "pictures": [
                {"width": o.picture.shape[1], "height": o.picture.shape[0], "image_id": o.image_id}
                for o, _ in self.rows
            ],
        }

    def _note(self) -> str:
        if not self._has_maps():
            return "AP below a picture is of that picture alone."
        return (
            "AP below a picture is of that picture alone. Maps of bits go from 0 (violet) to "
            f"{self._scale().high:.2f} bits per pixel (yellow) in all pictures and runs, over the "
            "picture in grey."
        )

    def _groups(self) -> list[tuple[str, list[dict[str, str]]]]:
        pictures = [{"key": "original", "name": "original"}]
        pictures += [{"key": f"picture{i}", "name": each.name} for i, each in enumerate(self.shown)]
        maps = [
            {"key": f"bits{i}", "name": f"{each.name}: bits"}
            for i, each in enumerate(self.shown)
            if self.rows[0][1][i].bit_map is not None
        ]
        return [("Pictures", pictures), *([("Bits per position", maps)] if maps else [])]

    def data(self) -> list[dict[str, Any]]:
        """Every picture's size and layers, as the page's script takes them."""
        if not self.rows or not self.shown:
            return []
        drawing = _Drawing(self._class_names(), self._colours(), self._scale())
        return [
            {
                "width": original.picture.shape[1],
                "height": original.picture.shape[0],
                "layers": drawing.layers(original, coded, [each.name for each in self.shown]),
            }
            for original, coded in self.rows
        ]

    def _has_maps(self) -> bool:
        return any(one.bit_map is not None for _, coded in self.rows for one in coded)

    def _scale(self) -> BitScale:
        maps = [one.bit_map for _, coded in self.rows for one in coded]
        return BitScale([bit_map.density for bit_map in maps if bit_map is not None])

    def _colours(self) -> dict[int, Colour]:
        drawn = [(original, [_only_drawn(one) for one in coded]) for original, coded in self.rows]
        return class_colours(drawn)

    def _class_names(self) -> dict[int, str]:
        names = MetadataCatalog.get(self.shown[0].run.dataset).get("thing_classes", [])
        return dict(enumerate(names))


def _only_drawn(coded: Coded) -> Coded:
    return Coded(
        coded.picture, coded.found.above(THRESHOLD), coded.bpp, coded.psnr, coded.ap, coded.bit_map
    )


@dataclass(frozen=True)
class _Drawing:
    """How layers are made."""

    class_names: dict[int, str]
    colours: dict[int, Colour]
    scale: BitScale

    def layers(
        self, original: Original, coded: Sequence[Coded], names: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        """All layers of a picture by key."""
        subject = f"image {original.image_id}"
        height, width = original.picture.shape[:2]
        truth = self._boxes(original.truth, truth=True, labelled=False)
        made = {
            "original": {
                "src": data_uri(original.picture),
                "alt": f"{subject}, original",
                "caption": f"{subject}, {width} × {height}",
                "boxes": self._boxes(original.truth, truth=True, labelled=True),
            }
        }
        for i, (one, name) in enumerate(zip(coded, names, strict=True)):
            made[f"picture{i}"] = {
                "src": data_uri(one.picture),
                "alt": f"{subject}, decoded by {name}",
                "caption": caption(one),
                "boxes": truth + self._boxes(one.found.above(THRESHOLD)),
            }
            if one.bit_map is not None:
                made[f"bits{i}"] = {
                    "src": data_uri(self.scale.draw(one.bit_map.density, one.picture)),
                    "alt": f"{subject}, where {name} spends its bits",
                    "caption": f"{one.bpp:.3f} bpp",
                    "boxes": truth,
                }
        return made

    def _boxes(
        self, objects: Objects, *, truth: bool = False, labelled: bool = True
    ) -> list[dict[str, Any]]:
        """Worst first, so that the best end on top."""
        parts = zip(objects.boxes.tolist(), objects.classes.tolist(), objects.scores, strict=True)
        boxes = [
            {
                "place": [round(side, 1) for side in place],
                "truth": truth,
                "colour": _css(self.colours[number]),
                "label": self._label(number, score, truth) if labelled else "",
            }
            for place, number, score in parts
        ]
        return boxes[::-1]

    def _label(self, number: int, score: float, truth: bool) -> str:
        name = self.class_names.get(number, f"class {number}")
        return name if truth else f"{name} {score:.2f}"


def _css(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def caption(coded: Coded) -> str:
    """Rate, distortion and accuracy of one picture."""
    psnr = f"{coded.psnr:.1f} dB" if math.isfinite(coded.psnr) else "lossless"
    ap = "–" if math.isnan(coded.ap) else f"{coded.ap:.1f}"
    return f"{coded.bpp:.3f} bpp · {psnr} · AP {ap}"


def data_uri(picture: np.ndarray) -> str:
    """(H, W, 3) uint8 RGB as WebP in a data URI: exact if small, else reduced and lossy."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    exact = max(image.size) <= EXACT_SIDE
    image.thumbnail((SIDE_MAX, SIDE_MAX), Image.Resampling.LANCZOS)
    coded = io.BytesIO()
    image.save(coded, format="WEBP", lossless=exact, quality=100 if exact else WEBP_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(coded.getvalue()).decode()}"


def make_gallery(curves: Sequence[Curve], count: int, *, by_difference: bool = False) -> Gallery:
    """Code pictures with one run of each curve: the lowest seed at its lowest rate.

    Runs and pictures that cannot be shown are named in the gallery's notes, not refused.

    Args:
        count: pictures, evenly spread over the test set.
        by_difference: instead those whose box AP differs most between the page's first two layers.
    """
    if count == 0:
        return Gallery(notes=["Made without pictures (--pictures 0)."])
    notes: list[str] = []
    shown = [each for curve in curves for each in _open(curve, notes)]
    if not shown:
        return Gallery(notes=notes)
    try:
        for each in shown:
            register_datasets(each.run.cfg)
        check_datasets(shown[0].run.cfg, train=False)
        entries = _choose(shown, count, by_difference)
    except CodecDetError as error:
        return Gallery(notes=[*notes, f"No pictures: {error}"])
    entries = [entry for entry in entries if _is_there(entry, notes)]
    return _code(shown, entries, notes)


def _open(curve: Curve, notes: list[str]) -> list[Shown]:
    """The run that stands for a curve, if it can be built again."""
    point = curve.points[0]
    result = point.results[0]
    try:
        assert result.folder is not None, "runs are read from folders"
        run = open_run(result.folder)
        if point.is_trained and not (run.folder / CHECKPOINT_TAG).exists():
            raise CodecDetError(f"'{run.folder}' has no checkpoint")
        if run.dataset != curve.dataset:
            raise CodecDetError(f"the first DATASETS.TEST of '{run.folder}' is {run.dataset}")
    except CodecDetError as error:
        notes.append(f"Without {curve.label}: {error}.")
        return []
    return [Shown(curve.label, run, point.mean("AP"))]


def _choose(shown: Sequence[Shown], count: int, by_difference: bool) -> list[Entry]:
    if not by_difference or len(shown) < 2:
        return evenly(shown[0].run.dataset, count)
    best = max(shown[1:], key=lambda each: each.ap)
    return by_disagreement(shown[0].run, best.run, count)


def _is_there(entry: Entry, notes: list[str]) -> bool:
    try:
        check_files([entry])
    except CodecDetError:
        notes.append(f"Without image {entry['image_id']}: '{entry['file_name']}' is missing.")
        return False
    return True


def _code(shown: Sequence[Shown], entries: Sequence[Entry], notes: list[str]) -> Gallery:
    """One model in memory at a time."""
    originals = [read_original(entry) for entry in entries]
    coded: list[list[Coded]] = []
    complete: list[Shown] = []
    with tqdm(total=len(shown) * len(entries), unit="img") as progress:
        for each in shown:
            progress.set_description(each.name)
            pictures = []
            try:
                for one in code_pictures(each.run, entries, bit_maps=True):
                    pictures.append(one)
                    progress.update()
            except CodecDetError as error:
                notes.append(f"Without {each.name}: {error}.")
                continue
            complete.append(each)
            coded.append(pictures)
    rows = [(original, [run[i] for run in coded]) for i, original in enumerate(originals)]
    return Gallery(complete, rows, notes)
