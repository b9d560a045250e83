"""What a row of the table is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ERROR, ODD, REFUSED, INTERRUPTED, PIPE_CLOSED = 1, 0, 2, 130, 141
"""Exit statuses: some of many failed, odd but fine, refused, Ctrl-C, nobody reads the output."""


@dataclass(frozen=True)
class Start:
    """How a tool is started, where that is not as usual.

    Attributes:
        stdin: None: nothing to read; "closed".
        stdout: None: a file; "closed", "full" (a disk without room), "head" (a pipe whose reader
            has gone).
        encoding: of standard output, as PYTHONIOENCODING sets it.
        locale: of LC_CTYPE: "C" makes ASCII the encoding of files that are opened without one.
        environment: variables to set.
        file_bytes: size at which files end, as on a full disk.
        obeys_modes: the tool may not write where modes forbid it, even if it runs as root.
        interrupt: Ctrl-C when this text is printed, or "imports": at the first import of a library.
        fresh: in a new interpreter, which takes seconds: where what is imported matters.
    """

    stdin: str | None = None
    stdout: str | None = None
    encoding: str | None = None
    locale: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    file_bytes: int | None = None
    obeys_modes: bool = False
    interrupt: str | None = None
    fresh: bool = False


@dataclass(frozen=True)
class Row:
    """Something odd that a user does, and how the tool must answer.

    Attributes:
        name: "tool: what is odd".
        command: as typed in a folder of tests/bad_inputs/place.py, tool first.
        says: the culprit: what the line of error has in it (of status 0 and 1: what is printed).
        status: exit status.
        prepare: makes the folder odd, if the command alone is not.
        writes: patterns of the files that may be new or changed; others must stay as they are.
        makes: files that must be there in the end.
        check: called with the folder and all that was printed, in the end.
        start: of the process.
        seconds: after which it hangs.
    """

    name: str
    command: str
    says: str | tuple[str, ...] = ()
    status: int = REFUSED
    prepare: Callable[[Path], object] | None = None
    writes: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    check: Callable[[Path, str], object] | None = None
    start: Start = Start()
    seconds: float = 120.0

    @property
    def culprits(self) -> tuple[str, ...]:
        """``says``, as a tuple."""
        return (self.says,) if isinstance(self.says, str) else self.says
