"""A made-up sweep: run folders as tools/train_net.py leaves them, without any training."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np

from codec_det.evaluation.objects import Objects
from codec_det.pictures.bit_map import BitMap
from codec_det.report.gallery import Gallery
from codec_det.runs import CodedPicture, Original

CODEC = "bmshj2018-hyperprior"
# Box AP at the lowest rate, and how far from its end; PSNR at the lowest rate.
REGIMES = {
    "baseline": (29.1, 22.7),
    "T-FT": (36.5, 22.7),
    "C-FT": (43.9, 15.8),
    "J-FT": (46.0, 16.4),
    "E-FT": (41.0, 16.9),
    "ET-FT": (44.2, 16.6),
    "D-FT": (33.0, 19.0),
}
RATES = (0.094, 0.145, 0.223, 0.56)
HIGHEST = 53.0


def make_record(regime, rate, seed, ap, psnr, **more):
    """What an evaluation writes, so far as the report reads it."""
    trains_codec = regime in ("C-FT", "J-FT", "E-FT", "ET-FT")
    return {
        "time": "2026-11-21T00:38:36+00:00",
        "regime": regime,
        "dataset": "shapes_val",
        "rate_is": "real bits per pixel of the original picture",
        "results": {
            "rate": {"bpp": rate, "psnr": psnr, "images": 300},
            "bbox": {"AP": ap, "AP50": ap + 20},
        },
        "codec": {"name": CODEC, "quality": 1, "metric": "mse", "widths": [32, 48]},
        "detector": "GeneralizedRCNN",
        "beta": 0.25 if trains_codec else 1.0,
        "target_bpp": round(rate, 2) if trains_codec else 0.0,
        "weights_sha256": hashlib.sha256(f"{regime} {rate} {seed}".encode()).hexdigest(),
        "iteration": None if regime == "baseline" else 150,
        "seed": seed,
        "config": {
            "MODEL.CODEC.WEIGHTS": "codec_det://shapes_codec_1.pth",
            **({"MODEL.CODEC.TRAINABLE": ["encoder", "decoder"]} if trains_codec else {}),
            "SEED": seed,
        },
        "versions": {"codec_det": "0.1.0", "torch": "2.14.1"},
        "device": "x86_64 CPU, 1 threads",
        **more,
    }


def write_run(folder: Path, record, *, metrics=()):
    """A run folder with one record and what was logged."""
    folder.mkdir(parents=True)
    (folder / "results.jsonl").write_text(json.dumps(record) + "\n")
    (folder / "config.yaml").write_text(f"SEED: {record['seed']}\nOUTPUT_DIR: {folder.name}\n")
    if metrics:
        (folder / "metrics.json").write_text("".join(json.dumps(x) + "\n" for x in metrics))
    return folder


def write_study(root: Path, regimes=tuple(REGIMES), rates=RATES, seeds=(1, 2, 3)) -> Path:
    """Every regime at every rate with every seed, and uncompressed pictures."""
    noise = np.random.default_rng(0)
    level = make_record("baseline", 24.0, 0, 55.3, None)
    level["codec"] = {"name": "identity", "quality": 1}
    write_run(root / "uncompressed", level)
    for regime in regimes:
        lowest, psnr = REGIMES[regime]
        for place, rate in enumerate(rates):
            for seed in (0,) if regime == "baseline" else seeds:
                ap = HIGHEST - (HIGHEST - lowest) * math.exp(-1.1 * place)
                shake = 0 if regime == "baseline" else noise.normal()
                record = make_record(
                    *(regime, rate * (1 + 0.01 * shake), seed),
                    *(ap + 0.5 * shake, psnr + place + 0.1 * shake),
                )
                # Runs at one operating point have one target and one set of weights.
                record["target_bpp"] = round(rate, 2) if record["target_bpp"] else 0.0
                record["config"]["MODEL.CODEC.WEIGHTS"] = (
                    f"codec_det://shapes_codec_{place + 1}.pth"
                )
                name = f"{regime.lower()}-rate_{place + 1}-seed_{seed}"
                metrics = [] if regime == "baseline" else _metrics(noise, rate)
                write_run(root / name, record, metrics=metrics)
    return root


def _metrics(noise, rate):
    return [
        {
            "iteration": 20 * step + 19,
            "total_loss": 2 * math.exp(-step / 3) + 0.05 * noise.normal(),
            "loss_rate": 0.2 * math.exp(-step / 5),
            "bpp": rate,
            "beta": math.exp(0.2 * step),
            "psnr": 20 - step,
            "lr": 1e-4,
            "time": 0.3,
        }
        for step in range(8)
    ]


def make_gallery(names=("baseline", "J-FT"), count=2, side=(48, 64)) -> Gallery:
    """Pictures of noise, of one brightness per run, with an object and a map of bits."""
    noise = np.random.default_rng(1)
    height, width = side
    box = np.array([[8.0, 10.0, 30.0, 40.0]])
    rows = []
    for number in range(count):
        picture = noise.integers(0, 255, (height, width, 3), dtype=np.uint8)
        truth = Objects(box, np.array([0]), np.ones(1), np.zeros(1, bool))
        found = Objects(box + 2, np.array([1]), np.array([0.87]), np.zeros(1, bool))
        coded = [
            CodedPicture(
                picture=np.full_like(picture, 60 * (place + 1)),
                found=found,
                bpp=0.1 * (place + 1),
                psnr=math.inf if place == 0 else 21.5,
                ap=40.0 + place,
                bit_map=BitMap(np.linspace(0, 1, height * width).reshape(height, width), 0.0),
            )
            for place in range(len(names))
        ]
        rows.append((Original(number + 1, picture, truth), coded))
    return Gallery(
        names, (0, len(names) - 1), rows, ["disc", "<i>square</i>"], ["A note on <runs>."]
    )
