"""Reading results, the table, the plot, and tools/compare.py, which is made of the three."""

import itertools
import json
import logging

import cv2
import pytest

from codec_det.errors import CodecDetError
from codec_det.files import atomic_file
from codec_det.plots import (
    PLOT_DPI,
    PLOT_INCHES,
    REGIME_STYLES,
    format_table,
    plot_rate_accuracy,
    rate_accuracy_figure,
    read_records,
)
from tools import compare


def record(regime="J-FT", bpp=0.1, ap=30.0, *, codec="bmshj2018-hyperprior", **changes):
    lossless = codec == "identity"
    return {
        "regime": regime,
        "codec": {"name": codec, "quality": 1},
        "dataset": "some_val",
        "rate_is": "estimated bits per pixel",
        "results": {
            "bbox": {"AP": ap, "AP50": ap + 10},
            "rate": {"bpp": bpp, "psnr": None if lossless else 25.0},
        },
        **changes,
    }


UNCOMPRESSED = record("baseline", 24.0, 60.0, codec="identity")


def write_results(folder, *lines):
    folder.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "results.jsonl").write_text("\n".join(texts))
    return folder


def test_the_newest_record_of_each_folder_is_read(tmp_path):
    a = write_results(tmp_path / "a", record(ap=1.0), record(ap=2.0))
    b = write_results(tmp_path / "b", record("T-FT"))
    assert read_records([a, str(b)]) == [record(ap=2.0), record("T-FT")]


@pytest.mark.parametrize("damage", [json.dumps(record())[:-9], "[1]", '{"regime": "J-FT"}'])
def test_lines_that_are_no_record_are_skipped_with_a_warning(tmp_path, caplog, damage):
    folder = write_results(tmp_path, record(ap=1.0), record(ap=2.0), damage)
    with caplog.at_level(logging.WARNING):
        assert read_records([folder]) == [record(ap=2.0)]
    assert f"{folder / 'results.jsonl'}: line 3 is no record" in caplog.text


def test_folders_without_results_are_named(tmp_path):
    with pytest.raises(CodecDetError, match=r"no results in '.*/none' .*OUTPUT_DIR"):
        read_records([tmp_path / "none"])
    with pytest.raises(CodecDetError, match="no complete record: evaluate the run again"):
        read_records([write_results(tmp_path, '{"regime')])


def test_the_table_is_aligned_and_in_the_studys_order():
    records = [
        record("J-FT", 0.0943, 34.1),
        record("baseline", 0.1024, 9.96),
        record("C-FT", 0.2, 31.0),
        record("C-FT", 0.0827, 29.8),
        UNCOMPRESSED,
        record("T-FT", 0.1024, 32.6, results={"rate": {"bpp": 0.1024, "psnr": 30.49}}),
    ]
    assert format_table(records).splitlines() == [
        "regime        box AP  AP50      bpp  PSNR (dB)",
        "------------  ------  ----  -------  ---------",
        "uncompressed    60.0  70.0  24.0000          -",
        "baseline        10.0  20.0   0.1024      25.00",
        "T-FT               -     -   0.1024      30.49",
        "C-FT            29.8  39.8   0.0827      25.00",
        "C-FT            31.0  41.0   0.2000      25.00",
        "J-FT            34.1  44.1   0.0943      25.00",
    ]


def test_the_markdown_table():
    assert format_table([record("T-FT"), UNCOMPRESSED], markdown=True).splitlines() == [
        "| regime       | box AP | AP50 |     bpp | PSNR (dB) |",
        "| ------------ | -----: | ---: | ------: | --------: |",
        "| uncompressed |   60.0 | 70.0 | 24.0000 |         - |",
        "| T-FT         |   30.0 | 40.0 |  0.1000 |     25.00 |",
    ]


def test_several_codecs_are_named():
    records = [record("J-FT", codec="mbt2018"), record("J-FT"), UNCOMPRESSED]
    names = [line.split("  ")[0] for line in format_table(records).splitlines()[2:]]
    assert names == ["uncompressed", "J-FT, bmshj2018-hyperprior", "J-FT, mbt2018"]


def test_results_of_different_data_sets_do_not_compare():
    records = [record(), record(dataset="other_val")]
    for function in (format_table, rate_accuracy_figure):
        with pytest.raises(CodecDetError, match="other_val, some_val"):
            function(records)


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_each_regime_has_its_line_by_rising_rate():
    regimes = list(REGIME_STYLES)
    records = [record(r, bpp, 10 * bpp + i) for i, r in enumerate(regimes) for bpp in (0.4, 0.2)]
    (axes,) = rate_accuracy_figure(records).axes
    assert legend(axes) == regimes
    for i, line in enumerate(axes.lines):
        assert line.get_xdata().tolist() == [0.2, 0.4]
        assert line.get_ydata().tolist() == pytest.approx([2 + i, 4 + i])
    # Told apart in colour, and in grey.
    for a, b in itertools.combinations(axes.lines, 2):
        assert a.get_color() != b.get_color()
        assert a.get_marker() != b.get_marker()
    assert axes.get_xlabel() == "estimated bits per pixel"
    assert axes.get_ylabel() == "box AP on some_val (%)"


def test_estimated_and_real_rates_are_told_apart():
    real = {"rate_is": "real bits per pixel"}
    records = [record(bpp=0.2), record(bpp=0.3, **real), record("T-FT", bpp=0.1, **real)]
    (axes,) = rate_accuracy_figure(records).axes
    assert legend(axes) == ["T-FT, real", "J-FT, estimated", "J-FT, real"]
    assert axes.get_xlabel() == "real bits per pixel / estimated bits per pixel"
    assert [line.get_markerfacecolor() == "white" for line in axes.lines] == [False, True, False]
    table = format_table(records)
    assert [line.split("  ")[0] for line in table.splitlines()[2:]] == legend(axes)
    # Uncompressed pictures have a rate of no kind.
    (axes,) = rate_accuracy_figure([UNCOMPRESSED, *records[1:]]).axes
    assert legend(axes) == ["uncompressed", "T-FT", "J-FT"]
    assert axes.get_xlabel() == "real bits per pixel"


def test_uncompressed_is_a_level_and_leaves_the_axis_alone():
    trained = record("T-FT", 24.0, 65.0, codec="identity")
    (axes,) = rate_accuracy_figure([record(bpp=0.5), UNCOMPRESSED, trained]).axes
    assert legend(axes) == ["uncompressed", "uncompressed, T-FT", "J-FT"]
    level = axes.lines[0]
    assert list(level.get_ydata()) == [60.0, 60.0]
    assert level.get_linestyle() == "--"
    low, high = axes.get_xlim()
    assert low == 0
    assert 0.5 < high < 1


def test_codecs_of_one_regime_are_not_joined():
    records = [record(codec=name, bpp=bpp) for name in ("mbt2018", "x") for bpp in (0.1, 0.2)]
    (axes,) = rate_accuracy_figure(records).axes
    assert legend(axes) == ["J-FT, mbt2018", "J-FT, x"]
    assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()
    assert axes.lines[0].get_color() == axes.lines[1].get_color()


def test_runs_without_accuracy_are_left_out_of_the_plot():
    codec_alone = record("C-FT", results={"rate": {"bpp": 0.1, "psnr": 30.0}})
    (axes,) = rate_accuracy_figure([codec_alone, record("T-FT")]).axes
    assert legend(axes) == ["T-FT"]
    with pytest.raises(CodecDetError, match="nothing to plot"):
        rate_accuracy_figure([codec_alone])


def test_the_plot_is_a_file_of_its_suffixs_kind(tmp_path):
    png, svg = tmp_path / "new" / "plot.png", tmp_path / "plot.svg"
    plot_rate_accuracy([record()], png)
    assert cv2.imread(str(png)).shape == (PLOT_INCHES[1] * PLOT_DPI, PLOT_INCHES[0] * PLOT_DPI, 3)
    plot_rate_accuracy([record()], svg)
    assert "<svg" in svg.read_text()
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["plot.png", "plot.svg"]


def test_plots_that_cannot_be_written_are_refused(tmp_path):
    with pytest.raises(CodecDetError, match=r"'plot\.jpg' does not end in \.png, \.svg, \.pdf"):
        plot_rate_accuracy([record()], "plot.jpg")
    (tmp_path / "file").touch()
    with pytest.raises(CodecDetError, match=r"cannot write '.*/file/plot\.png'"):
        plot_rate_accuracy([record()], tmp_path / "file" / "plot.png")


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "old.png"
    path.write_text("old")

    def interrupted():
        with atomic_file(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_tool_prints_the_table_and_writes_the_plot(tmp_path, capsys):
    runs = [
        write_results(tmp_path / "jft", record("J-FT", 0.2, 50.0)),
        write_results(tmp_path / "baseline", record("baseline", 0.2, 40.0)),
    ]
    plot = tmp_path / "plot.png"
    assert compare.main([*map(str, runs), "--plot", str(plot)]) == 0
    printed = capsys.readouterr().out
    assert printed.index("baseline    40.0") < printed.index("J-FT        50.0")
    assert str(plot) in printed
    assert cv2.imread(str(plot)) is not None
    assert compare.main([*map(str, runs), "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("| regime   | box AP |")


def test_the_tool_reports_errors_with_status_2(tmp_path, capsys):
    assert compare.main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith(f"error: no results in '{tmp_path / 'none'}'")
