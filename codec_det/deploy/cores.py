"""The machine's share of cores that a process has."""

import os


def usable_cores() -> int:
    """CPU cores that this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
