"""One sweep at a time in a folder."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from ..errors import ConfigError
from ..files import make_folder

LOCK_FILE = ".sweep.lock"


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Within it, no other sweep works in ``folder``, which is made.

    Yields:
        The lock's file, which says whose it is.

    Raises:
        ConfigError: if another sweep works in it, or it cannot be written to.
    """
    make_folder(folder, "output_dir")
    path = folder / LOCK_FILE
    with path.open("a+", encoding="utf-8") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except OSError:
            file.seek(0)
            raise ConfigError(
                f"another sweep works in output_dir '{folder}' ({file.read().strip()}): wait for "
                "it, or give another output_dir"
            ) from None
        now = datetime.now().isoformat(" ", timespec="seconds")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}, since {now}\n")
        file.flush()
        yield path
