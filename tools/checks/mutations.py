"""Mutations of valid files: as a transfer damages them, as a forger edits them, as no encoder would
write them.

Each is a function of (targets, seed, index), so that any can be repeated alone. Of each there are
two: index 2i is changed as a transfer might change it; index 2i + 1 has its checksum repaired, as a
forger would, so that all that lies behind the checksum is reached. In version 2 of the format,
whose checksum is in the stream, that is the file of whatever latents the changed one still gives.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from codec_det.bitstream.ans import StreamReader, StreamWriter, Tables
from codec_det.bitstream.container import (
    CHECKSUM_BYTES,
    FINGERPRINT_BYTES,
    MAGIC,
    MAGIC_1,
    Header,
    pack,
    unpack,
)
from codec_det.bitstream.entropy import EntropyModel, Latents
from codec_det.bitstream.expected import LEVEL_STEPS, Picture
from codec_det.bitstream.ids import CODEC_IDS
from codec_det.errors import BitstreamError

# Where the size begins: after magic, version, codec and fingerprint.
_SIZE_AT_1 = len(MAGIC_1) + 2 + FINGERPRINT_BYTES[1]
_SIZE_AT = len(MAGIC) + FINGERPRINT_BYTES[2]


class Target(NamedTuple):
    """A model and files that it has written.

    Attributes:
        name: of the codec.
        entropy: its entropy model.
        synthesize: latents to the picture (3, H, W) in [0, 1]; may raise BitstreamError.
        files: valid ones.
    """

    name: str
    entropy: EntropyModel
    synthesize: Callable[[Latents], np.ndarray]
    files: tuple[bytes, ...]


class Mutation(NamedTuple):
    """Bytes to be read with the model of ``targets[target]``."""

    target: int
    kind: str
    data: bytes


def mutation(targets: Sequence[Target], seed: int, index: int) -> Mutation:
    """The ``index``-th mutation of a seed."""
    rng = random.Random(f"{seed} {index // 2}")
    number = rng.randrange(len(targets))
    target = targets[number]
    data = rng.choice(target.files)
    kind = rng.choice(KINDS)
    repaired = index % 2 == 1
    if kind == "crafted":
        return Mutation(number, kind, _craft(rng, target.entropy, repaired))
    other = rng.choice(rng.choice(targets).files)
    if not repaired:
        return Mutation(number, kind, MUTATORS[kind](rng, data, other))
    if data.startswith(MAGIC):
        return Mutation(number, kind, _reseal(target.entropy, MUTATORS[kind](rng, data, other)))
    body = MUTATORS[kind](rng, data[:-CHECKSUM_BYTES], other[:-CHECKSUM_BYTES])
    return Mutation(number, kind, body + struct.pack("<I", zlib.crc32(body)))


def _reseal(entropy: EntropyModel, data: bytes) -> bytes:
    """The file of the latents that are read where only the end is wrong; else the same file."""
    try:
        # Not the target's own reader, which may be a faulty one that is looked for.
        EntropyModel.read(entropy, data)
    except BitstreamError as error:
        if "with its checksum" not in str(error):
            return data
    header, stream = unpack(data)
    picture = entropy.expected.picture(header)
    latents = entropy.read_symbols(StreamReader(stream), picture, header.version)
    return entropy.write(latents.y, latents.z, picture, header.version)


def _flip_bits(rng: random.Random, data: bytes, _: bytes) -> bytes:
    out = bytearray(data)
    for _i in range(rng.choice((1, 1, 2, 8))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def _change_bytes(rng: random.Random, data: bytes, _: bytes) -> bytes:
    start, end = _range(rng, data)
    kind = rng.randrange(3)
    new = rng.randbytes(end - start) if kind else bytes([rng.choice((0, 255))]) * (end - start)
    return data[:start] + new + data[end:]


def _truncate(rng: random.Random, data: bytes, _: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def _extend(rng: random.Random, data: bytes, _: bytes) -> bytes:
    count = rng.choice((1, 2, 3, 4, 8, 100))
    return data + (rng.randbytes(count) if rng.randrange(2) else bytes(count))


def _splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _delete(rng: random.Random, data: bytes, _: bytes) -> bytes:
    start, end = _range(rng, data)
    return data[:start] + data[end:]


def _duplicate(rng: random.Random, data: bytes, _: bytes) -> bytes:
    start, end = _range(rng, data)
    return data[:end] + data[start:end] * rng.choice((1, 1, 2, 50)) + data[end:]


def _edit_header(rng: random.Random, data: bytes, other: bytes) -> bytes:
    edit = _edit_header_2 if data.startswith(MAGIC) else _edit_header_1
    return edit(rng, bytearray(data), other)


def _edit_header_1(rng: random.Random, out: bytearray, other: bytes) -> bytes:
    field = rng.randrange(5)
    if field == 0:
        out[rng.randrange(len(MAGIC_1))] = rng.randrange(256)
    elif field == 1:
        out[len(MAGIC_1)] = rng.randrange(256)
    elif field == 2:
        out[len(MAGIC_1) + 1] = rng.choice((*CODEC_IDS.values(), rng.randrange(256)))
    elif field == 3:
        out[len(MAGIC_1) + 2 : _SIZE_AT_1] = rng.choice((rng.randbytes(4), other[6:_SIZE_AT_1]))
    else:
        end = _end_of_numbers(out, _SIZE_AT_1, 2)
        out[_SIZE_AT_1:end] = _random_number(rng) + _random_number(rng)
    return bytes(out)


def _edit_header_2(rng: random.Random, out: bytearray, other: bytes) -> bytes:
    field = rng.randrange(5)
    if field == 0:
        out[rng.randrange(len(MAGIC))] = rng.randrange(256)
    elif field == 1:
        out[len(MAGIC) : _SIZE_AT] = rng.choice((rng.randbytes(2), other[2:_SIZE_AT]))
    elif field == 2:
        out[_SIZE_AT] = rng.randrange(256)
    else:
        # What is there is kept as it is, or written anew, or dropped.
        choice = out[_SIZE_AT]
        count = 2 * (choice & 63 == 63) + 2 * (choice >> 7) + (choice >> 6 & 1)
        end = _end_of_numbers(out, _SIZE_AT + 1, count)
        choice = rng.choice((63, choice & 63, rng.randrange(64))) | rng.randrange(4) << 6
        count = 2 * (choice & 63 == 63) + 2 * (choice >> 7) + (choice >> 6 & 1)
        numbers = b"".join(_random_number(rng) for _ in range(count))
        out[_SIZE_AT:end] = bytes((choice,)) + numbers
    return bytes(out)


def _end_of_numbers(data: bytearray, start: int, count: int) -> int:
    for _ in range(count):
        while data[start] & 0x80:
            start += 1
        start += 1
    return start


def _random_number(rng: random.Random) -> bytes:
    """A varint: a likely, a large or any size, or longer than needed, or without end."""
    kind = rng.randrange(8)
    if kind == 0:
        return rng.randbytes(rng.randrange(6))
    value = (
        rng.randrange(1, 130)
        if kind < 5
        else rng.choice((0, 4096, 4097, 2**14, 2**24, 2**28 - 1, 2**32, rng.randrange(2**28)))
    )
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    if kind == 1:
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


def _replace_stream(rng: random.Random, data: bytes, _: bytes) -> bytes:
    """A valid header with any stream, which need not be as long as it was."""
    end = _SIZE_AT + 1 if data.startswith(MAGIC) else _SIZE_AT_1 + 2
    return data[:end] + rng.randbytes(rng.choice((0, 1, 3, 4, 8, len(data), 2000)))


def _garbage(rng: random.Random, data: bytes, _: bytes) -> bytes:
    size_at = _SIZE_AT if data.startswith(MAGIC) else _SIZE_AT_1
    return rng.choice((b"", MAGIC, MAGIC_1, data[:size_at])) + rng.randbytes(rng.randrange(200))


def _empty(rng: random.Random, data: bytes, _: bytes) -> bytes:
    return data[: rng.choice((0, 0, 0, 1, 4, 10))]


def _range(rng: random.Random, data: bytes) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.choice((1, 2, 4, 16, 64)))


MUTATORS: dict[str, Callable[[random.Random, bytes, bytes], bytes]] = {
    "bit flips": _flip_bits,
    "byte changes": _change_bytes,
    "truncation": _truncate,
    "extension": _extend,
    "splice": _splice,
    "deletion": _delete,
    "duplication": _duplicate,
    "header": _edit_header,
    "stream": _replace_stream,
    "garbage": _garbage,
    "empty": _empty,
}
# Crafted files end where they should, which random bytes never do: they are made by the coder, of
# any values that it can code, also of hyper-latents that no encoder sends.
KINDS = (*MUTATORS, "crafted")


def _craft(rng: random.Random, entropy: EntropyModel, repaired: bool) -> bytes:
    """A file of extreme values; ``repaired``: as it is, else with a bit of the stream flipped."""
    numbers = np.random.default_rng(rng.getrandbits(64))
    version = rng.choice((1, 2))
    picture = _random_picture(rng, entropy, version)
    shape, hyper_shape = entropy.shapes(picture, version)
    share = rng.choice((0.0, 0.0, 0.01, 0.5))
    writer, z = StreamWriter(), np.zeros(hyper_shape, np.int32)
    if entropy.hyperprior:
        tables = entropy.hyperprior.tables
        indexes = np.repeat(np.arange(len(tables)), z[0].size)
        values = extremes(numbers, tables, indexes, rng.choice((0.0, 0.0, share)))
        tables.write(writer, values, indexes)
        z = values.reshape(hyper_shape)
    indexes, _ = entropy.tables_and_means(shape[1:], z)
    y = extremes(numbers, entropy.tables, indexes.astype(np.int64), share)
    entropy.tables.write(writer, y, indexes)
    stream = writer.finish(entropy.checksum(version, picture, z, y))
    if not repaired:
        stream = _flip_bits(rng, stream, b"")
    fingerprint = entropy.fingerprint(version)
    if version == 1:
        header = Header(1, fingerprint, picture.size, codec_id=CODEC_IDS[entropy.codec])
    else:
        header = Header(version, fingerprint, *entropy.expected.fields(picture))
    return pack(header, stream)


def _random_picture(rng: random.Random, entropy: EntropyModel, version: int) -> Picture:
    """Of a size that is expected or not, in version 2 at any scale and level."""
    size = rng.randrange(1, 100), rng.randrange(1, 100)
    if rng.randrange(4) == 0:
        size = min(entropy.expected.sizes)
    if version == 1:
        return Picture(size, size)
    if rng.randrange(2):
        return Picture(size, entropy.expected.coded_size(size))
    coded_size = rng.randrange(size[0]) + 1, rng.randrange(size[1]) + 1
    level = rng.randrange(LEVEL_STEPS * (entropy.expected.levels - 1) + 1)
    return Picture(size, coded_size, level)


def extremes(
    numbers: np.random.Generator, tables: Tables, indexes: np.ndarray, share: float
) -> np.ndarray:
    """Values within their tables, a ``share`` of them as far outside as can be coded, or less."""
    low, high = tables.lowest[indexes], tables.highest[indexes]
    values = numbers.integers(low, high, endpoint=True)
    outside = numbers.random(len(values)) < share
    distance = numbers.choice((1, 2, 1000, 2**15 - 1, 2**15), size=len(values))
    # Below a table one less can be coded than above it.
    beyond = np.where(distance % 2, low - distance, high + distance)
    return np.where(outside, beyond, values)
