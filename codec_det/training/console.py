"""What a process says: to people what they want to read, to log.txt in OUTPUT_DIR everything."""

from __future__ import annotations

import logging
import sys

from detectron2.utils.logger import setup_logger

_FOR_THE_LOG = frozenset(
    {
        "detectron2.data.common",  # how the data set is kept in memory
        "detectron2.data.dataset_mapper",
        "detectron2.engine.defaults",  # every layer of the model
        "detectron2.evaluation.testing",  # the figures once more, to be pasted
        "fvcore.common.checkpoint",  # temporary names of checkpoints
    }
)
"""Loggers whose messages, unless they are warnings, do not go to the console."""

_TORCH = ("torch.fx._symbolic_trace", "torch.utils.cpp_extension")
"""Loggers that warn of what detectron2 does, and no user can change."""


def set_up_loggers(output_dir: str, rank: int) -> None:
    """detectron2's loggers, to console and log; the console gets neither details nor debugging."""
    for name in ("fvcore", "detectron2", "codec_det"):
        for handler in setup_logger(output_dir, distributed_rank=rank, name=name).handlers:
            if getattr(handler, "stream", None) is sys.stdout:
                handler.setLevel(logging.INFO)
                handler.addFilter(_is_for_people)
    for name in _TORCH:
        logging.getLogger(name).setLevel(logging.ERROR)


def _is_for_people(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name not in _FOR_THE_LOG
