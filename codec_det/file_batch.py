"""Work through many files, several at a time: one bad file does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from .errors import CodecDetError

Result = TypeVar("Result")


class Failure(NamedTuple):
    """A file that could not be used, and why."""

    path: Path
    reason: str


def find_files(inputs: Iterable[Path], suffixes: frozenset[str], kind: str) -> list[Path]:
    """The files among ``inputs`` and, of folders, those directly in them that have a known suffix.

    Args:
        suffixes: lower case, with the dot.
        kind: what is looked for, for messages: "pictures".

    Raises:
        CodecDetError: if an input does not exist, a folder has no such file, or two files have the
            same name but for their suffix, so that their results would overwrite each other.
    """
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes)
            if not found:
                raise CodecDetError(f"'{path}' has no {kind} ({', '.join(sorted(suffixes))}) in it")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise CodecDetError(f"'{path}' does not exist: give files or folders of {kind}")
    by_stem: dict[str, Path] = {}
    for path in dict.fromkeys(files):
        other = by_stem.setdefault(path.stem, path)
        if other != path:
            raise CodecDetError(
                f"'{other}' and '{path}' would be written under the same name: rename one, or "
                "run them apart"
            )
    return list(by_stem.values())


def process(
    files: Sequence[Path], work: Callable[[Path], Result], workers: int, unit: str
) -> tuple[dict[Path, Result], list[Failure]]:
    """``work`` on every file, with a progress bar; results and failures, both in order of files.

    Args:
        workers: files worked on at a time, each in a thread: the work should spend its time in
            libraries that let others run.
        unit: of the progress bar.
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
    finally:
        # After Ctrl-C: what has not begun never does.
        pool.shutdown(cancel_futures=True)
    failures = [Failure(path, reasons[path]) for path in files if path in reasons]
    return {path: results[path] for path in files if path in results}, failures


def describe_failures(failures: Sequence[Failure], total: int) -> str:
    """What failed, line by line, for a tool to print before it exits with status 1."""
    lines = [f"error: {len(failures)} of {total} files failed:"]
    return "\n".join(lines + [f"  {failure.path}: {failure.reason}" for failure in failures])
