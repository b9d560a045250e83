"""Colour order, range and size, against detectron2's own resize."""

import numpy as np
import pytest
import torch
from detectron2.data.transforms import ResizeTransform

from codec_det.pixels import psnr, to_codec, to_detector, to_uint8

FORMATS = ["BGR", "RGB"]


def stored(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("image_format", FORMATS)
def test_same_size_round_trip_is_exact(image_format):
    every_level = torch.arange(256, dtype=torch.uint8).repeat(3, 2, 1)
    for image in (every_level, stored(17, 31)):
        codec_form = to_codec(image, image_format)
        assert codec_form.dtype == torch.float32
        assert 0 <= codec_form.min() <= codec_form.max() <= 1
        back = to_detector(codec_form, image_format, image.shape[-2:])
        torch.testing.assert_close(back, image.float(), rtol=0, atol=1e-4)
        assert torch.equal(back.round().to(torch.uint8), image)


@pytest.mark.parametrize(("image_format", "channels"), [("BGR", [2, 1, 0]), ("RGB", [0, 1, 2])])
def test_codecs_see_red_first_and_detectors_what_they_were_stored_in(image_format, channels):
    image = stored(5, 7)
    codec_form = to_codec(image, image_format)
    assert torch.equal(codec_form, image[channels] / 255)
    for size in [(5, 7), (3, 4)]:
        red = torch.zeros(3, 5, 7)
        red[0] = 1
        means = to_detector(red, image_format, size).mean((1, 2)).tolist()
        assert means == pytest.approx([0, 0, 255] if image_format == "BGR" else [255, 0, 0])


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize(
    ("size", "new_size"),
    [
        ((120, 160), (60, 80)),
        ((120, 160), (37, 49)),
        ((120, 160), (180, 240)),
        ((61, 97), (128, 203)),
        ((90, 40), (60, 80)),
        ((1, 5), (8, 40)),
    ],
    ids=str,
)
def test_resize_is_detectron2s_within_one_level(image_format, size, new_size):
    image = stored(*size)
    ours = to_detector(to_codec(image, image_format), image_format, new_size)
    hwc = np.ascontiguousarray(image.numpy().transpose(1, 2, 0))
    theirs = ResizeTransform(*size, *new_size).apply_image(hwc).transpose(2, 0, 1)
    difference = np.abs(ours.numpy() - theirs)
    assert ours.shape == (3, *new_size)
    # Theirs is rounded to levels after each of two passes; ours has float32's error on top.
    assert difference.max() < 1.01
    assert difference.mean() < 0.5


@pytest.mark.parametrize("size", [(8, 12), (16, 24), (5, 7)], ids=str)
def test_gradient_flows_through_the_resize(size):
    picture = torch.rand(3, 8, 12, requires_grad=True)
    to_detector(picture, "BGR", size)[0].sum().backward()
    # Stored channel 0 of BGR is blue, the last of RGB; every pixel of it counts.
    assert (picture.grad[2] > 0).all()
    assert not picture.grad[:2].any()
    # A resize conserves the mean, so the sum grows with the area.
    total = 255 * size[0] * size[1]
    assert picture.grad.sum().item() == pytest.approx(total, rel=1e-4)


def test_resize_of_half_precision_pictures_is_computed_in_single():
    picture = torch.rand(3, 8, 12)
    expected = to_detector(picture.bfloat16().float(), "RGB", (5, 7))
    assert torch.equal(to_detector(picture.bfloat16(), "RGB", (5, 7)), expected)


def test_reconstruction_is_rounded_and_limited_to_8_bits():
    values = torch.tensor([-0.1, 0.0, 0.4 / 255, 0.6 / 255, 100.4 / 255, 1.0, 1.1])
    picture = values.expand(3, 1, -1).requires_grad_()
    levels = to_uint8(picture)
    assert levels.dtype == torch.uint8
    assert levels[0, 0].tolist() == [0, 0, 0, 1, 100, 255, 255]
    assert picture[0, 0, 0].item() == pytest.approx(-0.1)  # its input stays as it is


def test_psnr_of_known_errors():
    assert psnr(torch.tensor(0.01)).item() == pytest.approx(20)
    assert psnr(torch.tensor((5 / 255) ** 2)).item() == pytest.approx(34.1514, abs=1e-4)
    assert psnr(torch.tensor(0.0)).item() == float("inf")
