"""Every error a config can hold is named with its remedy, and every shipped YAML is right."""

import math

import pytest
import torch
from detectron2.config import get_cfg

from codec_det.config import (
    check_config,
    check_devices,
    flatten,
    get_codec_det_cfg,
    load_config,
)
from codec_det.errors import CodecDetError, ConfigError
from codec_det.regimes import Regime
from tests.conftest import CONFIGS

REGIMES = {
    "Base": "baseline",
    "baseline": "baseline",
    "tft": "T-FT",
    "cft": "C-FT",
    "jft": "J-FT",
    "eft": "E-FT",
    "etft": "ET-FT",
    "dft": "D-FT",
    "codec": "C-FT",
    "detector": "T-FT",
}
# Those of sweeps are in tests/test_sweep_study.py.
SHIPPED = sorted(set(CONFIGS.rglob("*.yaml")) - set(CONFIGS.glob("study/*.yaml")))
FILE_IDS = [str(path.relative_to(CONFIGS)) for path in SHIPPED]


def changed(changes):
    cfg = get_codec_det_cfg()
    cfg.merge_from_list([x for item in changes.items() for x in item])
    return cfg


def refusal(function, *args):
    with pytest.raises(ConfigError) as caught:
        function(*args)
    return str(caught.value)


@pytest.fixture
def yaml_file(tmp_path):
    def write(text):
        path = tmp_path / "own.yaml"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("path", SHIPPED, ids=FILE_IDS)
def test_shipped_config_loads_and_is_the_regime_it_is_named_for(path):
    cfg = load_config(str(path), [])
    check_config(cfg)
    assert cfg.is_frozen()
    assert cfg.MODEL.META_ARCHITECTURE == "CodecDetector"
    assert Regime.from_config(cfg).name == REGIMES[path.stem.split("_")[0]]


def test_shipped_configs_write_to_folders_of_their_own():
    files = [path for path in SHIPPED if not path.name.startswith("Base")]
    folders = [load_config(str(path), []).OUTPUT_DIR for path in files]
    assert len(set(folders)) == len(files) > 20


def test_defaults_pass_and_leave_detectron2s_keys_alone():
    cfg = get_codec_det_cfg()
    check_config(cfg)
    ours = dict(flatten(cfg))
    assert {key: ours.pop(key) for key in dict(flatten(get_cfg())) if key != "SEED"} == {
        key: value for key, value in flatten(get_cfg()) if key != "SEED"
    }
    assert {key.split(".")[0] for key in ours} == {"SEED", "MODEL", "SOLVER", "DATASETS"}
    assert ours["SEED"] == 0  # detectron2's -1 would make every run another one


@pytest.mark.parametrize(
    ("changes", "culprit", "remedy"),
    [
        ({"MODEL.CODEC.NAME": "bmshj2018"}, "NAME is 'bmshj2018'", "bmshj2018-hyperprior"),
        ({"MODEL.CODEC.METRIC": "psnr"}, "METRIC is 'psnr'", "mse, ms-ssim"),
        ({"MODEL.CODEC.QUANTIZATION": "ste"}, "QUANTIZATION is 'ste'", "straight_through"),
        ({"MODEL.CODEC.QUALITY": 0}, "QUALITY is 0", "1 to 8"),
        ({"MODEL.CODEC.QUALITY": 9}, "QUALITY is 9", "1 to 8"),
        (
            {"MODEL.CODEC.NAME": "cheng2020-attn", "MODEL.CODEC.QUALITY": 7},
            "QUALITY is 7",
            "cheng2020-attn has qualities 1 to 6",
        ),
        ({"MODEL.CODEC.N": -1}, "MODEL.CODEC.N is -1", "0 for default"),
        ({"MODEL.CODEC.M": -8}, "MODEL.CODEC.M is -8", "0 for default"),
        ({"MODEL.CODEC.N": 32}, "N and M", "MODEL.CODEC.WEIGHTS"),
        ({"MODEL.CODEC.NAME": "cheng2020-attn", "MODEL.CODEC.M": 9}, "M is 9", "set M to 0"),
        ({"MODEL.CODEC.M": 32}, "N and M", "MODEL.CODEC.WEIGHTS"),
        ({"MODEL.CODEC.TRAINABLE": ["g_a"]}, "'g_a'", "encoder, decoder, synthesis"),
        (
            {"MODEL.CODEC.NAME": "identity", "MODEL.CODEC.TRAINABLE": ["encoder"]},
            "'identity' has no encoder",
            "TRAINABLE '[]'",
        ),
        ({"MODEL.CODEC.BETA": -0.5}, "MODEL.CODEC.BETA is -0.5", ">= 0"),
        ({"MODEL.CODEC.BETA": math.nan}, "MODEL.CODEC.BETA is nan", "finite"),
        ({"MODEL.CODEC.BETA": math.inf}, "MODEL.CODEC.BETA is inf", "finite"),
        ({"MODEL.CODEC.TARGET_BPP": -1.0}, "TARGET_BPP is -1.0", ">= 0"),
        ({"MODEL.CODEC.TARGET_BPP": math.nan}, "TARGET_BPP is nan", "finite"),
        ({"MODEL.CODEC.DISTORTION_WEIGHT": -1.0}, "DISTORTION_WEIGHT is -1.0", ">= 0"),
        (
            {"MODEL.CODEC.TARGET_BPP": 0.1, "MODEL.CODEC.BETA": 0.0},
            "TARGET_BPP adapts BETA",
            "above 0",
        ),
        (
            {"MODEL.CODEC.TARGET_BPP": 0.1, "MODEL.CODEC.TRAINABLE": ["synthesis"]},
            "training D-FT cannot change the rate",
            "add 'encoder'",
        ),
        ({"SOLVER.OPTIMIZER": "Adam"}, "OPTIMIZER is 'Adam'", "AdamW, SGD"),
        ({"SOLVER.BASE_LR": -1.0}, "SOLVER.BASE_LR is -1.0", ">= 0"),
        ({"SOLVER.CODEC_LR": math.nan}, "SOLVER.CODEC_LR is nan", "finite"),
        ({"SOLVER.QUANTILES_LR": math.inf}, "SOLVER.QUANTILES_LR is inf", "finite"),
        ({"SOLVER.CODEC_CLIP_NORM": -1.0}, "SOLVER.CODEC_CLIP_NORM is -1.0", ">= 0"),
        ({"SEED": -1}, "SEED is -1", ">= 0"),
        (
            {"SOLVER.AMP.ENABLED": True, "MODEL.DEVICE": "cpu"},
            "SOLVER.AMP.ENABLED",
            "set it to False",
        ),
        ({"MODEL.DETECTOR.META_ARCHITECTURE": "FasterRCNN"}, "'FasterRCNN'", "GeneralizedRCNN"),
        ({"MODEL.DETECTOR.META_ARCHITECTURE": "CodecDetector"}, "'CodecDetector'", "RetinaNet"),
        ({"MODEL.LOAD_PROPOSALS": True}, "MODEL.LOAD_PROPOSALS", "not supported"),
        (
            {"VIS_PERIOD": 10, "MODEL.CODEC.TRAINABLE": ["encoder"]},
            "VIS_PERIOD",
            "set VIS_PERIOD 0",
        ),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else None,
)
def test_value_that_cannot_work_is_refused(changes, culprit, remedy):
    message = refusal(check_config, changed(changes))
    assert culprit in message
    assert remedy in message


@pytest.mark.parametrize(
    "changes",
    [
        {"MODEL.CODEC.N": 32, "MODEL.CODEC.WEIGHTS": ""},
        {"MODEL.CODEC.NAME": "cheng2020-anchor", "MODEL.CODEC.QUALITY": 6},
        {"MODEL.CODEC.NAME": "identity", "MODEL.DETECTOR.TRAINABLE": True},
        # One base config serves the regimes that cannot reach a rate as well.
        {"MODEL.CODEC.TARGET_BPP": 0.1, "MODEL.DETECTOR.TRAINABLE": True},
        {"MODEL.CODEC.TARGET_BPP": 0.1, "MODEL.CODEC.TRAINABLE": ["decoder"]},
        {"MODEL.CODEC.BETA": 0.0, "MODEL.CODEC.TRAINABLE": ["encoder"]},
        {"VIS_PERIOD": 10, "MODEL.DETECTOR.TRAINABLE": True},
        {"SOLVER.AMP.ENABLED": True, "MODEL.DEVICE": "cuda"},
        {"MODEL.DETECTOR.META_ARCHITECTURE": "NoDetector"},
        {"MODEL.DETECTOR.META_ARCHITECTURE": "RetinaNet"},
    ],
    ids=lambda changes: "-".join(map(str, changes)),
)
def test_value_that_works_is_accepted(changes):
    check_config(changed(changes))


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("MODEL.CODEC.QUALTY", "MODEL.CODEC.QUALITY"),
        ("MODEL.CODC.NAME", "MODEL.CODEC.NAME"),
        ("SOLVER.CODECLR", "SOLVER.CODEC_LR"),
    ],
)
def test_unknown_option_gets_a_suggestion(key, meant):
    message = refusal(load_config, "", [key, "1"])
    assert message == f"unknown config key {key}: did you mean {meant}?"


@pytest.mark.parametrize(
    ("text", "key", "meant"),
    [
        ("MODEL: {CODEC: {QUALTY: 1}}", "MODEL.CODEC.QUALTY", "MODEL.CODEC.QUALITY"),
        ("MODEL: {CODC: {NAME: identity}}", "MODEL.CODC", "MODEL.CODEC."),
        ("SEEED: 1", "SEEED", "SEED"),
    ],
)
def test_unknown_key_in_a_file_gets_a_suggestion(yaml_file, text, key, meant):
    message = refusal(load_config, yaml_file(f"VERSION: 2\n{text}\n"), [])
    assert message.startswith(f"unknown config key {key}: did you mean {meant}")


def test_unknown_key_unlike_any_other_points_to_the_list():
    message = refusal(load_config, "", ["XYZZY", "1"])
    assert message == "unknown config key XYZZY; see codec_det/config.py"


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("MODEL: [", "own.yaml"),
        ("", "own.yaml"),
        ("- MODEL\n", "own.yaml"),
        ("MODEL\n", "own.yaml"),
        ("_BASE_: missing.yaml\n", "missing.yaml"),
        ("VERSION: 2\nMODEL: {CODEC: {BETA: much}}\n", "MODEL.CODEC.BETA"),
        ("VERSION: 2\nMODEL: {CODEC: {TRAINABLE: encoder}}\n", "MODEL.CODEC.TRAINABLE"),
    ],
)
def test_broken_file_is_named(yaml_file, text, culprit):
    assert culprit in refusal(load_config, yaml_file(text), [])


def test_missing_file_is_named(tmp_path):
    path = str(tmp_path / "none.yaml")
    message = refusal(load_config, path, [])
    assert path in message
    assert "does not exist" in message


@pytest.mark.parametrize(
    ("opts", "culprit"),
    [
        (["MODEL.CODEC.QUALITY"], "MODEL.CODEC.QUALITY"),
        (["MODEL.CODEC.BETA", "much"], "MODEL.CODEC.BETA"),
        (["MODEL.CODEC.QUALITY", "1.5"], "MODEL.CODEC.QUALITY"),
        (["SEED.VALUE", "1"], "SEED.VALUE"),
    ],
)
def test_broken_option_is_named(opts, culprit):
    assert culprit in refusal(load_config, "", opts)


def test_options_override_the_file_and_the_file_its_base(yaml_file):
    base = CONFIGS / "jft_R50.yaml"
    path = yaml_file(f"_BASE_: {base}\nMODEL:\n  CODEC:\n    QUALITY: 3\n    BETA: 0.5\n")
    cfg = load_config(path, ["MODEL.CODEC.BETA", "0.25"])
    assert (cfg.MODEL.CODEC.QUALITY, cfg.MODEL.CODEC.BETA) == (3, 0.25)
    assert cfg.MODEL.CODEC.TRAINABLE == ["encoder", "decoder"]


def test_more_processes_than_gpus_are_refused_but_not_on_the_cpu():
    wanted = torch.cuda.device_count() + 1
    message = refusal(check_devices, wanted, "cuda")
    assert f"--num-gpus {wanted}" in message
    assert "MODEL.DEVICE cpu" in message
    check_devices(wanted, "cpu")
    check_devices(wanted - 1, "cuda")


def test_config_errors_are_what_command_line_programs_catch():
    assert issubclass(ConfigError, CodecDetError)
    assert issubclass(CodecDetError, ValueError)
