"""The ``.cdet`` container: who coded the picture, its size, one entropy-coded stream, a checksum.

=======  ==========  ===============================================================
bytes    field       content
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

A varint (LEB128) has seven bits per byte, least significant first; the top bit says that another
byte follows. It is as short as possible.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from ..errors import BitstreamError
from .ids import codec_name

# The first byte is no ASCII, so that a transfer as text is noticed, as in PNG.
MAGIC = b"\x89CDT"
VERSION = 1
FINGERPRINT_BYTES = 4
CHECKSUM_BYTES = 4
# Default limit on what a header may ask for: 4096x4096.
MAX_PIXELS = 2**24

_FIXED_BYTES = len(MAGIC) + 2 + FINGERPRINT_BYTES
_MAX_VARINT_BYTES = 4


class Header(NamedTuple):
    """What a file says of itself.

    Attributes:
        codec_id: one of :data:`codec_det.bitstream.ids.CODEC_IDS`.
        fingerprint: of the entropy model, 4 bytes.
        height: of the picture, in pixels.
        width: of the picture, in pixels.
    """

    codec_id: int
    fingerprint: bytes
    height: int
    width: int

    def describe(self) -> str:
        """In words, for people."""
        return (
            f"{codec_name(self.codec_id)}, model {self.fingerprint.hex()}, "
            f"{self.width}x{self.height} pixels"
        )


def pack(header: Header, stream: bytes) -> bytes:
    """The bytes of a file.

    Raises:
        ValueError: if a side is not in 1 to 2^28 - 1.
    """
    body = b"".join(
        (
            MAGIC,
            bytes((VERSION, header.codec_id)),
            header.fingerprint,
            _varint(header.height),
            _varint(header.width),
            stream,
        )
    )
    return body + zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "little")


def unpack(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[Header, bytes]:
    """Header and stream of a file.

    Raises:
        BitstreamError: if ``data`` is no intact file of this version, or is of a picture of more
            than ``max_pixels``.
    """
    if not data:
        raise BitstreamError("the file is empty: send it again")
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise BitstreamError("not a codec_det file: it does not begin with the bytes 89 43 44 54")
    if len(data) < _FIXED_BYTES + 2 + CHECKSUM_BYTES:
        raise BitstreamError(f"cut short to {len(data)} bytes: send it again")
    version = data[len(MAGIC)]
    # Before the checksum, whose place and kind another version may change.
    if version != VERSION:
        raise BitstreamError(f"version {version} of the format; this program reads {VERSION}")
    body, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "little") != checksum:
        raise BitstreamError("the checksum does not match: damaged, cut short or extended")
    height, position = _read_varint(body, _FIXED_BYTES)
    width, position = _read_varint(body, position)
    if height * width > max_pixels:
        raise BitstreamError(
            f"{width}x{height} pixels are more than the limit of {max_pixels}: raise it "
            "(--max-pixels) if the picture is meant to be that large"
        )
    fingerprint = bytes(body[len(MAGIC) + 2 : _FIXED_BYTES])
    return Header(body[len(MAGIC) + 1], fingerprint, height, width), bytes(body[position:])


def overhead_bytes(header: Header) -> int:
    """Length of a file beyond its stream."""
    return len(pack(header, b""))


def _varint(value: int) -> bytes:
    if not 1 <= value < 1 << 7 * _MAX_VARINT_BYTES:
        raise ValueError(f"a side of {value} pixels cannot be stored")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(data[position : position + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            if byte == 0:
                raise BitstreamError("a side is zero or written longer than needed: damaged")
            return value, position + count + 1
    raise BitstreamError("a side has no end: damaged")
