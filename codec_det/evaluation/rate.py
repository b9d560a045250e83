"""What a data set cost and what it came out like: bits, PSNR, MS-SSIM and time per picture."""

from __future__ import annotations

import csv
import logging
import math
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import Tensor

from ..files import atomic_file
from ..pixels import psnr, to_codec

logger = logging.getLogger(__name__)

# Real bits further from estimated ones than this, in percent, are warned of.
MAX_GAP = 1.0

# MS-SSIM halves the picture four times and then needs more than its 11-tap window's 10 pixels.
MS_SSIM_MIN_SIDE = 10 * 2**4 + 1


class RateEvaluator(DatasetEvaluator):
    """Gathers rate and distortion of the pictures a :class:`codec_det.CodecDetector` has coded.

    Bits per pixel are of the original picture. The headline "bpp" is Σ bits / Σ pixels; "bpp_mean",
    "psnr" and "ms_ssim" are means over pictures, of the reconstruction rounded to 8 bits. PSNR is
    infinite where nothing is lost: "psnr" is the mean over the other pictures, "lossless" says how
    many it leaves out, and "psnr_of_mse", from the mean squared error of all, leaves out none. All
    are nan where the detector was given latents and no picture was decoded.

    Where pictures are coded into files, "bits" and "bpp" are those of the files, and "encoded" is
    how many were not found in a cache. With a learned codec, "bpp_estimated" is beside them, and
    "gap_percent" is how far the files, their constant overhead taken off, are above the estimate.

    Where all pictures are frames of sequences, "kbps" is the rate of one such sequence as it is
    taken: kilobits (1000 bits) per second, Σ bits / Σ seconds that frames last.

    Args:
        image_format: channel order of the input pictures, "BGR" or "RGB".
        output_dir: where per_image.csv goes; None: nowhere.
        fps: frames per second of sequences that do not tell.
    """

    def __init__(self, image_format: str, output_dir: str | None = None, fps: float = 25.0) -> None:
        self._image_format = image_format
        self._output_dir = output_dir
        self._fps = fps
        self._rows: list[dict[str, Any]] = []

    def reset(self) -> None:
        self._rows = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        for entry, output in zip(inputs, outputs, strict=True):
            height, width = entry["image"].shape[-2:]
            self._rows.append(
                {
                    "image_id": entry["image_id"],
                    "file_name": Path(entry["file_name"]).name,
                    **self._place(entry),
                    "height": height,
                    "width": width,
                    "bits": output["bits"],
                    "bpp": output["bits"] / (height * width),
                    **self._distortion(entry, output),
                    "codec_seconds": output["codec_seconds"],
                    "detector_seconds": output["detector_seconds"],
                    **output.get("measured", {}),
                }
            )

    def _place(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Of a frame."""
        if "video_id" not in entry:
            return {}
        place = {key: entry[key] for key in ("video_id", "frame_id")}
        return {**place, "fps": entry.get("fps", self._fps)}

    def _distortion(self, entry: dict[str, Any], output: dict[str, Any]) -> dict[str, float]:
        decoded = output.get("reconstruction")
        if decoded is None:
            return {"psnr": math.nan, "ms_ssim": math.nan}
        original = to_codec(entry["image"].to(decoded.device), self._image_format)
        return distortion(original, decoded.float() / 255)

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Summary over all processes' pictures, on the main process only."""
        comm.synchronize()
        rows = list(chain.from_iterable(comm.gather(self._rows)))
        if not comm.is_main_process():
            return None
        rows.sort(key=lambda row: row["image_id"])
        if self._output_dir:
            path = Path(self._output_dir, "per_image.csv")
            with atomic_file(path) as partial, partial.open("w", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
            logger.info("Rate and distortion of each picture: %s", path)
        summary = summarize(rows)
        gap = summary.get("gap_percent", 0.0)
        if abs(gap) > MAX_GAP:
            logger.warning(
                "Real bits are %+.2f %% off the estimate, beyond the files' headers: %s",
                gap,
                "the tables do not fit the weights they came with"
                if gap > 0
                else "many latents lie outside their tables, where estimates are too high",
            )
        return {"rate": summary}


def distortion(original: Tensor, decoded: Tensor) -> dict[str, float]:
    """PSNR in dB (inf where equal) and MS-SSIM (nan where too small) of (3, H, W) in [0, 1]."""
    ms_ssim = float("nan")
    if min(original.shape[-2:]) >= MS_SSIM_MIN_SIDE:
        from pytorch_msssim import ms_ssim as compute_ms_ssim

        ms_ssim = compute_ms_ssim(original[None], decoded[None], data_range=1.0).item()
    return {"psnr": psnr((original - decoded).square().mean()).item(), "ms_ssim": ms_ssim}


def known_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means of (pictures,), of which infinite and nan ones are left out; nan of none.

    Args:
        weights: (..., pictures), 0 or more.

    Returns:
        (...).
    """
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return (weights[..., known] @ values[known]) / weights[..., known].sum(axis=-1)


def mean_psnrs(psnrs: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean PSNR of the pictures that have lost something, and the PSNR of the mean squared error.

    Args:
        psnrs: (pictures,) in dB, inf where nothing is lost.
        weights: (..., pictures), how many times each counts.

    Returns:
        (...) each; inf where none that counts has lost anything.
    """
    with np.errstate(divide="ignore"):
        of_mse = -10 * np.log10((weights @ 10 ** (-psnrs / 10)) / weights.sum(axis=-1))
    return np.where(np.isinf(of_mse), math.inf, known_mean(psnrs, weights)), of_mse


def summarize(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Totals and means over the per-picture rows of :class:`RateEvaluator`."""
    column = {
        key: np.array([row[key] for row in rows], dtype=np.float64)
        for key in ("height", "width", "bits", "bpp", "psnr", "ms_ssim")
    }
    once = np.ones(len(rows))
    psnr, psnr_of_mse = mean_psnrs(column["psnr"], once)
    codec = np.mean([row["codec_seconds"] for row in rows])
    detector = np.mean([row["detector_seconds"] for row in rows])
    return {
        "bpp": float(column["bits"].sum() / (column["height"] * column["width"]).sum()),
        "bpp_mean": float(column["bpp"].mean()),
        "psnr": float(psnr),
        "psnr_of_mse": float(psnr_of_mse),
        "lossless": int(np.isinf(column["psnr"]).sum()),
        # Pictures too small for it have none.
        "ms_ssim": float(known_mean(column["ms_ssim"], once)),
        "codec_seconds_per_image": float(codec),
        "detector_seconds_per_image": float(detector),
        "seconds_per_image": float(codec + detector),
        "images": len(rows),
        **_rate_in_time(rows, column["bits"].sum()),
        **_summarize_files(rows, column["bits"].sum(), (column["height"] * column["width"]).sum()),
    }


def _rate_in_time(rows: list[dict[str, Any]], bits: float) -> dict[str, float]:
    """Of frames; nothing where any picture is none."""
    if not all("fps" in row for row in rows):
        return {}
    return {"kbps": float(bits / sum(1 / row["fps"] for row in rows) / 1000)}


def _summarize_files(rows: list[dict[str, Any]], bits: float, pixels: float) -> dict[str, float]:
    """What there is to say where pictures were coded into files; else nothing."""
    if "overhead_bits" not in rows[0]:
        return {}
    overhead = float(sum(row["overhead_bits"] for row in rows))
    # Pictures whose files were found in a cache took no time to encode.
    encode = [row["encode_seconds"] for row in rows if np.isfinite(row["encode_seconds"])]
    summary = {
        "bpp_overhead": overhead / pixels,
        "encoded": len(encode),
        "encode_ms": 1000 * float(np.mean(encode)) if encode else float("nan"),
        "decode_ms": 1000 * float(np.mean([row["decode_seconds"] for row in rows])),
    }
    if "estimated_bits" in rows[0]:
        estimated = float(sum(row["estimated_bits"] for row in rows))
        summary["bpp_estimated"] = estimated / pixels
        summary["gap_percent"] = 100 * (bits - overhead - estimated) / estimated
    return summary
