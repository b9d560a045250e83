"""Damaged, forged and crafted files, and what comes of reading them.

Reading may end in two ways only. Either the bytes are a file that an encoder would have written:
then they decode to the latents that are coded to these very bytes. Or they are refused with a
:class:`~codec_det.errors.BitstreamError` that gives a reason. Everything else escaped: another
exception, a crash, a hang, too much memory, or a picture out of bytes that stand for none.

The mutations are those of :mod:`.mutations`; of streams, those of :mod:`.stream_mutations`.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codec_det.bitstream.entropy import Latents
from codec_det.errors import BitstreamError

from . import stream_mutations
from .mutations import KINDS, Mutation, Target, mutation

ALLOWED = ("unchanged", "refused", "other picture")
ESCAPES = (
    *("wrong picture", "not canonical", "no reason", "exception", "out of memory"),
    *("crash", "hang"),
)
OUTCOMES = ALLOWED + ESCAPES


class Escape(NamedTuple):
    """The ``number``-th mutation of the seed, neither refused nor right."""

    number: int
    outcome: str
    mutation: Mutation


class Report(NamedTuple):
    """What came of ``mutations``.

    Attributes:
        counts: (targets, kinds, as is or repaired, outcomes), in the order of the constants.
        escapes: the first of them.
        seconds: that all took.
        slowest: seconds of the slowest.
        peak_bytes: resident memory that reading took beyond what a process had before.
    """

    counts: np.ndarray
    escapes: list[Escape]
    seconds: float
    slowest: float
    peak_bytes: int


class Method(NamedTuple):
    """How what a kind of target reads is damaged and judged.

    Attributes:
        kinds: of mutations.
        mutation: of targets, by a seed and an index.
        prepare: a target to what is known of its files.
        judge: target, what is known and damaged bytes to one of :data:`OUTCOMES`.
    """

    kinds: tuple[str, ...]
    mutation: Callable[[Sequence[Any], int, int], Mutation]
    prepare: Callable[[Any], Any]
    judge: Callable[[Any, Any, bytes], str]


def prepare(target: Target) -> dict[bytes, Latents]:
    """Latents of a target's files."""
    known = {data: target.entropy.read(data) for data in target.files}
    target.synthesize(next(iter(known.values())))
    return known


def judge(target: Target, known: dict[bytes, Latents], data: bytes) -> str:
    """Read ``data`` and say what came of it, one of :data:`OUTCOMES`.

    Args:
        known: latents of the target's files.
    """
    try:
        latents = target.entropy.read(data)
        if data in known:
            return "unchanged" if same_latents(latents, known[data]) else "wrong picture"
        z = latents.z if target.entropy.hyperprior else None
        if target.entropy.write(latents.y, z, latents.picture, latents.version) != data:
            return "not canonical"
        picture = target.synthesize(latents)
        sound = picture.shape == (3, *latents.picture.coded_size)
        sound = sound and bool(((picture >= 0) & (picture <= 1)).all())
        return "other picture" if sound else "wrong picture"
    except BitstreamError as error:
        return "refused" if str(error) else "no reason"
    except MemoryError:
        return "out of memory"
    except Exception:  # noqa: BLE001  # any other is what is looked for
        return "exception"


PICTURES = Method(KINDS, mutation, prepare, judge)


def judge_stream(target: stream_mutations.StreamTarget, known: Any, data: bytes) -> str:
    """As :func:`judge`, of a stream."""
    try:
        return stream_mutations.judge(target, known, data)
    except MemoryError:
        return "out of memory"
    except Exception:  # noqa: BLE001  # any other is what is looked for
        return "exception"


STREAMS = Method(
    stream_mutations.KINDS, stream_mutations.mutation, stream_mutations.prepare, judge_stream
)


def same_latents(a: Latents, b: Latents) -> bool:
    """Whether they are equal, and of pictures of the same size."""
    return a[3:] == b[3:] and all(np.array_equal(x, y) for x, y in zip(a[:3], b[:3], strict=True))


def fuzz(
    targets: Sequence[Any],
    mutations: int,
    *,
    method: Method = PICTURES,
    seed: int = 0,
    workers: int = 1,
    memory_bytes: int = 2**30,
    time_limit: float = 5.0,
    progress: Callable[[int], None] = lambda done: None,
) -> Report:
    """Read ``mutations`` mutated files in child processes, so that these alone may crash or hang.

    Args:
        method: that is for these targets.
        workers: processes at a time.
        memory_bytes: of address space that reading may take beyond what is in use.
        time_limit: seconds after which a mutation is counted as a hang.
        progress: called a few times per second with the mutations done so far.
    """
    start = time.monotonic()
    shape = len(targets), len(method.kinds), 2, len(OUTCOMES)
    pool = [
        _Worker(targets, method, range(first, mutations, workers), seed, memory_bytes)
        for first in range(min(workers, mutations))
    ]
    escapes: list[tuple[int, str]] = []
    try:
        # Each is watched, not all until one has work left.
        while sum(worker.watch(time_limit) for worker in pool):
            progress(sum(int(np.sum(worker.counts)) for worker in pool))
            time.sleep(0.1)
    finally:
        for worker in pool:
            worker.stop()
    counts = sum((np.array(worker.counts) for worker in pool), np.zeros(np.prod(shape), np.int64))
    escapes = sorted(escape for worker in pool for escape in worker.escapes())
    progress(int(counts.sum()))
    return Report(
        counts.reshape(shape),
        [Escape(i, outcome, method.mutation(targets, seed, i)) for i, outcome in escapes],
        time.monotonic() - start,
        max((worker.slowest for worker in pool), default=0.0),
        max((int(worker.peak) for worker in pool), default=0),
    )


# Escapes whose indexes a worker keeps; all are counted.
_KEPT = 100


class _Worker:
    """A child process that reads the mutations of ``indexes``, and is replaced if it dies.

    What it finds is in memory that both share, so that nothing is lost with it.
    """

    def __init__(
        self, targets: Sequence[Any], method: Method, indexes: range, seed: int, memory_bytes: int
    ) -> None:
        self._targets, self._indexes, self._seed = targets, indexes, seed
        self._method = method
        self._memory_bytes = memory_bytes
        cells = len(targets) * len(method.kinds) * 2 * len(OUTCOMES)
        self._shared_counts = RawArray("q", cells)
        # Position in indexes, escapes kept.
        self._position = RawArray("q", 2)
        self._kept = RawArray("q", 2 * _KEPT)
        # Slowest and peak.
        self._figures = RawArray("d", 2)
        self._seen, self._since = -1, 0.0
        self._process = self._start()

    @property
    def counts(self) -> np.ndarray:
        return np.frombuffer(self._shared_counts, np.int64)

    @property
    def slowest(self) -> float:
        return self._figures[0]

    @property
    def peak(self) -> float:
        return self._figures[1]

    def escapes(self) -> Iterator[tuple[int, str]]:
        """Index and outcome of those that were kept."""
        for i in range(self._position[1]):
            yield self._kept[2 * i], OUTCOMES[self._kept[2 * i + 1]]

    def watch(self, time_limit: float) -> bool:
        """Replace a process that crashed or hangs; whether there is work left."""
        position = self._position[0]
        if position >= len(self._indexes):
            return False
        if position != self._seen:
            self._seen, self._since = position, time.monotonic()
        hangs = time.monotonic() - self._since > time_limit
        if hangs or not self._process.is_alive():
            self.stop()
            # It may have ended between the two looks.
            position = self._position[0]
            if position >= len(self._indexes):
                return False
            index = self._indexes[position]
            self._count(index, self._mutation(index), _HANG if hangs else _CRASH)
            self._process = self._start()
        return True

    def stop(self) -> None:
        if self._process.is_alive():
            self._process.kill()
        self._process.join()

    def _start(self) -> Any:
        # Forked, as data loaders are: the models need not be built again.
        process = multiprocessing.get_context("fork").Process(target=self._work, daemon=True)
        process.start()
        return process

    def _count(self, index: int, mutated: Mutation, outcome: int) -> None:
        """Count, and go on to the next; the last is done last, so that none is lost or repeated."""
        kinds = self._method.kinds
        cell = (mutated.target * len(kinds) + kinds.index(mutated.kind)) * 2 + index % 2
        self._shared_counts[cell * len(OUTCOMES) + outcome] += 1
        kept = self._position[1]
        if outcome >= len(ALLOWED) and kept < _KEPT:
            self._kept[2 * kept : 2 * kept + 2] = [index, outcome]
            self._position[1] = kept + 1
        self._position[0] += 1

    def _mutation(self, index: int) -> Mutation:
        return self._method.mutation(self._targets, self._seed, index)

    def _work(self) -> None:
        known = [self._method.prepare(target) for target in self._targets]
        space, before = (1024 * _status(key) for key in ("VmSize", "VmRSS"))
        limit = space + self._memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for index in self._indexes[self._position[0] :]:
            mutated = self._mutation(index)
            start = time.perf_counter()
            of_target = self._targets[mutated.target], known[mutated.target]
            outcome = self._method.judge(*of_target, mutated.data)
            if outcome == "other picture" and index % 2 == 0 and mutated.kind != "crafted":
                # The checksum should not have let it pass; by chance it does once in 2^24.
                outcome = "wrong picture"
            self._figures[0] = max(self._figures[0], time.perf_counter() - start)
            peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            self._figures[1] = max(self._figures[1], peak - before)
            self._count(index, mutated, OUTCOMES.index(outcome))


_CRASH, _HANG = OUTCOMES.index("crash"), OUTCOMES.index("hang")


def _status(key: str) -> int:
    """A figure of this process in kB, as Linux gives it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0])
    raise OSError(f"/proc/self/status has no {key}")
