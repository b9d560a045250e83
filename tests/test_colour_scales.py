"""Numbers as colours: bits over a grey picture, differences around grey."""

import numpy as np
import pytest

from codec_det.pictures.colour_scales import MIDDLE, BitScale, DifferenceScale, subtract

WHITE = np.full((4, 6, 3), 255, np.uint8)


def brightness(colours):
    return colours @ np.array([0.299, 0.587, 0.114])


def test_one_scale_of_bits_reaches_the_most_of_all_maps():
    scale = BitScale([np.full((4, 6), 0.1), np.linspace(0, 0.4, 24).reshape(4, 6)])
    assert (scale.low, scale.high) == (0, 0.4)
    shown = brightness(scale.colours(np.linspace(0, 0.4, 40)).astype(float))
    # Legible in grey, too.
    assert (np.diff(shown) >= -0.5).all()
    assert shown[-1] > shown[0] + 100


def test_maps_have_the_colours_of_the_bar_whatever_the_pictures_brightness():
    scale = BitScale([np.array([[0.0, 0.2]])])
    density = np.full((4, 6), 0.13)
    for picture in (WHITE, WHITE // 4):
        shown = scale.draw(density, picture)
        assert shown.dtype == np.uint8
        assert (shown == scale.colours(np.array([0.13]))).all()


def test_a_map_lets_its_picture_show():
    picture = np.repeat(np.arange(0, 240, 10, np.uint8).reshape(4, 6, 1), 3, axis=2)
    shown = brightness(BitScale([np.ones((4, 6))]).draw(np.ones((4, 6)), picture).astype(float))
    assert (np.diff(shown.ravel()) > 0).all()


def test_nothing_spent_can_be_drawn():
    nothing = np.zeros((4, 6))
    scale = BitScale([nothing])
    assert (scale.draw(nothing, WHITE) == scale.colours(np.array([0.0]))).all()


def test_differences_have_their_sign():
    original = np.array([[[10, 200, 0]]], np.uint8)
    decoded = np.array([[[255, 190, 0]]], np.uint8)
    assert subtract(decoded, original).tolist() == [[[245, -10, 0]]]


@pytest.mark.parametrize(
    ("size", "factor"), [(0, 128), (1, 64), (3, 32), (31, 4), (32, 2), (127, 1), (255, 1)]
)
def test_differences_are_amplified_as_far_as_they_fit(size, factor):
    difference = np.array([[[-size, 0, size]]], np.int16)
    scale = DifferenceScale([np.zeros((4, 4, 3), np.int16), difference])
    assert scale.factor == factor
    reach = min(factor * size, 127)
    dark, middle, bright = scale.draw(difference)[0, 0].tolist()
    assert (dark, middle) == (max(0, MIDDLE - factor * size), MIDDLE)
    assert bright == MIDDLE + reach
    # The bar says the same.
    assert scale.colours(np.array([scale.low, 0, scale.high])).tolist() == [
        [1] * 3,
        [128] * 3,
        [255] * 3,
    ]


def test_few_outliers_do_not_set_the_factor():
    difference = np.full((100, 100, 3), 3, np.int16)
    difference[0, :30] = 255
    assert DifferenceScale([difference]).factor == 32
