"""Runs a tool in a process of its own, soon: forked from one that has imported everything.

A row that needs a process need so not wait for PyTorch. The process has its own files, folder,
environment, signals and limits, and the tool runs in it as ``__main__``.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import locale
import multiprocessing
import os
import resource
import runpy
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from tests.bad_inputs.row import Row, Start

ROOT = Path(__file__).parent.parent.parent
LIBRARIES = ("codec_det", "torch", "numpy", "detectron2", "PIL")
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.bad_inputs.preload"])


class Outcome(NamedTuple):
    """Exit status (None: it had to be killed) and what was printed."""

    status: int | None
    out: str
    err: str
    left_behind: bool


def run(row: Row, folder: Path) -> Outcome:
    """Run the row's command in ``folder``."""
    tool, *arguments = shlex.split(row.command)
    out, err = _Listener(), _Listener()
    start = _start_fresh if row.start.fresh else _start_forked
    process = start(tool, arguments, folder, row.start, out.writer, err.writer)
    for listener in (out, err):
        listener.start()
    status = _wait(process, row, out, err)
    left_behind = status is not None and _group_lives(process.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for listener in (out, err):
        listener.join()
    return Outcome(status, out.text, err.text, left_behind)


class _Listener(threading.Thread):
    """Reads what a process prints into a pipe: files would be subject to its limits."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._reader, self.writer = _context.Pipe(duplex=False)
        self._read = bytearray()

    def start(self) -> None:
        self.writer.close()
        super().start()

    def run(self) -> None:
        while data := os.read(self._reader.fileno(), 2**16):
            self._read += data

    @property
    def text(self) -> str:
        """What has been printed so far."""
        return self._read.decode(errors="replace")


def _environment(folder: Path, start: Start) -> dict[str, str]:
    """What is other than here: caches are not the user's, and the package may not be installed."""
    return {"HOME": str(folder.parent), "PYTHONPATH": str(ROOT), **start.environment}


def _start_forked(*call: Any) -> Any:
    process = _context.Process(target=_become, args=call)
    process.start()
    return process


def _start_fresh(
    tool: str, arguments: list[str], folder: Path, start: Start, out: Connection, err: Connection
) -> Any:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tools" / f"{tool}.py"), *arguments],
        cwd=folder,
        env={**os.environ, **_environment(folder, start)},
        stdin=subprocess.DEVNULL,
        stdout=out.fileno(),
        stderr=err.fileno(),
        start_new_session=True,
    )


def _wait(process: Any, row: Row, out: _Listener, err: _Listener) -> int | None:
    """The exit status; Ctrl-C on the way, if it is wanted; None: the time is over."""
    awaited = row.start.interrupt if row.start.interrupt != "imports" else None
    deadline = time.monotonic() + row.seconds
    while (status := _poll(process, 0.02 if awaited else 0.5)) is None:
        if time.monotonic() > deadline:
            return None
        if awaited and awaited in out.text + err.text:
            os.killpg(process.pid, signal.SIGINT)
            awaited = None
    return status


def _poll(process: Any, seconds: float) -> int | None:
    if isinstance(process, subprocess.Popen):
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(seconds)
        return None
    process.join(seconds)
    return process.exitcode


def _group_lives(group: int) -> bool:
    """Whether processes that the tool started outlive it.

    Workers of a data loader look for it every five seconds only.
    """
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.02)
    return True


def _become(
    tool: str, arguments: list[str], folder: Path, start: Start, out: Connection, err: Connection
) -> None:
    """Turn this process into the tool's."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(_environment(folder, start))
    os.chdir(folder)
    tempfile.tempdir = None
    _open_streams(start, out, err)
    if start.locale:
        locale.setlocale(locale.LC_CTYPE, start.locale)
    if start.file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (start.file_bytes, start.file_bytes))
    if start.obeys_modes:
        _drop_capabilities()
    if start.interrupt == "imports":
        _interrupt_imports()
    path = ROOT / "tools" / f"{tool}.py"
    sys.path.insert(0, str(path.parent))
    sys.argv = [str(path), *arguments]
    runpy.run_path(str(path), run_name="__main__")


def _open_streams(start: Start, out: Connection, err: Connection) -> None:
    """Standard streams as the interpreter opens them."""
    if start.stdin == "closed":
        os.close(0)
        sys.stdin = None  # type: ignore[assignment]
    else:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(err.fileno(), 2)
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    if start.stdout == "closed":
        os.close(1)
        sys.stdout = None  # type: ignore[assignment]
        return
    writer = out.fileno()
    if start.stdout == "head":
        reader, writer = os.pipe()
        os.close(reader)
    elif start.stdout == "full":
        writer = os.open("/dev/full", os.O_WRONLY)
    os.dup2(writer, 1)
    sys.stdout = open(1, "w", encoding=start.encoding, closefd=False)  # noqa: SIM115


def _drop_capabilities() -> None:
    """Root obeys the modes of files when it has given up its capabilities; see capset(2)."""
    version_3 = 0x20080522
    header = (ctypes.c_uint32 * 2)(version_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, nothing):
        raise OSError(ctypes.get_errno(), "capset")


def _interrupt_imports() -> None:
    plain = builtins.__import__

    def interrupted(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] in LIBRARIES:
            builtins.__import__ = plain
            signal.raise_signal(signal.SIGINT)
        return plain(name, *args, **kwargs)

    builtins.__import__ = interrupted
