"""What the tools have in common: types of their options, and how they end after Ctrl-C.

Tools read the command line before they load any library, so that --help and a misspelt option are
answered at once. So this module, too, imports the standard library alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from typing import NoReturn

# fvcore, detectron2 and torch_geometric call it when they are imported; a user can do nothing about
# it. Here, not in the package: a tool is a program of its own, and processes that it starts load
# this, too, whereas the package leaves its users' warnings alone.
warnings.filterwarnings("ignore", r".torch\.jit\.script. is deprecated", FutureWarning)

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

DEPLOYABLE = (
    "bmshj2018-factorized",
    "bmshj2018-factorized-relu",
    "bmshj2018-hyperprior",
    "mbt2018-mean",
)
"""Learned codecs that can be written to files: the names of codec_det.bitstream.CODEC_IDS."""


def positive(text: str) -> int:
    """A whole number of 1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def not_negative(text: str) -> int:
    """A whole number of 0 or more."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is negative")
    return value


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{value} is not between 0 and 1")
    return value


# argparse names the type in its message: "invalid whole number value: 'x'".
positive.__name__ = not_negative.__name__ = "whole number"
fraction.__name__ = "number"


def leave(status: int) -> NoReturn:
    """Exit with ``status``: after Ctrl-C at once, without waiting for files still worked on."""
    if status == INTERRUPTED:
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
