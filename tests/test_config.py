"""Every error a config can hold is named with its remedy, and every shipped YAML is right."""

import math

import pytest
import torch
from detectron2.config import get_cfg

from codec_det.config import flatten, get_codec_det_cfg, load_config
from codec_det.config_checks import check_batch, check_config, check_devices
from codec_det.errors import CodecDetError, ConfigError
from codec_det.regimes import Regime
from tests.conftest import CONFIGS

REGIMES = {
    "baseline": "baseline",
    "tft": "T-FT",
    "cft": "C-FT",
    "unlabelled": "C-FT unlabelled",
    "jft": "J-FT",
    "eft": "E-FT",
    "etft": "ET-FT",
    "gft": "G-FT",
    "gtft": "GT-FT",
    "dft": "D-FT",
    "rft": "R-FT",
    "bridge": "bridge",
    "latents": "bridge",
    "ltft": "LT-FT",
    "left": "LE-FT",
    "ljft": "LJ-FT",
    "distill": "distillation",
    "codec": "C-FT",
    "detector": "T-FT",
    "prediction": "prediction",
}
COSINE = {"SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR"}
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
    named = [REGIMES[word] for word in path.stem.split("_") if word in REGIMES]
    # The last word tells most: cft_unlabelled.
    assert Regime.from_config(cfg).name == (named or ["baseline"])[-1]


def test_shipped_configs_write_to_folders_of_their_own():
    files = [path for path in SHIPPED if "OUTPUT_DIR" in path.read_text()]
    folders = [load_config(str(path), []).OUTPUT_DIR for path in files]
    assert len(set(folders)) == len(files) > 20


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("jft_R50", "mixed"),
        ("bccd/jft", "mixed"),
        ("shapes/jft", "noise"),
        ("shapes/ljft", "mixed"),
    ],
)
def test_stand_in_for_rounding(name, kind):
    cfg = load_config(str(CONFIGS / f"{name}.yaml"), [])
    assert kind == cfg.MODEL.CODEC.QUANTIZATION


def test_defaults_pass_and_leave_detectron2s_keys_alone():
    cfg = get_codec_det_cfg()
    check_config(cfg)
    ours = dict(flatten(cfg))
    assert {key: ours.pop(key) for key in dict(flatten(get_cfg())) if key != "SEED"} == {
        key: value for key, value in flatten(get_cfg()) if key != "SEED"
    }
    assert {key.split(".")[0] for key in ours} == {
        *("SEED", "MODEL", "SOLVER", "DATASETS", "INPUT", "TEST")
    }
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
            "training D-FT cannot reach a rate",
            "add 'encoder'",
        ),
        (
            {"MODEL.CODEC.TARGET_BPP": 0.1, "MODEL.CODEC.TRAINABLE": ["entropy"]},
            "training R-FT cannot reach a rate",
            "set it to 0",
        ),
        (
            {"MODEL.CODEC.BETA": 0.0, "MODEL.CODEC.TRAINABLE": ["entropy"]},
            "learns from the rate alone",
            "set MODEL.CODEC.BETA above 0",
        ),
        ({"SOLVER.OPTIMIZER": "Adam"}, "OPTIMIZER is 'Adam'", "AdamW or SGD"),
        ({"SOLVER.BASE_LR": math.nan}, "SOLVER.BASE_LR is nan", "finite"),
        ({**COSINE, "SOLVER.BASE_LR": 0.0}, "SOLVER.BASE_LR is 0.0", "above 0"),
        ({**COSINE, "SOLVER.BASE_LR_END": 1.0}, "SOLVER.BASE_LR is 0.001", "_END, 1.0"),
        ({"SOLVER.GAMMA": math.inf}, "SOLVER.GAMMA is inf", "finite"),
        ({"SOLVER.MOMENTUM": -0.9}, "SOLVER.MOMENTUM is -0.9", ">= 0"),
        ({"SOLVER.WEIGHT_DECAY": math.nan}, "SOLVER.WEIGHT_DECAY is nan", "finite"),
        ({"SOLVER.WARMUP_FACTOR": math.nan}, "SOLVER.WARMUP_FACTOR is nan", "finite"),
        ({"SOLVER.WARMUP_ITERS": -1}, "SOLVER.WARMUP_ITERS is -1", ">= 0"),
        ({"SOLVER.WARMUP_METHOD": "exp"}, "SOLVER.WARMUP_METHOD is 'exp'", "linear or constant"),
        ({"SOLVER.MAX_ITER": 0}, "SOLVER.MAX_ITER is 0", "--eval-only"),
        ({"SOLVER.MAX_ITER": -5}, "SOLVER.MAX_ITER is -5", "1 or more"),
        ({"SOLVER.IMS_PER_BATCH": 0}, "SOLVER.IMS_PER_BATCH is 0", "1 or more"),
        ({"SOLVER.IMS_PER_BATCH": -2}, "SOLVER.IMS_PER_BATCH is -2", "1 or more"),
        ({"SOLVER.CHECKPOINT_PERIOD": 0}, "SOLVER.CHECKPOINT_PERIOD is 0", "1 or more"),
        ({"SOLVER.LR_SCHEDULER_NAME": "Cosine"}, "LR_SCHEDULER_NAME is 'Cosine'", "WarmupCosineLR"),
        ({"SOLVER.STEPS": (50, 20)}, "SOLVER.STEPS is (50, 20)", "ascending"),
        ({"SOLVER.STEPS": (0.5,)}, "SOLVER.STEPS is (0.5,)", "iterations"),
        ({"SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "l2"}, "CLIP_TYPE is 'l2'", "value or norm"),
        ({"DATALOADER.NUM_WORKERS": -1}, "DATALOADER.NUM_WORKERS is -1", ">= 0"),
        (
            {"DATALOADER.SAMPLER_TRAIN": "RepeatFactorTrainingSampler"},
            "SAMPLER_TRAIN is 'RepeatFactorTrainingSampler'",
            "TrainingSampler",
        ),
        ({"TEST.EVAL_PERIOD": -1}, "TEST.EVAL_PERIOD is -1", ">= 0"),
        ({"TEST.AUG.ENABLED": True}, "TEST.AUG.ENABLED", "set it to False"),
        ({"TEST.DETECTIONS_PER_IMAGE": 0}, "TEST.DETECTIONS_PER_IMAGE is 0", "1 or more"),
        ({"OUTPUT_DIR": ""}, "OUTPUT_DIR is ''", "folder"),
        ({"MODEL.DEVICE": "gpu"}, "MODEL.DEVICE is 'gpu'", "cuda"),
        ({"MODEL.DEVICE": ""}, "MODEL.DEVICE is ''", "cpu"),
        ({"INPUT.FORMAT": "RBG"}, "INPUT.FORMAT is 'RBG'", "BGR or RGB"),
        ({"INPUT.MASK_FORMAT": "rle"}, "INPUT.MASK_FORMAT is 'rle'", "bitmask"),
        ({"INPUT.RANDOM_FLIP": "both"}, "INPUT.RANDOM_FLIP is 'both'", "horizontal"),
        ({"INPUT.MIN_SIZE_TRAIN": ()}, "INPUT.MIN_SIZE_TRAIN is ()", "one or more"),
        ({"INPUT.MIN_SIZE_TRAIN": (-1,)}, "INPUT.MIN_SIZE_TRAIN is (-1,)", "as they are"),
        ({"INPUT.MIN_SIZE_TEST": -1}, "INPUT.MIN_SIZE_TEST is -1", "as they are"),
        ({"INPUT.MAX_SIZE_TEST": 0}, "INPUT.MAX_SIZE_TEST is 0", "1 or more"),
        ({"INPUT.MIN_SIZE_TRAIN_SAMPLING": "all"}, "SAMPLING is 'all'", "choice or range"),
        (
            {"INPUT.MIN_SIZE_TRAIN_SAMPLING": "range", "INPUT.MIN_SIZE_TRAIN": (800,)},
            "INPUT.MIN_SIZE_TRAIN is (800,)",
            "least and the greatest",
        ),
        ({"INPUT.CROP.TYPE": "random"}, "INPUT.CROP.TYPE is 'random'", "relative_range"),
        (
            {"INPUT.CROP.ENABLED": True, "INPUT.CROP.SIZE": [64, 64]},
            "INPUT.CROP.SIZE is [64, 64]",
            "at most 1",
        ),
        (
            {"INPUT.CROP.ENABLED": True, "INPUT.CROP.TYPE": "absolute"},
            "INPUT.CROP.SIZE is [0.9, 0.9]",
            "in pixels",
        ),
        ({"MODEL.PIXEL_STD": [1.0, 0.0, 1.0]}, "MODEL.PIXEL_STD is", "above 0"),
        ({"MODEL.PIXEL_MEAN": [1.0]}, "MODEL.PIXEL_MEAN is [1.0]", "three numbers"),
        ({"MODEL.ROI_HEADS.NUM_CLASSES": 0}, "MODEL.ROI_HEADS.NUM_CLASSES is 0", "1 or more"),
        ({"MODEL.RETINANET.NUM_CLASSES": 0}, "MODEL.RETINANET.NUM_CLASSES is 0", "1 or more"),
        ({"MODEL.ROI_HEADS.SCORE_THRESH_TEST": 5.0}, "SCORE_THRESH_TEST is 5.0", "from 0 to 1"),
        ({"MODEL.ROI_HEADS.NMS_THRESH_TEST": -0.1}, "NMS_THRESH_TEST is -0.1", "from 0 to 1"),
        ({"MODEL.ANCHOR_GENERATOR.SIZES": [[]]}, "ANCHOR_GENERATOR.SIZES is [[]]", "above 0"),
        ({"MODEL.ANCHOR_GENERATOR.SIZES": [[32], 64]}, "SIZES is [[32], 64]", "lists"),
        ({"MODEL.ANCHOR_GENERATOR.NAME": "Anchors"}, "No object named 'Anchors'", "Base_R50"),
        (
            {"MODEL.BACKBONE.NAME": "resnet50"},
            "MODEL.BACKBONE.NAME is 'resnet50'",
            "build_resnet_fpn_backbone",
        ),
        ({"MODEL.RESNETS.DEPTH": 51}, "cannot be built with MODEL.RESNETS.DEPTH", "KeyError: 51"),
        ({"MODEL.RESNETS.NORM": "Batch"}, "with MODEL.RESNETS.NORM", "KeyError: 'Batch'"),
        ({"MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIX"}, "POOLER_TYPE (ValueError", "Unknown pooler"),
        ({"MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 0}, "POOLER_RESOLUTION is 0", "1 or more"),
        ({"MODEL.RPN.BBOX_REG_WEIGHTS": (1.0,)}, "RPN.BBOX_REG_WEIGHTS is (1.0,)", "four numbers"),
        ({"MODEL.RPN.BBOX_REG_LOSS_TYPE": "l2"}, "BBOX_REG_LOSS_TYPE is 'l2'", "smooth_l1"),
        ({"MODEL.RPN.LOSS_WEIGHT": math.nan}, "MODEL.RPN.LOSS_WEIGHT is nan", "finite"),
        ({"TEST.PRECISE_BN.NUM_ITER": 0}, "TEST.PRECISE_BN.NUM_ITER is 0", "1 or more"),
        ({"MODEL.ANCHOR_GENERATOR.OFFSET": 2.0}, "AssertionError: 2.0", "Base_R50"),
        ({"MODEL.ROI_HEADS.NAME": "Heads"}, "No object named 'Heads'", "configs/"),
        (
            {"MODEL.ROI_HEADS.IN_FEATURES": ["p2"]},
            "MODEL.ROI_HEADS.IN_FEATURES has p2",
            "build_resnet_backbone gives res4",
        ),
        (
            {"MODEL.DETECTOR.META_ARCHITECTURE": "RetinaNet"},
            "MODEL.RETINANET.IN_FEATURES has p3, p4, p5, p6, p7",
            "configs/jft_retinanet_R50.yaml",
        ),
        ({"SOLVER.BASE_LR": -1.0}, "SOLVER.BASE_LR is -1.0", ">= 0"),
        ({"SOLVER.CODEC_LR": math.nan}, "SOLVER.CODEC_LR is nan", "finite"),
        ({"SOLVER.QUANTILES_LR": math.inf}, "SOLVER.QUANTILES_LR is inf", "finite"),
        ({"SOLVER.CODEC_CLIP_NORM": -1.0}, "SOLVER.CODEC_CLIP_NORM is -1.0", ">= 0"),
        ({"SEED": -1}, "SEED is -1", ">= 0"),
        (
            {"SOLVER.AMP.ENABLED": True, "MODEL.DEVICE": "cpu"},
            "SOLVER.AMP.ENABLED",
            "no instructions for (AVX512_BF16): set it to False",
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
        {"MODEL.ANCHOR_GENERATOR.SIZES": [32, 64]},
        {"INPUT.MIN_SIZE_TEST": 0, "INPUT.MIN_SIZE_TRAIN": (0,)},
        {"SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR", "SOLVER.BASE_LR": 0.0},
        {"INPUT.CROP.ENABLED": True, "INPUT.CROP.TYPE": "absolute", "INPUT.CROP.SIZE": [64, 64]},
    ],
    ids=lambda changes: "-".join(map(str, changes)),
)
def test_value_that_works_is_accepted(changes):
    check_config(changed(changes))


def test_evaluation_looks_at_no_key_of_training():
    untrainable = {"SOLVER.MAX_ITER": 0, "SOLVER.IMS_PER_BATCH": 0, "INPUT.MIN_SIZE_TRAIN": ()}
    check_config(changed(untrainable), train=False)
    message = refusal(lambda: check_config(changed({"INPUT.MIN_SIZE_TEST": -1}), train=False))
    assert "INPUT.MIN_SIZE_TEST" in message


def test_checking_makes_no_folder(tmp_path):
    cache = tmp_path / "a" / "b"
    webp = {"MODEL.CODEC.NAME": "webp", "MODEL.CODEC.CACHE": str(cache)}
    check_config(changed(webp))
    assert not list(tmp_path.iterdir())
    (tmp_path / "a").write_text("a file")
    message = refusal(check_config, changed(webp))
    assert "MODEL.CODEC.CACHE" in message
    assert "is no folder" in message


@pytest.mark.parametrize(
    ("batch", "reference", "processes", "shared"),
    [(4, 0, 2, True), (3, 0, 2, False), (3, 3, 2, True), (4, 3, 2, False)],
)
def test_batch_is_shared_evenly(batch, reference, processes, shared):
    cfg = changed({"SOLVER.IMS_PER_BATCH": batch, "SOLVER.REFERENCE_WORLD_SIZE": reference})
    if shared:
        check_batch(cfg, processes)
    else:
        message = refusal(check_batch, cfg, processes)
        assert f"SOLVER.IMS_PER_BATCH is {batch}, which {reference or processes}" in message


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("MODEL.CODEC.BETA", "1", 1.0),
        ("SOLVER.BASE_LR", "1e-4", 1e-4),
        ("SOLVER.MAX_ITER", "2e3", 2000),
        ("SOLVER.STEPS", "[10, 20]", (10, 20)),
        ("MODEL.CODEC.TRAINABLE", "('encoder',)", ["encoder"]),
        ("OUTPUT_DIR", "2024", "2024"),
    ],
)
def test_numbers_are_numbers_and_lists_are_lists(yaml_file, key, text, value):
    *groups, name = key.split(".")
    as_yaml = f"{name}: {text}"
    for group in reversed(groups):
        as_yaml = f"{group}: {{{as_yaml}}}"
    as_yaml = as_yaml.replace("('encoder',)", "[encoder]").replace("2024", "'2024'")
    for cfg in (load_config("", [key, text]), load_config(yaml_file(as_yaml), [])):
        found = dict(flatten(cfg))[key]
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "wanted"),
    [
        ("SOLVER.MAX_ITER", "1.5", "SOLVER.MAX_ITER is 1.5: it takes a whole number"),
        ("SOLVER.MAX_ITER", "ten", "SOLVER.MAX_ITER is 'ten': it takes a whole number"),
        ("MODEL.CODEC.BETA", "True", "MODEL.CODEC.BETA is True: it takes a number"),
        ("MODEL.CODEC.BITSTREAM", "1", "MODEL.CODEC.BITSTREAM is 1: it takes True or False"),
        ("DATASETS.TRAIN", "cells", """is 'cells': it takes a list, as in "['cells']\""""),
        ("MODEL.CODEC.FEATURES", "[p2,p3]", """it takes a list, as in "['p2', 'p3']\""""),
        ("MODEL.CODEC", "jpeg", "MODEL.CODEC is a group of keys"),
        ("SEED", "None", "SEED is None: it takes a whole number"),
    ],
)
def test_value_of_another_type_is_named_alone(key, text, wanted):
    # Tools add keys of their own, which are no one's mistake.
    message = refusal(load_config, "", [key, text, "MODEL.DEVICE", "cpu"])
    assert wanted in message
    assert "MODEL.DEVICE" not in message


def test_plain_detectron2_config_gets_the_codec_in_front(yaml_file, caplog):
    zoo = "model_zoo://COCO-Detection/retinanet_R_50_FPN_1x.yaml"
    own = yaml_file(f"_BASE_: {zoo}\nMODEL: {{CODEC: {{QUALITY: 3}}}}\n")
    for file, quality in ((zoo, 1), (own, 3)):
        cfg = load_config(file, [])
        assert cfg.MODEL.META_ARCHITECTURE == "CodecDetector"
        assert cfg.MODEL.DETECTOR.META_ARCHITECTURE == "RetinaNet"
        assert quality == cfg.MODEL.CODEC.QUALITY
        check_config(cfg)
    cfg = load_config(zoo, ["MODEL.DETECTOR.META_ARCHITECTURE", "NoDetector"])
    assert cfg.MODEL.DETECTOR.META_ARCHITECTURE == "NoDetector"
    cfg = load_config(own, ["MODEL.META_ARCHITECTURE", "Yolo"])
    assert "'Yolo', which is no registered detector" in refusal(check_config, cfg)
    assert not caplog.messages  # such as of the Python in detectron2's own files


@pytest.mark.parametrize(
    "name",
    [
        "COCO-Detection/faster_rcnn_R_50_C4_1x",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x",
        "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x",
        "Misc/cascade_mask_rcnn_R_50_FPN_1x",
    ],
)
def test_configs_of_the_model_zoo_are_accepted(name):
    check_config(load_config(f"model_zoo://{name}.yaml", []))


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
        ("MODEL: {CODC: {NAME: identity}}", "MODEL.CODC.NAME", "MODEL.CODEC.NAME"),
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
        ("_BASE_: own.yaml\n", "a _BASE_ leads back to its own file"),
        ("_BASE_: model_zoo://COCO-Detection/none.yaml\n", "model_zoo://COCO-Detection/none.yaml"),
        ("_BASE_: .\n", "Is a directory"),
        ("VERSION: 1\nMODEL: {WEIGHT: ''}\n", "own.yaml': VERSION is 1"),
        ("MODEL:\n", "MODEL is a group of keys"),
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
