import numpy as np
import pytest

from codec_det.rate_accuracy.bootstrap import Resamples
from codec_det.rate_accuracy.comparisons import compare
from codec_det.rate_accuracy.curve_data import describe
from codec_det.rate_accuracy.curves import curves_of
from codec_det.rate_accuracy.records import Result
from codec_det.rate_accuracy.tables import bd_table, points_table
from tests.records import record, some_curves

METRICS = ["AP", "AP50", "PSNR"]


@pytest.fixture
def curves():
    return some_curves()


def test_points_are_listed_with_the_range_over_seeds(curves):
    lines = points_table(curves, None, METRICS).text().splitlines()
    assert lines[0] == "Box AP on some_val (%) and rate"
    cells = [line.split("  ") for line in lines[4:]]
    rows = [[cell.strip() for cell in row if cell.strip()] for row in cells]
    assert rows[0] == ["baseline", "uncompressed", "-", "1", "60.0", "70.0", "24.0000", "-", "-"]
    assert rows[1] == [
        "baseline", "bmshj2018-hyperprior", "quality 1", "1", "30.0", "40.0", "0.1000", "25.00",
        "real",
    ]  # fmt: skip
    assert rows[7] == [
        "J-FT", "bmshj2018-hyperprior", "quality 1", "2", "31.0 (30.0 to 32.0)",
        "41.0 (40.0 to 42.0)", "0.0800", "25.00", "real",
    ]  # fmt: skip
    assert "Of several seeds: mean (least to greatest)." in lines


def test_deltas_are_listed_with_the_range_over_seeds(curves):
    anchor, *_ = (curve for curve in curves if not curve.is_level)
    table = bd_table(compare(curves, anchor, ["AP"], None), None)
    ((curve, metric, rate, shared, quality, _),) = table.rows
    assert (curve, metric, shared) == ("J-FT", "AP", "88%")
    mean, in_brackets = rate.split(" (")
    assert float(mean) < -20
    assert in_brackets.endswith("to -20.0)")
    assert float(quality.split(" ")[0]) > 1
    assert "No BD of T-FT: the curve has 2 of the 3 points that are needed: add rates." in (
        table.notes
    )


def test_refusals_of_one_figure_are_told(curves):
    anchor, *_ = (curve for curve in curves if not curve.is_level)
    table = bd_table(compare(curves, anchor, ["AP", "PSNR"], None), None)
    row = next(row for row in table.rows if row[:2] == ("J-FT", "PSNR"))
    assert row[2] == "-"
    assert row[4] == "+0.00"
    (note,) = (note for note in table.notes if note.startswith("No BD-rate of J-FT (PSNR)"))
    assert "the anchor does not rise" in note


def test_a_table_of_refusals_alone_is_its_notes(curves):
    few = [curve for curve in curves if curve.label in ("baseline", "T-FT")]
    text = bd_table(compare(few, few[0], ["AP"], None), None).text()
    assert "BD-rate (%)" not in text
    assert "No BD of T-FT: the curve has 2 of the 3 points" in text


def test_markdown_and_latex(curves):
    table = points_table(curves, None, METRICS)
    lines = table.markdown().splitlines()
    assert lines[2].startswith("| regime")
    assert lines[3].count(":") == 9
    assert lines[-1] == "- Of several seeds: mean (least to greatest)."
    latex = table.latex()
    for command in (r"\begin{tabular}{lllrrrrrr}", r"\toprule", r"\midrule", r"\bottomrule"):
        assert latex.count(command) == 1


def test_latex_is_escaped():
    settings = {"options": "50% & #1_{~x^2}\\$"}
    pair = [
        record("baseline", codec="jpeg", settings=settings),
        record("baseline", 0.2, codec="jpeg", settings={}),
    ]
    curves = curves_of([Result(one) for one in pair])
    latex = points_table(curves, None, METRICS).latex()
    (line,) = (line for line in latex.splitlines() if "options 50" in line)
    assert r"50\% \& \#1\_\{" in line
    # Nothing of it is left that LaTeX would take as a command.
    assert line.count("&") - line.count(r"\&") == 8
    plain = line.replace(r"\_", "").replace(r"\%", "").replace(r"\#", "").replace(r"\$", "")
    assert not set("_%#$") & set(plain)


def test_intervals_have_a_column(curves):
    folders = {}
    results = [
        Result(one.record, f"run{i}")
        for i, one in enumerate(r for c in curves for p in c.points for r in p.results)
    ]
    for result in results:
        shift = np.linspace(-1, 1, 201)
        figures = {name: result.figure(name) + 0 * shift for name in ("bpp", "PSNR", "AP50")}
        folders[result.folder, None] = {**figures, "AP": result.figure("AP") + shift}
    resamples = Resamples(folders, 201, ())
    curves = curves_of(results)
    table = points_table(curves, resamples, METRICS)
    assert table.columns[5] == "AP, 95 %"
    assert table.rows[1][4:6] == ("30.0", "29.1 to 30.9")
    anchor = curves[1]
    table = bd_table(compare(curves, anchor, ["AP"], resamples), resamples)
    assert table.columns == (
        "curve", "of", "BD-rate (%)", "95 %", "shared", "BD-quality", "95 %", "shared",
    )  # fmt: skip
    (row,) = table.rows
    # Both curves move together, so that their difference stays.
    low, high = (float(end) for end in row[3].split(" to "))
    assert high - low <= 0.1
    data = describe(curves, compare(curves, anchor, ["AP"], resamples), resamples, METRICS)
    assert data["curves"][1]["points"][0]["AP"]["interval_95"] == pytest.approx([29.05, 30.95])
