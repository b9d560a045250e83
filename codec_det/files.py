"""Files that are either complete or absent, and lines that are."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, flock
from pathlib import Path
from tempfile import TemporaryFile

from .errors import CodecDetError, ConfigError

logger = logging.getLogger(__name__)

UNWRITABLE = frozenset(
    {*(errno.ENOSPC, errno.EDQUOT, errno.EFBIG), *(errno.EIO, errno.EROFS, errno.ESTALE)}
)
"""Numbers of errors of a file system that is full, broken or read-only."""


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A path to write to, whose file is at ``path`` only when the block has ended without error.

    Raises:
        CodecDetError: if the folder cannot be made or written to.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        system = system_error(error)
        if system is None:
            raise
        raise CodecDetError(
            f"cannot write '{path}' ({system.strerror or system}): choose another place"
        ) from None
    finally:
        if partial.parent.is_dir():
            partial.unlink(missing_ok=True)


def special_kind(path: Path) -> str | None:
    """What a path leads to if reading it may never end, such as "a named pipe"; None: all else."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    devices = dict.fromkeys((stat.S_IFCHR, stat.S_IFBLK), "a device")
    return {**kinds, **devices}.get(stat.S_IFMT(mode))


def make_folder(folder: Path, option: str) -> None:
    """Make a folder for results, before long work.

    Args:
        option: what the user gave it with, for messages: "--output-dir".

    Raises:
        ConfigError: if files cannot be created in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"{option} '{folder}' is not writable ({error.strerror or error}): choose another"
        ) from None


def check_writable(folder: Path, option: str) -> None:
    """Find out whether a folder can be made and written to, and make nothing.

    Args:
        option: as of :func:`make_folder`.

    Raises:
        ConfigError: if not, as far as permissions tell.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        reason = "no permission" if there.is_dir() else f"'{there}' is no folder"
        raise ConfigError(f"{option} '{folder}' is not writable ({reason}): choose another")


@contextmanager
def check_written(folder: Path) -> Iterator[None]:
    """Within it, a file system that cannot be written to is an error of ``folder``.

    Raises:
        CodecDetError: saying why it cannot.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        system = system_error(error)
        if system is None or system.errno not in UNWRITABLE:
            raise
        raise CodecDetError(
            f"cannot write to '{folder}' ({system.strerror}): make room in it, then run the same "
            "command again, a training with --resume"
        ) from None


def system_error(error: BaseException) -> OSError | None:
    """The system's error behind one: PyTorch has its own for what it meets when it closes files."""
    cause = error if isinstance(error, OSError) else error.__context__
    return cause if isinstance(cause, OSError) else None


def append_line(path: Path, line: str) -> None:
    """Append a line to a file of JSON lines, whole, in one write; its end is repaired before.

    Raises:
        CodecDetError: if it cannot be written; the file is then as it was.
    """
    try:
        with _open_for_lines(path) as descriptor:
            end = os.fstat(descriptor).st_size
            content = f"{line}\n".encode()
            try:
                written = os.write(descriptor, content)
                if written < len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                os.ftruncate(descriptor, end)
                raise
    except OSError as error:
        raise CodecDetError(f"cannot append to '{path}' ({error.strerror or error})") from None


def repair_last_line(path: Path) -> None:
    """Make a file of JSON lines end with a whole one, after a writer was killed in the middle.

    A line that lacks its end alone gets it; one cut short is removed, with a warning.

    Raises:
        CodecDetError: if it cannot be written.
    """
    try:
        if path.exists():
            with _open_for_lines(path):
                pass
    except OSError as error:
        raise CodecDetError(f"cannot write '{path}' ({error.strerror or error})") from None


@contextmanager
def _open_for_lines(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        # Some file systems have no locks; then a writer beside this one may be mistaken for dead.
        with suppress(OSError):
            flock(descriptor, LOCK_EX)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            _end_last_line(path, descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def _end_last_line(path: Path, descriptor: int) -> None:
    content = path.read_bytes()
    start = content.rfind(b"\n") + 1
    try:
        json.loads(content[start:])
    except ValueError:
        logger.warning("%s: its last line was cut short and is removed", path)
        os.ftruncate(descriptor, start)
    else:
        os.write(descriptor, b"\n")
