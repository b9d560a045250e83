"""What the tools have in common: types of their options, and how they end.

Tools read the command line before they load any library, so that --help and a misspelt option are
answered at once. So this module, too, imports the standard library alone.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

# fvcore, detectron2 and torch_geometric call it when they are imported; a user can do nothing about
# it. Here, not in the package: a tool is a program of its own, and processes that it starts load
# this, too, whereas the package leaves its users' warnings alone.
warnings.filterwarnings("ignore", r".torch\.jit\.script. is deprecated", FutureWarning)

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

BROKEN_PIPE = 141
"""Exit status when nobody reads the output any more, as shells have it."""

EXHAUSTED = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE}
)
"""Errors of the system that no check foresees: a full or failing disk, too many open files."""

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


def run_command(
    parse: Callable[[Sequence[str] | None], argparse.Namespace],
    work: Callable[[argparse.Namespace], int | None],
    argv: Sequence[str] | None,
    *,
    interrupted: str = "",
) -> int:
    """The ``main`` of every tool: what a user can mend or has asked for ends in one line.

    Args:
        parse: the tool's parser; faults in the command line end the program with status 2.
        work: the tool; returns its exit status, None being 0.
        argv: the command line, without the program; None is this program's.
        interrupted: what remains after Ctrl-C, with arguments in braces: "{output_dir} is whole".
            Work that knows better raises KeyboardInterrupt with that text.

    Returns:
        The exit status.
    """
    args = parse(argv)
    try:
        return work(args) or 0
    except KeyboardInterrupt as stopped:
        return _interrupted(str(stopped) or interrupted.format(**vars(args)))
    except FloatingPointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        explained = _explain(error)
        if explained is None:
            raise
        print(f"error: {explained}", file=sys.stderr)
        return 2


def _explain(error: Exception) -> str | None:
    """The line for an error that is no defect of the program, or None."""
    # Where it is not loaded, nothing can have raised one; tools for setting up run without it.
    errors = sys.modules.get("codec_det.errors")
    if errors and isinstance(error, errors.CodecDetError):
        return str(error)
    if isinstance(error, OSError) and error.errno in EXHAUSTED:
        return f"{error}: make room, then run the same command again"
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        if find_spec(package) is None:
            return f"{package} is not installed: install it (requirements.txt names its version)"
    return None


def _interrupted(remains: str = "") -> int:
    print(f"interrupted: {remains}" if remains else "interrupted", file=sys.stderr)
    return INTERRUPTED


def run_program(main: Callable[[], int]) -> NoReturn:
    """Run a tool as this process and exit: after Ctrl-C at once, without waiting for threads."""
    prepare_process()
    try:
        try:
            status = main()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        status = _interrupted()
    except BrokenPipeError:
        # A reader such as `head` has seen enough: nothing to say, and nobody to say it to.
        status = BROKEN_PIPE
    except OSError as error:
        if error.errno not in EXHAUSTED:
            raise
        print(f"error: cannot write to the standard output: {error}", file=sys.stderr)
        status = 2
    if status == INTERRUPTED:
        sys.stderr.flush()
        os._exit(status)
    _drop_unwritable()
    sys.exit(status)


def prepare_process() -> None:
    """Let no character, and no reader that goes away, end the process in a traceback."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell's >&-
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        getattr(sys, name).reconfigure(errors="backslashreplace")
    logging.Handler.handleError = _handle_log_error  # type: ignore[method-assign, assignment]


def _drop_unwritable() -> None:
    """Python flushes again when it exits, and complains if that fails."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _handle_log_error(handler: logging.Handler, record: logging.LogRecord) -> None:
    """In place of logging's own, which prints a traceback for every line."""
    error = sys.exc_info()[1]
    stream = getattr(handler, "stream", None)
    if isinstance(error, UnicodeEncodeError) and stream and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")
        handler.emit(record)
    elif error:
        raise error


def _end_at_once(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Ctrl-C before, or outside of, :func:`run_program`."""
    if issubclass(kind, KeyboardInterrupt):
        os._exit(_interrupted())
    sys.__excepthook__(kind, error, trace)


sys.excepthook = _end_at_once
