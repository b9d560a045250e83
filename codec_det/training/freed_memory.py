"""What a process frees stays its own: maps of training steps come and go in the same memory."""

from __future__ import annotations

import ctypes

# Of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Let glibc take the memory of large blocks from what was freed, for as long as this runs.

    Else it asks the system for blocks of 32 MiB and more each time, which clears them page by page:
    an eighth of the time of a step. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
