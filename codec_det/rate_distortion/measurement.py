"""Rate and distortion of one codec on pictures, without a detector.

A row is one picture at one quality; a point is all pictures at one quality; a curve is the points
of one codec over the same pictures. The file of a curve has the form of those that CompressAI
publishes (``results/image`` in its repository), so that its ``compressai.utils.plot`` draws both.
"""

from __future__ import annotations

import csv
import hashlib
import math
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

from .. import __version__
from ..codec.base import Codec
from ..coding_scale import shrink
from ..data.image_io import read_image
from ..errors import CodecDetError
from ..evaluation.rate import distortion, known_mean, mean_psnrs
from ..files import atomic_file
from ..pixels import enlarge, to_uint8
from ..rate_accuracy.plots import PLOT_DPI, PLOT_INCHES
from .codec_choice import ESTIMATED, CodecChoice


class RateRow(NamedTuple):
    """One picture at one quality.

    Attributes:
        bits: spent on the picture; for their kind see ``CodecChoice.rate_is``.
        bpp: bits per pixel of the picture as it was taken.
        psnr: in dB, of RGB, of the reconstruction rounded to 8 bits; inf where nothing was lost.
        ms_ssim: of the same; nan where the picture is too small.
        overhead_bits: those of the container; nan where no file was made.
        encode_seconds: from 8-bit RGB to the file; nan where no file was made.
        decode_seconds: from the file to RGB; the same.
        sha256: of the picture's file.
    """

    file_name: str
    height: int
    width: int
    bits: float
    bpp: float
    psnr: float
    ms_ssim: float
    overhead_bits: float
    encode_seconds: float
    decode_seconds: float
    sha256: str


class RatePoint(NamedTuple):
    """All pictures at one quality.

    Attributes:
        quality: in the codec's own unit.
        codec: what :func:`codec_det.rate_distortion.codec_choice.describe_codec` says of it.
        rows: at least one, those of every point of a curve being of the same pictures.
    """

    quality: float
    codec: dict[str, Any]
    rows: Sequence[RateRow]

    def mean(self, key: str) -> float:
        """Mean over the pictures that have a value of a column; nan where none has."""
        return float(known_mean(self._column(key), np.ones(len(self.rows))))

    @property
    def psnr(self) -> float:
        """Mean over the pictures that have lost something; inf where none has."""
        return float(mean_psnrs(self._column("psnr"), np.ones(len(self.rows)))[0])

    @property
    def psnr_of_mse(self) -> float:
        """PSNR of the mean squared error of all pictures; inf where nothing was lost."""
        return float(mean_psnrs(self._column("psnr"), np.ones(len(self.rows)))[1])

    @property
    def lossless(self) -> int:
        """Pictures that are as they were, which the mean PSNR leaves out."""
        return sum(math.isinf(row.psnr) for row in self.rows)

    def _column(self, key: str) -> np.ndarray:
        return np.array([getattr(row, key) for row in self.rows], dtype=np.float64)

    def total(self, key: str) -> float:
        """Sum over pictures of a column."""
        return float(sum(getattr(row, key) for row in self.rows))

    @property
    def pixels(self) -> int:
        """Of all pictures together."""
        return sum(row.height * row.width for row in self.rows)


def measure_picture(codec: Codec, path: Path, device: str = "cpu", scale: float = 1.0) -> RateRow:
    """Code and decode one picture; it is safe to do several at a time with one codec of files.

    Args:
        scale: coding scale: the codec gets the picture shrunk, and figures are of the picture as it
            was taken and of what was decoded, enlarged again. Times are of the codec alone.

    Raises:
        CodecDetError: if the picture cannot be read or coded.
    """
    pixels = read_image(path, "RGB")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        with torch.inference_mode():
            original, small = (to_tensor(x, device) for x in (pixels, shrink(pixels, scale)))
            coded = codec.code_shrunk([small], [original.shape[-2:]])
            enlarged = enlarge(coded.reconstructions[0], original.shape[-2:])
            decoded = to_uint8(enlarged).float() / 255
            figures = distortion(original, decoded)
    except CodecDetError:
        raise
    except RuntimeError as error:
        # PyTorch has no narrower class for memory that runs out.
        raise CodecDetError(f"PyTorch cannot code it: {error}") from error
    height, width = pixels.shape[:2]
    bits = float(coded.rounded_bits[0])
    measured = coded.measured[0] if coded.measured else {}
    return RateRow(
        file_name=path.name,
        height=height,
        width=width,
        bits=bits,
        bpp=bits / (height * width),
        **figures,
        overhead_bits=measured.get("overhead_bits", math.nan),
        encode_seconds=measured.get("encode_seconds", math.nan),
        decode_seconds=measured.get("decode_seconds", math.nan),
        sha256=digest,
    )


def to_tensor(picture: np.ndarray, device: str) -> torch.Tensor:
    """(H, W, 3) uint8 RGB to (3, H, W) in [0, 1], on a device."""
    stored = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
    return stored.to(device).float() / 255


def to_decibels(ms_ssim: float) -> float:
    """MS-SSIM in dB, as it is plotted: -10 log10(1 - x); inf for 1."""
    return math.inf if ms_ssim >= 1 else -10 * math.log10(1 - ms_ssim)


def published_results(points: Sequence[RatePoint]) -> dict[str, list[float | None]]:
    """Means over pictures under CompressAI's keys, a value per point; None stands for infinite.

    Keys that no point has a value for are left out: MS-SSIM of small pictures, times of estimates.
    """
    columns = {
        "ms-ssim-rgb": "ms_ssim",
        "bpp": "bpp",
        "encoding_time": "encode_seconds",
        "decoding_time": "decode_seconds",
    }
    results = {"psnr-rgb": [point.psnr for point in points]}
    results |= {key: [point.mean(column) for point in points] for key, column in columns.items()}
    return {
        key: [_finite(value) for value in values]
        for key, values in results.items()
        if not all(map(math.isnan, values))
    }


def curve_record(
    choice: CodecChoice, points: Sequence[RatePoint], conditions: Mapping[str, Any]
) -> dict[str, Any]:
    """The JSON of a curve: CompressAI's keys, and ours under "codec_det".

    Args:
        points: by rising rate.
        conditions: how it was measured: whatever else belongs into the record.
    """
    return {
        "name": choice.title,
        "description": f"{points[0].codec['version']}; {choice.rate_is}",
        "results": published_results(points),
        "codec_det": {
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "codec": choice.name,
            "rate": "estimated" if choice.rate_is == ESTIMATED else "real",
            "rate_is": choice.rate_is,
            "scale": choice.scale,
            "quality": [point.quality for point in points],
            "points": [_describe_point(point) for point in points],
            "pictures": _describe_pictures(points[0].rows),
            **conditions,
            "versions": {
                "codec_det": __version__,
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "compressai", "numpy", "pillow")},
            },
        },
    }


def _describe_point(point: RatePoint) -> dict[str, Any]:
    bits, overhead = point.total("bits"), point.total("overhead_bits")
    return {
        "quality": point.quality,
        # Of all pictures together, where "results" has means over pictures.
        "bits": bits,
        "bpp": bits / point.pixels,
        "overhead_bits": _finite(overhead),
        "bpp_overhead": _finite(overhead / point.pixels),
        "psnr_of_mse": _finite(point.psnr_of_mse),
        "lossless": point.lossless,
        "ms_ssim_db": _finite(to_decibels(point.mean("ms_ssim"))),
        **point.codec,
    }


def _describe_pictures(rows: Sequence[RateRow]) -> dict[str, Any]:
    digest = hashlib.sha256()
    for row in sorted(rows, key=lambda row: row.file_name):
        # Names of files are bytes, and need be no text.
        digest.update(f"{row.file_name} {row.sha256}\n".encode("utf-8", "surrogateescape"))
    return {
        "count": len(rows),
        "pixels": sum(row.height * row.width for row in rows),
        "with_ms_ssim": sum(not math.isnan(row.ms_ssim) for row in rows),
        "sha256": digest.hexdigest(),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def write_rows(points: Sequence[RatePoint], path: Path) -> None:
    """Write a CSV with a line per picture and quality."""
    with (
        atomic_file(path) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(("quality", *RateRow._fields))
        for point in points:
            writer.writerows((f"{point.quality:g}", *row) for row in point.rows)


def format_table(points: Sequence[RatePoint]) -> str:
    """Means over pictures, a line per point."""
    heads = ("quality", "bpp", "PSNR (dB)", "MS-SSIM", "(dB)", "encode (s)", "decode (s)")
    lines: list[tuple[str, ...]] = [heads]
    for point in points:
        ms_ssim = point.mean("ms_ssim")
        figures = (
            (point.mean("bpp"), ".4f"),
            (point.psnr, ".2f"),
            (ms_ssim, ".4f"),
            (to_decibels(ms_ssim), ".2f"),
            (point.mean("encode_seconds"), ".3f"),
            (point.mean("decode_seconds"), ".3f"),
        )
        cells = ("-" if math.isnan(value) else format(value, form) for value, form in figures)
        lines.append((f"{point.quality:g}", *cells))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def lossless_note(points: Sequence[RatePoint]) -> str:
    """What the mean PSNR leaves out, and what it is with it; "" if nothing."""
    found = [
        f"{point.lossless} of quality {point.quality:g} ({point.psnr_of_mse:.2f} dB)"
        for point in points
        if point.lossless
    ]
    if not found:
        return ""
    return (
        f"PSNR leaves out pictures without loss: {', '.join(found)}. In brackets: PSNR of the mean "
        "squared error of all pictures."
    )


def plot_curve(choice: CodecChoice, points: Sequence[RatePoint], path: Path) -> None:
    """Write PSNR over bits per pixel as PNG; points without any loss have no place in it.

    Raises:
        CodecDetError: if it cannot be written.
    """
    figure = Figure(figsize=PLOT_INCHES, dpi=PLOT_DPI, layout="constrained")
    axes: Any = figure.subplots()
    leaves_out = any(point.lossless for point in points)
    points = [point for point in points if math.isfinite(point.psnr)]
    rates, psnrs = [point.mean("bpp") for point in points], [point.psnr for point in points]
    axes.plot(
        *(rates, psnrs),
        color="#0072B2",
        marker="o",
        markersize=8,
        markeredgecolor="white",
        markeredgewidth=0.8,
        linewidth=1.6,
    )
    for point in points:
        at = (point.mean("bpp"), point.psnr)
        axes.annotate(f"{point.quality:g}", at, (6, -12), textcoords="offset points", fontsize=8)
    kind = "estimated " if choice.rate_is == ESTIMATED else ""
    axes.set_title(choice.title, fontsize=11)
    axes.set_xlabel(f"{kind}bits per pixel, mean over pictures")
    axes.set_ylabel(f"PSNR of RGB (dB){', without lossless pictures' * leaves_out}")
    axes.set_xlim(0, 1.12 * max(rates, default=1.0))
    axes.margins(y=0.12)
    axes.grid(color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_file(path) as partial:
        figure.savefig(partial, format="png")
