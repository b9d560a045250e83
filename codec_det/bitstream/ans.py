"""Integer symbols to bytes and back, with frozen integer tables (asymmetric numeral systems).

The coder is constriction's ``AnsCoder``, or where that is not installed the same in Python
(:mod:`.python_coder`): Duda, "Asymmetric numeral systems" (arXiv 1311.2540). Its
state of 64 bits is flushed once per picture, without the leading zero bytes.

It starts from 2^24 or more, above every frequency, and not from zero as it would by default. Then
every symbol makes the state larger: none is free, a stream that is too short is noticed as soon as
it is used up, and one that decodes is the very one that its symbols are coded to. The start costs
as much whatever its low bits are, so these can be a checksum.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from math import log
from typing import Any

import numpy as np

from ..errors import BitstreamError, CodecDetError

AnsCoder: Any
Categorical: Any
Uniform: Any
try:
    import constriction
except ImportError:
    from .python_coder import AnsCoder, Categorical, Uniform
else:
    # A compiled module's submodules cannot be imported by name.
    AnsCoder = constriction.stream.stack.AnsCoder
    Categorical = constriction.stream.model.Categorical
    Uniform = constriction.stream.model.Uniform

# Tables hold frequencies of 16 bits, as CompressAI's do; the coder works with 24.
TABLE_BITS, CODER_BITS = 16, 24
START = 1 << CODER_BITS
# What a stream costs beyond the information of its symbols, on average: its start, with a checksum
# of 24 bits 2^24 to 2^25, and what is lost to whole bytes. At most it is 34.
STREAM_BITS = CODER_BITS + 2 - 1 / log(2) + 4
MAX_OFFSET = 2**22
# Values outside a table are sent as its escape symbol and a distance d, in exponential Golomb code
# (order 0): class k = ⌊log2(d + 1)⌋, of probability 2^-(k+1), and d + 1 - 2^k as one of 2^k.
DISTANCE_CLASSES = 16
# Values that are ordered by table at a time: few enough to stay in caches.
PIECE = 2**18


class StreamWriter:
    """Collects symbols in the order in which they will be read."""

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, Any]] = []

    def put(self, symbols: np.ndarray, model: Any) -> None:
        """Append symbols (n,), each coded with ``model``."""
        self._parts.append((symbols.astype(np.int32, copy=False), model))

    def finish(self, checksum: int = 0) -> bytes:
        """The stream.

        Args:
            checksum: below 2^24, that the reader must give as well.
        """
        coder = AnsCoder(np.array([START + checksum], np.uint32))
        # A stack: what is put last is read first.
        for symbols, model in reversed(self._parts):
            coder.encode_reverse(symbols, model)
        # The last word is never zero, so its leading zero bytes can be restored.
        return coder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")


class StreamReader:
    """Reads what a :class:`StreamWriter` wrote; any bytes are safe to read.

    Raises:
        BitstreamError: if ``data`` is no stream.
    """

    def __init__(self, data: bytes) -> None:
        if data.endswith(b"\0"):
            raise BitstreamError("the stream ends in a zero byte, which no encoder writes: damaged")
        padded = data + bytes(-len(data) % 4)
        self._coder = AnsCoder(np.frombuffer(padded, "<u4").astype(np.uint32))

    def get(self, model: Any, count: int) -> np.ndarray:
        """The next ``count`` symbols, int32.

        Raises:
            BitstreamError: if the stream has fewer.
        """
        symbols = self._coder.decode(model, count)
        words, state = self._coder.pos()
        # Each symbol makes the state smaller, so it need not be looked at after each.
        if words == 0 and state < START:
            raise BitstreamError("the stream ends before its picture does: damaged")
        return symbols

    def finish(self, checksum: int = 0) -> None:
        """Check that nothing is left, and that the writer gave the same ``checksum``.

        Raises:
            BitstreamError: if not.
        """
        if self._coder.pos() != (0, START + checksum):
            raise BitstreamError(
                "the stream does not end where its picture ends, or not with its checksum: damaged"
            )


def _categorical(frequencies: np.ndarray) -> Any:
    """Model of symbols with these frequencies of 16 bits."""
    # constriction adds one to what it makes of each probability, so that none becomes zero, and
    # scales to the rest of 2^24: given frequencies less one, it scales by exactly 1, and the
    # coder's table is ours to the last bit.
    frequencies = frequencies.astype(np.float64) * (1 << CODER_BITS - TABLE_BITS)
    return Categorical(frequencies - 1, perfect=False)


# The last class gets what is left: as much as the one before it.
_CLASS_BITS = np.minimum(np.arange(DISTANCE_CLASSES) + 1, DISTANCE_CLASSES - 1)
_CLASSES = _categorical(1 << TABLE_BITS - _CLASS_BITS)
# Class 0 has no remainder.
_REMAINDERS = {k: Uniform(1 << k) for k in range(1, DISTANCE_CLASSES)}


def _class_of(distances: np.ndarray) -> np.ndarray:
    # The exponent is exact, as a logarithm need not be.
    return np.frexp(distances + 1)[1] - 1


def _write_distances(writer: StreamWriter, distances: np.ndarray) -> None:
    classes = _class_of(distances)
    writer.put(classes, _CLASSES)
    for k, model in _REMAINDERS.items():
        writer.put(distances[classes == k] + 1 - (1 << k), model)


def _read_distances(reader: StreamReader, count: int) -> np.ndarray:
    classes = reader.get(_CLASSES, count)
    distances = np.zeros_like(classes)
    for k in np.unique(classes[classes > 0]):
        members = classes == k
        remainder = reader.get(_REMAINDERS[k], int(members.sum()))
        distances[members] = remainder + (1 << k) - 1
    return distances


def _by_table(
    indexes: np.ndarray, counts: np.ndarray
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Where values go that are ordered by table, and among equals as they are, piece by piece.

    Args:
        indexes: (n,) tables.
        counts: (T,) how often each is there.

    Yields:
        a piece of the values, their order within it, and their places, so ordered, among all.
    """
    starts = np.cumsum(counts) - counts
    for begin in range(0, len(indexes), PIECE):
        piece = slice(begin, begin + PIECE)
        order = np.argsort(indexes[piece], kind="stable")
        here = np.bincount(indexes[piece], minlength=len(counts))
        places = np.repeat(starts - (np.cumsum(here) - here), here)
        places += np.arange(len(order))
        yield piece, order, places
        starts += here


class Tables:
    """Frequency tables over consecutive integers, as CompressAI's entropy models hold them.

    Table t covers the values ``offsets[t]`` to ``offsets[t] + lengths[t] - 3``; its last symbol is
    the escape for all others.

    Args:
        cdf: (Σ lengths,) cumulative frequencies of all tables, each from 0 to 2^16.
        lengths: (T,) entries of ``cdf`` per table, one more than its symbols.
        offsets: (T,) value of each table's first symbol.

    Raises:
        ValueError: if the tables are none.
    """

    def __init__(self, cdf: np.ndarray, lengths: np.ndarray, offsets: np.ndarray) -> None:
        self.cdf = np.ascontiguousarray(cdf, np.int32)
        self.lengths = np.ascontiguousarray(lengths, np.int32)
        self.offsets = np.ascontiguousarray(offsets, np.int32)
        if not (self.lengths.ndim == 1 and self.lengths.shape == self.offsets.shape and len(self)):
            raise ValueError("as many lengths as offsets are needed, and one at least")
        if self.lengths.min(initial=3) < 3 or self.lengths.sum() != len(self.cdf):
            raise ValueError("the lengths do not fit the tables")
        if any(
            t[0] != 0 or t[-1] != 1 << TABLE_BITS or np.diff(t).min() < 1 for t in self._split()
        ):
            raise ValueError("a table is not cumulative, or a frequency in it is zero")
        # With length and distance they stay exact in float32 and far from int32's end.
        if abs(self.offsets.astype(np.int64)).max() > MAX_OFFSET:
            raise ValueError(f"an offset is beyond {MAX_OFFSET}")

    def __len__(self) -> int:
        return len(self.lengths)

    def state(self, prefix: str) -> dict[str, np.ndarray]:
        """The arrays, by names that begin with ``prefix``."""
        return {f"{prefix}.{key}": getattr(self, key) for key in ("cdf", "lengths", "offsets")}

    @classmethod
    def from_state(cls, prefix: str, arrays: dict[str, np.ndarray]) -> Tables:
        """Inverse of :meth:`state`."""
        return cls(*(arrays[f"{prefix}.{key}"] for key in ("cdf", "lengths", "offsets")))

    def _split(self) -> list[np.ndarray]:
        return np.split(self.cdf, np.cumsum(self.lengths)[:-1])

    @property
    def lowest(self) -> np.ndarray:
        """(T,) lowest value each table covers."""
        return self.offsets

    @property
    def highest(self) -> np.ndarray:
        """(T,) highest value each table covers."""
        return self.offsets + self.lengths - 3

    @cached_property
    def least_bits(self) -> np.ndarray:
        """(T,) lower bound on what a value of each table adds to a stream, in bits.

        Half the information content of the table's most frequent symbol: the coder, whose state is
        never below 2^24, multiplies it by at least (1 + 1/p) / 2 for a symbol of probability p.
        """
        most = np.array([np.diff(t).max() for t in self._split()])
        return (TABLE_BITS - np.log2(most)) / 2

    @cached_property
    def _models(self) -> list[Any]:
        return [_categorical(np.diff(t)) for t in self._split()]

    def write(self, writer: StreamWriter, values: np.ndarray, indexes: np.ndarray) -> None:
        """Append integer ``values`` (n,), value i coded with table ``indexes[i]``.

        They are coded table by table, which takes one call each instead of one per value.

        Raises:
            CodecDetError: if a value lies more than 2^15 above its table, or as much below it.
        """
        counts = np.bincount(indexes, minlength=len(self))
        ordered = np.empty(len(values), np.int32)
        for piece, order, places in _by_table(indexes, counts):
            ordered[places] = values[piece][order]
        distances = [np.zeros(0, np.int64)]
        for t, part in enumerate(np.split(ordered, np.cumsum(counts)[:-1])):
            if not len(part):
                continue
            symbols = part.astype(np.int64) - self.offsets[t]
            escape = self.lengths[t] - 2
            outside = (symbols < 0) | (symbols >= escape)
            distance = symbols[outside]
            distances.append(np.where(distance < 0, -2 * distance - 1, 2 * (distance - escape)))
            symbols[outside] = escape
            part[:] = symbols
            writer.put(part, self._models[t])
        distance = np.concatenate(distances)
        if distance.max(initial=0) + 1 >= 1 << DISTANCE_CLASSES:
            raise CodecDetError(
                "the codec's latents are too large to code: its weights have diverged, or do not "
                "belong to its tables"
            )
        _write_distances(writer, distance)

    def read(self, reader: StreamReader, indexes: np.ndarray) -> np.ndarray:
        """Inverse of :meth:`write`: (n,) int32 values."""
        counts = np.bincount(indexes, minlength=len(self))
        ordered = np.empty(len(indexes), np.int32)
        ends = np.cumsum(counts)
        used = np.flatnonzero(counts)
        parts = [ordered[ends[t] - counts[t] : ends[t]] for t in used]
        outside = []
        for t, part in zip(used, parts, strict=True):
            part[:] = reader.get(self._models[t], len(part))
            outside.append(np.flatnonzero(part == self.lengths[t] - 2))
        distances = _read_distances(reader, sum(map(len, outside)))
        for t, part, places in zip(used, parts, outside, strict=True):
            distance, distances = np.split(distances, [len(places)])
            above = self.lengths[t] - 2 + distance // 2
            part[places] = np.where(distance & 1, -(distance + 1) // 2, above)
            part[:] += self.offsets[t]
        values = np.empty_like(ordered)
        for piece, order, places in _by_table(indexes, counts):
            values[piece][order] = ordered[places]
        return values

    def bits(self, values: np.ndarray, indexes: np.ndarray) -> float:
        """Information content of ``values`` in bits, as coded by :meth:`write`."""
        pieces = (slice(i, i + PIECE) for i in range(0, len(values), PIECE))
        return float(sum(self._bits(values[piece], indexes[piece]) for piece in pieces))

    def _bits(self, values: np.ndarray, indexes: np.ndarray) -> float:
        symbols = values.astype(np.int64) - self.offsets[indexes]
        escape = self.lengths[indexes] - 2
        outside = (symbols < 0) | (symbols >= escape)
        position = (np.cumsum(self.lengths) - self.lengths)[indexes]
        position = position + np.where(outside, escape, symbols)
        frequency = self.cdf[position + 1] - self.cdf[position]
        distance = np.where(symbols < 0, -2 * symbols - 1, 2 * (symbols - escape))[outside]
        classes = _class_of(distance)
        escapes = (_CLASS_BITS[classes] + classes).sum()
        return float((TABLE_BITS - np.log2(frequency)).sum() + escapes)
