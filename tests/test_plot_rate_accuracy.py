"""The whole tool, on small files of records."""

import csv
import json

import cv2
import pytest

from tests.records import ESTIMATED, curve_records, record, write_data, write_run
from tools.plot_rate_accuracy import main

RATES, ACCURACIES = [0.1, 0.2, 0.4, 0.8], [30.0, 38.0, 44.0, 46.0]
CHEAPER = [0.8 * rate for rate in RATES]


@pytest.fixture
def data(tmp_path):
    return write_data(
        tmp_path / "data.jsonl",
        record("baseline", 24.0, 60.0, codec="identity"),
        *curve_records("baseline", RATES, ACCURACIES),
        *(r for seed in (1, 2) for r in curve_records("J-FT", CHEAPER, ACCURACIES, seed=seed)),
    )


def test_tables_are_printed_and_nothing_is_written(data, tmp_path, capsys):
    assert main([str(data)]) == 0
    printed = capsys.readouterr()
    assert "baseline  uncompressed" in printed.out
    rows = [line.split() for line in printed.out.splitlines()]
    (row,) = (row for row in rows if row[:2] == ["J-FT", "AP"])
    assert row[2:4] == ["-20.0", "100%"]
    assert printed.err == ""
    assert list(tmp_path.iterdir()) == [data]


def test_the_table_as_markdown(data, capsys):
    assert main([str(data), "--markdown"]) == 0
    assert "| regime   | codec" in capsys.readouterr().out


def test_everything_is_written_and_draws_the_same_again(data, tmp_path, capsys):
    a, b = tmp_path / "a", tmp_path / "b"
    assert main([str(data), "--output-dir", str(a)]) == 0
    printed = capsys.readouterr()
    assert "no intervals for some curves: records of data files have no detections" in printed.err
    figures = {f"rate_{m}.{kind}" for m in ("AP", "AP50", "PSNR") for kind in ("svg", "png", "pdf")}
    texts = {"table.csv", "bd.csv", "table.md", "table.tex", "points.json", "records.jsonl"}
    assert {path.name for path in a.iterdir()} == figures | texts
    assert str(a) in printed.out
    assert all(name in printed.out for name in figures | texts)
    assert cv2.imread(str(a / "rate_AP.png")) is not None
    points = json.loads((a / "points.json").read_text())
    assert [curve["label"] for curve in points["curves"]] == ["uncompressed", "baseline", "J-FT"]
    with (a / "bd.csv").open(newline="") as file:
        (row,) = (row for row in csv.DictReader(file) if row["metric"] == "AP")
    assert float(row["rate_percent_value"]) == pytest.approx(-20)

    assert main([str(a / "records.jsonl"), "--output-dir", str(b)]) == 0
    for path in a.iterdir():
        assert path.read_bytes() == (b / path.name).read_bytes()


def test_metrics_and_anchor_are_chosen(data, tmp_path, capsys):
    options = ["--metrics", "AP50", "--anchor", "J-FT", "--output-dir", str(tmp_path / "a")]
    assert main([str(data), *options, "--bootstrap", "0", "--log-rate"]) == 0
    printed = capsys.readouterr()
    assert "Bjøntegaard deltas against J-FT" in printed.out
    (row,) = (
        line.split() for line in printed.out.splitlines() if line.startswith("baseline  AP50")
    )
    assert row[2] == "+25.0"
    assert printed.err == ""
    assert {path.stem for path in (tmp_path / "a").glob("*.svg")} == {"rate_AP50"}


def test_uncompressed_results_alone_are_a_table(tmp_path, capsys):
    data = write_data(tmp_path / "a.jsonl", record("baseline", 24.0, 60.0, codec="identity"))
    assert main([str(data)]) == 0
    assert "60.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"dataset": "other_val"}, "different data sets"),
    ],
)
def test_what_does_not_compare_is_refused(data, tmp_path, capsys, other, message):
    run = write_run(tmp_path / "run", record("T-FT", **other))
    assert main([str(data), str(run), "--output-dir", str(tmp_path / "a")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert str(run) in error
    assert not (tmp_path / "a").exists()


def test_estimated_and_real_bits_are_drawn_and_not_compared(data, tmp_path, capsys):
    estimated = curve_records("T-FT", RATES, ACCURACIES, rate_is=ESTIMATED)
    other = write_data(tmp_path / "other.jsonl", *estimated)
    assert main([str(data), str(other), "--output-dir", str(tmp_path / "a")]) == 0
    printed = capsys.readouterr().out
    assert "No BD of T-FT, estimated: the anchor's bits are real, the curve's est" in printed
    points = json.loads((tmp_path / "a" / "points.json").read_text())
    kinds = {curve["label"]: curve["kind_of_rate"] for curve in points["curves"]}
    assert kinds["T-FT, estimated"] == "estimated"
    assert kinds["baseline"] == kinds["J-FT"] == "real"


def test_a_metric_that_nothing_has_is_named(data, tmp_path, capsys):
    assert main([str(data), "--metrics", "mask_AP", "--output-dir", str(tmp_path / "a")]) == 2
    assert "--metrics 'mask_AP': no result has it; they have AP, AP50, PSNR" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "a").exists()


def test_pictures_without_loss_are_told_and_not_compared(tmp_path, capsys):
    points = curve_records("baseline", RATES, ACCURACIES)
    others = curve_records("J-FT", CHEAPER, ACCURACIES)
    for i, one in enumerate([*points, *others]):
        one["results"]["rate"] |= {"psnr": 20.0 + i % 4, "psnr_of_mse": 21.0 + i % 4}
    others[-1]["results"]["rate"]["lossless"] = 3
    data = write_data(tmp_path / "a.jsonl", *points, *others)
    assert main([str(data), "--metrics", "PSNR", "PSNR_MSE"]) == 0
    printed = capsys.readouterr().out
    assert "PSNR leaves out pictures without loss (3 of J-FT, quality 4); PSNR_MSE" in printed
    assert "No BD of J-FT (PSNR): some pictures were coded without loss" in printed
    (row,) = (line.split() for line in printed.splitlines() if line.startswith("J-FT     PSNR_MSE"))
    assert row[2] == "-20.0"


def test_errors_name_the_culprit(data, tmp_path, capsys):
    assert main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith(f"error: '{tmp_path / 'none'}' does not exist")
    assert main([str(data), "--anchor", "T-FT"]) == 2
    assert "choose one of 'baseline', 'J-FT'" in capsys.readouterr().err
    assert main([str(data), "--output-dir", str(data)]) == 2
    assert "--output-dir" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(data), "--bootstrap", "-1"])
    assert "-1 is negative" in capsys.readouterr().err


@pytest.fixture
def sequences(tmp_path):
    """Of two frame rates: kbit/s are not in proportion to bits per pixel."""
    records = [
        record("baseline", 24.0, 60.0, codec="identity"),
        *curve_records("baseline", RATES, ACCURACIES),
        *curve_records("J-FT", RATES, ACCURACIES),
    ]
    for one in records[1:]:
        rate = one["results"]["rate"]
        rate["kbps"] = rate["bpp"] * (500 if one["regime"] == "baseline" else 250)
        rate["bpp_overhead"] = rate["bpp"] / 4
    return write_data(tmp_path / "sequences.jsonl", *records)


def bd_rate_of_jft(out: str) -> str:
    rows = [line.split() for line in out.splitlines()]
    return next(row[2] for row in rows if row[:2] == ["J-FT", "AP"])


@pytest.mark.parametrize(
    ("options", "heading", "least", "saved"),
    [
        ((), "kbps", "50.00", "-50.0"),
        (("--net",), "kbps", "37.50", "-50.0"),
        (("--rate", "bpp"), "bpp", "0.1000", "+0.0"),
    ],
)
def test_sequences_are_compared_over_kbps(sequences, capsys, options, heading, least, saved):
    assert main([str(sequences), *options]) == 0
    out = capsys.readouterr().out
    head, _, _, first = out.splitlines()[2:6]
    assert heading in head.split()
    assert not {"kbps", "bpp"} - {heading} & set(head.split())
    assert least in first.split()
    assert bd_rate_of_jft(out) == saved


def test_figures_of_sequences_are_over_kbps(sequences, tmp_path):
    assert main([str(sequences), "--net", "--output-dir", str(tmp_path / "a")]) == 0
    points = json.loads((tmp_path / "a" / "points.json").read_text())
    assert points["rate_is"] == "kbit/s, net bits"
    assert points["units"]["kbps"] == "kbit/s"
    (_, curve, _) = points["curves"]
    assert [point["kbps"]["mean"] for point in curve["points"]] == [37.5, 75, 150, 300]
    assert "kbit/s, net bits" in (tmp_path / "a" / "rate_AP.svg").read_text()


def test_pictures_among_sequences_have_no_kbps(sequences, data, capsys):
    assert main([str(sequences), str(data), "--rate", "kbps"]) == 2
    error = capsys.readouterr().err
    assert "--rate kbps" in error
    assert "runs/baseline-0.1-0" in error
    assert "--rate bpp" in error
    assert main([str(sequences), str(data)]) == 0
    assert "bpp" in capsys.readouterr().out
