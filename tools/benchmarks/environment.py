"""What a measurement depends on besides the code: processor, threads, versions, other load."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from codec_det.deploy.cores import usable_cores

PACKAGES = ("torch", "torchvision", "detectron2", "compressai", "constriction", "numpy")


def describe_environment(device: str, threads: int) -> dict[str, Any]:
    """For JSON and for people.

    Args:
        device: "cpu" or "cuda".
        threads: of PyTorch, in each process.
    """
    return {
        "cpu": _cpu_model(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "cores": usable_cores(),
        "threads": threads,
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def _cpu_model() -> str:
    """As the kernel names it, where it does."""
    path = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", path.read_text(), re.M) if path.exists() else None
    return found[1] if found else platform.processor() or platform.machine()
