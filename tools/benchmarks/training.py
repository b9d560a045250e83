"""Training steps: J-FT against the peers' own steps, other regimes against J-FT, bfloat16 against
float32; memory.
"""

from __future__ import annotations

import numpy as np
from detectron2.utils.events import EventStorage

from codec_det.codec.learned import precision

from .memory import peak_memory
from .result import BenchmarkResult, BenchmarkRow
from .settings import BenchmarkSettings
from .steps import BFLOAT16, CHECKPOINTED, COMPRESSAI, DETECTRON2, JFT, PEERS, TRAINED, build_step
from .timing import compare, in_turn

BOTH_PEERS = f"{DETECTRON2} + {COMPRESSAI}"

# Largest ratios to aim at, of seconds and of memory.
TIMES = {"T-FT": 0.7, "C-FT": 1.0, "E-FT": 1.0, "LJ-FT": 0.6, CHECKPOINTED: 1.3}
MEMORY = {CHECKPOINTED: 0.6}


def measure(settings: BenchmarkSettings) -> BenchmarkResult:
    """Seconds of the steps, and the memory that they need over that of the model.

    Raises:
        CodecDetError: if the config cannot work, or its weights cannot be loaded.
    """
    sides = [*TRAINED, *PEERS]
    faster = BFLOAT16 if settings.device == "cpu" and precision.multiplies_bfloat16() else {}
    with EventStorage():
        steps = {name: build_step(settings, name) for name in [*sides, *faster]}
        seconds = in_turn(
            steps, settings.rounds, synchronize=settings.synchronize, label="training"
        )
    del steps
    halves = [
        BenchmarkRow(name, full, compare(seconds.pop(name), seconds[full]), "s", 0.7)
        for name, full in faster.items()
    ]
    rows = _rows(seconds, "s", 0.9, TIMES) + halves
    figures = peak_memory(settings, settings.memory_of or sides)
    memory = {name: np.array([mib]) for name, mib in figures.items()}
    return BenchmarkResult([*rows, *_rows(memory, "MiB", 1.0, MEMORY)])


def _rows(
    figures: dict[str, np.ndarray], unit: str, joint: float, targets: dict[str, float]
) -> list[BenchmarkRow]:
    """J-FT against the sum of the peers, and all others against J-FT."""
    together = figures[DETECTRON2] + figures[COMPRESSAI]
    rows = [BenchmarkRow(JFT, BOTH_PEERS, compare(figures[JFT], together), unit, joint)]
    others = {name: values for name, values in figures.items() if name != JFT}
    for name, values in others.items():
        rows.append(BenchmarkRow(name, JFT, compare(values, figures[JFT]), unit, targets.get(name)))
    return rows
