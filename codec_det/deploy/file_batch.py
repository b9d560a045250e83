"""Work through many files, several at a time: one bad file does not stop the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from ..errors import CodecDetError

Result = TypeVar("Result")


class Failure(NamedTuple):
    """A file that could not be used, and why."""

    path: Path
    reason: str


def find_files(
    inputs: Iterable[Path], suffixes: frozenset[str], kind: str, *, distinct_names: bool = False
) -> list[Path]:
    """The files among ``inputs`` and, of folders, those directly in them that have a known suffix.

    A file that is named twice is found once.

    Args:
        suffixes: lower case, with the dot.
        kind: what is looked for, for messages: "pictures".
        distinct_names: whether results are named by their file, without its suffix.

    Raises:
        CodecDetError: if an input does not exist or cannot be listed, a folder has no such file, or
            two files have the same name although names must be distinct.
    """
    files: dict[tuple[str, str], Path] = {}
    for path in inputs:
        try:
            for file in _list(path, suffixes, kind):
                # Links of other names to the same file are files of their own.
                files.setdefault((file.name, os.path.realpath(file)), file)
        except OSError as error:
            raise CodecDetError(
                f"cannot look for {kind} in '{path}' ({error.strerror}): check path and permissions"
            ) from None
    if distinct_names:
        _check_names(files.values())
    return list(files.values())


def _check_names(files: Iterable[Path]) -> None:
    by_stem: dict[str, Path] = {}
    for file in files:
        other = by_stem.setdefault(file.stem, file)
        if other is not file:
            raise CodecDetError(
                f"'{other}' and '{file}' have the same name but for folder and suffix, and results "
                "are told apart by it: rename one, or run them apart"
            )


def _list(path: Path, suffixes: frozenset[str], kind: str) -> list[Path]:
    if not path.is_dir():
        if not path.exists():
            raise CodecDetError(f"'{path}' does not exist: give files or folders of {kind}")
        return [path]
    # A link to nowhere is kept: it is reported, not passed over.
    found = [p for p in path.iterdir() if p.suffix.lower() in suffixes and not p.is_dir()]
    if not found:
        raise CodecDetError(f"'{path}' has no {kind} ({', '.join(sorted(suffixes))}) in it")
    return sorted(found)


def process(
    files: Sequence[Path], work: Callable[[Path], Result], workers: int, unit: str
) -> tuple[dict[Path, Result], list[Failure]]:
    """``work`` on every file, with a progress bar; results and failures, both in order of files.

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
    pool = ThreadPoolExecutor(workers)
    try:
        futures = {pool.submit(work, path): path for path in files}
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
