"""Peak memory of training steps, each in a process of its own."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from detectron2.utils.events import EventStorage
from tqdm import tqdm

from codec_det.deploy.cores import usable_cores
from codec_det.deploy.peak_memory import resident_bytes

from .settings import BenchmarkSettings
from .steps import build_step

MIB = 2**20


def peak_memory(settings: BenchmarkSettings, sides: Sequence[str]) -> dict[str, float]:
    """MiB that two steps need at their peak, over what is in use once the model is there.

    So gradients and the state of optimizers count, and freed memory does not. On the CPU it is the
    resident memory of the process, on a GPU what PyTorch allocates there.

    Args:
        sides: names as of :func:`benchmarks.steps.build_step`.
    """
    # Other steps' times are over by now: processes side by side disturb nothing.
    processes = min(usable_cores(), len(sides)) if settings.device == "cpu" else 1
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, maxtasksperchild=1) as pool:
        figures = pool.imap(partial(_measure, settings), sides, chunksize=1)
        progress = tqdm(figures, "memory of training", len(sides), leave=False)
        return dict(zip(sides, progress, strict=True))


def _measure(settings: BenchmarkSettings, name: str) -> float:
    torch.set_num_threads(settings.threads)
    _give_back_at_once()
    with EventStorage():
        step = build_step(settings, name)
        gc.collect()
        before = _reset_peak(settings.device)
        step()
        step()
        settings.synchronize()
        return (_peak(settings.device) - before) / MIB


def _give_back_at_once() -> None:
    """Let tensors' memory go back to the system when they are freed.

    Else glibc keeps part of it, and the peak of a process tells more of the order in which blocks
    came and went than of what was in use.
    """
    # mallopt(3): blocks from this many bytes on are mapped one by one, now and for good.
    M_MMAP_THRESHOLD, threshold = -3, 2**16
    M_MMAP_MAX, blocks = -4, 2**20
    libc = ctypes.CDLL(None)
    if not (libc.mallopt(M_MMAP_THRESHOLD, threshold) and libc.mallopt(M_MMAP_MAX, blocks)):
        raise RuntimeError("mallopt: this C library has no threshold for mapped blocks")


def _reset_peak(device: str) -> int:
    """Forget peaks so far; bytes in use."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    # proc(5): 5 sets the peak resident size to the present one. ru_maxrss of getrusage(2) cannot
    # be reset, and begins with that of the process which started this one.
    Path("/proc/self/clear_refs").write_text("5")
    return resident_bytes("VmRSS")


def _peak(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else resident_bytes("VmHWM")
