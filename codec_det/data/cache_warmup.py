"""Code all pictures of a config's data sets into the cache that training and evaluation read.

Workers are processes: Pillow holds Python's lock while it codes JPEG and JPEG 2000. The encoders
themselves have one thread each, so that their bytes are the same everywhere. No worker outlives the
process that started it, however that ended, nor does the encoder it was running; the cache's
entries are whole or not there, so a warm-up that was stopped goes on where it was.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from math import ceil, inf
from typing import Any, NamedTuple

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, get_detection_dataset_dicts

from ..codec.conventional import Precoder
from ..conventional.cache import HEADER_BYTES, CodedCache
from ..errors import CodecDetError
from .coded_sequences import Group, SequencePrecoder, groups_of
from .image_io import read_image
from .loader import training_entries

_WATCH_SECONDS = 0.5  # between looks at whether the parent process lives
_AHEAD = 4  # pictures handed out per worker, so that none waits for the main process


class Coding(NamedTuple):
    """What became of one picture, or of a group of frames that are coded together.

    Attributes:
        path: of its file; the first one's of a group of frames.
        pictures: 1, or the frames of the group.
        size: as coded, in bytes; 0 where it failed.
        pixels: as it was taken; 0 where it failed.
        found: whether it was in the cache already.
        reason: why it failed; "" where it did not.
        start, end: when, in seconds of the system's monotonic clock, the same in all processes.
        cpu_seconds: of the worker and the programs it ran.
    """

    path: str
    pictures: int
    size: int
    pixels: int
    found: bool
    reason: str
    start: float
    end: float
    cpu_seconds: float


@dataclass
class Totals:
    """Sums over outcomes; sizes, in bytes, and pixels are of coded and found pictures alike."""

    coded: int = 0
    found: int = 0
    size: int = 0
    pixels: int = 0
    cpu_seconds: float = 0.0
    first: float = inf
    last: float = -inf

    def add(self, outcome: Coding) -> None:
        """Count one more."""
        if not outcome.reason:
            self.found += outcome.pictures * outcome.found
            self.coded += outcome.pictures * (not outcome.found)
        self.size += outcome.size
        self.pixels += outcome.pixels
        self.cpu_seconds += outcome.cpu_seconds
        self.first = min(self.first, outcome.start)
        self.last = max(self.last, outcome.end)

    @property
    def bpp(self) -> float:
        """Bits per pixel so far."""
        return 8 * self.size / self.pixels if self.pixels else 0.0

    @property
    def seconds(self) -> float:
        """From the start of the first picture to the end of the last; starting workers is not in
        it."""
        return max(self.last - self.first, 0.0)


def files_to_code(cfg: CfgNode) -> list[Group]:
    """The pictures that training and evaluation will read, each once, in the data sets' order.

    Frames are in groups that are coded together. Of registered data sets.
    """
    interval = cfg.MODEL.CODEC.KEY_INTERVAL
    if interval > 1:
        names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
        groups = [g for name in names for g in groups_of(DatasetCatalog.get(name), interval)]
        return list(dict.fromkeys(groups))
    entries: list[dict[str, Any]] = []
    if cfg.DATASETS.TRAIN:
        entries += training_entries(cfg)
    if cfg.DATASETS.TEST:
        entries += get_detection_dataset_dicts(cfg.DATASETS.TEST, filter_empty=False)
    return list(dict.fromkeys((entry["file_name"],) for entry in entries))


def code_all(
    files: Sequence[Group], precoder: Precoder | SequencePrecoder, workers: int
) -> Generator[Coding, None, None]:
    """Code pictures into the precoder's cache; outcomes come as pictures are done.

    Closing the iterator, and any error out of it, stops the workers and their encoders at once.

    Raises:
        CodecDetError: if a worker is killed, as happens where memory runs out.
    """
    before = set(multiprocessing.active_children())
    # Forked, they share the memory of PyTorch and detectron2, which this package imports.
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(workers, context, _start_worker, (precoder, os.getpid()))
    left = iter(files)
    try:
        pending: set[Future[Coding]] = set()
        done: set[Future[Coding]] = set()
        room = _AHEAD * workers
        while True:
            pending |= {pool.submit(_code, group) for group in islice(left, room)}
            for future in done:
                yield future.result()
            if not pending:
                break
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            room = len(done)
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        if isinstance(error, BrokenProcessPool):
            raise CodecDetError(
                "a worker was killed, perhaps for want of memory: run again with fewer workers; "
                "what is coded is kept"
            ) from None
        raise
    pool.shutdown()


_in_worker: dict[str, Precoder | SequencePrecoder] = {}
"""What a worker process was started with; empty in all others."""


def _start_worker(precoder: Precoder | SequencePrecoder, parent: int) -> None:
    _in_worker["precoder"] = precoder
    # Ctrl-C in a terminal reaches all processes: the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    # For programs that take as many threads as there are cores unless told otherwise.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _stop(signal_number: int, frame: object) -> None:
    # An exception, so that the encoder is killed and temporary files are removed on the way out.
    raise SystemExit(128 + signal_number)


def _watch(parent: int) -> None:
    """Stop this process when its parent is gone, which may have had no chance to."""
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def _code(group: Group) -> Coding:
    precoder = _in_worker["precoder"]
    start, cpu = time.monotonic(), _cpu_seconds()
    size, pixels, found, reason = 0, 0, False, ""
    try:
        pictures = [read_image(path, "RGB") for path in group]
        if isinstance(precoder, SequencePrecoder):
            data, found = precoder.encode(pictures)
        else:
            data, found = precoder.encode(pictures[0])
        size, pixels = len(data), sum(one.shape[0] * one.shape[1] for one in pictures)
    except SystemExit as stopped:
        # The pool would take it for a result, and hand out the next picture.
        os._exit(int(str(stopped.code)))
    except (CodecDetError, OSError, MemoryError) as error:
        reason = str(error) or type(error).__name__
    spent = _cpu_seconds() - cpu
    end = time.monotonic()
    return Coding(group[0], len(group), size, pixels, found, reason, start, end, spent)


def _cpu_seconds() -> float:
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def size_warning(totals: Totals, count: int, left: int, cache: CodedCache) -> str | None:
    """What to say where coded pictures will not fit; None where they will.

    Args:
        totals: of some pictures, by whose mean size the others are estimated.
        count: pictures that the cache is to hold, those of other machines' parts included.
        left: pictures that are still to be coded here.
    """
    known = totals.coded + totals.found
    if not known:
        return None
    each = totals.size / known + HEADER_BYTES
    expected, limit = each * count / 2**30, cache.max_bytes / 2**30
    if expected > limit:
        return (
            f"{count} pictures will take about {expected:.3g} GiB, and MODEL.CODEC.CACHE_GB is "
            f"{limit:.3g}: the first will be removed again. Set it to {_round_up(1.1 * expected)}, "
            "here and in training and evaluation"
        )
    needed, free = each * left / 2**30, shutil.disk_usage(cache.folder).free / 2**30
    if needed > free:
        return (
            f"the pictures left will take about {needed:.3g} GiB, and the disk of '{cache.folder}' "
            f"has {free:.3g} GiB free: make room, or set MODEL.CODEC.CACHE to another folder"
        )
    return None


def _round_up(gibibytes: float) -> str:
    """To tenths, or where that is too coarse to two digits."""
    for digits in (1, 3, 6, 9):
        step = 10**-digits
        if gibibytes >= 5 * step:
            return f"{ceil(gibibytes / step) * step:.{digits}f}"
    return f"{gibibytes:.3g}"
