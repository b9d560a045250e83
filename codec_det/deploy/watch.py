"""A folder that files are written into for months: each is worked on once, whatever happens.

A file is complete when its size and time of change are the same at two looks in a row, however it
came into the folder. What was done is in a journal, whose line is
the moment from which a file counts as done: a program that is killed at any moment and started
again loses nothing and does nothing twice.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from ..errors import CodecDetError
from ..files import append_line, atomic_file, repair_last_line

Result = TypeVar("Result")
# Lines of a journal beyond those of files that are still there, before it is written anew.
_SPARE_LINES = 1000


class Arrival(NamedTuple):
    """A file as it was written: another size or time is another file."""

    name: str
    size: int
    mtime_ns: int


class Journal:
    """What was done with which files, a line of JSON each.

    Args:
        path: of the journal; it need not exist.
        grows: whether lines of files that are gone are kept.
    """

    def __init__(self, path: Path, *, grows: bool = False) -> None:
        self.path = path
        self.last: dict[str, Any] = {}
        self._grows = grows
        self._entries: dict[str, tuple[Arrival, str]] = {}
        self._sources: dict[str, str] = {}
        self._lines = 0
        repair_last_line(path)
        if path.exists():
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    self._take(line.rstrip("\n"))

    def has(self, arrival: Arrival) -> bool:
        """Whether the file is done."""
        entry = self._entries.get(arrival.name)
        return entry is not None and entry[0] == arrival

    def source_of(self, file: str) -> str | None:
        """The file, among those that are there, that one of this name was made of."""
        return self._sources.get(file)

    def add(self, arrival: Arrival, **facts: Any) -> None:
        """The file is done from here on, even if the power fails.

        Raises:
            CodecDetError: if it cannot be written; nothing is then.
        """
        line = json.dumps({**arrival._asdict(), **facts})
        append_line(self.path, line)
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self._take(line)

    def forget_all_but(self, names: Iterable[str]) -> None:
        """Forget files that are not there any more, in memory and, now and then, in the journal."""
        there = set(names)
        self._entries = {k: v for k, v in self._entries.items() if k in there}
        self._sources = {k: v for k, v in self._sources.items() if v in there}
        if not self._grows and self._lines > 2 * len(self._entries) + _SPARE_LINES:
            with atomic_file(self.path) as partial:
                lines = [f"{line}\n" for _, line in self._entries.values()]
                partial.write_text("".join(lines), encoding="utf-8")
            self._lines = len(self._entries)

    def _take(self, line: str) -> None:
        try:
            self.last = json.loads(line)
            arrival = Arrival(*(self.last[field] for field in Arrival._fields))
        except (ValueError, KeyError, TypeError):
            raise CodecDetError(
                f"'{self.path}' has a line that no program of this package wrote: move it away"
            ) from None
        # A journal that grows is not written anew.
        self._entries[arrival.name] = arrival, "" if self._grows else line
        self._lines += 1
        if "file" in self.last:
            self._sources[self.last["file"]] = arrival.name


class Watcher:
    """Works on every file that is written to a folder, in the order in which they are.

    Args:
        folder: that is watched.
        suffixes: of the files, lower case with the dot; hidden files are left alone.
        journal: of what was done.
        make: the result of a file; raises CodecDetError for one that cannot be used.
        commit: keeps it, and adds the file to the journal.
        say: what a user should know: a file that cannot be used, once; what cannot be written, as
            when a disk is full, once, and then that it could.
        interval: seconds between looks.
    """

    def __init__(
        self,
        folder: Path,
        suffixes: frozenset[str],
        journal: Journal,
        make: Callable[[Path], Result],
        commit: Callable[[Arrival, Result], object],
        *,
        say: Callable[[str], object],
        interval: float = 1.0,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._folder = folder
        self._suffixes = suffixes
        self._journal = journal
        self._make = make
        self._commit = commit
        self._say = say
        self._interval = interval
        self._sleep = sleep or time.sleep

    def run(self) -> NoReturn:
        """Until the process ends."""
        seen: dict[str, Arrival] = {}
        while True:
            seen = self._work_on_complete(seen)
            self._sleep(self._interval)

    def _work_on_complete(self, seen: dict[str, Arrival]) -> dict[str, Arrival]:
        """Work on what has not changed since it was ``seen``; what is there now."""
        found = self._persist(lambda: _look(self._folder, self._suffixes))
        for arrival in sorted(found.values(), key=lambda each: (each.mtime_ns, each.name)):
            if seen.get(arrival.name) == arrival and not self._journal.has(arrival):
                self._work(arrival)
        self._persist(lambda: self._journal.forget_all_but(found))
        return found

    def _work(self, arrival: Arrival) -> None:
        path = self._folder / arrival.name
        try:
            result = self._make(path)
        except (CodecDetError, OSError, MemoryError) as error:
            reason = str(error) or type(error).__name__
            self._say(f"error: {path}: {reason}")
            self._persist(lambda: self._journal.add(arrival, error=reason))
            return
        self._persist(lambda: self._commit(arrival, result))

    def _persist(self, step: Callable[[], Result]) -> Result:
        """The result of a step that a file system may refuse, for as long as it does."""
        refused = False
        while True:
            try:
                result = step()
            except (CodecDetError, OSError) as error:
                if not refused:
                    self._say(f"waiting: {error}")
                refused = True
                self._sleep(self._interval)
                continue
            if refused:
                self._say("going on")
            return result


def _look(folder: Path, suffixes: frozenset[str]) -> dict[str, Arrival]:
    """Files that are there now, by name."""
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] != "." and Path(entry.name).suffix.lower() in suffixes:
                try:
                    if entry.is_file():
                        status = entry.stat()
                        found[entry.name] = Arrival(entry.name, status.st_size, status.st_mtime_ns)
                except FileNotFoundError:  # gone since
                    continue
    return found


class CommittedFiles:
    """Files made of others, in a folder; each appears with its line of the journal, or never.

    Args:
        folder: where they are.
        journal: of those that they are made of.
        suffix: of the files.
        keep_bytes: of them all together, at most: the oldest are dropped; None: all are kept.
    """

    def __init__(
        self, folder: Path, journal: Journal, suffix: str, keep_bytes: int | None = None
    ) -> None:
        self._folder = folder
        self._journal = journal
        self._suffix = suffix
        self._keep_bytes = keep_bytes
        self._finish_interrupted()

    def check_name(self, path: Path) -> None:
        """Check that the file to be made of ``path`` is not that of another which is there.

        Raises:
            CodecDetError: if it is.
        """
        name = self._name(path.name)
        source = self._journal.source_of(name)
        if source not in (None, path.name):
            raise CodecDetError(
                f"it is not coded: '{name}' is the file of '{source}', which has the same name but "
                "for the suffix; rename it"
            )

    def commit(self, arrival: Arrival, data: bytes) -> None:
        """Keep the file that was made of ``arrival``; its name is that without suffix.

        Raises:
            CodecDetError: if it cannot be written; nothing is then.
        """
        self._make_room(len(data))
        path = self._folder / self._name(arrival.name)
        with atomic_file(path) as partial, partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            # From here on it is done: whoever is killed before it has its name finds it again.
            self._journal.add(arrival, file=path.name, sha256=sha256(data).hexdigest())

    def _name(self, source: str) -> str:
        return Path(source).with_suffix(self._suffix).name

    def _finish_interrupted(self) -> None:
        for partial in self._folder.glob(f".*{self._suffix}.partial"):
            name = partial.name[1:].removesuffix(".partial")
            digest = sha256(partial.read_bytes()).hexdigest()
            if (name, digest) == (self._journal.last.get("file"), self._journal.last.get("sha256")):
                partial.replace(self._folder / name)
            else:
                partial.unlink()

    def _make_room(self, size: int) -> None:
        if self._keep_bytes is None:
            return
        kept = [(path.stat(), path) for path in self._folder.glob(f"*{self._suffix}")]
        total = size + sum(status.st_size for status, _ in kept)
        for status, path in sorted(kept, key=lambda each: (each[0].st_mtime_ns, each[1])):
            if total <= self._keep_bytes:
                break
            path.unlink(missing_ok=True)
            total -= status.st_size
