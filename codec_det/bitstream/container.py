"""The ``.cdet`` container: who coded the picture, its size, one entropy-coded stream.

Version 2, which encoders write:

=======  ==========  ===============================================================
bytes    field       content
=======  ==========  ===============================================================
2        magic       CD E2 (hex): twelve bits of magic, four of version
2        model       first bytes of the SHA-256 of the entropy model
1        size        bits 0-5: number in the model's list of expected sizes, or 63;
                     bit 6: a level follows; bit 7: a coded size follows
2 to 8   size        height and width; only after 63
2 to 8   coded size  height and width; only with bit 7
1 to 4   level       only with bit 6
any      stream      entropy-coded latents and checksum
=======  ==========  ===============================================================

Version 1:

=======  ==========  ===============================================================
4        magic       89 43 44 54 (hex)
1        version     1
1        codec       one of :data:`codec_det.bitstream.ids.CODEC_IDS`
4        model       first bytes of the SHA-256 of the entropy model
1 to 4   height      varint, 1 or more
1 to 4   width       varint, 1 or more
any      stream      entropy-coded latents, up to the checksum
4        checksum    CRC-32 (ISO 3309) of all bytes before it, little-endian
=======  ==========  ===============================================================

Numbers are varints (LEB128), 1 or more: seven bits per byte, least significant first; the top bit
says that another byte follows. They are as short as possible.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from ..errors import BitstreamError
from .ids import codec_name

# The first byte is no ASCII, and the second cannot follow it in UTF-8, so that a transfer as text
# is noticed.
MAGIC = b"\xcd\xe2"
MAGIC_1 = b"\x89CDT"
VERSION = 2
FINGERPRINT_BYTES = {1: 4, 2: 2}
CHECKSUM_BYTES = 4
# Default limit on what a header may ask for: 4096x4096.
MAX_PIXELS = 2**24

# Of the byte that says the size. 62 is kept for what may come.
MAX_SIZES, _WRITTEN_OUT, _HAS_LEVEL, _HAS_CODED_SIZE = 62, 0x3F, 0x40, 0x80

_FIXED_BYTES = len(MAGIC) + FINGERPRINT_BYTES[2] + 1
_FIXED_BYTES_1 = len(MAGIC_1) + 2 + FINGERPRINT_BYTES[1]
# The coder's start alone.
_MIN_STREAM_BYTES = 4
_MAX_VARINT_BYTES = 4
MAX_SIDE = 2 ** (7 * _MAX_VARINT_BYTES) - 1


class Header(NamedTuple):
    """What a file says of itself.

    Attributes:
        version: of the format, 1 or 2.
        fingerprint: of the entropy model, of :data:`FINGERPRINT_BYTES`.
        size: height and width of the picture in pixels, or its number among the sizes that the
            model expects.
        coded_size: height and width that were coded; None: as the model expects.
        level: of a variable-rate model, in steps of 1/64.
        codec_id: of version 1, one of :data:`codec_det.bitstream.ids.CODEC_IDS`; else 0, as the
            fingerprint says it.
    """

    version: int
    fingerprint: bytes
    size: int | tuple[int, int]
    coded_size: tuple[int, int] | None = None
    level: int = 0
    codec_id: int = 0

    def describe(self) -> str:
        """In words, for people."""
        size = f"size number {self.size} of the model"
        if isinstance(self.size, tuple):
            size = f"{self.size[1]}x{self.size[0]} pixels"
        codec = f"{codec_name(self.codec_id)}, " if self.codec_id else ""
        return f"{codec}model {self.fingerprint.hex()}, {size}"


def pack(header: Header, stream: bytes) -> bytes:
    """The bytes of a file.

    Raises:
        ValueError: if a side is not in 1 to 2^28 - 1.
    """
    if header.version == 1:
        assert isinstance(header.size, tuple)
        who = bytes((1, header.codec_id)) + header.fingerprint
        body = MAGIC_1 + who + varints(*header.size) + stream
        return body + zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "little")
    numbers: list[int] = []
    choice = header.size if isinstance(header.size, int) else _WRITTEN_OUT
    if isinstance(header.size, tuple):
        numbers += header.size
    if header.coded_size:
        choice |= _HAS_CODED_SIZE
        numbers += header.coded_size
    if header.level:
        choice |= _HAS_LEVEL
        numbers += [header.level]
    return MAGIC + header.fingerprint + bytes((choice,)) + varints(*numbers) + stream


def unpack(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[Header, bytes]:
    """Header and stream of a file.

    Raises:
        BitstreamError: if ``data`` is no intact file of a known version, or says that it is of a
            picture of more than ``max_pixels``. What only its model can tell is not checked.
    """
    if not data:
        raise BitstreamError("the file is empty: send it again")
    if data[: len(MAGIC_1)] == MAGIC_1[: len(data)]:
        return _unpack_1(data, max_pixels)
    if data[0] != MAGIC[0] or (len(data) > 1 and data[1] >> 4 != MAGIC[1] >> 4):
        raise BitstreamError(
            "not a codec_det file: it begins neither with the bytes CD E2 nor with 89 43 44 54"
        )
    if len(data) > 1 and data[1] != MAGIC[1]:
        raise _unknown_version(data[1] & 0xF)
    if len(data) < _FIXED_BYTES + _MIN_STREAM_BYTES:
        raise _cut_short(data)
    fingerprint, choice = data[len(MAGIC) : _FIXED_BYTES - 1], data[_FIXED_BYTES - 1]
    number, position = choice & _WRITTEN_OUT, _FIXED_BYTES
    if number == MAX_SIZES:
        raise BitstreamError(f"of a size numbered {MAX_SIZES}, which no encoder writes: damaged")
    size: int | tuple[int, int] = number
    coded_size, level = None, 0
    if number == _WRITTEN_OUT:
        size, position = _read_size(data, position)
        check_pixels(size, max_pixels)
    if choice & _HAS_CODED_SIZE:
        coded_size, position = _read_size(data, position)
    if choice & _HAS_LEVEL:
        level, position = read_varint(data, position)
    return Header(VERSION, bytes(fingerprint), size, coded_size, level), bytes(data[position:])


def _unpack_1(data: bytes, max_pixels: int) -> tuple[Header, bytes]:
    if len(data) < _FIXED_BYTES_1 + 2 + CHECKSUM_BYTES:
        raise _cut_short(data)
    version = data[len(MAGIC_1)]
    # Before the checksum, whose place and kind another version may change.
    if version != 1:
        raise _unknown_version(version)
    body, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "little") != checksum:
        raise BitstreamError("the checksum does not match: damaged, cut short or extended")
    size, position = _read_size(body, _FIXED_BYTES_1)
    check_pixels(size, max_pixels)
    fingerprint = bytes(body[len(MAGIC_1) + 2 : _FIXED_BYTES_1])
    header = Header(1, fingerprint, size, codec_id=body[len(MAGIC_1) + 1])
    return header, bytes(body[position:])


def check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    """Raises BitstreamError if a picture of this height and width has more than ``max_pixels``."""
    height, width = size
    if height * width > max_pixels:
        raise BitstreamError(
            f"{width}x{height} pixels are more than the limit of {max_pixels}: raise it "
            "(--max-pixels) if the picture is meant to be that large"
        )


def overhead_bytes(header: Header) -> int:
    """Length of a file beyond its stream."""
    return len(pack(header, b""))


def _cut_short(data: bytes) -> BitstreamError:
    return BitstreamError(f"cut short to {len(data)} bytes: send it again")


def _unknown_version(version: int) -> BitstreamError:
    return BitstreamError(f"version {version} of the format; this program reads 1 and {VERSION}")


def varints(*values: int) -> bytes:
    """Numbers of 1 to :data:`MAX_SIDE` as bytes.

    Raises:
        ValueError: if one is out of range.
    """
    out = bytearray()
    for value in values:
        if not 1 <= value <= MAX_SIDE:
            raise ValueError(f"a side of {value} pixels cannot be stored")
        rest = value
        while rest > 0x7F:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        out.append(rest)
    return bytes(out)


def _read_size(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    height, position = read_varint(data, position)
    width, position = read_varint(data, position)
    return (height, width), position


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at a position, and where it ends.

    Raises:
        BitstreamError: if there is none.
    """
    value = 0
    for count, byte in enumerate(data[position : position + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            if byte == 0:
                raise BitstreamError(
                    "a side or level is zero or written longer than needed: damaged"
                )
            return value, position + count + 1
    raise BitstreamError("a side or level has no end: damaged")
