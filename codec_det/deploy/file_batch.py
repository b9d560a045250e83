"""Work through many files, several at a time: one bad file does not stop the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from ..errors import CodecDetError
from ..files import special_kind

Result = TypeVar("Result")
_SHOWN = 20  # names in a note


class Failure(NamedTuple):
    """A file that could not be used, and why."""

    path: Path
    reason: str


class Batch(NamedTuple):
    """Files to work on.

    Attributes:
        names: of each file's results: its path below the folder that was given, or its name, in
            either case without suffix.
        others: files and folders that were passed over, for being no such file by their suffix.
    """

    names: dict[Path, str]
    others: list[Path]

    @property
    def files(self) -> list[Path]:
        return list(self.names)

    def describe_others(self) -> str:
        """What was passed over, a line for files and one for folders; empty if nothing was."""
        folders = [path for path in self.others if path.is_dir()]
        files = [path for path in self.others if path not in folders]
        lines = []
        if files:
            lines.append(
                f"note: passed over for their suffix, unless they are given by name: {_list(files)}"
            )
        if folders:
            lines.append(f"note: passed over without --recursive: {_list(folders)}")
        return "\n".join(lines)


def find_files(
    inputs: Iterable[Path],
    suffixes: frozenset[str],
    kind: str,
    *,
    recursive: bool = False,
    distinct_names: bool = False,
) -> Batch:
    """The files among ``inputs`` and, of folders, those in them that have a known suffix.

    A file that is named twice is found once. Hidden files and folders are no others, but hidden
    files of a known suffix are found.

    Args:
        suffixes: lower case, with the dot.
        kind: what is looked for, for messages: "pictures".
        recursive: look in folders of folders, too, though not in hidden ones.
        distinct_names: whether results are told apart by their names.

    Raises:
        CodecDetError: if an input does not exist or cannot be listed, a folder has no such file, or
            two files have the same name although names must be distinct.
    """
    names: dict[Path, str] = {}
    others: list[Path] = []
    seen: set[tuple[str, str]] = set()
    for path in inputs:
        try:
            found = list(_walk(path, recursive)) if path.is_dir() else [path]
            if not path.is_dir() and not path.exists():
                raise CodecDetError(f"'{path}' does not exist: give files or folders of {kind}")
        except OSError as error:
            raise CodecDetError(
                f"cannot look for {kind} in '{error.filename or path}' ({error.strerror}): check "
                "path and permissions"
            ) from None
        of_kind = [file for file in found if file == path or _is_of(file, suffixes)]
        others += [file for file in sorted(set(found) - set(of_kind)) if file.name[0] != "."]
        if not of_kind:
            raise CodecDetError(_nothing_in(path, suffixes, kind, found))
        for file in of_kind:
            # Links of other names to the same file are files of their own.
            key = (file.name, os.path.realpath(file))
            if key not in seen:
                seen.add(key)
                below = Path(file.name) if file == path else file.relative_to(path)
                names[file] = below.with_name(below.stem).as_posix()
    if distinct_names:
        _check_names(names)
    return Batch(names, others)


def _walk(folder: Path, recursive: bool) -> Iterator[Path]:
    """What is in a folder, in order of names; of folders in it their contents, or themselves."""
    for path in sorted(folder.iterdir()):
        if recursive and path.is_dir() and not path.is_symlink() and path.name[0] != ".":
            yield from _walk(path, recursive)
        else:
            yield path


def _is_of(path: Path, suffixes: frozenset[str]) -> bool:
    # A link to nowhere is kept: it is reported, not passed over.
    return path.suffix.lower() in suffixes and not path.is_dir()


def _nothing_in(path: Path, suffixes: frozenset[str], kind: str, found: Sequence[Path]) -> str:
    what = f"'{path}' has no {kind} ({', '.join(sorted(suffixes))}) in it"
    shown = [file for file in found if file.name[0] != "."]
    return f"{what}, only {_list(shown)}" if shown else what


def _list(paths: Sequence[Path]) -> str:
    shown = ", ".join(f"'{path}'" for path in paths[:_SHOWN])
    return shown + f" and {len(paths) - _SHOWN} more" * (len(paths) > _SHOWN)


def _check_names(names: dict[Path, str]) -> None:
    groups: dict[str, list[Path]] = {}
    for file, name in names.items():
        groups.setdefault(name, []).append(file)
    same = [" and ".join(f"'{f}'" for f in group) for group in groups.values() if len(group) > 1]
    if same:
        raise CodecDetError(
            "results are told apart by the names of their files without suffix, and these have the "
            f"same: {'; '.join(same)}: rename them, run them apart, or give a folder above them "
            "with --recursive"
        )


def process(
    files: Sequence[Path], work: Callable[[Path], Result], workers: int, unit: str
) -> tuple[dict[Path, Result], list[Failure]]:
    """``work`` on every file, with a progress bar; results and failures, both in order of files.

    What is no file, such as a named pipe, for which one would wait, is a failure.

    Args:
        work: raises CodecDetError, OSError or MemoryError for a file that it cannot use; whatever
            else it raises is a bug, and ends all.
        workers: files worked on at a time, each in a thread: the work should spend its time in
            libraries that let others run.
        unit: of the progress bar.

    Raises:
        KeyboardInterrupt: at once after Ctrl-C. Files that were being worked on still are, in
            threads that a program's orderly end would wait for.
    """
    results: dict[Path, Result] = {}
    reasons: dict[Path, str] = {}

    def work_on_file(path: Path) -> Result:
        kind = special_kind(path)
        if kind:
            raise CodecDetError(f"it is {kind}, not a file")
        return work(path)

    pool = ThreadPoolExecutor(workers)
    try:
        futures = {pool.submit(work_on_file, path): path for path in files}
        for future in tqdm(as_completed(futures), total=len(futures), unit=unit):
            path = futures[future]
            try:
                results[path] = future.result()
            except (CodecDetError, OSError, MemoryError) as error:
                reasons[path] = str(error) or type(error).__name__
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    failures = [Failure(path, reasons[path]) for path in files if path in reasons]
    return {path: results[path] for path in files if path in results}, failures


def describe_failures(failures: Sequence[Failure], total: int) -> str:
    """What failed, line by line, for a tool to print before it exits with status 1."""
    lines = [f"error: {len(failures)} of {total} files failed:"]
    return "\n".join(lines + [f"  {failure.path}: {failure.reason}" for failure in failures])
