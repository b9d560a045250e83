"""The size of a picture in front of a stream that cannot say it, and padding to sizes it can have.

Video coding standards keep their own, padded size. The header is width and height in pixels, each
an unsigned LEB128 number: two bytes for sides of 128 to 16383, so mostly 4 bytes a picture. They
count as bits like all others.
"""

from __future__ import annotations

import numpy as np

from ..errors import BitstreamError
from .base import check_size

_LONGEST = 3  # bytes: more than two million pixels a side
SMALLEST_SIDE = 16
"""VVC encoders refuse less than one coding unit of 16x16 pixels."""


def write_size(width: int, height: int) -> bytes:
    """The header: 2 to 6 bytes."""
    return _write_number(width) + _write_number(height)


def read_size(data: bytes, name: str) -> tuple[int, int, bytes]:
    """Width, height and what follows the header.

    Args:
        data: as coded.
        name: of the codec, for messages.

    Raises:
        BitstreamError: if the header is cut short, its size is implausible or nothing follows.
    """
    width, at = _read_number(data, 0, name)
    height, at = _read_number(data, at, name)
    check_size(width, height, name)
    if at == len(data):
        raise BitstreamError(f"the bytes end after the size of the picture (codec '{name}')")
    return width, height, data[at:]


def header_length(data: bytes, name: str) -> int:
    """Bytes of the header that ``data`` begins with; raises as :func:`read_size`."""
    return len(data) - len(read_size(data, name)[2])


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
