"""Files that are either complete or absent."""

from __future__ import annotations

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
