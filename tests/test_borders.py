"""Errors near the sides of pictures against those inside, of made-up and of packaged codecs."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from codec_det.codec.base import Codec, Coded
from codec_det.data.image_io import read_image
from codec_det.data.shapes import generate
from codec_det.errors import CodecDetError
from codec_det.rate_distortion.borders import (
    SIDES,
    SMALLEST,
    add_up,
    format_borders,
    measure_borders,
    verdict,
)
from codec_det.rate_distortion.codec_choice import CodecChoice, open_codec
from tools import rate_distortion as tool


class Painter(Codec):
    """Rounds to some levels, and spoils the last columns of pictures that need no padding."""

    def __init__(self, columns=0, steps=15):
        super().__init__()
        self.columns, self.steps = columns, steps

    def forward(self, images, pictures=True):
        decoded = [(x * self.steps).round() / self.steps for x in images]
        for x in decoded:
            if self.columns and x.shape[-1] % 64 == 0:
                x[..., -self.columns :] = 0
        bits = torch.zeros(len(images))
        return Coded(decoded, bits, bits)


@pytest.fixture
def picture(tmp_path):
    """Hard to code at its left, plain elsewhere; of another height than width."""
    rng = np.random.default_rng(0)
    pixels = np.full((260, 330, 3), 119, dtype=np.uint8)
    pixels[:, :100] = rng.integers(0, 256, (260, 100, 3))
    pixels += rng.integers(0, 3, pixels.shape, dtype=np.uint8)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    return path


def differences(borders):
    return {remainder: errors.differences for remainder, errors in borders.items()}


def test_what_is_hard_to_code_at_a_side_is_hard_inside_too(picture):
    borders = measure_borders(Painter(), picture)
    for values in differences(borders).values():
        assert values == pytest.approx(0, abs=1e-9)
    assert "Borders are sound" in verdict(borders)


def test_a_stripe_is_found_where_it_is(picture):
    borders = measure_borders(Painter(columns=16), picture)
    found = differences(borders)
    assert found[0][SIDES.index("right")] < -20
    # Top and bottom have corners of the stripe.
    assert found[0][SIDES.index("left")] == pytest.approx(0, abs=1e-9)
    for remainder in set(found) - {0}:
        assert found[remainder] == pytest.approx(0, abs=1e-9)
    said = verdict(borders)
    assert said.startswith("BORDERS ARE SPOILT")
    assert "right by up to" in said
    assert "(sizes 64k+0)" in said
    # Of the plain part of the picture, black instead of 120 of 255.
    expected = -20 * np.log10(120 / 255)
    assert borders[0].psnrs()[SIDES.index("right")] == pytest.approx(expected, abs=0.1)
    assert borders[0].side[1, 15] > 100 * borders[0].side[1, 16]


def test_lossless_codecs_have_no_differences(picture):
    borders = measure_borders(Painter(steps=255), picture)
    assert np.isinf(borders[0].inside_psnr)
    for values in differences(borders).values():
        assert values.tolist() == [0.0] * 4
    assert "Borders are sound" in verdict(borders)


def test_pictures_add_up(picture, tmp_path):
    other = tmp_path / "large.png"
    Image.fromarray(np.tile(read_image(picture, "RGB"), (2, 2, 1))).save(other)
    one, two = (measure_borders(Painter(columns=16), path) for path in (picture, other))
    both = add_up([one, two])
    assert both[0].values == one[0].values + two[0].values
    sums = one[0].side[:, :16].sum(1) + two[0].side[:, :16].sum(1)
    mse = sums / (16 * both[0].values)
    assert both[0].psnrs() == pytest.approx(-10 * np.log10(mse))
    assert len(format_borders(both).splitlines()) == 1 + len(both)


def test_small_pictures_are_refused(tmp_path):
    path = tmp_path / "small.png"
    Image.new("RGB", (SMALLEST, SMALLEST - 1)).save(path)
    with pytest.raises(CodecDetError, match=f"{SMALLEST - 1} pixels are too few for --borders"):
        measure_borders(Painter(), path)
    Image.new("RGB", (SMALLEST, SMALLEST)).save(path)
    assert measure_borders(Painter(), path)
    with pytest.raises(CodecDetError, match="96 pixels are too few"):
        measure_borders(Painter(), path, scale=0.5)


def test_the_tool_writes_a_table_and_a_picture(picture, tmp_path, capsys):
    out = tmp_path / "out"
    small = tmp_path / "small.png"
    Image.new("RGB", (64, 64)).save(small)
    options = ("--borders", "--codec", "jpeg", "--quality", "20", "60", "--output-dir", str(out))
    assert tool.main([str(picture), str(small), *options]) == 1
    captured = capsys.readouterr()
    assert "64 pixels are too few for --borders" in captured.err
    assert captured.out.count("Borders are sound") == 2
    assert {path.name for path in out.iterdir()} == {"jpeg_borders.csv", "jpeg_borders.png"}
    with (out / "jpeg_borders.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["quality"] for row in rows] == ["20"] * 12 + ["60"] * 12
    borders = measure_borders(open_codec(CodecChoice(name="jpeg"), 20), picture)
    assert float(rows[0]["left"]) == pytest.approx(borders[0].psnrs()[0], abs=1e-3)
    assert float(rows[0]["bottom_amid"]) == pytest.approx(borders[0].psnrs(amid=True)[3], abs=1e-3)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes") / "set"
    generate(folder, 3, (255, 255), progress=False)
    return sorted((folder / "images").iterdir())


@pytest.fixture(scope="module", params=[1, 2, 3])
def packaged(request, shapes):
    """Errors of a codec that comes with the package."""
    quality = request.param
    choice = CodecChoice(
        name="bmshj2018-hyperprior",
        weights=f"codec_det://shapes_codec_{quality}.pth",
        channels=(32, 48),
        estimated=True,
    )
    codec = open_codec(choice, quality)
    return add_up(measure_borders(codec, path) for path in shapes)


def test_packaged_codecs_paint_no_stripes(packaged):
    # A stripe of 16 black pixels costs 10 dB and more.
    assert min(errors.differences.min() for errors in packaged.values()) > -4


# Latents lie at the first of their 16 pixels: right and bottom have none beyond where a picture
# needs no padding, and lose 1.3 to 3.1 dB there. docs/borders.md has what centred codecs lose.
@pytest.mark.xfail(strict=True, reason="right and bottom are more than 1 dB worse at 64k+0")
def test_packaged_codecs_spoil_no_border(packaged):
    assert "Borders are sound" in verdict(packaged)
