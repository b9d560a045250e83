import math

import pytest

from codec_det.errors import CodecDetError
from codec_det.rate_accuracy.curves import curves_of, find_anchor, rate_axis
from tests.records import ESTIMATED, result


def test_seeds_of_a_config_are_one_point_with_mean_and_range():
    results = [
        result(bpp=bpp, ap=ap, seed=seed, config={"MODEL.DEVICE": f"cuda:{seed}"})
        for seed, bpp, ap in ((3, 0.12, 33.0), (1, 0.10, 30.0), (2, 0.11, 36.0))
    ]
    (curve,) = curves_of(results)
    (point,) = curve.points
    assert point.seeds == [1, 2, 3]
    assert point.mean("AP") == pytest.approx(33.0)
    assert (point.low("AP"), point.high("AP")) == (30.0, 36.0)
    assert point.mean("bpp") == pytest.approx(0.11)
    assert point.mean("AP50", seed=2) == 46.0
    assert math.isnan(point.mean("AP", seed=4))


def test_a_mean_of_equal_figures_is_that_figure():
    results = [result(bpp=0.1, ap=0.1, seed=seed) for seed in range(7)]
    assert curves_of(results)[0].points[0].mean("AP") == 0.1


def test_what_was_not_trained_is_the_same_with_every_seed():
    (curve,) = curves_of([result("baseline", ap=31.0)])
    assert curve.values("AP", seed=5) == [31.0]


def test_points_are_in_the_order_of_their_rates_and_named():
    configs = {
        "TARGET_BPP": (0.4, 0.1, 0.2),
        "WEIGHTS": ("b/x.pth", "codec_det://y.pth", "a/x.pth"),
    }
    for key, values in configs.items():
        results = [
            result(bpp=bpp, config={f"MODEL.CODEC.{key}": value})
            for bpp, value in zip((0.4, 0.1, 0.2), values, strict=True)
        ]
        (curve,) = curves_of(results)
        assert curve.values("bpp") == [0.1, 0.2, 0.4]
        names = [point.name for point in curve.points]
        if key == "TARGET_BPP":
            assert names == ["target 0.1 bpp", "target 0.2 bpp", "target 0.4 bpp"]
        else:
            assert names == ["y.pth", "a/x.pth", "b/x.pth"]


def test_regimes_and_codecs_are_curves_of_their_own_in_the_studys_order():
    results = [
        result("J-FT"),
        result("C-FT"),
        result("T-FT", codec="vvc", settings={"preset": "slow"}),
        result("T-FT"),
        result("T-FT", 24.0, codec="identity"),
        result("encoder+synthesis"),
        result("baseline", 24.0, codec="identity"),
    ]
    curves = curves_of(results)
    assert [curve.label for curve in curves] == [
        "uncompressed",
        "uncompressed, detector trained alone",
        "T-FT, bmshj2018-hyperprior",
        "T-FT, vvc",
        "C-FT, bmshj2018-hyperprior",
        "J-FT, bmshj2018-hyperprior",
        "encoder+synthesis, bmshj2018-hyperprior",
    ]
    assert [curve.is_level for curve in curves] == [True, True] + [False] * 5
    # Of a single codec the name says nothing.
    assert [curve.label for curve in curves_of(results[:2])] == ["C-FT", "J-FT"]


def at_scale(scale, *args, **options):
    return result(*args, config={"MODEL.CODEC.SCALE": scale}, **options)


def test_scales_are_curves_of_their_own_whatever_their_operating_points():
    results = [
        result("J-FT", 0.4),
        at_scale(0.5, "J-FT", 0.1, quality=2),
        at_scale(0.25, "J-FT", 0.05, quality=3),
        result("baseline", 0.4, codec="vvc", settings={}),
        at_scale(0.5, "baseline", 0.1, codec="vvc", settings={}),
        result("baseline", 24.0, codec="identity"),
        at_scale(0.5, "baseline", 6.0, codec="identity"),
    ]
    assert [curve.label for curve in curves_of(results)] == [
        "uncompressed",
        "uncompressed, scale 0.5",
        "baseline, vvc",
        "baseline, vvc, scale 0.5",
        "J-FT, bmshj2018-hyperprior",
        "J-FT, bmshj2018-hyperprior, scale 0.25",
        "J-FT, bmshj2018-hyperprior, scale 0.5",
    ]
    # Seeds at one scale are one point.
    both = [at_scale(0.5, seed=seed) for seed in (1, 2)]
    assert len(curves_of(both)[0].points) == 1


def test_settings_of_a_codec_are_not_merged_but_its_qualities_are():
    results = [
        result("baseline", 1 / q, codec="jpeg", quality=q, settings={"chroma": chroma, "speed": 1})
        for chroma in ("4:2:0", "4:4:4")
        for q in (10, 20)
    ]
    curves = curves_of(results)
    assert [curve.label for curve in curves] == ["baseline, chroma 4:2:0", "baseline, chroma 4:4:4"]
    names = ["quality 20", "quality 10"]
    assert [[point.name for point in curve.points] for curve in curves] == [names, names]


def test_runs_at_one_operating_point_that_differ_otherwise_are_different_curves():
    def run(quality, iterations, regime="J-FT"):
        config = {"MODEL.CODEC.QUALITY": quality, "SOLVER.MAX_ITER": iterations}
        return result(regime, 0.1 * quality, quality=quality, config=config)

    curves = curves_of([run(1, 100), run(2, 100), run(1, 900), run(2, 900)])
    assert [curve.label for curve in curves] == [
        "J-FT, SOLVER.MAX_ITER 100",
        "J-FT, SOLVER.MAX_ITER 900",
    ]
    assert [curve.values("bpp") for curve in curves] == [[0.1, 0.2], [0.1, 0.2]]
    # Each operating point may have a schedule of its own.
    assert len(curves_of([run(1, 100), run(2, 900)])) == 1
    # Nothing was trained: how long does not matter.
    (curve,) = curves_of([run(1, 100, "baseline"), run(1, 900, "baseline")])
    assert len(curve.points) == 1


def test_weights_that_lead_from_rate_to_rate_are_the_points_of_one_curve():
    def of(weights, bpp, seed=1):
        return result("E-FT", bpp=bpp, seed=seed, config={"MODEL.WEIGHTS": f"{weights}/final.pth"})

    (curve,) = curves_of([of("b", 0.2), of("a", 0.1), of("a", 0.12, 2), of("b", 0.21, 2)])
    assert [point.name for point in curve.points] == ["a/final.pth", "b/final.pth"]
    assert [point.seeds for point in curve.points] == [[1, 2], [1, 2]]
    # Two detectors behind one codec are two curves of a point each.
    same_rate = curves_of([of("a", 0.1), of("b", 0.1)])
    assert [curve.details for curve in same_rate] == [
        ("MODEL.WEIGHTS a/final.pth",),
        ("MODEL.WEIGHTS b/final.pth",),
    ]
    # And so are curves of several rates each.
    points = [
        result(bpp=bpp, config={"MODEL.WEIGHTS": x, "MODEL.CODEC.TARGET_BPP": bpp})
        for x in "ab"
        for bpp in (0.1, 0.2)
    ]
    assert [len(curve.points) for curve in curves_of(points)] == [2, 2]


def test_a_key_at_its_default_is_called_by_its_value():
    beta = {"MODEL.CODEC.BETA": 4.0}
    (curve,) = curves_of([result(bpp=0.1, config=beta), result(bpp=0.2)])
    assert [point.name for point in curve.points] == ["BETA 4.0", "BETA 1.0"]
    quality = {"MODEL.CODEC.METRIC": "ms-ssim"}
    labels = {curve.label for curve in curves_of([result(config=quality), result(bpp=0.2)])}
    assert labels == {"J-FT, MODEL.CODEC.METRIC ms-ssim", "J-FT, MODEL.CODEC.METRIC mse"}


def test_what_cannot_compare_makes_no_curves():
    with pytest.raises(CodecDetError, match="different data sets"):
        curves_of([result(), result("T-FT", dataset="other_val")])


def test_kinds_of_bits_are_not_joined_and_estimates_are_marked():
    level = result("baseline", 24.0, codec="identity", rate_is=ESTIMATED)
    both = [result(), result("T-FT", rate_is=ESTIMATED), result(bpp=0.2, rate_is=ESTIMATED), level]
    curves = curves_of(both)
    assert [curve.label for curve in curves] == [
        *("uncompressed", "T-FT, estimated", "J-FT", "J-FT, estimated")
    ]
    assert rate_axis(curves) == "bits per pixel, real unless marked as estimated"
    # Of one kind alone, the axis says it; uncompressed pictures are of no kind.
    alone = curves_of([*both[1:], level])
    assert [curve.label for curve in alone] == ["uncompressed", "T-FT", "J-FT"]
    assert rate_axis(alone) == ESTIMATED


def test_a_codec_alone_is_no_fine_tuning_of_a_chain():
    codec, off = (result(regime, detector="NoDetector", ap=None) for regime in ("C-FT", "baseline"))
    curves = curves_of([codec, off, result("C-FT"), result("baseline")])
    assert [curve.label for curve in curves] == [
        *("baseline", "C-FT", "codec alone", "codec trained alone")
    ]
    assert [curve.points[0].is_trained for curve in curves] == [False, True, False, True]


def test_the_anchor_is_found():
    curves = curves_of(
        [
            result("baseline", 24.0, codec="identity"),
            result("baseline", codec="avif", settings={}),
            result("baseline", codec="jpeg", settings={}),
            result("T-FT", codec="jpeg", settings={}),
            result("baseline"),
        ]
    )
    assert find_anchor(curves).label == "baseline, bmshj2018-hyperprior"
    assert find_anchor(curves, "baseline, jpeg").label == "baseline, jpeg"
    assert find_anchor(curves, "T-FT").label == "T-FT, jpeg"
    assert find_anchor([c for c in curves if c.codec == "jpeg"]).label == "baseline, jpeg"
    with pytest.raises(CodecDetError, match=r"more than one.*'baseline, avif', 'baseline, jpeg'"):
        find_anchor(curves, "baseline")
    with pytest.raises(CodecDetError, match=r"'uncompressed': no curve.*'T-FT, jpeg'"):
        find_anchor(curves, "uncompressed")
    with pytest.raises(CodecDetError, match="there is no curve"):
        find_anchor([curve for curve in curves if curve.is_level])


def levels(seed=0, targets=(0.1, 0.2, 0.4), **changes):
    """Results of a run of variable rate, at level 0, 1, 1.5 and 2."""
    config = {"MODEL.CODEC.LEVELS": 3, "MODEL.CODEC.LEVEL_TARGETS": list(targets)}
    rates = {0: targets[0], 1: targets[1], 1.5: 0.5 * sum(targets[1:]), 2: targets[2]}
    return [
        result(bpp=bpp, ap=30 + level, seed=seed, level=level, config=config, **changes)
        for level, bpp in rates.items()
    ]


def test_a_run_of_variable_rate_is_a_curve():
    fixed = [
        result(bpp=bpp, ap=31, config={"MODEL.CODEC.TARGET_BPP": bpp}) for bpp in (0.1, 0.2, 0.4)
    ]
    alone, curve = curves_of([*fixed, *levels(seed=1)[::-1], *levels(seed=2)])
    assert (alone.label, curve.label) == ("J-FT", "J-FT, 3 levels")
    assert alone.points[0].name == "target 0.1 bpp"
    assert [point.name for point in curve.points] == ["level 0", "level 1", "level 1.5", "level 2"]
    assert curve.values("AP") == [30, 31, 31.5, 32]
    assert [point.seeds for point in curve.points] == [[1, 2]] * 4


def test_what_starts_from_another_run_of_its_seed_is_that_seed():
    def after(seed, start):
        weights = f"output/jft-gated-seed_{start}/model_final.pth"
        return result("J-FT, R-FT", ap=30 + seed, seed=seed, config={"MODEL.WEIGHTS": weights})

    (curve,) = curves_of([after(1, 1), after(2, 2)])
    assert curve.points[0].seeds == [1, 2]
    # All from one run are seeds, too; with another start, they are runs of another curve.
    (curve,) = curves_of([after(1, 1), after(2, 1)])
    assert curve.points[0].seeds == [1, 2]
    curves = curves_of([after(1, 1), after(2, 2), after(1, 3), after(2, 3)])
    assert [curve.points[0].seeds for curve in curves] == [[1, 2], [1, 2]]


def test_models_trained_for_a_level_each_are_one_curve():
    alone = [
        result("T-FT", rate, 31 + level, level=level,
               config={"MODEL.CODEC.LEVELS": 3, "MODEL.CODEC.LEVELS_TRAIN": [level]})
        for level, rate in ((0, 0.1), (1, 0.2), (2, 0.4))
    ]  # fmt: skip
    for_all = levels(regime="T-FT")
    for one in for_all:
        del one.record["config"]["MODEL.CODEC.LEVEL_TARGETS"]
    curves = curves_of([*alone, *for_all])
    assert [(curve.label, *curve.values("AP")) for curve in curves] == [
        ("T-FT, 3 levels, MODEL.CODEC.LEVELS_TRAIN []", 30, 31, 31.5, 32),
        ("T-FT, 3 levels, MODEL.CODEC.LEVELS_TRAIN one each", 31, 32, 33),
    ]


def test_codecs_with_gates_are_curves_of_their_own():
    gates = [
        result(bpp=bpp, ap=33, config={"MODEL.CODEC.TARGET_BPP": bpp, "MODEL.CODEC.GATED": True})
        for bpp in (0.1, 0.2)
    ]
    usual = [result(bpp=bpp, ap=31, config={"MODEL.CODEC.TARGET_BPP": bpp}) for bpp in (0.1, 0.2)]
    curves = curves_of([*gates, *usual])
    assert sorted((c.label, *c.values("AP")) for c in curves) == [
        ("J-FT", 31, 31),
        ("J-FT, gates", 33, 33),
    ]


def test_runs_of_variable_rate_with_other_targets_are_other_curves():
    curves = curves_of([*levels(), *levels(targets=(0.1, 0.3, 0.4))])
    assert [curve.label for curve in curves] == [
        "J-FT, 3 levels, MODEL.CODEC.LEVEL_TARGETS [0.1, 0.2, 0.4]",
        "J-FT, 3 levels, MODEL.CODEC.LEVEL_TARGETS [0.1, 0.3, 0.4]",
    ]
