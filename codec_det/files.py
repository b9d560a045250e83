"""Files that are either complete or absent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from .errors import CodecDetError, ConfigError


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
    except OSError as error:
        raise CodecDetError(
            f"cannot write '{path}' ({error.strerror or error}): choose another place"
        ) from None
    finally:
        if partial.parent.is_dir():
            partial.unlink(missing_ok=True)


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
