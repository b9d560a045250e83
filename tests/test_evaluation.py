"""Rate and distortion of a data set, against numbers worked out by hand."""

import csv
import math

import pytest
import torch
from detectron2.modeling import build_model
from torch.nn.functional import interpolate

from codec_det.evaluation.rate import MS_SSIM_MIN_SIDE, RateEvaluator, distortion, summarize
from codec_det.pixels import to_uint8


def case(image_id, height, width, bits, error, name=None):
    """Input and output of a picture that is off by ``error`` levels everywhere."""
    generator = torch.Generator().manual_seed(image_id)
    rgb = torch.randint(0, 200, (3, height, width), dtype=torch.uint8, generator=generator)
    entry = {
        "image": rgb.flip(0),
        "image_id": image_id,
        "file_name": name or f"/set/images/{image_id:03d}.png",
    }
    output = {
        "reconstruction": rgb + error,
        "bits": bits,
        "codec_seconds": 0.25 * image_id,
        "detector_seconds": 0.5,
    }
    return entry, output


def evaluated(cases, output_dir=None, image_format="BGR"):
    evaluator = RateEvaluator(image_format, output_dir)
    evaluator.reset()
    for entry, output in cases:
        evaluator.process([entry], [output])
    return evaluator.evaluate()["rate"]


def test_headline_rate_weighs_by_pixels_and_the_mean_by_pictures():
    rate = evaluated([case(1, 10, 20, 400.0, 5), case(2, 30, 40, 600.0, 10)])
    assert rate["bpp"] == pytest.approx(1000 / 1400)
    assert rate["bpp_mean"] == pytest.approx((2.0 + 0.5) / 2)
    # 20·log10(255/5) and 20·log10(255/10), in dB.
    assert rate["psnr"] == pytest.approx((34.15140 + 28.13080) / 2, abs=1e-4)
    assert rate["codec_seconds_per_image"] == pytest.approx(0.375)
    assert rate["detector_seconds_per_image"] == pytest.approx(0.5)
    assert rate["seconds_per_image"] == pytest.approx(0.875)
    assert rate["images"] == 2


def test_pictures_without_loss_leave_the_mean_psnr_finite():
    rate = evaluated([case(1, 10, 20, 400.0, 5), case(2, 30, 40, 600.0, 0)])
    assert rate["psnr"] == pytest.approx(34.15140, abs=1e-4)
    assert rate["lossless"] == 1
    # Pictures count alike, whatever their size: the mean of 25 and 0 squared levels.
    assert rate["psnr_of_mse"] == pytest.approx(20 * math.log10(255 / math.sqrt(12.5)), abs=1e-4)
    without = evaluated([case(1, 10, 20, 400.0, 0)])
    assert (without["psnr"], without["psnr_of_mse"], without["lossless"]) == (math.inf, math.inf, 1)


def test_batches_count_every_picture():
    evaluator = RateEvaluator("BGR")
    entries, outputs = zip(case(1, 10, 20, 400.0, 5), case(2, 30, 40, 600.0, 10), strict=True)
    evaluator.process(list(entries), list(outputs))
    assert evaluator.evaluate()["rate"]["bpp"] == pytest.approx(1000 / 1400)
    evaluator.reset()
    evaluator.process([entries[0]], [outputs[0]])
    assert evaluator.evaluate()["rate"]["bpp"] == pytest.approx(2)


def test_colour_order_is_the_inputs():
    exact = [case(1, 10, 20, 1.0, 0)]
    assert evaluated(exact)["psnr"] == math.inf
    assert evaluated(exact, image_format="RGB")["psnr"] < 20


def test_distortion_is_of_the_8_bit_picture():
    entry, output = case(1, 10, 20, 1.0, 0)
    # Off by 0.4 of a level, which rounding to the displayed picture removes.
    output["reconstruction"] = to_uint8((output["reconstruction"] + 0.4) / 255)
    assert evaluated([(entry, output)])["psnr"] == math.inf


def test_ms_ssim_exists_from_161_pixels_on():
    assert MS_SSIM_MIN_SIDE == 161
    original = interpolate(torch.rand(1, 3, 20, 25), (161, 200), mode="bilinear")[0]
    noisy = original + 0.05 * torch.randn(3, 161, 200)
    assert distortion(original, original)["ms_ssim"] == pytest.approx(1)
    assert 0.8 < distortion(original, noisy)["ms_ssim"] < 0.99
    assert math.isnan(distortion(original[:, :160], original[:, :160])["ms_ssim"])
    assert math.isnan(distortion(original[:, :, :160], original[:, :, :160])["ms_ssim"])


def test_mean_ms_ssim_passes_over_pictures_too_small_for_it():
    rows = [
        {
            "height": 1, "width": 1, "bits": 1.0, "bpp": 1.0, "psnr": 1.0, "ms_ssim": value,
            "codec_seconds": 0.0, "detector_seconds": 0.0,
        }
        for value in (0.5, math.nan, 0.7)
    ]  # fmt: skip
    assert summarize(rows)["ms_ssim"] == pytest.approx(0.6)
    assert math.isnan(summarize(rows[1:2])["ms_ssim"])


def test_table_of_pictures(tmp_path):
    folder = tmp_path / "inference" / "set"
    cases = [case(2, 30, 40, 600.25, 10), case(1, 10, 20, 400.0, 0, name="/data/über, two.png")]
    evaluated(cases, str(folder))
    assert [p.name for p in folder.iterdir()] == ["per_image.csv"]
    with (folder / "per_image.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert list(first) == [
        "image_id",
        "file_name",
        "height",
        "width",
        "bits",
        "bpp",
        "psnr",
        "ms_ssim",
        "codec_seconds",
        "detector_seconds",
    ]
    assert first["image_id"] == "1"
    assert first["file_name"] == "über, two.png"
    assert (first["psnr"], first["ms_ssim"]) == ("inf", "nan")
    assert (second["image_id"], second["file_name"]) == ("2", "002.png")
    assert (second["height"], second["width"]) == ("30", "40")
    assert float(second["bits"]) == 600.25
    assert float(second["bpp"]) == 600.25 / 1200
    assert float(second["psnr"]) == pytest.approx(28.1308, abs=1e-4)
    assert float(second["codec_seconds"]) == 0.5


def test_chain_output_is_what_the_evaluator_takes(tiny_cfg):
    model = build_model(tiny_cfg("MODEL.DETECTOR.META_ARCHITECTURE", "NoDetector")).eval()
    entry, _ = case(1, 48, 70, 0.0, 0)
    (output,) = model([entry])
    rate = evaluated([(entry, output)])
    with torch.no_grad():
        coded = model.codec([entry["image"].flip(0) / 255])
    mse = (to_uint8(coded.reconstructions[0]) / 255 - entry["image"].flip(0) / 255).square().mean()
    assert rate["bpp"] == pytest.approx(coded.bits.item() / (48 * 70))
    assert rate["psnr"] == pytest.approx(-10 * math.log10(mse), abs=1e-3)
