"""How many bytes of an image file are the file format's, and how many the coded picture's.

Each function takes a whole file and raises BitstreamError if its structure is broken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import BitstreamError

_JPEG_SCAN = 0xDA
_JPEG_ALONE = {0x01, *range(0xD0, 0xDA)}  # TEM, RST0-7, SOI, EOI: markers without a length
_JPEG_RESTART = range(0xD0, 0xD8)
_AV1_OF_SEQUENCES = {1, 2}  # types of OBU: sequence header, temporal delimiter
_WEBP_PICTURE = (b"VP8 ", b"VP8L", b"ALPH")


def jpeg_overhead(data: bytes) -> int:
    """Everything outside the entropy-coded scans: tables, headers, markers (ITU-T T.81, B.1)."""
    scans, at = 0, 2
    while at + 2 <= len(data):
        if data[at] != 0xFF:
            raise BitstreamError(f"there is no JPEG marker at byte {at}: the file is damaged")
        marker = data[at + 1]
        at += 2
        if marker in _JPEG_ALONE or marker == 0xFF:
            at -= marker == 0xFF  # a fill byte: the next one may begin the marker
            continue
        at += int.from_bytes(data[at : at + 2], "big")
        if marker == _JPEG_SCAN:
            end = _jpeg_scan_end(data, at)
            scans, at = scans + end - at, end
    return len(data) - scans


def _jpeg_scan_end(data: bytes, at: int) -> int:
    """Where the next marker that ends a scan is."""
    while (at := data.find(0xFF, at)) >= 0 and at + 1 < len(data):
        if data[at + 1] and data[at + 1] not in _JPEG_RESTART:
            return at
        at += 2
    return len(data)


def webp_overhead(data: bytes) -> int:
    """RIFF header, chunk headers and chunks without pixels (RFC 9649)."""
    picture, at = 0, 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] in _WEBP_PICTURE:
            picture += min(length, len(data) - at - 8)
        at += 8 + length + length % 2
    return len(data) - picture


def avif_overhead(data: bytes) -> int:
    """All boxes but the payload of the media data box (ISO/IEC 14496-12; AV1 in HEIF)."""
    return len(data) - sum(end - start for kind, start, end in _boxes(data) if kind == b"mdat")


def jxl_overhead(data: bytes) -> int:
    """0 for a bare codestream; else all boxes but the codestream's (ISO/IEC 18181-2)."""
    if data[:2] == b"\xff\x0a":
        return 0
    overhead = len(data)
    for kind, start, end in _boxes(data):
        if kind == b"jxlc":
            overhead -= end - start
        elif kind == b"jxlp":
            overhead -= end - start - 4  # each part begins with its number
    return overhead


class NalUnits(NamedTuple):
    """How a video coding standard tells its NAL units apart.

    Attributes:
        byte, shift, mask: where in a unit its type is.
        parameter_sets: types of those that say how pictures are coded, and nothing of any one.
    """

    byte: int
    shift: int
    mask: int
    parameter_sets: frozenset[int]


AVC = NalUnits(0, 0, 31, frozenset({7, 8}))
"""ITU-T H.264, table 7-1: sequence and picture parameter sets."""
HEVC = NalUnits(0, 1, 63, frozenset({32, 33, 34}))
"""ITU-T H.265, table 7-1: video, sequence and picture parameter sets."""
VVC = NalUnits(1, 3, 31, frozenset({14, 15, 16}))
"""ITU-T H.266, table 5: the same. Adaptation parameter sets are of a picture."""


def nal_overhead(stream: bytes, units: NalUnits) -> int:
    """Bytes of parameter sets and of all start codes in a byte stream (Annex B of each standard).

    A start code says where a unit begins and the one before it ends, as a length would.
    """
    codes = list(re.finditer(b"\0\0+\1", stream))
    ends = [code.start() for code in codes[1:]] + [len(stream)]
    overhead = 0
    for code, end in zip(codes, ends, strict=True):
        at = code.end() + units.byte
        if at >= end:
            raise BitstreamError(f"a unit at byte {code.end()} has no header: damaged stream")
        is_set = stream[at] >> units.shift & units.mask in units.parameter_sets
        overhead += (end if is_set else code.end()) - code.start()
    return overhead


def av1_overhead(stream: bytes) -> int:
    """Bytes of sequence headers, temporal delimiters and lengths in a stream of OBUs.

    As in AV1, section 5.3.
    """
    overhead, at = 0, 0
    while at < len(stream):
        kind, extended, sized = stream[at] >> 3 & 15, stream[at] >> 2 & 1, stream[at] >> 1 & 1
        start, length, shift = at, 0, 0
        at = begin = at + 1 + extended
        while sized and at < len(stream):
            length |= (stream[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if stream[at - 1] < 128:
                break
        of_length = at - begin
        at = at + length if sized else len(stream)
        if at > len(stream):
            raise BitstreamError(f"an OBU at byte {start} has an impossible length: damaged stream")
        overhead += at - start if kind in _AV1_OF_SEQUENCES else of_length
    return overhead


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the payload of each box of the file's top level."""
    at = 0
    while at + 8 <= len(data):
        length, kind, header = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if length == 1:
            length, header = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif length == 0:
            length = len(data) - at
        if length < header or at + length > len(data):
            raise BitstreamError(f"a box at byte {at} has an impossible length: damaged file")
        yield kind, at + header, at + length
        at += length
