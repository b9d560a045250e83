"""Planes as the bytes of raw video files, and as YUV4MPEG2 (y4m), whose header says what they are.

Samples of 10 bits take two bytes, little-endian.
"""

from __future__ import annotations

import re

import numpy as np

from ..errors import BitstreamError
from .color import Planes

_Y4M_CHROMA = re.compile(r"(420|444)(?:jpeg|mpeg2|paldv)?(p10)?")
_Y4M_LONGEST_HEADER = 512
_Y4M_FRAME = b"FRAME\n"


def planes_to_bytes(planes: Planes) -> bytes:
    """Y, then Cb, then Cr, each row by row."""
    return b"".join(
        plane.astype(plane.dtype.newbyteorder("<"), copy=False).tobytes() for plane in planes
    )


def planes_from_bytes(
    data: bytes, *, width: int, height: int, chroma: str, bit_depth: int
) -> Planes:
    """The inverse of :func:`planes_to_bytes`.

    Args:
        data: the bytes of one picture, no more.
        width: in pixels, even in 4:2:0.
        height: in pixels, even in 4:2:0.
        chroma: "4:4:4" or "4:2:0".
        bit_depth: 8 or 10.

    Raises:
        BitstreamError: if there are more or fewer bytes than that.
    """
    part = 2 if chroma == "4:2:0" else 1
    shapes = ((height, width), *((height // part, width // part),) * 2)
    sample = np.dtype("u1" if bit_depth == 8 else "<u2")
    expected = sum(rows * columns for rows, columns in shapes) * sample.itemsize
    if len(data) != expected:
        raise BitstreamError(
            f"the decoder wrote {len(data)} bytes instead of the {expected} of a picture of "
            f"{width}x{height} in {chroma} at {bit_depth} bits: the coded bytes are damaged, or "
            "of other settings"
        )
    samples, planes, start = np.frombuffer(data, sample), [], 0
    for rows, columns in shapes:
        planes.append(samples[start : start + rows * columns].reshape(rows, columns))
        start += rows * columns
    # Noise in the two upper bytes of a damaged file must not leave the range of the conversion.
    return Planes(*(np.minimum(plane, 2**bit_depth - 1) for plane in planes))


def planes_from_y4m(
    data: bytes, *, width: int, height: int, chroma: str, bit_depth: int, count: int = 1
) -> list[Planes]:
    """The pictures of a y4m file, which must be what the arguments say.

    Raises:
        BitstreamError: if there are more or fewer than ``count``, or they are of another size,
            chroma format or bit depth, or cut short.
    """
    header, _, rest = data[:_Y4M_LONGEST_HEADER].partition(b"\n")
    tags = {tag[:1]: tag[1:] for tag in header.decode("ascii", "replace").split(" ")[1:]}
    kind = _Y4M_CHROMA.fullmatch(tags.get("C", ""))
    if not header.startswith(b"YUV4MPEG2 ") or not rest.startswith(b"FRAME") or kind is None:
        raise BitstreamError(
            "the decoder wrote no picture of a known kind: the coded bytes are damaged"
        )
    found = (
        f"{tags.get('W')}x{tags.get('H')} in {kind[1][0]}:{kind[1][1]}:{kind[1][2]} at "
        f"{10 if kind[2] else 8} bits"
    )
    expected = f"{width}x{height} in {chroma} at {bit_depth} bits"
    if found != expected:
        raise BitstreamError(
            f"the coded bytes hold {found} instead of {expected}: they are damaged, or of other "
            "settings"
        )
    # Each picture has a header line of its own, which ffmpeg writes without parameters.
    rest = data[len(header) + 1 :]
    each, left = divmod(len(rest), count)
    frames = [rest[at : at + each] for at in range(0, len(rest), each)]
    if left or not all(frame.startswith(_Y4M_FRAME) for frame in frames):
        raise BitstreamError(
            f"the decoder did not write {count} whole picture(s): the coded bytes are damaged"
        )
    return [
        planes_from_bytes(
            frame[len(_Y4M_FRAME) :],
            width=width,
            height=height,
            chroma=chroma,
            bit_depth=bit_depth,
        )
        for frame in frames
    ]
