"""A header for streams that cannot say the picture's size, and padding to sizes they can have.

Video coding standards keep their own, padded size, and their decoders make up what is missing from
a stream that was cut short. The header is width and height in pixels, each an unsigned LEB128
number, and a CRC-16 (CCITT) of the stream, big-endian: 6 bytes where sides have 128 to 16383
pixels. They count as bits like all others.
"""

from __future__ import annotations

import binascii

import numpy as np

from ..errors import BitstreamError
from .base import check_size

_CHECK = 2  # bytes of CRC
_LONGEST = 3  # bytes: more than two million pixels a side
SMALLEST_SIDE = 16
"""VVC encoders refuse less than one coding unit of 16x16 pixels."""


def frame(width: int, height: int, stream: bytes) -> bytes:
    """Put the header, 4 to 8 bytes, in front of a stream."""
    check = binascii.crc_hqx(stream, 0).to_bytes(_CHECK, "big")
    return _write_number(width) + _write_number(height) + check + stream


def unframe(data: bytes, name: str) -> tuple[int, int, bytes]:
    """Width, height and the stream.

    Args:
        data: as framed.
        name: of the codec, for messages.

    Raises:
        BitstreamError: if anything is cut short or damaged, or the size is implausible.
    """
    width, at = _read_number(data, 0, name)
    height, at = _read_number(data, at, name)
    check_size(width, height, name)
    check, stream = data[at : at + _CHECK], data[at + _CHECK :]
    if not stream or check != binascii.crc_hqx(stream, 0).to_bytes(_CHECK, "big"):
        raise BitstreamError(
            f"the checksum of these {len(data)} bytes is wrong: they are damaged, cut short, or "
            f"not of the codec '{name}'"
        )
    return width, height, stream


def header_length(data: bytes, name: str) -> int:
    """Bytes of the header that ``data`` begins with; raises as :func:`unframe`."""
    return len(data) - len(unframe(data, name)[2])


def padded_size(width: int, height: int) -> tuple[int, int]:
    """Width and height that are coded: even and at least SMALLEST_SIDE."""
    return max(width + width % 2, SMALLEST_SIDE), max(height + height % 2, SMALLEST_SIDE)


def pad(picture: np.ndarray) -> np.ndarray:
    """Repeat the last row and column of (H, W, 3) until the size is the padded one."""
    height, width, _ = picture.shape
    wider, higher = padded_size(width, height)
    return np.pad(picture, ((0, higher - height), (0, wider - width), (0, 0)), mode="edge")


def _write_number(number: int) -> bytes:
    groups = bytearray()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def _read_number(data: bytes, at: int, name: str) -> tuple[int, int]:
    """The number at an offset and the offset after it."""
    number = 0
    for position, group in enumerate(data[at : at + _LONGEST]):
        number |= (group & 0x7F) << (7 * position)
        if group < 0x80:
            return number, at + position + 1
    raise BitstreamError(
        f"the bytes do not begin with the size of a picture: they are damaged, or not of the "
        f"codec '{name}'"
    )
