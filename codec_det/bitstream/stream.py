"""The ``.cdetv`` stream: frames of one camera, one after another.

A header, and then a record of each frame:

=======  ==========  ===============================================================
bytes    field       content
=======  ==========  ===============================================================
4        magic       89 43 44 56 (hex)
1        version     1
4        model       first bytes of the SHA-256 of the model of predicted frames
1 to 4   rate        frames per 1000 seconds; 1: not known
=======  ==========  ===============================================================

=======  ==========  ===============================================================
1 to 4   length      of the payload in bytes
1        frame       bit 7: a key frame; bits 0-6: its number modulo 128
1 to 4   number      its number ÷ 128, plus 1; only of a key frame
2        checksum    low half of the CRC-32 of the fields before and of the payload,
                     little-endian; only of a key frame: a predicted one's payload has
                     24 bits of its own, of the frame before, too
length   payload     of a key frame a ``.cdet`` file; else a predicted frame's stream
=======  ==========  ===============================================================

Numbers are varints as of :mod:`.container`. Frames are numbered from 0 on, in ascending order;
only a key frame may follow on a hole. Where a record is damaged or not in order, the next that is
read is a key frame's, found by the first bytes of its file: nothing else is lost.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from ..errors import BitstreamError
from .container import MAGIC, MAX_SIDE, read_varint, varints
from .entropy import Latents
from .prediction import Prediction, SequenceReader

Found = TypeVar("Found")

STREAM_MAGIC = b"\x89CDV"
STREAM_VERSION = 1
MODEL_BYTES = 4
CHECKSUM_BYTES = 2
_KEY, _NUMBERS = 0x80, 0x80


class StreamHeader(NamedTuple):
    """What a stream says of itself.

    Attributes:
        model: first bytes of the model's SHA-256.
        fps: frames per second; 0: not known.
    """

    model: bytes
    fps: float

    def pack(self) -> bytes:
        """The bytes that a stream begins with."""
        rate = min(max(round(1000 * self.fps), 1), MAX_SIDE)
        return STREAM_MAGIC + bytes((STREAM_VERSION,)) + self.model + varints(rate)


class Sent(NamedTuple):
    """A frame as it was sent.

    Attributes:
        number: from 0 on.
        payload: a file of a key frame, else a stream of a predicted one.
    """

    number: int
    is_key: bool
    payload: bytes

    def pack(self) -> bytes:
        """The bytes of its record.

        Raises:
            ValueError: if it is empty, or too long or late to be written.
        """
        rounds, low = divmod(self.number, _NUMBERS)
        head = varints(len(self.payload)) + bytes((low | _KEY * self.is_key,))
        if not self.is_key:
            return head + self.payload
        head += varints(rounds + 1)
        return head + _checksum(head, self.payload) + self.payload


class Lost(NamedTuple):
    """Frames that are not there, and why, in words."""

    reason: str


class Received(NamedTuple):
    """A frame that was decoded."""

    number: int
    latents: Latents
    sent: Sent


def model_bytes(prediction: Prediction) -> bytes:
    """What streams say of their model."""
    return bytes.fromhex(prediction.sha256)[:MODEL_BYTES]


def read_header(data: bytes) -> tuple[StreamHeader, int]:
    """The header of a stream, and where its first record begins.

    Raises:
        BitstreamError: if ``data`` does not begin with one of a known version.
    """
    fixed = len(STREAM_MAGIC) + 1 + MODEL_BYTES
    if data[: len(STREAM_MAGIC)] != STREAM_MAGIC:
        raise BitstreamError("not a stream of codec_det: it does not begin with 89 43 44 56")
    if len(data) < fixed + 1:
        raise BitstreamError(f"cut short to {len(data)} bytes: send it again")
    if data[len(STREAM_MAGIC)] != STREAM_VERSION:
        raise BitstreamError(
            f"version {data[len(STREAM_MAGIC)]} of the stream; this program reads {STREAM_VERSION}"
        )
    rate, position = read_varint(data, fixed)
    model = bytes(data[len(STREAM_MAGIC) + 1 : fixed])
    return StreamHeader(model, rate / 1000 if rate > 1 else 0.0), position


def decode_stream(
    data: bytes, prediction: Prediction, max_pixels: int
) -> Iterator[Received | Lost]:
    """The frames of a stream, in order; what is lost is said, and never shown.

    Raises:
        BitstreamError: if ``data`` is no stream, or of another model.
    """
    header, position = read_header(data)
    if header.model != model_bytes(prediction):
        raise BitstreamError(
            f"coded with the model {header.model.hex()}, but this one is "
            f"{model_bytes(prediction).hex()}: decode it with the model of its encoder"
        )
    reader = SequenceReader(prediction, max_pixels)

    def read(sent: Sent) -> Received:
        return Received(sent.number, reader.read(sent.is_key, sent.payload), sent)

    fingerprint = prediction.pictures.fingerprint(prediction.pictures.version)
    yield from _each_record(data, position, MAGIC + fingerprint, read)


def read_records(data: bytes) -> Iterator[Sent | Lost]:
    """The frames of a stream as they were sent, as far as can be told without their model.

    Raises:
        BitstreamError: if ``data`` is no stream.
    """
    _, position = read_header(data)
    yield from _each_record(data, position, MAGIC, lambda sent: sent)


def _each_record(
    data: bytes, position: int, signature: bytes, read: Callable[[Sent], Found]
) -> Iterator[Found | Lost]:
    """What comes of the records from a position on.

    Args:
        signature: what a key frame's payload begins with.
        read: raises BitstreamError for a frame that is damaged.
    """
    last, follows = -1, False
    while position < len(data):
        try:
            sent, end = _read_record(data, position, last if follows else None)
            if sent.number <= last:
                raise BitstreamError(f"frame {sent.number} comes after frame {last}")
            found = read(sent)
        except BitstreamError as error:
            yield Lost(f"at byte {position}: {error}")
            follows = False
            position = _next_key_frame(data, position + 1, signature)
        else:
            position, last, follows = end, sent.number, True
            yield found


def _read_record(data: bytes, position: int, before: int | None) -> tuple[Sent, int]:
    """A record, and where it ends.

    Args:
        before: number of the frame before; None: not known, so that a key frame must be here.

    Raises:
        BitstreamError: if there is none, or not the next frame's.
    """
    length, place = read_varint(data, position)
    if place >= len(data):
        raise BitstreamError("the stream is cut short amid a frame")
    low, is_key = data[place] & _NUMBERS - 1, bool(data[place] & _KEY)
    place += 1
    if is_key:
        rounds, place = read_varint(data, place)
        number = (rounds - 1) * _NUMBERS + low
    elif before is None or low != (before + 1) % _NUMBERS:
        raise BitstreamError("a predicted frame, and the one before it is not there")
    else:
        number = before + 1
    start = place + CHECKSUM_BYTES * is_key
    payload = data[start : start + length]
    if len(payload) < length:
        raise BitstreamError("the stream is cut short amid a frame, or a length is damaged")
    if is_key and _checksum(data[position:place], payload) != data[place:start]:
        raise BitstreamError("a checksum does not match: a frame is damaged")
    return Sent(number, is_key, payload), start + length


def _next_key_frame(data: bytes, position: int, signature: bytes) -> int:
    """Where the record of the next key frame begins; the end of ``data`` if there is none."""
    found = data.find(signature, position)
    while found >= 0:
        # Two numbers of 1 to 4 bytes, and one byte, are before the checksum.
        for start in range(found - CHECKSUM_BYTES - 9, found - CHECKSUM_BYTES - 2):
            if start < position:
                continue
            try:
                _read_record(data, start, None)
            except BitstreamError:
                continue
            return start
        found = data.find(signature, found + 1)
    return len(data)


def _checksum(head: bytes, payload: bytes) -> bytes:
    both = zlib.crc32(payload, zlib.crc32(head)) & 0xFFFF
    return both.to_bytes(CHECKSUM_BYTES, "little")
