"""Evaluation with real and with estimated bits, and of the detector alone, on the same pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.evaluation import inference_on_dataset

from codec_det.codec.identity import IdentityCodec
from codec_det.data.loader import build_test_loader
from codec_det.data.register import register_datasets
from codec_det.data.shapes import generate
from codec_det.evaluation.rate import RateEvaluator
from codec_det.meta_arch import CodecDetector
from codec_det.regimes import Regime
from codec_det.training.trainer import load_chain, real_bits

from .result import BenchmarkResult, BenchmarkRow
from .settings import BenchmarkSettings
from .timing import compare, in_turn

REAL, ESTIMATED, ALONE = "real bits", "estimated bits", "detector alone"


def measure(settings: BenchmarkSettings) -> BenchmarkResult:
    """Seconds per picture: reading, coding, detecting, PSNR and MS-SSIM.

    Matching detections with the truth is left out: it is the same for all.

    Raises:
        CodecDetError: if the config cannot work, or its weights cannot be loaded.
    """
    with generated_set(settings, settings.pictures) as cfg:
        torch.manual_seed(0)
        chain, deployed = load_chain(cfg), load_chain(cfg)
        deployed.load_state_dict(chain.state_dict())
        sides = {
            ESTIMATED: evaluation(chain, cfg),
            REAL: evaluation(deployed, cfg),
            ALONE: evaluation(without_codec(chain), cfg),
        }
        with real_bits(deployed):
            seconds = in_turn(
                sides, settings.rounds, synchronize=settings.synchronize, label="evaluation"
            )
    each = {name: s / settings.pictures for name, s in seconds.items()}
    rows = [
        BenchmarkRow(what, against, compare(each[what], each[against]), "s/picture", target)
        # 0.8 times the speed.
        for what, against, target in (
            (REAL, ESTIMATED, 1 / 0.8),
            (ESTIMATED, ALONE, None),
            (REAL, ALONE, None),
        )
    ]
    return BenchmarkResult(rows, notes={"pictures per second": _speeds(rows)})


def _speeds(rows: list[BenchmarkRow]) -> dict[str, float]:
    speeds = {row.what: row.comparison.own for row in rows}
    speeds.update({row.against: row.comparison.reference for row in rows})
    return {name: round(1 / seconds, 2) for name, seconds in speeds.items()}


@contextmanager
def generated_set(settings: BenchmarkSettings, count: int) -> Iterator[CfgNode]:
    """The config of the chain with ``count`` generated pictures as its test set, for a while.

    Nothing trains in it, and pictures are read by the process itself.
    """
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "pictures")
        # detectron2 keeps names for as long as the process lives.
        name = f"benchmark_{Path(parent).name}"
        entry = [name, str(generate(folder, count, settings.size, progress=False))]
        entry.append(str(folder / "images"))
        cfg = settings.config(
            *("DATASETS.ROOT", "", "DATASETS.COCO_FORMAT", [entry], "DATASETS.TEST", (name,)),
            *("MODEL.CODEC.TRAINABLE", [], "MODEL.DETECTOR.TRAINABLE", False),
            *("DATALOADER.NUM_WORKERS", 0),
        )
        register_datasets(cfg)
        yield cfg


def evaluation(chain: CodecDetector, cfg: CfgNode) -> Callable[[], Any]:
    """A function that evaluates ``chain`` on the config's test set, without box AP."""
    (name,) = cfg.DATASETS.TEST

    def run() -> Any:
        evaluator = RateEvaluator(cfg.INPUT.FORMAT)
        return inference_on_dataset(chain, build_test_loader(cfg, name), evaluator)

    return run


def without_codec(chain: CodecDetector) -> CodecDetector:
    """The detector of ``chain`` behind a codec that changes nothing."""
    return CodecDetector(
        codec=IdentityCodec(),
        detector=chain.detector,
        regime=Regime(),
        betas=[0.0],
        image_format=chain.image_format,
        test_size=chain.test_size,
    )
