"""Which files of a folder are whole and would come out the same if they were made again."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

from .. import __version__

RECORD = ".made.jsonl"


class MadeFiles:
    """A record in a folder of what its files were made from, by what, and what they were then.

    A file is known by the SHA-256 of its bytes, that of what it was made from, that of the model,
    and the version of this package. Dates count for nothing: copies and clocks make them lie.

    Args:
        folder: where the files and the record are.
        model: the file that makes them.
        how: what else they depend on, in words.
    """

    def __init__(self, folder: Path, model: Path, how: str = "") -> None:
        self._folder = folder
        self._by = f"{_digest(model)} {__version__} {how}".rstrip()
        self._lock = threading.Lock()
        self._made: dict[str, dict[str, str]] = {}
        record = folder / RECORD
        for line in record.read_bytes().splitlines() if record.is_file() else ():
            try:
                entry = json.loads(line)
                self._made[entry["file"]] = entry
            except (ValueError, KeyError, TypeError):
                continue  # cut short: that file is made again

    def has(self, name: str, source: Path) -> bool:
        """Whether the file of this name, in the folder, need not be made from ``source``."""
        file = self._folder / name
        # Only files: whoever reads a named pipe waits.
        if name not in self._made or not file.is_file() or not source.is_file():
            return False
        return self._made[name] == self._entry(name, source)

    def add(self, name: str, source: Path) -> None:
        """Record that the file of this name has been made from ``source``."""
        line = json.dumps(self._entry(name, source))
        # A line of its own even after one that was cut short.
        with self._lock, (self._folder / RECORD).open("a", encoding="utf-8") as record:
            record.write(f"\n{line}\n")

    def _entry(self, name: str, source: Path) -> dict[str, str]:
        made = _digest(self._folder / name)
        return {"file": name, "sha256": made, "from": _digest(source), "by": self._by}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
