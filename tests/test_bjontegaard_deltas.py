import math
import subprocess
import sys

import pytest

from codec_det.rate_accuracy.bjontegaard_deltas import bd, bd_by_seed, bd_matrix, deltas
from codec_det.rate_accuracy.curves import curves_of
from codec_det.rate_accuracy.records import Result
from tests.records import curve_records

RATES, ACCURACIES = [0.1, 0.2, 0.4, 0.8], [30.0, 38.0, 44.0, 46.0]


def test_fewer_bits_at_equal_accuracy_are_that_bd_rate():
    cheaper = [0.8 * rate for rate in RATES]
    both = deltas(RATES, ACCURACIES, cheaper, ACCURACIES)
    assert both.rate.value == pytest.approx(-20.0, abs=1e-9)
    assert both.rate.overlap == 1
    assert both.quality.value > 0
    # What is shared in log rate: 0.1 to 0.64 of 0.08 to 0.8.
    assert both.quality.overlap == pytest.approx(math.log(6.4) / math.log(10))
    back = deltas(cheaper, ACCURACIES, RATES, ACCURACIES)
    assert back.rate.value == pytest.approx(25.0, abs=1e-9)
    assert back.quality.value == pytest.approx(-both.quality.value)


def test_more_accuracy_at_equal_rate_is_that_bd_ap():
    both = deltas(RATES, ACCURACIES, RATES, [value + 2 for value in ACCURACIES])
    assert both.quality.value == pytest.approx(2.0, abs=1e-9)
    assert both.quality.overlap == 1
    assert both.rate.value < 0
    assert both.rate.overlap == pytest.approx(14 / 18)


def test_the_order_of_points_does_not_matter():
    test = [0.09, 0.18, 0.35, 0.9], [31.0, 37.0, 45.0, 47.0]
    backwards = [column[::-1] for column in test]
    mixed = [[column[i] for i in (2, 0, 3, 1)] for column in test]
    anchor = RATES, ACCURACIES
    assert deltas(*anchor, *test) == deltas(*anchor, *backwards) == deltas(*anchor, *mixed)


def test_too_few_points_are_refused():
    both = deltas(RATES, ACCURACIES, RATES[:2], ACCURACIES[:2])
    for delta in (both.rate, both.quality):
        assert delta.is_refused
        assert math.isnan(delta.value)
        assert "the curve has 2 of the 3 points" in delta.refusal
    assert "the anchor has 0 of the 3" in deltas([], [], RATES, ACCURACIES).rate.refusal


def test_curves_that_share_too_little_are_refused_with_how_much():
    above = [value + 13 for value in ACCURACIES]  # 43 to 59, of 30 to 46
    both = deltas(RATES, ACCURACIES, RATES, above)
    assert "share 10% of their range of quality, and 25% are needed" in both.rate.refusal
    assert "30 to 46, the curve 43 to 59" in both.rate.refusal
    assert both.quality.value == pytest.approx(13)
    higher = [16 * rate for rate in RATES]
    both = deltas(RATES, ACCURACIES, higher, ACCURACIES)
    assert "share 0% of their range of rate" in both.quality.refusal
    assert both.rate.value == pytest.approx(1500)


@pytest.mark.parametrize("last", [43.0, 44.0])
def test_bd_rate_of_a_curve_that_does_not_rise_is_refused(last):
    falling = [30.0, 38.0, 44.0, last]
    both = deltas(RATES, ACCURACIES, RATES, falling)
    assert f"the curve does not rise from 0.4000 to 0.8000 bpp (44.00 to {last:.2f})" in (
        both.rate.refusal
    )
    # At each rate there is one accuracy all the same.
    assert both.quality.value < 0
    assert "the anchor does not rise" in deltas(RATES, falling, RATES, ACCURACIES).rate.refusal


def test_points_that_no_function_goes_through_are_refused():
    both = deltas(RATES, ACCURACIES, [0.1, 0.1, 0.2, 0.4], ACCURACIES)
    assert both.quality.refusal == both.rate.refusal == "the curve has two points at 0.1000 bpp"
    both = deltas(RATES, [math.nan, *ACCURACIES[1:]], RATES, ACCURACIES)
    assert both.rate.refusal == "the anchor has 1 of 4 points without a figure"


def make_curves(*families):
    return curves_of([Result(record) for family in families for record in family])


def test_curves_are_compared_by_their_means_and_by_seed():
    seeds = [
        curve_records("T-FT", RATES, [ap + gain for ap in ACCURACIES], seed=seed)
        for seed, gain in ((1, 1.0), (2, 3.0))
    ]
    baseline, tft = make_curves(curve_records("baseline", RATES, ACCURACIES), *seeds)
    assert bd(baseline, tft, "AP").quality.value == pytest.approx(2)
    assert bd(baseline, tft, "AP50").quality.value == pytest.approx(2)
    assert bd(baseline, tft, "PSNR").rate.is_refused  # the same at all points
    by_seed = bd_by_seed(baseline, tft, "AP")
    assert {seed: both.quality.value for seed, both in by_seed.items()} == pytest.approx(
        {1: 1.0, 2: 3.0}
    )


def test_only_seeds_that_every_point_has_are_compared():
    first = curve_records("T-FT", RATES, ACCURACIES, seed=1)
    second = curve_records("T-FT", RATES, ACCURACIES, seed=2)[:3]
    jft = [curve_records("J-FT", RATES, ACCURACIES, seed=seed) for seed in (1, 3)]
    tft, both = make_curves(first, second, *jft)
    assert list(bd_by_seed(tft, both, "AP")) == [1]
    # Neither is trained: there are no seeds to differ.
    (baseline,) = make_curves(curve_records("baseline", RATES, ACCURACIES))
    assert bd_by_seed(baseline, baseline, "AP") == {}


def test_the_matrix_has_all_pairs_but_levels():
    level = curve_records("baseline", [24.0], [60.0], codec="identity")
    cheaper = [0.5 * rate for rate in RATES]
    curves = make_curves(
        level,
        curve_records("baseline", RATES, ACCURACIES),
        curve_records("J-FT", cheaper, ACCURACIES),
    )
    matrix = bd_matrix(curves, "AP")
    names = [curve.label for curve in curves[1:]]
    assert set(matrix) == {(names[0], names[1]), (names[1], names[0])}
    assert matrix[names[0], names[1]].rate.value == pytest.approx(-50)
    assert matrix[names[1], names[0]].rate.value == pytest.approx(100)


def test_figures_of_points_need_no_detectron2():
    program = """
import sys
sys.modules["detectron2"] = None
from codec_det.rate_accuracy.bjontegaard_deltas import deltas
both = deltas([1, 2, 4], [10, 20, 30], [0.8, 1.6, 3.2], [10, 20, 30])
print(f"{both.rate.value:.6f}", "torch" in sys.modules)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["-20.000000", "False"]
