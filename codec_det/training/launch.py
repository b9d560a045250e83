"""As many processes as are wanted, of which an error comes back as what it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.multiprocessing as mp
from detectron2 import engine
from torch.multiprocessing.spawn import ProcessException

from ..errors import CodecDetError

EXPECTED = (CodecDetError, FloatingPointError)
"""What a user can mend, and so is told of in one line."""


def launch(work: Callable[..., None], num_processes: int, args: tuple, **machines: Any) -> None:
    """detectron2's ``launch``; an :data:`EXPECTED` error of a process is raised here, too.

    Args:
        machines: num_machines, machine_rank and dist_url.
    """
    if num_processes * machines["num_machines"] == 1:
        work(*args)
        return
    errors = mp.get_context("spawn").SimpleQueue()
    try:
        engine.launch(_report, num_processes, args=(errors, work, *args), **machines)
    except ProcessException:
        if errors.empty():
            raise
        raise errors.get() from None


def _report(errors: Any, work: Callable[..., None], *args: Any) -> None:
    try:
        work(*args)
    except EXPECTED as error:
        errors.put(error)
        raise
