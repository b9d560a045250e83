"""Records as evaluations leave them, with as much as curves are made of."""

import json
from pathlib import Path
from typing import Any

from codec_det.rate_accuracy.curves import Curve, curves_of
from codec_det.rate_accuracy.records import Result

REAL, ESTIMATED = "real bits per pixel", "estimated bits per pixel"


def record(
    regime: str = "J-FT",
    bpp: float = 0.1,
    ap: float | None = 30.0,
    *,
    codec: str = "bmshj2018-hyperprior",
    quality: float = 1,
    seed: int = 0,
    psnr: float | None = 25.0,
    settings: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    described = {"name": codec, "quality": quality, "metric": "mse"}
    if settings is not None:
        described["settings"] = {**settings, "quality": float(quality)}
    return {
        "regime": regime,
        "codec": described,
        "dataset": "some_val",
        "rate_is": REAL,
        "detector": "GeneralizedRCNN",
        "seed": seed,
        "results": {
            **({} if ap is None else {"bbox": {"AP": ap, "AP50": ap + 10}}),
            "rate": {"bpp": bpp, "psnr": None if codec == "identity" else psnr},
        },
        "config": {"SEED": seed, "OUTPUT_DIR": f"runs/{regime}-{bpp}-{seed}", **(config or {})},
        **changes,
    }


def result(*args: Any, **options: Any) -> Result:
    return Result(record(*args, **options))


def curve_records(
    regime: str, rates: list[float], accuracies: list[float], **options: Any
) -> list[dict[str, Any]]:
    """A point for each rate, of quality 1, 2, ..."""
    points = enumerate(zip(rates, accuracies, strict=True), start=1)
    return [record(regime, bpp, ap, quality=i, **options) for i, (bpp, ap) in points]


def some_curves() -> list[Curve]:
    """Uncompressed, a baseline, J-FT of two seeds at 0.8 of its rates, and T-FT of two points."""
    rates, accuracies = [0.1, 0.2, 0.4, 0.8], [30.0, 38.0, 44.0, 46.0]
    less = [0.8 * rate for rate in rates]
    records = [
        record("baseline", 24.0, 60.0, codec="identity"),
        *curve_records("baseline", rates, accuracies),
        *curve_records("T-FT", rates[:2], accuracies[:2]),
        *curve_records("J-FT", less, accuracies, seed=1),
        *curve_records("J-FT", less, [ap + 2.0 for ap in accuracies], seed=2),
    ]
    return curves_of([Result(one) for one in records])


def write_run(folder: Path, *lines: dict[str, Any] | str) -> Path:
    """A run folder whose results file has these lines."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").touch()
    write_data(folder / "results.jsonl", *lines)
    return folder


def write_data(path: Path, *lines: dict[str, Any] | str) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts))
    return path
