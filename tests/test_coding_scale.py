"""Coding scale: small pictures are coded, figures are of the picture that was taken."""

import json
import math
import random
from fractions import Fraction

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from PIL import Image

from codec_det.bitstream.container import MAX_SIDE
from codec_det.bitstream.expected import Expected
from codec_det.coding_scale import as_ratio, coded_size, shrink
from codec_det.config_checks import check_config
from codec_det.conventional import build_picture_codec
from codec_det.data.mapper import CodecDetectorMapper
from codec_det.errors import ConfigError
from codec_det.pixels import enlarge, psnr

HALF = ["MODEL.CODEC.SCALE", "0.5"]


@pytest.fixture
def entry(tmp_path):
    coarse = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    path = tmp_path / "picture.png"
    Image.fromarray(coarse).resize((81, 50)).save(path)
    return {"file_name": str(path), "height": 50, "width": 81, "annotations": []}


@pytest.mark.parametrize(
    ("size", "scale", "coded"),
    [
        ((480, 640), 1.0, (480, 640)),
        ((480, 640), 0.5, (240, 320)),
        ((375, 500), 0.25, (94, 125)),
        ((30, 10), 0.1, (3, 1)),
        ((1, 1), 0.25, (1, 1)),
        ((7, 7), 0.75, (6, 6)),
    ],
)
def test_coded_size_is_rounded_up(size, scale, coded):
    assert coded_size(*size, scale) == coded


def test_coded_sizes_are_the_same_exact_ones_everywhere():
    """Of what a config holds, a number as it was typed; of a model's settings; and by hand."""
    numbers = random.Random(0)
    typed = ["1", "0.75", "0.5", "0.25", "0.1", "0.35", "0.07", "0.000001", "0.999999"]
    typed += [f"0.{numbers.randrange(1, 10**6):06}" for _ in range(300)]
    typed += [repr(n / m) for m in range(2, 12) for n in range(1, m)]
    sides = [
        1,
        2,
        3,
        7,
        1000,
        1920,
        2160,
        MAX_SIDE,
        *(numbers.randrange(1, 5000) for _ in range(9)),
    ]
    for text in typed:
        short = Fraction(text) if len(text) <= 8 else Fraction(text).limit_denominator(11)
        scale = float(text)
        expected = Expected(scale=as_ratio(scale))
        again = Expected.from_settings(json.loads(json.dumps(expected.settings())))
        for side in sides:
            exact = math.ceil(side * short)
            assert 1 <= exact <= side
            assert coded_size(side, 1, scale) == (exact, 1)
            assert expected.coded_size((1, side)) == again.coded_size((1, side)) == (1, exact)


def test_shrinking_averages_and_whole_size_changes_nothing():
    picture = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    assert shrink(picture, 1.0) is picture
    small = shrink(picture, 0.25)
    assert small.shape == (16, 12, 3)
    # Antialiased: noise is averaged away, which taking every fourth pixel would not do.
    assert small.std() < 0.4 * picture[::4, ::4].std()
    assert abs(small.mean() - picture.mean()) < 2


def test_mapper_gives_the_picture_in_both_sizes(tiny_cfg, entry):
    out = CodecDetectorMapper(tiny_cfg(*HALF), is_train=False)(entry)
    assert out["image"].shape == (3, 50, 81)
    assert out["small"].shape == (3, 25, 41)
    whole = CodecDetectorMapper(tiny_cfg(), is_train=False)(entry)
    assert "small" not in whole
    assert out["detector_size"] == whole["detector_size"]
    expected = shrink(out["image"].permute(1, 2, 0).numpy(), 0.5)
    assert np.array_equal(out["small"].permute(1, 2, 0).numpy(), expected)


def test_conventional_codecs_code_the_small_picture(tiny_cfg, entry):
    webp = ["MODEL.CODEC.NAME", "webp", "MODEL.CODEC.QUALITY", "40", "MODEL.CODEC.CACHE", ""]
    out = CodecDetectorMapper(tiny_cfg(*HALF, *webp), is_train=False)(entry)
    picture = out["image"].permute(1, 2, 0).numpy()[:, :, ::-1]
    codec = build_picture_codec("webp", 40)
    data = codec.encode(shrink(np.ascontiguousarray(picture), 0.5))
    assert out["bits"] == 8 * len(data)
    decoded = out["decoded"].permute(1, 2, 0).numpy()[:, :, ::-1]
    assert np.array_equal(decoded, codec.decode(data))
    with pytest.raises(ConfigError, match=r"INPUT\.CROP\.ENABLED is True, but webp codes whole"):
        check_config(tiny_cfg(*HALF, *webp, "INPUT.CROP.ENABLED", "True"))


def test_figures_are_of_the_picture_that_was_taken(tiny_cfg, entry):
    cfg = tiny_cfg(*HALF)
    model = build_model(cfg).eval()
    model.codec.refresh_tables()
    mapped = CodecDetectorMapper(cfg, is_train=False)(entry)
    seen = []
    model.detector.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0]))
    (output,) = model([mapped])
    (alone,) = model([{"image": mapped["image"]}])
    small = mapped["small"].flip(0).float() / 255
    coded = model.codec([small])
    assert output["bits"] == alone["bits"] == pytest.approx(coded.bits.item())
    assert output["reconstruction"].shape == (3, 50, 81)
    assert torch.equal(output["reconstruction"], alone["reconstruction"])
    for given in seen:
        assert (given["height"], given["width"]) == (50, 81)
        assert tuple(given["image"].shape[-2:]) == tuple(mapped["detector_size"])


def test_rate_in_training_is_per_pixel_of_the_picture_that_was_taken(tiny_cfg, entry):
    opts = ["MODEL.CODEC.TRAINABLE", "['encoder', 'decoder']", "MODEL.CODEC.BETA", "3.0"]
    opts += [
        "MODEL.CODEC.QUANTIZATION",
        "straight_through",
        "MODEL.CODEC.DISTORTION_WEIGHT",
        "0.01",
    ]
    cfg = tiny_cfg(*HALF, *opts, "INPUT.RANDOM_FLIP", "none", "MODEL.DETECTOR.LOSS_WEIGHT", "0")
    model = build_model(cfg).train()
    mapped = CodecDetectorMapper(cfg, is_train=True)(entry)
    with EventStorage() as storage:
        torch.manual_seed(5)
        losses = model([mapped])
        logged = storage.latest()
    torch.manual_seed(5)
    coded = model.codec([mapped["small"].flip(0).float() / 255])
    bpp = coded.bits.item() / (50 * 81)
    assert losses["loss_rate"].item() == pytest.approx(3 * bpp, rel=1e-5)
    original = mapped["image"].flip(0).float() / 255
    mse = (original - enlarge(coded.reconstructions[0], (50, 81))).square().mean()
    assert losses["loss_distortion"].item() == pytest.approx(0.01 * 255**2 * mse.item(), rel=1e-4)
    assert logged["psnr"][0] == pytest.approx(psnr(mse).item(), rel=1e-4)
    sum(losses.values()).backward()
    assert model.codec.model.g_s[-1].weight.grad.abs().sum() > 0


def test_scale_out_of_range_is_refused(tiny_cfg):
    check_config(tiny_cfg("MODEL.CODEC.SCALE", "0.000001"))
    for scale in ("0.0", "9e-7", "1.5", "-1.0"):
        with pytest.raises(ConfigError, match=r"MODEL\.CODEC\.SCALE is .* from 0\.000001 to 1"):
            check_config(tiny_cfg("MODEL.CODEC.SCALE", scale))
