import csv
import io
import json
import math

import pytest

from codec_det.rate_accuracy.comparisons import compare
from codec_det.rate_accuracy.curve_data import bd_csv, describe, points_csv
from tests.records import some_curves


@pytest.fixture
def curves():
    return some_curves()


def test_csv_has_all_digits_and_the_data_no_nan(curves):
    comparisons = compare(curves, curves[1], ["AP", "PSNR"], None)
    data = describe(curves, comparisons, None, ["AP", "AP50", "PSNR"])
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    rows = list(csv.DictReader(io.StringIO(points_csv(data))))
    assert len(rows) == 11
    assert rows[0]["PSNR_mean"] == ""
    (row,) = (
        row for row in rows if row["regime"] == "J-FT" and row["operating_point"] == "quality 4"
    )
    assert float(row["bpp_mean"]) == 0.8 * 0.8
    assert (row["seeds"], row["AP_mean"], row["AP_low"], row["AP_high"]) == (
        "1 2", "47.0", "46.0", "48.0",
    )  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(bd_csv(data))))
    assert [(row["curve"], row["metric"]) for row in rows] == [
        (curve, metric) for curve in ("T-FT", "J-FT") for metric in ("AP", "PSNR")
    ]
    assert "2 of the 3 points" in rows[0]["rate_percent_refusal"]
    assert math.isclose(float(rows[2]["rate_percent_value"]), comparisons[2].rate.delta.value)
    seeds = dict(pair.split(":") for pair in rows[2]["rate_percent_by_seed"].split())
    assert float(seeds["1"]) == pytest.approx(-20)
