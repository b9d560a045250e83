"""The container: every field, every limit, every way to be cut short."""

import zlib

import pytest

from codec_det.bitstream.ans import STREAM_BITS
from codec_det.bitstream.container import MAX_PIXELS, Header, overhead_bytes, pack, unpack
from codec_det.bitstream.ids import CODEC_IDS, codec_name
from codec_det.codec.table import learned_codecs
from codec_det.errors import BitstreamError

HEADER = Header(2, b"\x01\x23", (480, 640))
HEADER_1 = Header(1, b"\x01\x23\x45\x67", (480, 640), codec_id=4)
HEADERS = (HEADER, HEADER_1)
STREAM = b"\x00stream\x01"


def checked(body):
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_fields_are_where_they_are_specified():
    assert pack(HEADER_1, STREAM) == checked(
        bytes.fromhex("89 43 44 54  01  04  01 23 45 67  e0 03  80 05") + STREAM
    )
    for changes, expected in (
        ({}, "cd e2  01 23  3f  e0 03  80 05"),
        ({"size": 0}, "cd e2  01 23  00"),
        ({"size": 61}, "cd e2  01 23  3d"),
        ({"size": 61, "coded_size": (200, 100)}, "cd e2  01 23  bd  c8 01  64"),
        ({"size": 61, "level": 64}, "cd e2  01 23  7d  40"),
        ({"coded_size": (1, 2), "level": 130}, "cd e2 01 23 ff  e0 03 80 05  01 02  82 01"),
    ):
        assert pack(HEADER._replace(**changes), STREAM) == bytes.fromhex(expected) + STREAM
    # "123456789" is the published check value of this CRC.
    assert zlib.crc32(b"123456789") == 0xCBF43926


@pytest.mark.parametrize("stream", [bytes(4), STREAM, bytes(1000)])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (127, 128), (16383, 16384), (1, 2**28 - 1)])
def test_what_is_packed_comes_back(height, width, stream):
    header = Header(1, b"\xff\0\n\r", (height, width), codec_id=255)
    assert unpack(pack(header, stream), max_pixels=2**60) == (header, stream)
    for size in ((height, width), 0, 61):
        for coded_size in (None, (height, width), (1, 1)):
            for level in (0, 1, 2**28 - 1):
                header = Header(2, b"\xff\0", size, coded_size, level)
                assert unpack(pack(header, stream), max_pixels=2**60) == (header, stream)


def test_numbers_of_codecs_are_settled():
    assert CODEC_IDS == {
        "bmshj2018-factorized": 1,
        "bmshj2018-factorized-relu": 2,
        "bmshj2018-hyperprior": 3,
        "mbt2018-mean": 4,
    }
    # Files of version 2 know their codec by the model alone, and others need no number.
    assert {*learned_codecs(files=True)} >= {*CODEC_IDS}


def test_header_in_words():
    assert HEADER_1.describe() == "mbt2018-mean, model 01234567, 640x480 pixels"
    assert HEADER.describe() == "model 0123, 640x480 pixels"
    assert HEADER._replace(size=3).describe() == "model 0123, size number 3 of the model"
    assert codec_name(200) == "codec number 200"


@pytest.mark.parametrize("side", [0, -1, 2**28])
def test_sides_that_cannot_be_stored_are_refused(side):
    for header in (
        *(header._replace(size=size) for header in HEADERS for size in ((side, 9), (9, side))),
        HEADER._replace(coded_size=(side, 9)),
        HEADER._replace(coded_size=(9, side)),
    ):
        with pytest.raises(ValueError, match=f"a side of {side} pixels cannot be stored"):
            pack(header, b"")


# ---- Overhead ----


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(1, 1, 16), (127, 127, 16), (128, 127, 17), (480, 640, 18), (4096, 4096, 18)],
)
def test_overhead(height, width, expected):
    for header, length in ((HEADER_1, expected), (HEADER, expected - 9)):
        sized = header._replace(size=(height, width))
        assert overhead_bytes(sized) == length
        assert len(pack(sized, STREAM)) == length + len(STREAM)
    assert overhead_bytes(HEADER._replace(size=0)) == 5


def test_overhead_and_the_start_of_the_stream_stay_under_ten_bytes():
    assert overhead_bytes(HEADER._replace(size=0)) + STREAM_BITS / 8 < 8.6


# ---- Refused ----


def refuse(data, message, **limits):
    with pytest.raises(BitstreamError, match=message):
        unpack(data, **limits)


@pytest.mark.parametrize("header", HEADERS)
def test_each_length_shorter_than_the_file_is_refused(header):
    data = pack(header, STREAM)
    for length in range(9 if header.version == 2 else len(data)):
        message = "the file is empty" if length == 0 else "cut short"
        refuse(data[:length], message)


def test_each_length_is_refused_with_a_checksum_too_if_the_header_is_not_whole():
    data = pack(HEADER_1, STREAM)
    for length in range(10):
        refuse(checked(data[:length]), "not a codec_det file|cut short")
    refuse(checked(data[:10]), "cut short to 14 bytes")
    for length in (11, 12, 13):
        refuse(checked(data[:length]), "cut short|a side or level has no end")
    assert unpack(checked(data[:14])) == (HEADER_1, b"")


def test_numbers_that_are_cut_off_are_noticed():
    header = Header(2, b"ab", (2**21, 2**21), (2**21, 2**21), 2**21)
    data = pack(header, b"")
    assert len(data) == 5 + 5 * 4
    assert unpack(data, max_pixels=2**42) == (header, b"")
    for length in range(9, len(data)):
        with pytest.raises(BitstreamError, match="a side or level has no end"):
            unpack(data[:length], max_pixels=2**42)


@pytest.mark.parametrize("more", [b"\0", b"x", bytes(4), STREAM])
def test_longer_files_are_refused(more):
    refuse(pack(HEADER_1, STREAM) + more, "the checksum does not match")


def test_each_changed_bit_is_noticed():
    data = pack(HEADER_1, STREAM)
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        where = bit // 8
        message = "not a codec_det file" if where < 4 else "checksum"
        refuse(bytes(changed), "version .* this program reads 1" if where == 4 else message)


def test_each_changed_bit_of_the_magic_is_noticed():
    data = pack(HEADER, STREAM)
    for bit in range(16):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        version = 8 <= bit < 12
        refuse(bytes(changed), "version .* reads 1 and 2" if version else "not a codec_det file")


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n" + bytes(50), b"GIF89a" + bytes(50), b"\0", b"\xcd\xd2"]
)
def test_other_formats_are_refused(data):
    refuse(data, "begins neither with the bytes CD E2 nor with 89 43 44 54")


def test_other_versions_are_refused_before_their_checksum_is_looked_at():
    data = bytearray(pack(HEADER_1, STREAM))
    for version in (0, 2, 255):
        data[4] = version
        refuse(bytes(data), f"version {version} of the format; this program reads 1 and 2")
    for version in (0, 1, 3, 15):
        refuse(bytes((0xCD, 0xE0 | version)), f"version {version} of the format; this program")


PREFIX_1 = bytes.fromhex("8943445401 04 01234567")
PREFIX = bytes.fromhex("cde2 0123")


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
    numbers = bytes.fromhex(size)
    refuse(checked(PREFIX_1 + numbers), message)
    end = b"" if message == "has no end" else bytes(4)
    for prefix in (b"\x3f", b"\x80", b"\xbf\x05\x05", b"\xff\x05\x05"):
        data = PREFIX + prefix + numbers + end
        refuse(data, message if len(data) >= 9 else "cut short")
    # A level is a number of its own.
    for level in ("00", "81 00", "80 80 80 80"):
        refuse(PREFIX + b"\x40" + bytes.fromhex(level) + bytes(4), "longer than needed|no end")


def test_the_number_that_is_kept_free_is_refused():
    for flags in (0, 0x40, 0x80, 0xC0):
        refuse(PREFIX + bytes((62 | flags,)) + b"\1" * 9, "numbered 62, which no encoder writes")


@pytest.mark.parametrize("header", HEADERS)
def test_the_limit_is_on_pixels_and_can_be_raised(header):
    def sized(*size):
        return pack(header._replace(size=size), bytes(4))

    refuse(sized(2**12, 2**12 + 1), "4097x4096 pixels are more than .* 16777216")
    assert MAX_PIXELS == 4096 * 4096
    assert unpack(sized(2**12, 2**12))[0].size == (4096, 4096)
    assert unpack(sized(30, 41), max_pixels=1230)[0].size == (30, 41)
    refuse(
        sized(30, 41),
        "41x30 pixels are more than the limit of 1229: raise it .--max-pixels.",
        max_pixels=1229,
    )
    refuse(sized(2**28 - 1, 2**28 - 1), "raise it")
