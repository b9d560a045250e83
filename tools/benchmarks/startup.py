"""How long a user waits before anything is done: for imports, and for the help of the tools."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .result import BenchmarkResult, BenchmarkRow
from .settings import BenchmarkSettings
from .timing import compare, in_turn

TOOLS = Path(__file__).parents[1]
IMPORT = "from codec_det import CodecDetector, add_codec_det_config"
# The modules of detectron2 that codec_det registers with, and what they import.
DETECTRON2 = "import detectron2.config, detectron2.modeling"


def measure(settings: BenchmarkSettings) -> BenchmarkResult:
    """Seconds of processes: two that import, and one for the --help of each tool.

    Only ``settings.rounds`` counts.
    """
    sides = {line: _process("-c", line) for line in (IMPORT, DETECTRON2)}
    for path in sorted(TOOLS.glob("[!_]*.py")):
        if path.stem != "command_line":
            sides[f"tools/{path.name} --help"] = _process(str(path), "--help")
    seconds = in_turn(sides, settings.rounds, label="startup")
    own, reference = seconds.pop(IMPORT), seconds.pop(DETECTRON2)
    slowest = max(seconds, key=lambda name: np.median(seconds[name]))
    rows = [
        BenchmarkRow(IMPORT, "import detectron2", compare(own, reference)),
        BenchmarkRow(
            f"{slowest}, the slowest", "import detectron2", compare(seconds[slowest], reference)
        ),
    ]
    beyond = round(float(np.median(own - reference)), 3)
    return BenchmarkResult(rows, notes={"seconds of codec_det beyond detectron2": beyond})


def _process(*arguments: str) -> Callable[[], object]:
    def run() -> object:
        return subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    return run
