"""What single values of a config must be, whatever the others are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from .bitstream.expected import MAX_LEVELS
from .coding_scale import MIN_SCALE

OPTIMIZERS = ("AdamW", "SGD")


class Rule(NamedTuple):
    """What the values of some keys must be.

    Attributes:
        keys: their names, separated by blanks.
        holds: of a value.
        wanted: in words, after "it must be".
    """

    keys: str
    holds: Callable[[Any], bool]
    wanted: str


def _all(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether a value is a list that is not empty, and it holds of each element."""
    return lambda v: isinstance(v, (list, tuple)) and len(v) > 0 and all(map(holds, v))


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def whole(value: Any) -> bool:
    """Whether it is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _not_negative(value: Any) -> bool:
    return _number(value) and value >= 0


def share(value: Any) -> bool:
    """Whether it is a number from 0 to 1."""
    return _number(value) and 0 <= value <= 1


def _anchors(value: Any) -> bool:
    """A list for each feature map, or one for all of them."""
    return _all(_all(_positive))(value) or _all(_positive)(value)


def _ascending(values: Any) -> bool:
    return all(whole(v) and v >= 0 for v in values) and list(values) == sorted(values)


_AT_LEAST_1, _AT_LEAST_0 = (lambda v: v >= 1), (lambda v: v >= 0)

RULES = (
    Rule(
        "MODEL.CODEC.BETA MODEL.CODEC.TARGET_BPP MODEL.CODEC.DISTORTION_WEIGHT "
        "MODEL.CODEC.FEATURE_WEIGHT MODEL.CODEC.DISTILLATION_WEIGHT MODEL.DETECTOR.LOSS_WEIGHT",
        _not_negative,
        "finite and >= 0",
    ),
    Rule("MODEL.DETECTOR.LABEL_SCORE", lambda v: 0 <= v < 1, "from 0 to below 1"),
    Rule("MODEL.CODEC.SCALE", lambda v: MIN_SCALE <= v <= 1, "from 0.000001 to 1"),
    Rule("MODEL.CODEC.KEY_INTERVAL", _AT_LEAST_1, "1 or more: frames"),
    Rule("MODEL.CODEC.LEVELS", lambda v: 1 <= v <= MAX_LEVELS, f"from 1 to {MAX_LEVELS}"),
    Rule(
        "MODEL.CODEC.LEVEL_BETAS MODEL.CODEC.LEVEL_TARGETS",
        lambda v: all(map(_positive, v)),
        "numbers above 0, one for each of MODEL.CODEC.LEVELS",
    ),
    Rule("MODEL.CODEC.LEVELS_TRAIN", lambda v: all(map(whole, v)), "a list of whole numbers"),
    Rule("MODEL.CODEC.LEVELS_TEST", lambda v: all(map(_number, v)), "a list of numbers"),
    Rule("MODEL.CODEC.N MODEL.CODEC.M", _AT_LEAST_0, ">= 0: channels, or 0 for default"),
    Rule("MODEL.CODEC.DECODED", ("picture", "latents").__contains__, "picture or latents"),
    Rule("MODEL.BRIDGE.STAGE", ("res2", "res3", "res4").__contains__, "res2, res3 or res4"),
    Rule("MODEL.BRIDGE.WIDTH", _AT_LEAST_1, "1 or more"),
    Rule("MODEL.BRIDGE.BLOCKS", _AT_LEAST_0, ">= 0"),
    Rule(
        "MODEL.ROI_HEADS.NUM_CLASSES MODEL.RETINANET.NUM_CLASSES TEST.DETECTIONS_PER_IMAGE "
        "MODEL.RPN.PRE_NMS_TOPK_TEST MODEL.RPN.POST_NMS_TOPK_TEST "
        "MODEL.RETINANET.TOPK_CANDIDATES_TEST INPUT.MAX_SIZE_TEST",
        _AT_LEAST_1,
        "1 or more",
    ),
    Rule(
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST MODEL.ROI_HEADS.NMS_THRESH_TEST MODEL.RPN.NMS_THRESH "
        "MODEL.RETINANET.SCORE_THRESH_TEST MODEL.RETINANET.NMS_THRESH_TEST "
        "MODEL.RPN.POSITIVE_FRACTION MODEL.ROI_HEADS.POSITIVE_FRACTION",
        share,
        "from 0 to 1",
    ),
    Rule(
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION "
        "MODEL.ROI_KEYPOINT_HEAD.POOLER_RESOLUTION",
        _AT_LEAST_1,
        "1 or more",
    ),
    Rule(
        "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS MODEL.RPN.BBOX_REG_WEIGHTS "
        "MODEL.RETINANET.BBOX_REG_WEIGHTS",
        lambda v: len(v) == 4 and all(map(_positive, v)),
        "four numbers above 0",
    ),
    Rule("INPUT.MIN_SIZE_TEST", _AT_LEAST_0, ">= 0: pixels, or 0 to leave pictures as they are"),
    Rule("INPUT.FPS", _positive, "above 0"),
    Rule("INPUT.FORMAT", ("BGR", "RGB").__contains__, "BGR or RGB"),
    Rule("INPUT.MASK_FORMAT", ("polygon", "bitmask").__contains__, "polygon or bitmask"),
    Rule(
        "MODEL.PIXEL_MEAN MODEL.PIXEL_STD",
        lambda values: len(values) == 3 and all(map(_number, values)),
        "three numbers",
    ),
    Rule("MODEL.PIXEL_STD", _all(_positive), "above 0"),
    Rule("MODEL.ANCHOR_GENERATOR.SIZES", _anchors, "lists of pixels, each above 0"),
    Rule("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", _anchors, "lists of ratios, each above 0"),
    Rule("OUTPUT_DIR", bool, "the name of a folder"),
)

RULES_OF_TRAINING = (
    Rule("SOLVER.OPTIMIZER", OPTIMIZERS.__contains__, " or ".join(OPTIMIZERS)),
    Rule(
        "SOLVER.BASE_LR SOLVER.BASE_LR_END SOLVER.CODEC_LR SOLVER.QUANTILES_LR SOLVER.GAINS_LR "
        "SOLVER.GATE_LR SOLVER.BRIDGE_LR "
        "SOLVER.MOMENTUM SOLVER.CODEC_CLIP_NORM SOLVER.WEIGHT_DECAY SOLVER.WEIGHT_DECAY_NORM "
        "SOLVER.GAMMA SOLVER.WARMUP_FACTOR SOLVER.BIAS_LR_FACTOR",
        _not_negative,
        "finite and >= 0",
    ),
    Rule("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", _positive, "above 0"),
    Rule("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", ("value", "norm").__contains__, "value or norm"),
    Rule("SOLVER.CLIP_GRADIENTS.NORM_TYPE", lambda v: v > 0, "above 0"),
    Rule("SOLVER.MAX_ITER", _AT_LEAST_1, "1 or more; to train nothing, evaluate with --eval-only"),
    Rule(
        "SOLVER.IMS_PER_BATCH SOLVER.CHECKPOINT_PERIOD SOLVER.NUM_DECAYS INPUT.MAX_SIZE_TRAIN "
        "INPUT.CLIP_LENGTH "
        "MODEL.RPN.PRE_NMS_TOPK_TRAIN MODEL.RPN.POST_NMS_TOPK_TRAIN "
        "MODEL.RPN.BATCH_SIZE_PER_IMAGE MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE",
        _AT_LEAST_1,
        "1 or more",
    ),
    Rule(
        "SOLVER.WARMUP_ITERS SOLVER.REFERENCE_WORLD_SIZE TEST.EVAL_PERIOD VIS_PERIOD INPUT.BURN_IN",
        _AT_LEAST_0,
        ">= 0",
    ),
    Rule(
        "SOLVER.LR_SCHEDULER_NAME",
        ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR").__contains__,
        "WarmupMultiStepLR, WarmupCosineLR or WarmupStepWithFixedGammaLR",
    ),
    Rule(
        "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE MODEL.RPN.BBOX_REG_LOSS_TYPE "
        "MODEL.RETINANET.BBOX_REG_LOSS_TYPE",
        ("smooth_l1", "giou", "diou", "ciou").__contains__,
        "smooth_l1, giou, diou or ciou",
    ),
    Rule(
        "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA MODEL.RPN.SMOOTH_L1_BETA "
        "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA MODEL.RPN.LOSS_WEIGHT MODEL.RPN.BBOX_REG_LOSS_WEIGHT "
        "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT",
        _not_negative,
        "finite and >= 0",
    ),
    Rule("TEST.PRECISE_BN.NUM_ITER", _AT_LEAST_1, "1 or more"),
    Rule("SOLVER.WARMUP_METHOD", ("linear", "constant").__contains__, "linear or constant"),
    Rule("SOLVER.STEPS", _ascending, "iterations in ascending order"),
    Rule(
        "INPUT.MIN_SIZE_TRAIN",
        _all(lambda v: whole(v) and v >= 0),
        "one or more of >= 0: pixels, or 0 to leave pictures as they are",
    ),
    Rule("INPUT.MIN_SIZE_TRAIN_SAMPLING", ("choice", "range").__contains__, "choice or range"),
    Rule(
        "INPUT.RANDOM_FLIP",
        ("horizontal", "vertical", "none").__contains__,
        "horizontal, vertical or none",
    ),
    Rule(
        "INPUT.CROP.TYPE",
        ("relative_range", "relative", "absolute", "absolute_range").__contains__,
        "relative_range, relative, absolute or absolute_range",
    ),
    Rule("DATALOADER.SAMPLER_TRAIN", "TrainingSampler".__eq__, "TrainingSampler"),
)
