"""The ``.cdetv`` stream: frames of one camera, one after another.

A header, and then a record of each frame:

=======  ==========  ===============================================================
bytes    field       content
=======  ==========  ===============================================================
4        magic       89 43 44 56 (hex)
1        version     2
4        model       first bytes of the SHA-256 of the model of predicted frames
1 to 4   rate        frames per 1000 seconds; 1: not known
=======  ==========  ===============================================================

=======  ==========  ===============================================================
1        zero        0: a key frame; else not there
1 to 4   length      of the payload in bytes, not 0
1        low         128 plus its number modulo 128; only of a key frame
1 to 4   high        its number ÷ 128, plus 1; only of a key frame
2        checksum    low half of the CRC-32 of the fields from the length on and of the
                     payload, little-endian; only of a key frame: a predicted one's
                     payload has 24 bits of its own, of its number and of the frame
                     before, too
length   payload     of a key frame a ``.cdet`` file; else a predicted frame's stream
=======  ==========  ===============================================================

Numbers are varints as of :mod:`.container`. Frames are numbered from 0 on, in ascending order;
only a key frame may follow on a hole. Where a record is damaged or not in order, the next that is
read is a key frame's, found by the first bytes of its file: nothing else is lost.

Version 1, which is read, too, has no zero before key frames; its predicted frames say their number
modulo 128 in a byte of their own, and their checksum does not cover it.
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
STREAM_VERSION = 2
MODEL_BYTES = 4
CHECKSUM_BYTES = 2
_KEY, _NUMBERS = 0x80, 0x80
_KEY_FRAME = b"\0"


class StreamHeader(NamedTuple):
    """What a stream says of itself.

    Attributes:
        model: first bytes of the model's SHA-256.
        fps: frames per second; 0: not known.
        version: of the format.
    """

    model: bytes
    fps: float
    version: int = STREAM_VERSION

    def pack(self) -> bytes:
        """The bytes that a stream begins with."""
        rate = min(max(round(1000 * self.fps), 1), MAX_SIDE)
        return STREAM_MAGIC + bytes((self.version,)) + self.model + varints(rate)


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
        length = varints(len(self.payload))
        if not self.is_key:
            return length + self.payload
        rounds, low = divmod(self.number, _NUMBERS)
        head = length + bytes((_KEY | low,)) + varints(rounds + 1)
        return _KEY_FRAME + head + _checksum(head, self.payload) + self.payload


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
    version = data[len(STREAM_MAGIC)]
    if not 1 <= version <= STREAM_VERSION:
        raise BitstreamError(
            f"version {version} of the stream; this program reads 1 to {STREAM_VERSION}"
        )
    rate, position = read_varint(data, fixed)
    model = bytes(data[len(STREAM_MAGIC) + 1 : fixed])
    return StreamHeader(model, rate / 1000 if rate > 1 else 0.0, version), position


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
        number = sent.number if header.version > 1 else None
        return Received(sent.number, reader.read(sent.is_key, sent.payload, number), sent)

    fingerprint = prediction.pictures.fingerprint(prediction.pictures.version)
    records = _Records(data, header.version, MAGIC + fingerprint)
    yield from records.each(position, read)


def read_records(data: bytes) -> Iterator[Sent | Lost]:
    """The frames of a stream as they were sent, as far as can be told without their model.

    Raises:
        BitstreamError: if ``data`` is no stream.
    """
    header, position = read_header(data)
    yield from _Records(data, header.version, MAGIC).each(position, lambda sent: sent)


class _Records:
    """The records of a stream.

    Args:
        signature: what a key frame's payload begins with.
    """

    def __init__(self, data: bytes, version: int, signature: bytes) -> None:
        self._data = data
        self._version = version
        self._signature = signature

    def each(self, position: int, read: Callable[[Sent], Found]) -> Iterator[Found | Lost]:
        """What comes of them from a position on.

        Args:
            read: raises BitstreamError for a frame that is damaged.
        """
        last, follows = -1, False
        while position < len(self._data):
            try:
                sent, end = self._read(position, last if follows else None)
                if sent.number <= last:
                    raise BitstreamError(f"frame {sent.number} comes after frame {last}")
                found = read(sent)
            except BitstreamError as error:
                yield Lost(f"at byte {position}: {error}")
                follows = False
                position = self._next_key_frame(position + 1)
            else:
                position, last, follows = end, sent.number, True
                yield found

    def _read(self, position: int, before: int | None) -> tuple[Sent, int]:
        """A record, and where it ends.

        Args:
            before: number of the frame before; None: not known, so that a key frame must be here.

        Raises:
            BitstreamError: if there is none, or not the next frame's.
        """
        data, is_key = self._data, False
        says_key = self._version > 1 and data[position : position + 1] == _KEY_FRAME
        first = position + says_key
        length, place = read_varint(data, first)
        if place >= len(data):
            raise BitstreamError("the stream is cut short amid a frame")
        low = expected = -1 if before is None else (before + 1) % _NUMBERS
        if says_key or self._version == 1:
            low, is_key = data[place] & _NUMBERS - 1, bool(data[place] & _KEY)
            place += 1
        if says_key and not is_key:
            raise BitstreamError("neither a key frame nor a predicted one: damaged")
        if is_key:
            rounds, place = read_varint(data, place)
            number = (rounds - 1) * _NUMBERS + low
        elif before is None or low != expected:
            raise BitstreamError("a predicted frame, and the one before it is not there")
        else:
            number = before + 1
        start = place + CHECKSUM_BYTES * is_key
        payload = data[start : start + length]
        if len(payload) < length:
            raise BitstreamError("the stream is cut short amid a frame, or a length is damaged")
        if is_key and _checksum(data[first:place], payload) != data[place:start]:
            raise BitstreamError("a checksum does not match: a frame is damaged")
        return Sent(number, is_key, payload), start + length

    def _next_key_frame(self, position: int) -> int:
        """Where the record of the next begins; the end of the stream if there is none."""
        found = self._data.find(self._signature, position)
        while found >= 0:
            # Of two numbers of 1 to 4 bytes, of two bytes (version 1: one), and of the checksum.
            least = CHECKSUM_BYTES + 2 + self._version
            for start in range(found - least - 6, found - least + 1):
                if start < position:
                    continue
                try:
                    self._read(start, None)
                except BitstreamError:
                    continue
                return start
            found = self._data.find(self._signature, found + 1)
        return len(self._data)


def _checksum(head: bytes, payload: bytes) -> bytes:
    both = zlib.crc32(payload, zlib.crc32(head)) & 0xFFFF
    return both.to_bytes(CHECKSUM_BYTES, "little")
