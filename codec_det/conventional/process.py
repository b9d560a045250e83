"""Find and run another program: with a time limit, without a shell, and with errors that help."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from ..errors import CodecDetError, ConfigError

TIME_LIMIT = 600.0
"""Seconds that a program may take for one picture unless told otherwise."""

_LAST_LINES = 5
_GRACE = 5.0  # seconds for the pipes of a killed program to close
_running: set[subprocess.Popen[bytes]] = set()


def run_program(
    arguments: Sequence[str | Path],
    *,
    remedy: str,
    stdin: bytes = b"",
    time_limit: float = TIME_LIMIT,
    error: type[CodecDetError] = CodecDetError,
    statuses: tuple[int, ...] = (0,),
) -> tuple[bytes, str]:
    """Run a program to its end.

    Args:
        arguments: program and its arguments, passed on as they are.
        remedy: what the user can do if it fails; ends the message.
        stdin: bytes that the program reads.
        time_limit: in seconds; then the program and all that it started are killed.
        error: class of the error if the program fails.
        statuses: exit statuses that are no failure.

    Returns:
        What it wrote to its standard output, and to its standard error as text.

    Raises:
        ConfigError: if the program cannot be started.
        CodecDetError: of class ``error``, if it exits with another status, crashes, or
            exceeds the time limit.
    """
    program = Path(arguments[0]).name
    try:
        process = subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # its own process group, so that its children die with it
        )
    except OSError as reason:
        raise ConfigError(
            f"cannot start '{arguments[0]}' ({reason.strerror or reason}): {remedy}"
        ) from None
    _running.add(process)
    try:
        output, log = process.communicate(stdin, timeout=time_limit)
    except subprocess.TimeoutExpired:
        _, log = _kill(process)
        raise error(
            f"'{program}' was killed after its time limit of {time_limit:g} s{_tail(log)}: raise "
            f"time_limit, or {remedy}"
        ) from None
    except BaseException:
        _kill(process)
        raise
    finally:
        _running.discard(process)
    if process.returncode not in statuses:
        raise error(f"'{program}' {_ending(process.returncode)}{_tail(log)}: {remedy}")
    return output, log.decode("utf-8", "replace")


def kill_programs() -> None:
    """Kill all programs that threads of this process are running, before it ends without them."""
    for process in tuple(_running):
        _kill_group(process)


def find_program(variable: str, program: str) -> Path | None:
    """The path in an environment variable, else on PATH, else None.

    Raises:
        ConfigError: if the variable names no program that can be run.
    """
    named = os.environ.get(variable)
    found = shutil.which(named or program)
    if found:
        return Path(found)
    if named:
        raise ConfigError(
            f"the environment variable {variable} names '{named}', which is no program that can "
            "be run: correct or unset it"
        )
    return None


def file_digest(path: Path) -> str:
    """The first 16 hexadecimal digits of a file's SHA-256, computed once while it is unchanged."""
    status = path.stat()
    return _digest(path, status.st_mtime_ns, status.st_size)


@cache
def _digest(path: Path, changed: int, size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def first_line(program: Path, *arguments: str, remedy: str) -> str:
    """The first line that a program prints, e.g. its version; run once while it is unchanged.

    Args:
        program: path.
        *arguments: that make it print; exit statuses 0 and 1 are no failure.
        remedy: as in :func:`run_program`, which also says what is raised.
    """
    status = program.stat()
    return _first_line(program, arguments, remedy, status.st_mtime_ns, status.st_size)


@cache
def _first_line(
    program: Path, arguments: tuple[str, ...], remedy: str, changed: int, size: int
) -> str:
    output, log = run_program([program, *arguments], remedy=remedy, statuses=(0, 1))
    lines = (output.decode("utf-8", "replace") + log).split("\n")
    return next((line.strip() for line in lines if line.strip()), program.name)


def _kill(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Kill a program with its process group; what it had written so far."""
    _kill_group(process)
    try:
        return process.communicate(timeout=_GRACE)
    except subprocess.TimeoutExpired:  # a child left the group and holds the pipes open
        return b"", b""


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _ending(status: int) -> str:
    if status >= 0:
        return f"failed with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"crashed ({name})"


def _tail(log: bytes) -> str:
    lines = [line for line in log.decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines:
        return ""
    return f", saying\n{chr(10).join(lines[-_LAST_LINES:])}\n"
