"""A study's YAML and the points made of it."""

import pytest

from codec_det.codec.table import find_codec
from codec_det.errors import ConfigError
from codec_det.sweep.points import expand, read_overrides
from codec_det.sweep.study import read_study
from tests.conftest import CONFIGS
from tests.sweeps import make_configs, points_of, study_of, write_study


@pytest.fixture
def study(tmp_path, tiny_set):
    make_configs(tmp_path / "configs", tiny_set)
    return study_of(tmp_path)


def test_points_and_their_order(tmp_path, study):
    study["grid"][0]["operating_points"]["high"] = {"beta": 1, "options": {"SOLVER.MAX_ITER": 7}}
    study["grid"].append({"regimes": ["tft"], "codec": "jpeg", "qualities": [5, 20]})
    points = points_of(write_study(tmp_path, study))
    per_seed = ["tft-low", "jft-low", "tft-high", "jft-high", "tft-jpeg_5", "tft-jpeg_20"]
    assert list(points) == [
        "codec", "baseline-low", "baseline-high",
        *(f"{name}-seed_1" for name in per_seed),
        *(f"{name}-seed_2" for name in per_seed),
    ]  # fmt: skip
    assert points["tft-high-seed_2"].cfg.SEED == 2
    assert points["tft-high-seed_2"].cfg.SOLVER.MAX_ITER == 7
    assert points["tft-low-seed_1"].cfg.SOLVER.MAX_ITER == 2
    jpeg = points["tft-jpeg_20-seed_1"].cfg.MODEL.CODEC
    assert (jpeg.NAME, jpeg.QUALITY) == ("jpeg", 20)
    assert points["codec"].prepares
    assert [name for name, p in points.items() if p.evaluates] == ["baseline-low", "baseline-high"]
    assert points["codec"].cfg.SEED == 0


def test_an_entry_may_have_seeds_of_its_own(tmp_path, study):
    study["grid"].append({"regimes": ["tft"], "codec": "jpeg", "qualities": [5], "seeds": [7, 1]})
    points = points_of(write_study(tmp_path, study))
    assert list(points) == [
        "codec", "baseline-low",
        "tft-low-seed_1", "jft-low-seed_1", "tft-jpeg_5-seed_7",
        "tft-low-seed_2", "jft-low-seed_2", "tft-jpeg_5-seed_1",
    ]  # fmt: skip
    assert points["tft-jpeg_5-seed_7"].cfg.SEED == 7


def test_a_point_of_the_grid_is_what_later_ones_of_its_seed_start_from(tmp_path, study):
    options = {"MODEL.WEIGHTS": "${jft-low}"}
    study["grid"].append(
        {"regimes": ["rft"], "seeds": [2], "operating_points": {"low": {"options": options}}}
    )
    points = points_of(write_study(tmp_path, study))
    names = list(points)
    last = points["rft-low-seed_2"]
    assert names.index("jft-low-seed_2") < names.index(last.name)
    assert last.needs == ("codec", "jft-low-seed_2")
    assert last.cfg.MODEL.WEIGHTS.endswith("jft-low-seed_2/model_final.pth")
    assert [points[f"jft-low-seed_{n}"].is_started_from for n in (1, 2)] == [False, True]
    study["grid"][-1]["seeds"] = [3]
    with pytest.raises(ConfigError, match="nor a point of the grid before this one"):
        points_of(write_study(tmp_path, study))


def test_rate_reaches_the_regimes_that_train_it_alone(tmp_path, study):
    study["grid"][0]["regimes"] = ["baseline", "tft", "jft", "eft", "dft", "rft"]
    points = points_of(write_study(tmp_path, study))
    rates = {
        name.split("-")[0]: (p.cfg.MODEL.CODEC.TARGET_BPP, p.cfg.MODEL.CODEC.BETA)
        for name, p in points.items()
    }
    given, untouched = (0.25, 4.0), (0.0, 1.0)
    assert rates == {
        "codec": (0.5, 2.0),
        "baseline": untouched,
        "tft": untouched,
        "jft": given,
        "eft": given,
        "dft": untouched,
        "rft": (0.0, 4.0),
    }


def test_an_entry_speaks_for_its_operating_points_unless_they_speak(tmp_path, study):
    study["options"] = {"SOLVER.BASE_LR": 0.5, "SOLVER.CODEC_LR": 0.5, "SOLVER.QUANTILES_LR": 0.5}
    study["grid"] = [
        {
            "regimes": ["jft"],
            "beta": 3.0,
            "target_bpp": 0.75,
            "options": {"SOLVER.CODEC_LR": 0.25, "SOLVER.QUANTILES_LR": 0.25},
            "operating_points": {
                "a": None,
                "b": {"beta": 0.5, "options": {"SOLVER.QUANTILES_LR": 0.125}},
            },
        }
    ]
    points = points_of(write_study(tmp_path, study))
    a, b = (points[f"jft-{name}-seed_1"].cfg for name in "ab")
    assert (a.MODEL.CODEC.BETA, b.MODEL.CODEC.BETA) == (3.0, 0.5)
    assert a.MODEL.CODEC.TARGET_BPP == b.MODEL.CODEC.TARGET_BPP == 0.75
    keys = ("BASE_LR", "CODEC_LR", "QUANTILES_LR")
    assert [a.SOLVER[key] for key in keys] == [0.5, 0.25, 0.25]
    assert [b.SOLVER[key] for key in keys] == [0.5, 0.25, 0.125]


def test_every_operating_point_is_made_at_every_scale(tmp_path, study):
    learned, webp = study["grid"][0], {"regimes": ["tft"], "codec": "webp", "qualities": [5, 20]}
    learned |= {"regimes": ["jft"], "scales": [1, 0.5]}
    study["grid"].append({**webp, "scales": [0.25]})
    study["seeds"] = [1]
    points = points_of(write_study(tmp_path, study))
    scales = {name: point.cfg.MODEL.CODEC.SCALE for name, point in points.items()}
    assert scales == {
        "codec": 1.0,
        "jft-low-seed_1": 1.0,
        "jft-low_scale_0.5-seed_1": 0.5,
        "tft-webp_5_scale_0.25-seed_1": 0.25,
        "tft-webp_20_scale_0.25-seed_1": 0.25,
    }
    assert points["jft-low_scale_0.5-seed_1"].cfg.MODEL.CODEC.TARGET_BPP == 0.25
    assert points["tft-webp_20_scale_0.25-seed_1"].cfg.MODEL.CODEC.QUALITY == 20


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ([1, 0], r"grid\[0\]\.scales\[1\]: 0 is no scale: give one from 0.000001 to 1"),
        ([1.5], r"grid\[0\]\.scales\[0\]: 1\.5 is no scale"),
        (0.5, r"grid\[0\]\.scales: 0\.5 is no list"),
        ([0.5, 0.5], r"the point baseline-low_scale_0\.5 is at .* already"),
    ],
)
def test_scales_that_cannot_be_are_refused(tmp_path, study, scales, message):
    study["grid"][0]["scales"] = scales
    with pytest.raises(ConfigError, match=message):
        points_of(write_study(tmp_path, study))


def test_references_are_paths_and_dependencies(tmp_path, study):
    codec = study["prepare"]["codec"]
    second = {**codec, "options": {"MODEL.CODEC.WEIGHTS": "${third}"}}
    third = {**codec, "options": {"MODEL.CODEC.WEIGHTS": "${codec}"}}
    study["prepare"] = {"second": second, "third": third, "codec": codec}
    study["options"]["MODEL.WEIGHTS"] = "${second}"
    points = points_of(write_study(tmp_path, study))
    assert list(points)[:3] == ["codec", "third", "second"]
    assert points["second"].needs == ("third",)
    assert set(points["tft-low-seed_1"].needs) == {"codec", "second"}
    found = points["tft-low-seed_1"].cfg.MODEL.WEIGHTS
    assert found == str(tmp_path / "out/second/model_final.pth")


def test_command_line_keys_are_for_all_points(tmp_path, study):
    path = write_study(tmp_path, study)
    points = points_of(path, read_overrides(["SOLVER.MAX_ITER", "9"]), num_gpus=0)
    assert {p.cfg.SOLVER.MAX_ITER for p in points.values()} == {9}
    assert all(p.options["MODEL.DEVICE"] == "cpu" for p in points.values())


def change(study, key, value):
    """``study`` with the value at a dotted key set, or deleted."""
    *parents, last = key.split("/")
    for parent in parents:
        study = study[int(parent) if parent.isdigit() else parent]
    if value is None:
        del study[last]
    else:
        study[last] = value


CIRCLE = {
    name: {"config": "CONFIGS/codec.yaml", "options": {"MODEL.CODEC.WEIGHTS": f"${{{other}}}"}}
    for name, other in (("a", "b"), ("b", "a"), ("codec", "a"))
}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("grids", [], "unknown key 'grids': did you mean grid?"),
        ("grid", None, "the key grid is missing"),
        ("grid", [], "grid: [] is no list"),
        ("grid", ["tft"], "grid[0]: 'tft' is no mapping with the keys regimes"),
        ("grid/0/regime", ["tft"], "grid[0]: unknown key 'regime': did you mean regimes?"),
        ("grid/0/regimes", ["tfft"], "'tfft' has no config file"),
        ("grid/0/regimes", ["tfft"], "grid[0].regimes: "),
        ("grid/0/regimes", ["tfft"], "did you mean tft?"),
        ("grid/0/regimes", ["tft", "tft"], "the point tft-low-seed_1 is at"),
        ("grid/0/codec", "jpeg", "grid[0]: give either operating_points, or codec and qualities"),
        ("grid/0/operating_points/low/beeta", 1, "operating_points.low: unknown key 'beeta'"),
        ("grid/0/operating_points/low/beta", "x", "operating_points.low.beta: 'x' is no number"),
        ("grid/0/operating_points/a b", {}, "'baseline-a b' cannot name a folder"),
        ("grid/0/options", {"SOLVER.MAX_ITR": 1}, "did you mean SOLVER.MAX_ITER?"),
        ("grid/0/options", {"SOLVER.MAX_ITR": 1}, "grid[0].operating_points.low, point baseline"),
        (
            "grid/0/options",
            {"MODEL.CODEC.NAME": "jpg"},
            "MODEL.CODEC.NAME is 'jpg': there is no codec 'jpg'",
        ),
        ("grid/0/options", {"SEED": 3}, "grid[0]: SEED is set by the key seeds"),
        ("grid/0/operating_points/low/beta", -1, "MODEL.CODEC.BETA is -1.0"),
        ("options", {"SOLVER": {"MAX_ITER": 1}}, "options.SOLVER: {'MAX_ITER': 1} is no value"),
        ("options", {"OUTPUT_DIR": "x"}, "options.OUTPUT_DIR: folders follow from output_dir"),
        ("options", {"DATASETS.TEST": "()"}, "DATASETS.TEST is empty"),
        ("options", {"SOLVER.REFERENCE_WORLD_SIZE": 8}, "SOLVER.REFERENCE_WORLD_SIZE makes"),
        ("options", {"MODEL.WEIGHTS": "${codek}"}, "${codek} is neither among prepare nor"),
        ("options", ["SOLVER.MAX_ITER"], "options: ['SOLVER.MAX_ITER'] is no mapping from names"),
        ("prepare/codec/config", None, "prepare.codec: the key config is missing"),
        ("prepare/codec/config", "CONFIGS/x.yaml", "prepare.codec.config: there is no file '"),
        ("prepare/codec/config", "CONFIGS/baseline.yaml", "prepare.codec: nothing trains"),
        ("prepare", CIRCLE, "a <- b <- a start from each other"),
        ("prepare/a.old-b", {"config": "CONFIGS/codec.yaml"}, "not '.old-'"),
        ("seeds", [1, 1], "seeds: [1, 1] has one twice"),
        ("seeds", [-1], "seeds[0]: -1 is no whole number"),
        ("grid/0/seeds", [2, 2], "grid[0].seeds: [2, 2] has one twice"),
        ("num_gpus", "two", "num_gpus: 'two' is no whole number"),
        ("configs", "configs/tft.yaml", "configs: 'configs/tft.yaml' names one file"),
        ("output_dir", 3, "output_dir: 3 is no text"),
    ],
)
def test_mistakes_are_named(key, value, message, tmp_path, study):
    change(study, key, value)
    path = write_study(tmp_path, study)
    path.write_text(path.read_text().replace("CONFIGS", str(tmp_path / "configs")))
    with pytest.raises(ConfigError) as caught:
        expand(read_study(path), {}, None)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grid: [", "is no YAML"),
        ("[1, 2]", "[1, 2] is no mapping with the keys output_dir, configs, grid"),
        ("", "None is no mapping"),
        ("a: {b: 1, b: 2}", "'b' is there twice: rename one"),
    ],
)
def test_files_that_are_no_study(text, message, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_study(path)
    assert message in str(caught.value)


def test_yaml_merges_are_no_duplicates(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(
        "output_dir: out\nconfigs: '{regime}.yaml'\n"
        "grid: [{regimes: [tft], codec: jpeg, qualities: [1]}]\n"
        "prepare:\n  a: &a {config: c.yaml, beta: 1}\n  b: {<<: *a, beta: 2}\n"
    )
    found = [(p.name, p.config_file, p.beta) for p in read_study(path).prepare]
    assert found == [("a", "c.yaml", 1), ("b", "c.yaml", 2)]


def test_overrides_that_cannot_be():
    with pytest.raises(ConfigError, match=r"'SOLVER\.MAX_ITER' has no value"):
        read_overrides(["SOLVER.MAX_ITER"])
    with pytest.raises(ConfigError, match="SEED differs from point to point"):
        read_overrides(["SEED", "1"])


@pytest.mark.parametrize(
    ("name", "count", "jft", "beta"),
    [
        ("shapes", 1 + 4 + 3 * 4 * 6 + 1, "jft-rate_1", 1.0),
        ("bccd_fixed", 2 + 3 * 4, "jft-bpp_0.005", 25.0),
    ],
)
def test_published_studies(name, count, jft, beta, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    points = points_of(CONFIGS / f"study/{name}.yaml")
    assert len(points) == count
    assert all(p.cfg.MODEL.CODEC.BITSTREAM for p in points.values() if _is_learned(p))
    found = points[f"{jft}-seed_3"].cfg
    assert found.SEED == 3
    first_beta = found.MODEL.CODEC.BETA
    assert first_beta == beta


def _is_learned(point):
    return find_codec(point.cfg.MODEL.CODEC.NAME).is_learned and not point.prepares


def test_published_study_of_coco(monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    points = points_of(CONFIGS / "study/coco.yaml")
    assert len(points) == 4 + 4 + 1 + 6 * 4 + 4
    assert points["jft-quality_3-seed_1"].cfg.MODEL.CODEC.QUALITY == 3
    assert not points["tft-quality_3-seed_1"].cfg.MODEL.CODEC.TARGET_BPP


@pytest.mark.parametrize(
    ("name", "count", "prepared", "point", "iterations"),
    [
        ("shapes_levels", 3 * 5, 0, "jft-levels", 240),
        ("shapes_proxies", 3 * 8, 0, "jft-mixed", 240),
        ("bccd_proxies", 3 * 8, 0, "jft-mixed", 240),
        ("shapes_latents", 3 + 3 * 6, 3, "ljft-levels", 240),
        ("bccd", 3 + 1 + 3 * 2 + 4 + 3 * 4 + 4 * 4 + 1, 3, "jft-levels", 640),
        ("bccd_latents", 4 + 3 * 2, 4, "ljft-levels", 640),
        ("driving", 4 + 1 + 3 * 3 + 1 + 6 + 5 + 4 * 4 + 2 * 4 + 1, 4, "jft-gated", 1600),
    ],
)
def test_published_studies_of_variable_rate(name, count, prepared, point, iterations, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    points = points_of(CONFIGS / f"study/{name}.yaml")
    assert len(points) == count
    assert sum(p.prepares for p in points.values()) == prepared
    assert all(p.cfg.MODEL.CODEC.BITSTREAM for p in points.values() if _is_learned(p))
    variable = points[f"{point}-seed_2"].cfg
    codec = variable.MODEL.CODEC
    assert codec.LEVELS == len(codec.LEVEL_TARGETS) == len(codec.LEVEL_BETAS) == 4
    assert codec.TARGET_BPP == 0
    assert iterations == variable.SOLVER.MAX_ITER
    # No more than all of a conventional codec's detectors together.
    detectors = [
        p.cfg for key, p in points.items() if key.startswith("tft-vvc") and p.cfg.SEED == 1
    ]
    assert len(detectors) == (4 if name in ("bccd", "driving") else 0)
    assert not detectors or iterations <= sum(cfg.SOLVER.MAX_ITER for cfg in detectors)


@pytest.mark.parametrize("camera", ["video", "video_moving"])
def test_published_study_of_sequences(camera, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    sets = [f"('shapes_{camera}_{part}',)" for part in ("train", "val")]
    over = read_overrides(["DATASETS.TRAIN", sets[0], "DATASETS.TEST", sets[1]])
    points = points_of(CONFIGS / "study/shapes_video.yaml", over)
    assert len(points) == 5 + 3 * 4 * (1 + 3) + 2 * (1 + 3 + 3) + 3 + 2 * 3 + 1
    assert {p.cfg.DATASETS.TEST for p in points.values()} == {(f"shapes_{camera}_val",)}
    learned = [p.cfg.MODEL.CODEC for p in points.values() if _is_learned(p)]
    assert all(codec.BITSTREAM for codec in learned)
    cfg = points["jft-temporal-seed_3"].cfg
    assert cfg.MODEL.CODEC.WEIGHTS.endswith("shapes_video/prediction/model_final.pth")
    assert (cfg.MODEL.CODEC.KEY_INTERVAL, cfg.INPUT.CLIP_LENGTH, cfg.INPUT.BURN_IN) == (30, 2, 14)
    assert points["ljft-temporal-seed_1"].cfg.MODEL.WEIGHTS.endswith("bridge/model_final.pth")
    conventional = points["tft-vvc_40-seed_1"].cfg
    assert conventional.MODEL.CODEC.KEY_INTERVAL == 30
    assert 4 * conventional.SOLVER.MAX_ITER == cfg.SOLVER.MAX_ITER
    assert conventional.MODEL.WEIGHTS == cfg.MODEL.WEIGHTS
    assert cfg.MODEL.WEIGHTS.endswith("detector/model_final.pth")
    assert points["jft-intra-seed_1"].cfg.MODEL.CODEC.KEY_INTERVAL == 1


def test_published_study_of_sequences_from_stills(monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    points = points_of(CONFIGS / "study/driving_video.yaml")
    assert len(points) == 1 + 2 * 4 * (1 + 3) + 2 * (1 + 3 + 3) + 1
    cfg = points["jft-temporal-seed_2"].cfg
    assert cfg.MODEL.CODEC.WEIGHTS.endswith("driving_video/prediction/model_final.pth")
    assert points["prediction"].cfg.MODEL.CODEC.WEIGHTS.endswith("driving/codec/model_final.pth")
    assert {p.cfg.DATASETS.TEST for p in points.values()} == {("driving_sequences_val",)}


def test_target_rates_of_levels_are_numbers(tmp_path, study):
    study["grid"][0]["target_bpp"] = [0.1, "x"]
    with pytest.raises(ConfigError, match=r"target_bpp\[1\]: 'x' is no number"):
        read_study(write_study(tmp_path, study))


def test_published_study_of_light_encoders(monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    points = points_of(CONFIGS / "study/shapes_light.yaml")
    assert len(points) == 4 + 4 + 4 * 3
    full, light = (points[name].cfg.MODEL for name in ("baseline-rate_2", "distill-rate_2-seed_3"))
    assert find_codec(light.CODEC.NAME).full == full.CODEC.NAME
    # Both are of one receiver.
    assert full.WEIGHTS == light.WEIGHTS
    assert full.WEIGHTS.endswith("jft_2/model_final.pth")
