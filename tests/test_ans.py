"""The entropy coder, against an implementation of its description in plain Python."""

import numpy as np
import pytest

from codec_det.bitstream.ans import (
    MAX_OFFSET,
    START,
    STREAM_BITS,
    StreamReader,
    StreamWriter,
    Tables,
)
from codec_det.errors import BitstreamError, CodecDetError

# ---- The coder of docs/bitstream.md, in Python's integers ----


def reference_encode(intervals, checksum=0):
    """(start, frequency) of each symbol, in units of 2^-24, in the order of reading, to bytes."""
    state, words = (1 << 24) + checksum, []
    for start, frequency in reversed(intervals):
        if state >= frequency << 40:
            words.append(state & 0xFFFFFFFF)
            state >>= 32
        state = (state // frequency << 24) + start + state % frequency
    words.append(state & 0xFFFFFFFF)
    if state >> 32:
        words.append(state >> 32)
    return b"".join(word.to_bytes(4, "little") for word in words).rstrip(b"\0")


class ReferenceDecoder:
    def __init__(self, data):
        data += bytes(-len(data) % 4)
        self.words = [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]
        self.state = self.words.pop()
        if self.words:
            self.state = self.state << 32 | self.words.pop()

    def symbol(self, cumulative):
        """The next symbol of a table of cumulative frequencies from 0 to 2^24."""
        quantile = self.state & 0xFFFFFF
        symbol = next(i for i, end in enumerate(cumulative[1:]) if quantile < end)
        start, end = cumulative[symbol], cumulative[symbol + 1]
        self.state = (self.state >> 24) * (end - start) + quantile - start
        if self.state < 1 << 32 and self.words:
            self.state = self.state << 32 | self.words.pop()
        return symbol


CLASSES = [0]
for _k in range(16):
    CLASSES.append(CLASSES[-1] + (1 << 24 - min(_k + 1, 15)))


def uniform(k):
    return [i << 24 - k for i in range((1 << k) + 1)]


def reference_symbols(tables, values, indexes):
    """(cumulative frequencies, symbol) of each symbol of a group, in the order of the stream."""
    symbols, distances = [], []
    ends = np.cumsum(tables.lengths)
    for table in range(len(tables)):
        row = tables.cdf[ends[table] - tables.lengths[table] : ends[table]]
        cumulative = [int(c) << 8 for c in row]
        escape, low = len(row) - 2, int(tables.offsets[table])
        for value, index in zip(values.tolist(), indexes.tolist(), strict=True):
            if index != table:
                continue
            symbol = value - low
            if not 0 <= symbol < escape:
                distances.append(-2 * symbol - 1 if symbol < 0 else 2 * (symbol - escape))
                symbol = escape
            symbols.append((cumulative, symbol))
    classes = [(d + 1).bit_length() - 1 for d in distances]
    symbols += [(CLASSES, k) for k in classes]
    for k in range(1, 16):
        members = [d for d, own in zip(distances, classes, strict=True) if own == k]
        symbols += [(uniform(k), d + 1 - (1 << k)) for d in members]
    return symbols


def reference_stream(symbols, checksum=0):
    return reference_encode([(c[s], c[s + 1] - c[s]) for c, s in symbols], checksum)


# ---- Tables to test with ----


def random_tables(rng, count=5):
    """Tables of 2 to 30 symbols with the escape, from flat ones to ones that are nearly certain."""
    cdf, lengths, offsets = [], [], []
    for _ in range(count):
        symbols = int(rng.integers(2, 30))
        shares = rng.dirichlet(np.full(symbols, rng.choice((0.01, 0.3, 10))))
        frequencies = 1 + np.floor(shares * (2**16 - symbols)).astype(np.int64)
        frequencies[rng.integers(symbols)] += 2**16 - frequencies.sum()
        cdf += [0, *np.cumsum(frequencies)]
        lengths.append(symbols + 1)
        offsets.append(int(rng.integers(-20, 20)))
    return Tables(np.array(cdf), np.array(lengths), np.array(offsets))


def random_values(rng, tables, count, outside=0.1):
    indexes = rng.integers(len(tables), size=count).astype(np.uint8)
    values = rng.integers(tables.lowest[indexes], tables.highest[indexes], endpoint=True)
    far = rng.integers(1, 2**15, size=count) >> rng.integers(15, size=count)
    values += np.where(rng.random(count) < outside, far * rng.choice((-1, 1), count), 0)
    return values, indexes


def code(tables, values, indexes, checksum=0):
    writer = StreamWriter()
    tables.write(writer, np.asarray(values), np.asarray(indexes))
    return writer.finish(checksum)


def decode(tables, stream, indexes, checksum=0):
    reader = StreamReader(stream)
    values = tables.read(reader, np.asarray(indexes))
    reader.finish(checksum)
    return values


def single(frequencies, offset=0):
    """One table of these frequencies of 16 bits, the last the escape's."""
    return Tables(
        np.cumsum([0, *frequencies]), np.array([len(frequencies) + 1]), np.array([offset])
    )


# ---- The library against the description ----


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("checksum", [0, 1, 2**24 - 1, None])
def test_streams_are_those_of_the_description(seed, checksum):
    rng = np.random.default_rng(seed)
    tables = random_tables(rng)
    values, indexes = random_values(rng, tables, int(rng.integers(1, 400)))
    checksum = int(rng.integers(2**24)) if checksum is None else checksum
    symbols = reference_symbols(tables, values, indexes)
    stream = code(tables, values, indexes, checksum)
    assert stream == reference_stream(symbols, checksum)

    decoder = ReferenceDecoder(stream)
    assert [decoder.symbol(cumulative) for cumulative, _ in symbols] == [s for _, s in symbols]
    assert (decoder.state, decoder.words) == ((1 << 24) + checksum, [])
    assert np.array_equal(decode(tables, stream, indexes, checksum), values)
    for other in (checksum ^ 1, checksum ^ 2**23):
        with pytest.raises(BitstreamError, match="or not with its checksum: damaged"):
            decode(tables, stream, indexes, other)


def test_a_frequency_of_16_bits_becomes_256_times_as_much():
    # Each symbol alone: the stream is the coder's state, so start and frequency can be read off.
    rng = np.random.default_rng(0)
    tables = random_tables(rng, 1)
    for symbol in range(int(tables.lengths[0]) - 2):
        stream = code(tables, [symbol + int(tables.offsets[0])], [0])
        start, end = (int(c) << 8 for c in tables.cdf[symbol : symbol + 2])
        quotient, rest = divmod(1 << 24, end - start)
        assert int.from_bytes(stream, "little") == (quotient << 24) + start + rest


def test_values_come_table_by_table_each_in_order():
    tables = Tables(np.array([0, 30000, 60000, 2**16] * 2), np.array([4, 4]), np.array([0, 0]))
    stream = code(tables, [0, 1, 1, 0, 1], [1, 0, 1, 0, 1])
    assert stream == code(tables, [1, 0, 0, 1, 1], [0, 0, 1, 1, 1])
    assert stream != code(tables, [0, 1, 0, 1, 1], [0, 0, 1, 1, 1])


# ---- Escapes ----


@pytest.mark.parametrize("offset", [-7, 0, 12])
def test_values_on_either_side_of_a_table_come_back(offset):
    tables = single([100, 65000, 400, 36], offset)
    near = [*range(offset - 40, offset + 43)]
    far = [offset - 2**15 + 1, offset - 9999, offset + 9999, offset + 2 + 2**15]
    values = np.array(near + far)
    indexes = np.zeros(len(values), np.uint8)
    assert np.array_equal(decode(tables, code(tables, values, indexes), indexes), values)


@pytest.mark.parametrize("value", [-(2**15), 2 + 2**15 + 1, -(2**31), 2**31 - 1])
def test_values_too_far_from_their_table_are_refused(value):
    tables = single([100, 65000, 400, 36])
    with pytest.raises(CodecDetError, match="too large to code: its weights have diverged"):
        code(tables, [0, value], [0, 0])


def test_the_nearest_escape_takes_a_bit_and_each_doubling_two_more():
    tables = single([30000, 30000, 2**16 - 60000])
    base = tables.bits(np.array([2]), np.array([0]))
    assert base == pytest.approx(np.log2(2**16 / (2**16 - 60000)) + 1)
    distances = {-1: 3, 3: 3, -2: 5, 4: 5, 5: 5, 6: 7, 1 + 2**14: 29}
    assert {v: tables.bits(np.array([v]), np.array([0])) - base + 1 for v in distances} == {
        v: pytest.approx(bits) for v, bits in distances.items()
    }
    # The last class is as likely as the one before it.
    largest = tables.bits(np.array([1 + 2**15]), np.array([0]))
    assert largest - base + 1 == pytest.approx(15 + 15)


# ---- Length ----


def test_information_content_is_the_length_of_the_stream():
    rng = np.random.default_rng(0)
    excess = []
    for _ in range(300):
        tables = random_tables(rng)
        values, indexes = random_values(rng, tables, int(rng.integers(1, 300)), outside=0.02)
        stream = code(tables, values, indexes, int(rng.integers(2**24)))
        excess.append(8 * len(stream) - tables.bits(values, indexes))
    assert min(excess) >= 24 - 1
    assert max(excess) <= 34
    assert np.mean(excess) == pytest.approx(STREAM_BITS, abs=0.25)


@pytest.mark.parametrize("most", [2**16 - 2, 60000, 40000, 33000])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("count", [1, 10, 1000, 100_000])
def test_no_stream_is_shorter_than_the_bound(most, first, count):
    rest = 2**16 - 1 - most
    # The most frequent symbol makes the state grow least where its interval starts at zero.
    tables = single([most, rest, 1] if first else [rest, most, 1])
    stream = code(tables, np.full(count, 0 if first else 1), np.zeros(count, np.uint8))
    (least,) = tables.least_bits
    assert least == pytest.approx(-np.log2(most / 2**16) / 2)
    assert 24 + count * least <= 8 * len(stream) + 1


def test_no_symbol_is_free():
    tables = single([1, 65534, 1])
    stream = code(tables, np.zeros(1000, np.int32), np.zeros(1000, np.uint8))
    assert len(stream) == pytest.approx(2000 + 3, abs=1)


def test_a_stream_of_no_symbols_is_the_state_it_starts_from():
    stream = StreamWriter().finish()
    assert stream == b"\0\0\0\1"
    assert int.from_bytes(stream, "little") == START
    StreamReader(stream).finish()


# ---- Damaged streams ----


@pytest.fixture
def coded():
    rng = np.random.default_rng(3)
    tables = random_tables(rng)
    values, indexes = random_values(rng, tables, 60)
    return tables, indexes, code(tables, values, indexes)


def test_a_stream_cut_anywhere_is_refused(coded):
    tables, indexes, stream = coded
    for length in range(len(stream)):
        with pytest.raises(BitstreamError, match="damaged"):
            decode(tables, stream[:length], indexes)


@pytest.mark.parametrize("more", [b"\0", b"\1", bytes(4), b"\0\0\0\1", b"\1\0\0\0", bytes(99)])
def test_a_longer_stream_is_refused(coded, more):
    tables, indexes, stream = coded
    with pytest.raises(BitstreamError, match="damaged"):
        decode(tables, stream + more, indexes)
    with pytest.raises(BitstreamError, match="damaged"):
        decode(tables, more + stream, indexes)


def test_an_empty_stream_is_refused_at_its_first_symbol():
    reader = StreamReader(b"")
    with pytest.raises(BitstreamError, match="ends before its picture does"):
        single([100, 65000, 436]).read(reader, np.zeros(10**6, np.uint8))
    with pytest.raises(BitstreamError, match="does not end where its picture ends"):
        StreamReader(b"").finish()


def test_too_few_symbols_are_noticed_before_the_end(coded):
    tables, indexes, stream = coded
    with pytest.raises(BitstreamError, match="ends before its picture does"):
        StreamReader(stream).get(tables._models[0], 10**5)
    with pytest.raises(BitstreamError, match="does not end where its picture ends"):
        decode(tables, stream, indexes[:5])


def test_a_changed_bit_is_noticed_or_makes_the_stream_of_other_values(coded):
    tables, indexes, stream = coded
    original = decode(tables, stream, indexes)
    refused = 0
    for bit in range(8 * len(stream)):
        changed = bytearray(stream)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            values = decode(tables, bytes(changed), indexes)
        except BitstreamError:
            refused += 1
            continue
        # The bits of an escape's distance are next to raw, and no other symbol depends on them.
        assert code(tables, values, indexes) == bytes(changed)
        assert not np.array_equal(values, original)
    assert refused > 0.8 * 8 * len(stream)


# ---- Tables ----


@pytest.mark.parametrize(
    ("cdf", "lengths", "offsets", "message"),
    [
        ([], [], [], "one at least"),
        ([0, 5, 2**16], [3], [0, 1], "as many lengths as offsets"),
        ([0, 5, 2**16], [[3]], [[0]], "as many lengths as offsets"),
        ([0, 5, 2**16], [4], [0], "do not fit"),
        ([0, 2**16], [2], [0], "do not fit"),
        ([0, 5, 2**16, 0, 2**16], [3, 2], [0, 0], "do not fit"),
        ([1, 5, 2**16], [3], [0], "not cumulative"),
        ([0, 5, 2**16 - 1], [3], [0], "not cumulative"),
        ([0, 5, 5, 2**16], [4], [0], "a frequency in it is zero"),
        ([0, 7, 5, 2**16], [4], [0], "not cumulative"),
        ([0, 5, 2**16], [3], [MAX_OFFSET + 1], "an offset is beyond"),
        ([0, 5, 2**16], [3], [-(2**31)], "an offset is beyond"),
    ],
)
def test_what_are_no_tables_is_refused(cdf, lengths, offsets, message):
    with pytest.raises(ValueError, match=message):
        Tables(np.array(cdf), np.array(lengths), np.array(offsets))


def test_range_of_a_table():
    tables = Tables(np.array([0, 5, 9, 2**16, 0, 1, 2**16]), np.array([4, 3]), np.array([-4, 6]))
    assert len(tables) == 2
    assert tables.lowest.tolist() == [-4, 6]
    assert tables.highest.tolist() == [-3, 6]
