"""Every figure that evaluations record: what it is called, its unit, and where a record has it.

A key is what command lines, tables and files call a figure: "AP" (of boxes), "mask_AP50", "mIoU",
"PSNR"; of one class "AP-cat", "IoU-sky". One more metric is one more line here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CodecDetError


@dataclass(frozen=True)
class Metric:
    """One figure of an evaluation.

    Attributes:
        key: what it is called where it is chosen.
        name: what it is called on axes and in sentences.
        place: group of the results, and name in it, as the evaluators return them.
        unit: "%", "dB", "bits per pixel", or "".
        digits: shown after the point.
        higher_is_better: whether it is a quality; else it is a cost.
        is_headline: whether it is shown where nobody chose metrics.
    """

    key: str
    name: str
    place: tuple[str, str]
    unit: str = "%"
    digits: int = 1
    higher_is_better: bool = True
    is_headline: bool = False

    @property
    def heading(self) -> str:
        """Of a column: per cent are a matter of the whole table, and bpp says its unit."""
        return f"{self.key} ({self.unit})" if self.unit == "dB" else self.key

    @property
    def title(self) -> str:
        """Of a column among others: the name of an accuracy, else as :attr:`heading`."""
        return self.heading if self.place[0] == "rate" else self.name

    def axis(self, dataset: str) -> str:
        """Name, test set and unit."""
        return f"{self.name} on {dataset}" + (f" ({self.unit})" if self.unit else "")

    def amount(self, value: float) -> str:
        """A figure with its unit, "0.0500 bits per pixel"."""
        return f"{value:.{self.digits}f} {self.unit}".rstrip()

    @property
    def unit_of_differences(self) -> str:
        """Of figures in per cent: percentage points."""
        return "percentage points" if self.unit == "%" else self.unit

    def read(self, results: Mapping[str, Any]) -> float:
        """The figure in the "results" of a record; nan where there is none."""
        group, name = self.place
        value = (results.get(group) or {}).get(name)
        return math.nan if value is None else float(value)


BPP = Metric("bpp", "rate", ("rate", "bpp"), "bits per pixel", 4, higher_is_better=False)

KBPS = Metric("kbps", "rate", ("rate", "kbps"), "kbit/s", 2, higher_is_better=False)
"""Of sequences, at their frame rate."""

RATES = (BPP, KBPS)

# Prefix of keys, name and group of the results of each kind of COCO's AP.
_APS = (("", "box", "bbox"), ("mask_", "mask", "segm"), ("keypoint_", "keypoint", "keypoints"))
_AP_FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_HEADLINES = {"AP", "AP50", "mask_AP", "keypoint_AP"}


def _ap(prefix: str, name: str, group: str, figure: str) -> Metric:
    key = prefix + figure
    return Metric(key, f"{name} {figure}", (group, figure), is_headline=key in _HEADLINES)


METRICS = {
    metric.key: metric
    for metric in (
        *(_ap(*kind, figure) for kind in _APS for figure in _AP_FIGURES),
        Metric("APside", "AP of boxes near sides", ("bbox", "APside")),
        Metric("APinside", "AP of boxes inside", ("bbox", "APinside")),
        Metric("mIoU", "mean IoU", ("sem_seg", "mIoU"), is_headline=True),
        Metric("fwIoU", "frequency-weighted IoU", ("sem_seg", "fwIoU")),
        Metric("mACC", "mean accuracy of classes", ("sem_seg", "mACC")),
        Metric("pACC", "pixel accuracy", ("sem_seg", "pACC")),
        Metric("PQ", "panoptic quality", ("panoptic_seg", "PQ"), is_headline=True),
        *(Metric(k, f"panoptic {k}", ("panoptic_seg", k)) for k in ("SQ", "RQ", "PQ_th", "PQ_st")),
        Metric("PSNR", "PSNR", ("rate", "psnr"), "dB", 2, is_headline=True),
        Metric("PSNR_MSE", "PSNR of the mean MSE", ("rate", "psnr_of_mse"), "dB", 2),
        Metric("MS-SSIM", "MS-SSIM", ("rate", "ms_ssim"), "", 4),
        BPP,
        KBPS,
    )
}
"""All but those of single classes, in the order to show them in."""

# Group, prefix of the keys and name of figures of single classes. detectron2 puts a dash before the
# class.
_OF_CLASSES = {
    **{group: (f"{prefix}AP", f"{name} AP of") for prefix, name, group in _APS},
    "sem_seg": ("IoU", "IoU of"),
}


def _of_class(group: str, name: str) -> Metric:
    prefix, words = _OF_CLASSES[group]
    return Metric(f"{prefix}-{name}", f"{words} {name}", (group, f"{prefix.split('_')[-1]}-{name}"))


def metric_of(key: str) -> Metric:
    """The metric of a key.

    Raises:
        CodecDetError: if there is none.
    """
    if key in METRICS:
        return METRICS[key]
    kind, _, name = key.partition("-")
    for group, (prefix, _) in _OF_CLASSES.items():
        if name and kind == prefix:
            return _of_class(group, name)
    raise CodecDetError(f"'{key}' is no metric: choose from {', '.join(METRICS)}, AP-<class>, ...")


def figures_in_words(results: Mapping[str, Any]) -> str:
    """The headline figures of "results" and their bits per pixel, in a line."""
    shown = [m for m in METRICS.values() if m.is_headline or m in RATES]
    read = [(m, m.read(results)) for m in shown]
    return ", ".join(
        m.amount(value) if m in RATES else f"{m.name} {m.amount(value)}"
        for m, value in read
        if not math.isnan(value)
    )


def recorded(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Keys of all metrics but rates that any "results" of records have a figure of."""
    results = list(results)
    general = [m for m in METRICS.values() if any(not math.isnan(m.read(one)) for one in results)]
    classes = {
        metric.key: None
        for one in results
        for group, (prefix, _) in _OF_CLASSES.items()
        for place in one.get(group) or {}
        if place.startswith(f"{prefix.split('_')[-1]}-")
        for metric in [_of_class(group, place.partition("-")[2])]
        if not math.isnan(metric.read(one))
    }
    return [metric.key for metric in general if metric not in RATES] + list(classes)
