"""Planes as the bytes of raw video files, and as YUV4MPEG2 (y4m), whose header says what they are.

Samples of 10 bits take two bytes, little-endian.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image

from ..errors import BitstreamError
from .color import Planes

_Y4M_CHROMA = re.compile(r"(420|444)(?:jpeg|mpeg2|paldv)?(p10)?")
_Y4M_LONGEST_HEADER = 512
_Y4M_FRAME = b"FRAME\n"
# Of a frame that is read from a pipe, whose header could ask for anything.
_Y4M_MAX_PIXELS = 2**28


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


class Y4mReader:
    """Frames of YUV4MPEG2 as they are written to a pipe: each as soon as its last byte is there.

    Samples are of 8 bits, 4:2:0 or 4:4:4, and taken as of BT.601, as ffmpeg takes those of which it
    is told nothing; of limited range, unless the header says XCOLORRANGE=FULL. Iterating gives
    (H, W, 3) uint8, RGB.

    Attributes:
        height, width: in pixels.
        fps: frames per second; 0: not known.

    Raises:
        BitstreamError: if what comes first is no header of such frames; while it is iterated, if a
            frame is cut short or no frame.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        line = stream.readline(_Y4M_LONGEST_HEADER)
        name, *tags = line.decode("ascii", "replace").rstrip("\n").split(" ")
        if name != "YUV4MPEG2" or not line.endswith(b"\n"):
            found = "there are no bytes" if not line else "it does not begin with YUV4MPEG2"
            raise BitstreamError(f"no frames come ({found}): send them by ffmpeg -f yuv4mpegpipe")
        by_letter = {tag[:1]: tag[1:] for tag in tags}
        kind = _Y4M_CHROMA.fullmatch(by_letter.get("C", "420"))
        if kind is None or kind[2]:
            raise BitstreamError(
                f"frames are in {by_letter['C']}, and must be in 420 or 444, of 8 bits: let ffmpeg "
                "write -pix_fmt yuv420p"
            )
        try:
            self.width, self.height = (int(by_letter[letter]) for letter in "WH")
            frames, _, seconds = by_letter.get("F", "0:0").partition(":")
            self.fps = int(frames) / int(seconds) if int(seconds or 0) else 0.0
        except (KeyError, ValueError):
            self.width = self.height = 0
        if min(self.width, self.height) < 1 or self.width * self.height > _Y4M_MAX_PIXELS:
            raise BitstreamError(f"a header that no frames can have: {line!r}")
        self._full_range = "XCOLORRANGE=FULL" in tags
        part = 2 if kind[1] == "420" else 1
        chroma = -(-self.width // part), -(-self.height // part)
        self._sizes = (self.width, self.height), chroma, chroma

    def __iter__(self) -> Iterator[np.ndarray]:
        number, sizes = 0, [width * height for width, height in self._sizes]
        while line := self._stream.readline(_Y4M_LONGEST_HEADER):
            if line.startswith(b"YUV4MPEG2"):
                raise BitstreamError(
                    f"after {number} frames another header comes: frames of one size and kind make "
                    "a stream; code the others apart"
                )
            if not line.startswith(b"FRAME"):
                raise BitstreamError(f"after {number} frames something else comes: {line[:16]!r}")
            planes = [self._stream.read(size) for size in sizes]
            if [len(plane) for plane in planes] != sizes:
                raise BitstreamError(f"it was cut short amid frame {number}, which is lost")
            yield self._to_rgb(planes)
            number += 1

    def _to_rgb(self, planes: list[bytes]) -> np.ndarray:
        images = [
            Image.frombuffer("L", size, plane, "raw", "L", 0, 1)
            for size, plane in zip(self._sizes, planes, strict=True)
        ]
        if not self._full_range:
            # Pillow's YCbCr is JPEG's, of full range.
            steps = np.arange(256) - 128.0
            luma, chroma = (steps + 112) * 255 / 219, steps * 255 / 224 + 128
            tables = [np.clip(np.rint(t), 0, 255).astype(int).tolist() for t in (luma, chroma)]
            images = [image.point(tables[i > 0]) for i, image in enumerate(images)]
        full = [image.resize(self._sizes[0], Image.Resampling.BILINEAR) for image in images]
        return np.asarray(Image.merge("YCbCr", full).convert("RGB"))
