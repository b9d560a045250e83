"""Pictures of the page: originals, what runs make of them, and where runs spend their bits.

A layer is one of these for every picture; the page lays two on each other. Its key is "original",
or "picture" or "bits" and the place of its run in the list of those shown.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..evaluation.objects import Objects
from ..pictures.colour_scales import BitScale
from ..pictures.visualization import class_colour
from ..runs import CodedPicture, Original
from .wording import DASH, TIMES

THRESHOLD = 0.5  # detections of lower scores are not drawn

SIDE_MAX = 640  # pixels; larger pictures are reduced to it
# Up to this many pixels a side, pictures are kept exact: they are enlarged, and artefacts show.
EXACT_SIDE = 320
WEBP_QUALITY = 90


@dataclass(frozen=True)
class Gallery:
    """What there is to show; empty where nothing can be.

    Attributes:
        names: of the runs, each once.
        first: places of the two runs that the page opens with, left and right of the divider.
        rows: of every picture, the original and what each run makes of it, in the runs' order.
        class_names: by contiguous class.
        notes: what was left out, and why.
    """

    names: Sequence[str] = ()
    first: tuple[int, int] = (0, 0)
    rows: Sequence[tuple[Original, Sequence[CodedPicture]]] = ()
    class_names: Sequence[str] = ()
    notes: Sequence[str] = ()

    def section(self) -> dict[str, Any] | None:
        """What the template shows around the pictures; None if there are none."""
        if not self.rows or not self.names:
            return None
        left, right = self.first
        return {
            "note": self._note(),
            "groups": self._groups(),
            "left": f"picture{left}" if left != right else "original",
            "right": f"picture{right}",
            "threshold": THRESHOLD,
            "scale": self._scale_legend(),
            "classes": [
                (class_name(self.class_names, number), _css(class_colour(number)))
                for number in self._classes()
            ],
            "pictures": [
                {"width": o.picture.shape[1], "height": o.picture.shape[0], "image_id": o.image_id}
                for o, _ in self.rows
            ],
        }

    def _note(self) -> str:
        note = "AP below a picture is of that picture alone."
        if self._has_maps():
            note += " Maps of bits have one scale, and the decoded picture in grey behind them."
        return note

    def _scale_legend(self) -> dict[str, str] | None:
        if not self._has_maps():
            return None
        scale = self._scale()
        colours = scale.colours(np.linspace(scale.low, scale.high, 9)).tolist()
        return {"colours": ", ".join(map(_css, colours)), "high": f"{scale.high:.2f}"}

    def _groups(self) -> list[tuple[str, list[dict[str, str]]]]:
        pictures = [{"key": "original", "name": "original"}]
        pictures += [{"key": f"picture{i}", "name": name} for i, name in enumerate(self.names)]
        maps = [
            {"key": f"bits{i}", "name": f"{name}: bits"}
            for i, name in enumerate(self.names)
            if self.rows[0][1][i].bit_map is not None
        ]
        return [("Pictures", pictures), *([("Bits per position", maps)] if maps else [])]

    def data(self) -> list[dict[str, Any]]:
        """Every picture's size and layers, as the page's script takes them."""
        if not self.rows or not self.names:
            return []
        drawing = _Drawing(self.class_names, self._scale())
        return [
            {
                "width": original.picture.shape[1],
                "height": original.picture.shape[0],
                "layers": drawing.layers(original, coded, self.names),
            }
            for original, coded in self.rows
        ]

    def _has_maps(self) -> bool:
        return any(one.bit_map is not None for _, coded in self.rows for one in coded)

    def _scale(self) -> BitScale:
        maps = [one.bit_map for _, coded in self.rows for one in coded]
        return BitScale([bit_map.density for bit_map in maps if bit_map is not None])

    def _classes(self) -> list[int]:
        """Those that are drawn in any picture."""
        drawn = [original.truth for original, _ in self.rows]
        drawn += [one.found.above(THRESHOLD) for _, coded in self.rows for one in coded]
        return sorted({number for objects in drawn for number in objects.classes.tolist()})


def class_name(names: Sequence[str], number: int) -> str:
    """A class's name, or its number where it has none."""
    return names[number] if number < len(names) else f"class {number}"


@dataclass(frozen=True)
class _Drawing:
    """How layers are made."""

    class_names: Sequence[str]
    scale: BitScale

    def layers(
        self, original: Original, coded: Sequence[CodedPicture], names: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        """All layers of a picture by key."""
        subject = f"image {original.image_id}"
        height, width = original.picture.shape[:2]
        truth = self._boxes(original.truth, truth=True, labelled=False)
        made = {
            "original": {
                "src": data_uri(original.picture),
                "alt": f"{subject}, original",
                "caption": f"{subject}, {width} {TIMES} {height}",
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
                "colour": _css(class_colour(number)),
                "label": self._label(number, score, truth) if labelled else "",
            }
            for place, number, score in parts
        ]
        return boxes[::-1]

    def _label(self, number: int, score: float, truth: bool) -> str:
        name = class_name(self.class_names, number)
        return name if truth else f"{name} {score:.2f}"


def _css(colour: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def caption(coded: CodedPicture) -> str:
    """Rate, distortion and accuracy of one picture."""
    psnr = f"{coded.psnr:.1f} dB" if math.isfinite(coded.psnr) else "lossless"
    ap = DASH if math.isnan(coded.ap) else f"{coded.ap:.1f}"
    parts = (f"{coded.bpp:.3f} bpp", psnr, f"AP {ap}")
    # Lines break between the parts alone.
    return " · ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts)


def data_uri(picture: np.ndarray) -> str:
    """(H, W, 3) uint8 RGB as WebP in a data URI: exact if small, else reduced and lossy."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    exact = max(image.size) <= EXACT_SIDE
    image.thumbnail((SIDE_MAX, SIDE_MAX), Image.Resampling.LANCZOS)
    coded = io.BytesIO()
    image.save(coded, format="WEBP", lossless=exact, quality=100 if exact else WEBP_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(coded.getvalue()).decode()}"
