import itertools

import cv2
import pytest

from codec_det.errors import CodecDetError
from codec_det.rate_accuracy.curves import curves_of
from codec_det.rate_accuracy.plots import (
    PLOT_DPI,
    PLOT_INCHES,
    figure_name,
    rate_accuracy_figure,
    write_figures,
)
from codec_det.regimes import REGIMES
from tests.records import REAL, result

PSNRS = ((0.1, 25.0), (0.2, 30.0), (9.0, None))
UNCOMPRESSED = result("baseline", 24.0, 60.0, codec="identity")


def draw(results, metric="AP", **options):
    (axes,) = rate_accuracy_figure(curves_of(results), metric, **options).axes
    return axes


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def lines_of(axes):
    """Lines with a name, by it; those of bars have none."""
    return {line.get_label(): line for line in axes.lines if line.get_label()[0] != "_"}


def test_each_regime_has_its_line_by_rising_rate():
    regimes = [regime.name for regime in REGIMES]
    axes = draw(
        [
            result(regime, bpp, 10 * bpp + i, quality=quality)
            for i, regime in enumerate(regimes)
            for quality, bpp in ((2, 0.4), (1, 0.2))
        ]
    )
    assert legend(axes) == regimes
    lines = lines_of(axes)
    for i, regime in enumerate(regimes):
        assert lines[regime].get_xdata().tolist() == [0.2, 0.4]
        assert lines[regime].get_ydata().tolist() == pytest.approx([2 + i, 4 + i])
    # Told apart in colour, and in grey.
    for a, b in itertools.combinations(lines.values(), 2):
        assert a.get_color() != b.get_color()
        assert a.get_marker() != b.get_marker()
    assert axes.get_xlabel() == REAL
    assert axes.get_ylabel() == "box AP on some_val (%)"


def test_each_metric_has_its_axis():
    assert lines_of(draw([result(ap=30.0)], "AP50"))["J-FT"].get_ydata().tolist() == [40.0]
    axes = draw([result(psnr=25.0), UNCOMPRESSED], "PSNR")
    assert lines_of(axes)["J-FT"].get_ydata().tolist() == [25.0]
    assert legend(axes) == ["J-FT"]  # uncompressed pictures have no PSNR
    assert axes.get_ylabel() == "PSNR on some_val (dB)"


def test_an_axis_says_what_psnr_leaves_out():
    some = result(psnr=25.0)
    some.record["results"]["rate"] |= {"lossless": 2, "psnr_of_mse": 26.0}
    axes = draw([some, result(bpp=0.2, quality=2)], "PSNR")
    assert axes.get_ylabel() == "PSNR on some_val (dB), without lossless pictures"
    assert draw([some], "PSNR_MSE").get_ylabel() == "PSNR of the mean MSE on some_val (dB)"


def test_a_point_without_loss_leaves_the_others():
    points = [result(bpp=bpp, quality=i, psnr=psnr) for i, (bpp, psnr) in enumerate(PSNRS)]
    assert lines_of(draw(points, "PSNR"))["J-FT"].get_xdata().tolist() == [0.1, 0.2]


def test_names_of_classes_make_names_of_files():
    assert figure_name("AP-a/b cat") == "rate_AP-a_b_cat"


def test_seeds_are_bars_from_least_to_greatest():
    seeds = [result("T-FT", bpp, ap, seed=i) for i, (bpp, ap) in enumerate(((0.1, 30), (0.2, 36)))]
    axes = draw([*seeds, result("J-FT")])
    (bars,) = axes.containers
    horizontal, vertical = bars.lines[2]
    assert horizontal.get_segments()[0].tolist() == [[0.1, 33.0], [0.2, 33.0]]
    ((x, low), (_, high)) = vertical.get_segments()[0]
    assert (x, low, high) == pytest.approx((0.15, 30.0, 36.0))
    assert lines_of(axes)["T-FT"].get_ydata().tolist() == [33.0]
    assert axes.get_legend().get_title().get_text() == "mean of 2 seeds;\nbars: least to greatest"


def test_without_seeds_nothing_is_said_of_them():
    axes = draw([result()])
    assert not axes.containers
    assert axes.get_legend().get_title().get_text() == ""


def test_uncompressed_is_a_level_and_leaves_the_axis_alone():
    trained = result("T-FT", 24.0, 65.0, codec="identity")
    axes = draw([result(bpp=0.5), UNCOMPRESSED, trained])
    assert legend(axes) == ["uncompressed", "uncompressed, detector trained alone", "J-FT"]
    level = axes.lines[0]
    assert list(level.get_ydata()) == [60.0, 60.0]
    assert level.get_linestyle() == "--"
    low, high = axes.get_xlim()
    assert low == 0
    assert 0.5 < high < 1


def test_codecs_of_one_regime_are_not_joined():
    names = ("mbt2018", "x")
    axes = draw(
        [
            result(codec=name, bpp=quality / 10, quality=quality)
            for name in names
            for quality in (1, 2)
        ]
    )
    first, second = (lines_of(axes)[f"J-FT, {name}"] for name in names)
    assert len(first.get_xdata()) == len(second.get_xdata()) == 2
    assert first.get_linestyle() != second.get_linestyle()
    assert first.get_fillstyle() != second.get_fillstyle()
    assert first.get_color() == second.get_color()


def test_five_codecs_look_different():
    names = ("a", "b", "c", "d", "e")
    axes = draw([result(codec=name) for name in names])
    lines = [lines_of(axes)[f"J-FT, {name}"] for name in names]
    assert len({(x.get_linestyle(), x.get_fillstyle()) for x in lines}) == 5


def test_equal_curves_show_below_each_other():
    axes = draw([result("baseline"), result("T-FT")], "PSNR")
    below, above = lines_of(axes).values()
    assert axes.lines.index(below) < axes.lines.index(above)
    assert below.get_linewidth() > above.get_linewidth()
    assert below.get_markersize() > above.get_markersize()


def test_rates_can_be_logarithmic():
    axes = draw([result(bpp=0.05), result(bpp=1.0, quality=2)], log_rate=True)
    assert axes.get_xscale() == "log"
    axes.figure.draw_without_rendering()
    assert {"0.1", "0.2", "0.5"} <= {text.get_text() for text in axes.get_xticklabels()}


def test_a_plot_of_nothing_is_refused():
    with pytest.raises(CodecDetError, match="nothing to plot: no run has both AP and the rate"):
        draw([UNCOMPRESSED])


def test_files_are_of_their_kinds_and_can_be_made_again(tmp_path):
    curves = curves_of([result(), UNCOMPRESSED])
    paths = write_figures(curves, ["AP", "PSNR"], tmp_path / "a")
    assert [path.name for path in paths] == [
        f"rate_{metric}.{kind}" for metric in ("AP", "PSNR") for kind in ("svg", "png", "pdf")
    ]
    size = (PLOT_INCHES[1] * PLOT_DPI, PLOT_INCHES[0] * PLOT_DPI, 3)
    assert cv2.imread(str(tmp_path / "a" / "rate_AP.png")).shape == size
    assert "<svg" in (tmp_path / "a" / "rate_AP.svg").read_text()
    assert (tmp_path / "a" / "rate_AP.pdf").read_bytes().startswith(b"%PDF")
    for path, again in zip(
        paths, write_figures(curves, ["AP", "PSNR"], tmp_path / "b"), strict=True
    ):
        assert path.read_bytes() == again.read_bytes()


def test_points_of_hulls_say_their_scale_unless_all_have_one():
    def at(scale, regime, bpp, ap):
        return result(regime, bpp, ap, quality=scale, config={"MODEL.CODEC.SCALE": scale})

    several = [at(0.5, "T-FT", 0.1, 20.0), at(0.25, "T-FT", 0.05, 10.0)]
    one = [at(0.5, "J-FT", 0.1, 30.0)]
    (axes,) = rate_accuracy_figure(curves_of([*several, *one], hulls=True), "AP").axes
    assert legend(axes) == ["T-FT", "J-FT, 50 %"]
    assert sorted(text.get_text() for text in axes.texts) == ["25 %", "50 %"]
