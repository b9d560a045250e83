import math

import pytest

from codec_det.errors import CodecDetError
from codec_det.evaluation.metrics import METRICS, metric_of, recorded

RESULTS = {
    "bbox": {"AP": 40.0, "APs": None, "AP-a cat": 30.0, "AP-void": math.nan},
    "segm": {"AP": 35.0, "AP-a cat": 25.0},
    "sem_seg": {"mIoU": 50.0, "IoU-sky": 90.0, "BoundaryIoU-sky": 10.0, "ACC-sky": 95.0},
    "panoptic_seg": {"PQ": 33.0, "PQ_th": 30.0},
    "rate": {"bpp": 0.1, "psnr": 25.0, "images": 3},
}


def test_each_key_names_one_figure():
    assert all(key == metric.key for key, metric in METRICS.items())
    assert len({metric.place for metric in METRICS.values()}) == len(METRICS)
    figures = {key: metric_of(key).read(RESULTS) for key in ("AP", "mask_AP", "mIoU", "PQ", "bpp")}
    assert figures == {"AP": 40.0, "mask_AP": 35.0, "mIoU": 50.0, "PQ": 33.0, "bpp": 0.1}
    assert math.isnan(metric_of("APs").read(RESULTS))
    assert math.isnan(metric_of("keypoint_AP").read(RESULTS))


def test_classes_have_keys_of_their_own():
    figures = [metric_of(key).read(RESULTS) for key in ("AP-a cat", "mask_AP-a cat", "IoU-sky")]
    assert figures == [30.0, 25.0, 90.0]
    assert metric_of("mask_AP-a cat").axis("x_val") == "mask AP of a cat on x_val (%)"


def test_what_is_recorded_is_listed_in_order():
    assert recorded([RESULTS, {"rate": {"ms_ssim": 0.9}}]) == [
        *("AP", "mask_AP", "mIoU", "PQ", "PQ_th", "PSNR", "MS-SSIM"),
        *("AP-a cat", "mask_AP-a cat", "IoU-sky"),
    ]


@pytest.mark.parametrize("key", ["AP51", "AP-", "-cat", "psnr", "BoundaryIoU-sky"])
def test_what_is_no_metric_is_named(key):
    with pytest.raises(CodecDetError, match=f"'{key}' is no metric: choose from AP, AP50"):
        metric_of(key)


def test_axes_have_units_where_there_is_one():
    assert metric_of("MS-SSIM").axis("x_val") == "MS-SSIM on x_val"
    assert metric_of("PSNR").axis("x_val") == "PSNR on x_val (dB)"
    assert [m.key for m in METRICS.values() if not m.higher_is_better] == ["bpp", "kbps"]
