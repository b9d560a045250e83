"""What the tools have in common: types of their options, and how they end.

Tools read the command line before they load any library, so that --help and a misspelt option are
answered at once. So this module, too, imports the standard library alone, and of it only what
Python has loaded anyway: tools import it first, and from then on Ctrl-C ends in one line.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import warnings

TYPE_CHECKING = False  # as type checkers know it; the module typing takes a while to load
if TYPE_CHECKING:
    import argparse
    import logging
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import FrameType
    from typing import Any, NoReturn

# fvcore, detectron2 and torch_geometric call them; a user can do nothing about it. Here, not in
# the package: a tool is a program of its own, and processes that it starts load this, too, whereas
# the package leaves its users' warnings alone.
warnings.filterwarnings("ignore", r".torch\.jit\.script. is deprecated", FutureWarning)
warnings.filterwarnings("ignore", "torch.meshgrid: in an upcoming release", UserWarning)

# Of NumPy, which reads it when it is loaded. Its products here are small, those of the arithmetic
# that both ends share: with threads on all cores, waiting for one another, they take a fifth less
# time on an idle machine, and ten times as much where other work, or other workers, have the cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

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
"""Codecs of CompressAI that can be written to files: those of codec_det/bitstream/ids.py."""


def positive(text: str) -> int:
    """A whole number of 1 or more."""
    value = int(text)
    _check(value >= 1, f"{value} is not positive")
    return value


def not_negative(text: str) -> int:
    """A whole number of 0 or more."""
    value = int(text)
    _check(value >= 0, f"{value} is negative")
    return value


def picture_size(text: str) -> tuple[int, int]:
    """Height and width, of "640x480" for a picture of 640 columns."""
    width, height = map(positive, text.split("x"))
    return height, width


picture_size.__name__ = "WIDTHxHEIGHT"


def number(text: str) -> float:
    """A number of 0 or more."""
    value = float(text)
    _check(0 <= value < float("inf"), f"{value} is negative or without end")
    return value


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    _check(0 <= value <= 1, f"{value} is not between 0 and 1")
    return value


def add_recursive(parser: argparse.ArgumentParser, results: str = "") -> None:
    """The option of tools that take folders.

    Args:
        results: what goes where, if anything does.
    """
    parser.add_argument(
        "--recursive",
        action="store_true",
        help="take the folders in folders, too, but hidden ones" + results,
    )


def add_rate(add: Callable[..., Any]) -> None:
    """The option of tools that draw curves."""
    add(
        "--rate",
        choices=("bpp", "kbps"),
        help="what curves are over: bits per pixel, or kbit/s of sequences at their frame rates "
        "(default: kbps where all runs are of sequences, else bpp)",
    )


def watched_folder(inputs: Sequence[Path], args: argparse.Namespace, others: Sequence[str]) -> Path:
    """The one folder that --watch is given.

    Args:
        others: options that go with files that are there already, as attributes of ``args``.

    Raises:
        ConfigError: if it is not one folder, or one of the others is given.
    """
    from codec_det.errors import ConfigError

    for name in others:
        if getattr(args, name):
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} does not go with --watch: leave out either")
    if len(inputs) != 1 or not inputs[0].is_dir():
        given = ", ".join(f"'{path}'" for path in inputs)
        raise ConfigError(f"--watch takes one folder, not {given}")
    return inputs[0]


def _check(holds: bool, otherwise: str) -> None:
    from argparse import ArgumentTypeError

    if not holds:
        raise ArgumentTypeError(otherwise)


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
    except Exception as error:  # noqa: BLE001 (raised again unless it can be explained)
        return _refuse(error)


def _refuse(error: Exception) -> int:
    explained = _explain(error)
    if explained is None:
        raise error
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
        from importlib.util import find_spec

        package = error.name.partition(".")[0]
        if find_spec(package) is None:
            return f"{package} is not installed: docs/install.md names the extra that brings it"
    return None


_remains: list[Callable[[], str]] = [str]


def say_after_ctrl_c(remains: Callable[[], str]) -> None:
    """From now on Ctrl-C says this, also where it comes while a module loads."""
    _remains.append(remains)


def _interrupted(remains: str = "") -> int:
    print(f"interrupted: {remains}" if remains else "interrupted", file=sys.stderr)
    return INTERRUPTED


def run_program(main: Callable[[], int]) -> NoReturn:
    """Run a tool as this process and exit: after Ctrl-C at once, without waiting for threads."""
    prepare_process()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _on_ctrl_c)
    status = 0
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
    except OSError as error:  # of the standard output, which is a file on a full disk
        status = status or _refuse(error)
    if status == INTERRUPTED:
        sys.stderr.flush()
        os._exit(status)
    _drop_unwritable()
    sys.exit(status)


def prepare_process() -> None:
    """Let no character, and no reader that goes away, end the process in a traceback."""
    import logging

    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell's >&-
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
        getattr(sys, name).reconfigure(errors="backslashreplace")
    usual = logging.Handler.handleError

    def handle_error(handler: logging.Handler, record: logging.LogRecord) -> None:
        """Where the usual one prints a traceback for every line."""
        error, stream = sys.exc_info()[1], getattr(handler, "stream", None)
        if isinstance(error, OSError):
            raise error
        if isinstance(error, UnicodeEncodeError) and stream and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
            handler.emit(record)
        else:
            usual(handler, record)

    logging.Handler.handleError = handle_error  # type: ignore[method-assign, assignment]


def _drop_unwritable() -> None:
    """Python flushes again when it exits, and complains if that fails."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _on_ctrl_c(number: int, frame: FrameType | None) -> None:
    """KeyboardInterrupt; but while modules load the end, since many do not survive exceptions.

    C++ that calls Python aborts, and others take it for a failure of what they try to load.
    """
    caller = frame
    while caller:
        if caller.f_code.co_filename == "<frozen importlib._bootstrap>":
            os._exit(_interrupted(_remains[-1]()))
        caller = caller.f_back
    raise KeyboardInterrupt


def _end_at_once(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Ctrl-C before, or outside of, :func:`run_program`."""
    if issubclass(kind, KeyboardInterrupt):
        os._exit(_interrupted())
    sys.__excepthook__(kind, error, trace)


sys.excepthook = _end_at_once
