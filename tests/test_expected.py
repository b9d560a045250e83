"""What a model expects of its pictures."""

import zlib
from fractions import Fraction

import pytest

from codec_det.bitstream.container import Header
from codec_det.bitstream.expected import DEFAULT, DEFAULT_SIZES, Expected, Picture
from codec_det.errors import BitstreamError


def test_sizes_that_are_expected_by_default_are_settled():
    """They are in the fingerprint of models, whose files of before could not be read any more."""
    assert len(DEFAULT_SIZES) == 61
    assert zlib.crc32(repr(DEFAULT_SIZES).encode()) == 2658922356
    # Height and width: VGA, 4K, and an upright one; the pictures of the studies.
    usual = {(480, 640), (2160, 3840), (1920, 1080), (240, 320), (380, 640), (128, 128)}
    assert usual <= {*DEFAULT_SIZES}
    # Either way up.
    assert {*DEFAULT_SIZES} == {(width, height) for height, width in DEFAULT_SIZES}


@pytest.mark.parametrize(
    ("scale", "size", "coded"),
    [
        ((1, 1), (481, 640), (481, 640)),
        ((1, 2), (481, 640), (241, 320)),
        ((1, 10), (30, 31), (3, 4)),
        ((7, 10), (10, 1), (7, 1)),
        ((1, 1000), (5, 2000), (1, 2)),
    ],
)
def test_coded_sizes_are_rounded_up_exactly(scale, size, coded):
    assert Expected(scale=Fraction(*scale)).coded_size(size) == coded


def test_only_what_is_not_expected_is_written_out():
    expected = Expected(((480, 640), (5, 5)), Fraction(1, 2), 2)
    for picture, fields in (
        (Picture((480, 640), (240, 320)), (0, None, 0)),
        (Picture((5, 5), (3, 3)), (1, None, 0)),
        (Picture((5, 5), (5, 5), 64), (1, (5, 5), 64)),
        (Picture((6, 5), (3, 3), 1), ((6, 5), None, 1)),
    ):
        assert expected.fields(picture) == fields
        assert expected.picture(Header(2, b"ab", *fields)) == picture
    assert DEFAULT.fields(Picture((480, 640), (480, 640)))[1:] == (None, 0)
    with pytest.raises(BitstreamError, match=r"of level 1\.01562, where the model has 2: damaged"):
        expected.picture(Header(2, b"ab", 0, None, 65))


def test_settings_come_back():
    expected = Expected(((480, 640),), Fraction(2, 3), 7)
    assert expected.settings() == {"sizes": [[480, 640]], "scale": [2, 3], "levels": 7}
    assert Expected.from_settings(expected.settings()) == expected
    # In lowest terms: a scale has one fingerprint.
    assert Expected.from_settings({**expected.settings(), "scale": [4, 6]}) == expected
