"""Coded pictures kept on disk, so that no encoder runs twice on the same pixels.

An entry is found by a hash of the picture's pixels, the codec's name, its settings and its
version. Any number of processes may share a folder: an entry is written under a name of its own and
then renamed, so readers see it whole or not at all.

Layout: FOLDER/ab/abcd….coded, in up to 256 subfolders; an entry is a magic number, the SHA-256 of
the coded bytes, and the coded bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import CodecDetError, ConfigError
from ..files import make_folder
from .base import PictureCodec
from .inter_video import InterVideoCodec

_MAGIC = b"cdc1"
HEADER_BYTES = len(_MAGIC) + hashlib.sha256().digest_size
"""What an entry takes beyond the coded bytes."""

_SUFFIX, _PARTIAL = ".coded", ".partial"
_ABANDONED = 3600.0  # seconds after which a file that is still partial has no writer any more


class _Entry(NamedTuple):
    used: float  # seconds since the epoch
    size: int  # bytes
    path: Path


class CodedCache:
    """A cache of coded pictures in a folder.

    The least recently used entries are removed when the folder has grown to ``max_bytes``. Each
    process looks at the whole folder only after it has written a 64th of that, or what was left:
    one process never exceeds the bound by more than the entry it is writing, and P processes
    exceed it by at most P/64.

    Attributes:
        hits: pictures found by this object.
        misses: pictures coded by this object.
    """

    def __init__(self, folder: str | Path, max_bytes: int) -> None:
        """Open or make a cache.

        Args:
            folder: is made where it is missing.
            max_bytes: more than 0.

        Raises:
            ConfigError: if the folder cannot be written to, or ``max_bytes`` is too small.
        """
        if max_bytes <= 0:
            raise ConfigError(f"the cache's max_bytes is {max_bytes}: give more than 0")
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        self.hits = 0
        self.misses = 0
        self._room = 0  # bytes that may be written before the folder is looked at again
        make_folder(self.folder, "the cache's folder")

    def get_or_encode(
        self, picture: np.ndarray, codec: PictureCodec | InterVideoCodec
    ) -> tuple[bytes, bool]:
        """The coded bytes of a picture or a group of frames, and whether they were in the cache.

        Args:
            picture: (H, W, 3) uint8, RGB; or (n, H, W, 3), of a codec of frames.
            codec: codes it if need be.

        Raises:
            CodecDetError: if the codec fails, or the entry cannot be written.
        """
        path = self._path(picture, codec)
        data = _read_entry(path)
        if data is not None:
            self.hits += 1
            with suppress(OSError):  # another process may have removed it since
                os.utime(path)
            return data, True
        self.misses += 1
        data = codec.encode(picture)
        self._write_entry(path, data)
        return data, False

    def _path(self, picture: np.ndarray, codec: PictureCodec | InterVideoCodec) -> Path:
        identity = [codec.name, *codec.identity.values(), picture.shape, str(picture.dtype)]
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
        key.update(np.ascontiguousarray(picture).data)
        name = key.hexdigest()
        return self.folder / name[:2] / f"{name}{_SUFFIX}"

    def _write_entry(self, path: Path, data: bytes) -> None:
        size = HEADER_BYTES + len(data)
        if size > self.max_bytes:
            return  # it would push out everything else, and itself
        # Not of the tempfile module, whose files their owner alone may read.
        partial = path.with_name(f"{path.stem}.{secrets.token_hex(8)}{_PARTIAL}")
        try:
            if size > self._room:
                self._make_room(size)
            self._room -= size
            path.parent.mkdir(exist_ok=True)
            partial.write_bytes(_MAGIC + hashlib.sha256(data).digest() + data)
            partial.replace(path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            raise CodecDetError(
                f"cannot write to the cache '{self.folder}' ({error.strerror or error}): make "
                "room on the disk, or choose another folder"
            ) from None

    def _make_room(self, size: int) -> None:
        """Remove the least recently used until ``size`` more bytes fit, and some to spare."""
        entries = sorted(_entries(self.folder))
        total = sum(entry.size for entry in entries)
        # An eighth to spare: else a full cache would be looked at for every entry.
        goal = min(self.max_bytes * 7 // 8, self.max_bytes - size)
        if total + size > self.max_bytes:
            for entry in entries:
                if total <= goal:
                    break
                entry.path.unlink(missing_ok=True)
                total -= entry.size
        self._room = max(size, min(self.max_bytes - total, self.max_bytes // 64))


def _read_entry(path: Path) -> bytes | None:
    """The coded bytes, or None if there is no such entry or it is damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    data = content[HEADER_BYTES:]
    whole = content[:HEADER_BYTES] == _MAGIC + hashlib.sha256(data).digest()
    return data if whole and data else None


def _entries(folder: Path) -> Iterator[_Entry]:
    """All entries, and files that writers have abandoned."""
    abandoned = time.time() - _ABANDONED
    for file in folder.glob("??/*"):
        with suppress(OSError):  # another process may have removed it since
            status = file.stat()
            if file.suffix == _SUFFIX or (file.suffix == _PARTIAL and status.st_mtime < abandoned):
                yield _Entry(status.st_mtime, status.st_size, file)
