"""One point's process: its console in a file, and no longer alive than whoever waits for it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from .points import StudyPoint, as_words
from .state import Status

CONSOLE = "console.txt"
GRACE_SECONDS = 5
"""Between asking a process to end and ending it."""

# Linux sends the signal when the parent ends, however it does; the new program inherits that. A
# parent that had ended before is no parent any more.
_TETHER = """
import ctypes, os, signal, sys
parent = int(sys.argv[1])
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != parent:
    sys.exit("the process that waits for this one has ended")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


@dataclass(frozen=True)
class Job:
    """A program that Python runs.

    Attributes:
        words: its command line, without Python's own name.
        folder: the current folder that it is run in.
        console: absolute path of the file that its output is appended to.
    """

    words: Sequence[str]
    folder: str
    console: str


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        status: exit status, negative for a signal; None if whoever waited for it was lost.
        where: name of the machine.
        reason: why it was lost.
        seconds: that it ran.
    """

    status: int | None
    where: str = ""
    reason: str = ""
    seconds: float = 0.0


def job_of(point: StudyPoint, train_net: Path, status: Status, *, num_gpus: int | None) -> Job:
    """The run of tools/train_net.py that makes what is missing of a point."""
    words = [str(train_net), "--config-file", point.config_file]
    words += ["--eval-only"] * (point.evaluates or status is Status.TO_EVALUATE)
    words += ["--resume"] * (status is Status.INTERRUPTED)
    # Of 0 GPUs, the config says that it runs on the CPU.
    words += ["--num-gpus", str(num_gpus)] if num_gpus else []
    console = str((point.folder / CONSOLE).resolve())
    return Job(words + as_words(point.options), str(Path.cwd()), console)


def run(job: Job, environment: Mapping[str, str] = MappingProxyType({})) -> Outcome:
    """Run a job to its end; it is stopped if this is interrupted.

    Args:
        environment: variables that it gets beside those of this process.

    Raises:
        OSError: if this machine lacks the folder or cannot write the console's file.
    """
    with Path(job.console).open("ab") as console:
        process = subprocess.Popen(
            [sys.executable, "-c", _TETHER, str(os.getpid()), *job.words],
            cwd=job.folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal's Ctrl-C is for the sweep, which then stops it
        )
    start = time.monotonic()
    try:
        status = process.wait()
        return Outcome(status, socket.gethostname(), seconds=time.monotonic() - start)
    finally:
        _stop(process)


def _stop(process: subprocess.Popen) -> None:
    """End a process and those that it started."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
