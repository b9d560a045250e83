"""Hulls over coding scales: which points are on them, in figures, tables, deltas and data."""

import csv
import json

import numpy as np
import pytest

from codec_det.rate_accuracy.bjontegaard_deltas import bd, bd_by_seed, deltas
from codec_det.rate_accuracy.bootstrap import Resamples
from codec_det.rate_accuracy.curves import curves_of
from codec_det.rate_accuracy.pareto import pareto_front
from codec_det.rate_accuracy.plots import rate_accuracy_figure
from codec_det.rate_accuracy.records import Result
from tests.records import curve_records, record, write_data
from tools.plot_rate_accuracy import main

# Of the codec at whole and at half size: which is better changes at 0.3 bpp.
WHOLE = ([0.2, 0.4, 0.8], [20.0, 40.0, 50.0])
HALF = ([0.1, 0.19, 0.5], [25.0, 35.0, 38.0])
# What of both no other point betters.
HULL = ([0.1, 0.19, 0.4, 0.8], [25.0, 35.0, 40.0, 50.0])


def both_scales(regime, seed=0, factor=1.0, gain=0.0, **options):
    """Records of a codec at both scales, at so much of the rates, and so much better."""
    return [
        one
        for scale, (rates, aps) in ((1.0, WHOLE), (0.5, HALF))
        for one in curve_records(
            regime,
            [factor * rate for rate in rates],
            [ap + gain for ap in aps],
            seed=seed,
            config={"MODEL.CODEC.SCALE": scale} if scale < 1 else {},
            **options,
        )
    ]


def hulls(records):
    return curves_of([Result(one) for one in records], hulls=True)


@pytest.mark.parametrize(
    ("rates", "values", "front"),
    [
        ([], [], []),
        ([0.3, 0.1, 0.2], [3.0, 1.0, 2.0], [1, 2, 0]),
        ([0.1, 0.2, 0.3], [1.0, 0.5, 2.0], [0, 2]),
        # Below the line between its neighbours, but no other point is better.
        ([0.1, 0.2, 0.3], [1.0, 1.1, 5.0], [0, 1, 2]),
        ([0.1, 0.1, 0.2], [1.0, 2.0, 2.0], [1]),
        ([0.1, 0.2, float("nan")], [float("nan"), 2.0, 9.0], [1]),
    ],
)
def test_pareto_front(rates, values, front):
    assert pareto_front(rates, values) == front


def test_a_hull_is_the_best_of_all_scales_at_every_rate():
    (curve,) = hulls(both_scales("J-FT"))
    assert (curve.label, curve.details) == ("J-FT", ())
    assert len(curve.points) == 6
    hull = curve.hull("AP")
    assert (hull.values("bpp"), hull.values("AP")) == HULL
    assert [point.name for point in hull.points] == [
        "quality 1, scale 0.5",
        "quality 2, scale 0.5",
        "quality 2, scale 1",
        "quality 3, scale 1",
    ]
    # All have one PSNR: the lowest rate is the best.
    assert [point.mean("bpp") for point in curve.hull("PSNR").points] == [0.1]


def test_without_hulls_each_scale_is_a_curve_and_counts_whole():
    curves = curves_of([Result(one) for one in both_scales("J-FT")])
    assert [curve.label for curve in curves] == ["J-FT", "J-FT, scale 0.5"]
    assert curves[0].hull("AP").points == curves[0].points


def test_other_settings_and_uncompressed_scales_stay_apart():
    slow = [{**one["config"], "SOLVER.MAX_ITER": 9} for one in both_scales("J-FT")]
    trained_longer = [
        {**one, "config": c} for one, c in zip(both_scales("J-FT"), slow, strict=True)
    ]
    half = {"MODEL.CODEC.SCALE": 0.5}
    records = [
        *both_scales("J-FT"),
        *trained_longer,
        record("baseline", 24.0, 60.0, codec="identity"),
        record("baseline", 6.0, 50.0, codec="identity", config=half),
    ]
    labels = [curve.label for curve in hulls(records)]
    assert labels[:2] == ["uncompressed", "uncompressed, scale 0.5"]
    assert labels[2].startswith("J-FT, SOLVER.MAX_ITER ")
    assert labels[3].startswith("J-FT, SOLVER.MAX_ITER ")
    assert len(labels) == 4


def test_deltas_are_between_hulls():
    anchor, test = hulls([*both_scales("baseline"), *both_scales("J-FT", factor=0.8)])
    assert bd(anchor, test, "AP").rate.value == pytest.approx(-20)
    # Whole size alone has less of its own to gain.
    whole = curves_of([Result(one) for one in curve_records("baseline", *WHOLE)])[0]
    assert bd(whole, anchor, "AP").rate.value == pytest.approx(deltas(*WHOLE, *HULL).rate.value)
    assert bd(whole, anchor, "AP").rate.value < -5


def test_each_seed_has_its_own_hull():
    # Of seed 2, the half size is never the better one.
    other = curve_records("J-FT", *WHOLE, seed=2) + curve_records(
        "J-FT", HALF[0], [1.0, 2.0, 3.0], seed=2, config={"MODEL.CODEC.SCALE": 0.5}
    )
    anchor, test = hulls([*both_scales("baseline"), *both_scales("J-FT", seed=1), *other])
    by_seed = bd_by_seed(anchor, test, "AP")
    assert by_seed[1].rate.value == pytest.approx(0, abs=1e-9)
    expected = deltas(*HULL, [0.1, 0.19, *WHOLE[0]], [1.0, 2.0, *WHOLE[1]])
    assert by_seed[2].quality.value == pytest.approx(expected.quality.value)


def test_each_resample_has_its_own_hull(tmp_path):
    anchor, test = hulls([*both_scales("baseline"), *both_scales("J-FT")])
    folders, figures = {}, {}
    for curve in (anchor, test):
        for i, point in enumerate(curve.points):
            folder = tmp_path / f"{curve.label}_{i}"
            folders[id(point)] = folder
            bpp, ap = point.mean("bpp"), point.mean("AP")
            # In the second, the anchor's half size is worth nothing.
            worse = 0.0 if curve is anchor and point.scale < 1 else ap
            figures[folder, None] = {"bpp": np.array([bpp, bpp]), "AP": np.array([ap, worse])}
    anchor, test = (
        curves_of(
            [Result(r.record, folders[id(p)]) for p in c.points for r in p.results], hulls=True
        )[0]
        for c in (anchor, test)
    )
    rates, _ = Resamples(figures, 2, ()).of_bd(anchor, test, "AP")
    assert rates[0] == pytest.approx(0, abs=1e-9)
    # The lowest rate without an AP is on the front as well.
    expected = deltas([0.1, *WHOLE[0]], [0.0, *WHOLE[1]], *HULL).rate.value
    assert rates[1] == pytest.approx(expected)
    # Without the figures of one point, it is not known which would be the best.
    del figures[folders[min(folders)], None]
    assert np.isnan(Resamples(figures, 2, ()).of_bd(anchor, test, "AP")[0]).all()


def test_figures_say_the_scale_of_each_point():
    (axes,) = rate_accuracy_figure(hulls(both_scales("J-FT")), "AP").axes
    assert [text.get_text() for text in axes.texts] == ["50 %", "50 %", "100 %", "100 %"]
    (line,) = axes.lines
    assert line.get_xydata().T.tolist() == [*map(list, HULL)]
    assert axes.get_legend().get_title().get_text() == "percentages: coding scale"


def test_the_whole_tool(tmp_path, capsys):
    vvc = {"codec": "vvc", "settings": {}}
    records = [*both_scales("baseline", **vvc), *both_scales("J-FT", factor=0.5)]
    data = write_data(tmp_path / "data.jsonl", *records)
    out = tmp_path / "out"
    options = ("--hull", "--metrics", "AP", "PSNR", "--anchor", "baseline", "--bootstrap", "0")
    assert main([str(data), *options, "--output-dir", str(out)]) == 0
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines()]
    (row,) = (row for row in rows if row[:3] == ["J-FT,", "bmshj2018-hyperprior", "AP"])
    assert row[3:5] == ["-50.0", "100%"]
    lowest = ["baseline", "vvc", "quality", "1,", "scale"]
    (row,) = (row for row in rows if row[:5] == lowest)
    assert row[5] == "0.5"
    assert row[-2:] == ["AP,", "PSNR"]

    written = json.loads((out / "points.json").read_text())
    (curve,) = (one for one in written["curves"] if one["codec"] == "vvc")
    assert [(p["scale"], p["bpp"]["mean"], p["hulls"]) for p in curve["points"]] == [
        (0.5, 0.1, ["AP", "PSNR"]),
        (0.5, 0.19, ["AP"]),
        (1.0, 0.2, []),
        (1.0, 0.4, ["AP"]),
        (0.5, 0.5, []),
        (1.0, 0.8, ["AP"]),
    ]
    with (out / "table.csv").open(newline="") as file:
        table = [one for one in csv.DictReader(file) if one["codec"] == "vvc"]
    assert [(one["scale"], one["hulls"]) for one in table[:3]] == [
        ("0.5", "AP PSNR"),
        ("0.5", "AP"),
        ("1.0", ""),
    ]
    # The records draw the same again.
    assert main([str(out / "records.jsonl"), *options]) == 0
    assert capsys.readouterr().out.splitlines() == printed.splitlines()[:-2]
