"""The container: every field, every limit, every way to be cut short."""

import zlib

import pytest

from codec_det.bitstream.ans import STREAM_BITS
from codec_det.bitstream.container import MAX_PIXELS, Header, overhead_bytes, pack, unpack
from codec_det.bitstream.ids import CODEC_IDS, codec_name
from codec_det.codec.table import learned_codecs
from codec_det.errors import BitstreamError

HEADER = Header(4, b"\x01\x23\x45\x67", 480, 640)
STREAM = b"\x00stream\x01"


def checked(body):
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_fields_are_where_they_are_specified():
    assert pack(HEADER, STREAM) == checked(
        bytes.fromhex("89 43 44 54  01  04  01 23 45 67  e0 03  80 05") + STREAM
    )
    # "123456789" is the published check value of this CRC.
    assert zlib.crc32(b"123456789") == 0xCBF43926


@pytest.mark.parametrize("stream", [b"", b"\0", STREAM, bytes(1000)])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (127, 128), (16383, 16384), (1, 2**28 - 1)])
def test_what_is_packed_comes_back(height, width, stream):
    header = Header(255, b"\xff\0\n\r", height, width)
    assert unpack(pack(header, stream), max_pixels=2**60) == (header, stream)


def test_numbers_of_codecs_are_settled():
    assert CODEC_IDS == {
        "bmshj2018-factorized": 1,
        "bmshj2018-factorized-relu": 2,
        "bmshj2018-hyperprior": 3,
        "mbt2018-mean": 4,
    }
    assert {*learned_codecs(files=True)} == {*CODEC_IDS}


def test_header_in_words():
    assert HEADER.describe() == "mbt2018-mean, model 01234567, 640x480 pixels"
    assert codec_name(200) == "codec number 200"


@pytest.mark.parametrize("side", [0, -1, 2**28])
def test_sides_that_cannot_be_stored_are_refused(side):
    for header in (HEADER._replace(height=side), HEADER._replace(width=side)):
        with pytest.raises(ValueError, match=f"a side of {side} pixels cannot be stored"):
            pack(header, b"")


# ---- Overhead ----


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(1, 1, 16), (127, 127, 16), (128, 127, 17), (480, 640, 18), (4096, 4096, 18)],
)
def test_overhead(height, width, expected):
    assert overhead_bytes(HEADER._replace(height=height, width=width)) == expected
    assert len(pack(HEADER._replace(height=height, width=width), STREAM)) == expected + len(STREAM)


def test_overhead_and_the_start_of_the_stream_stay_under_24_bytes():
    largest = max(overhead_bytes(Header(4, bytes(4), h, w)) for h in (1, 4096) for w in (1, 4096))
    assert largest + STREAM_BITS / 8 <= 24


# ---- Refused ----


def refuse(data, message, **limits):
    with pytest.raises(BitstreamError, match=message):
        unpack(data, **limits)


def test_each_length_shorter_than_the_file_is_refused():
    data = pack(HEADER, STREAM)
    for length in range(len(data)):
        message = "the file is empty" if length == 0 else "cut short"
        refuse(data[:length], message)


def test_each_length_is_refused_with_a_checksum_too_if_the_header_is_not_whole():
    data = pack(HEADER, STREAM)
    for length in range(10):
        refuse(checked(data[:length]), "not a codec_det file|cut short")
    refuse(checked(data[:10]), "cut short to 14 bytes")
    for length in (11, 12, 13):
        refuse(checked(data[:length]), "cut short|a side has no end")
    assert unpack(checked(data[:14])) == (HEADER, b"")


@pytest.mark.parametrize("more", [b"\0", b"x", bytes(4), STREAM])
def test_longer_files_are_refused(more):
    refuse(pack(HEADER, STREAM) + more, "the checksum does not match")


def test_each_changed_bit_is_noticed():
    data = pack(HEADER, STREAM)
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        where = bit // 8
        message = "not a codec_det file" if where < 4 else "checksum"
        refuse(bytes(changed), "version .* this program reads 1" if where == 4 else message)


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n" + bytes(50), b"GIF89a" + bytes(50), b"\0"])
def test_other_formats_are_refused(data):
    refuse(data, "it does not begin with the bytes 89 43 44 54")


def test_other_versions_are_refused_before_their_checksum_is_looked_at():
    data = bytearray(pack(HEADER, STREAM))
    for version in (0, 2, 255):
        data[4] = version
        refuse(bytes(data), f"version {version} of the format; this program reads 1")


PREFIX = bytes.fromhex("8943445401 04 01234567")


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("00 01", "zero or written longer than needed"),
        ("01 00", "zero or written longer than needed"),
        ("81 00 01", "zero or written longer than needed"),
        ("01 80 80 00", "zero or written longer than needed"),
        ("80 80 80 80 01 01", "has no end"),
        ("01 ff ff ff ff", "has no end"),
        ("01 80", "has no end"),
        ("80 80 80", "has no end"),
    ],
)
def test_sides_have_one_spelling(size, message):
    refuse(checked(PREFIX + bytes.fromhex(size)), message)


def test_the_limit_is_on_pixels_and_can_be_raised():
    refuse(
        pack(Header(1, bytes(4), 2**12, 2**12 + 1), b""),
        "4097x4096 pixels are more than .* 16777216",
    )
    assert MAX_PIXELS == 4096 * 4096
    assert unpack(pack(Header(1, bytes(4), 2**12, 2**12), b""))[0].height == 4096
    data = pack(Header(1, bytes(4), 30, 41), b"")
    assert unpack(data, max_pixels=1230)[0].width == 41
    refuse(
        data,
        "41x30 pixels are more than the limit of 1229: raise it .--max-pixels.",
        max_pixels=1229,
    )
    refuse(pack(Header(1, bytes(4), 2**28 - 1, 2**28 - 1), b""), "raise it")
