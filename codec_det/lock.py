"""One program at a time in a folder: a run of tools/train_net.py, a sweep."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from .errors import ConfigError
from .files import make_folder

LOCK_FILE = ".lock"

logger = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path, option: str) -> Iterator[Path]:
    """Within it, no other program that locks it works in ``folder``, which is made.

    On a file system without locks, a warning is all that there is.

    Args:
        option: what the user gave the folder with, for messages: "OUTPUT_DIR".

    Yields:
        The lock's file, which says whose it is.

    Raises:
        ConfigError: if another program works in it, or it cannot be written to.
    """
    make_folder(folder, option)
    path = folder / LOCK_FILE
    with path.open("a+", encoding="utf-8") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConfigError(
                f"another program works in {option} '{folder}' ({file.read().strip()}): wait for "
                f"it, or give another {option}"
            ) from None
        except OSError as error:
            logger.warning("%s '%s' cannot be locked (%s)", option, folder, error.strerror)
        now = datetime.now().isoformat(" ", timespec="seconds")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}, since {now}\n")
        file.flush()
        yield path
