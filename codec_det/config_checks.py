"""The check of a config's values, before any long work: whatever cannot work is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode

from .bitstream.expected import LEVEL_STEPS
from .codec.conventional import picture_codec, sequence_codec
from .codec.learned import precision
from .codec.table import METRICS, QUANTIZATIONS, find_codec, learned_codecs
from .config import flatten
from .config_rules import RULES, RULES_OF_TRAINING, share, whole
from .detector_check import check_detector
from .errors import ConfigError
from .files import check_writable
from .levels import is_level, levels_of
from .regimes import Regime


def check_config(cfg: CfgNode, *, train: bool = True) -> None:
    """Raise :class:`ConfigError` for the first value that cannot work, before any long work.

    Nothing is written, and no data set looked at.

    Args:
        train: whether what only training looks at is to be checked as well.
    """
    values = dict(flatten(cfg))
    for rule in (*RULES, *(RULES_OF_TRAINING if train else ())):
        for key in rule.keys.split():
            if not rule.holds(values[key]):
                raise ConfigError(f"{key} is {_shown(values[key])}: it must be {rule.wanted}")
    _check_codec(cfg)
    _check_frames(cfg, train=train)
    _check_gates(cfg)
    _check_levels(cfg, train=train)
    _check_loss(cfg)
    if train:
        _check_solver(cfg)
        _check_augmentation(cfg)
    _check_host(cfg)
    check_detector(cfg)


def _shown(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value)


def _check_codec(cfg: CfgNode) -> None:
    codec = cfg.MODEL.CODEC
    try:
        entry = find_codec(codec.NAME)
    except ConfigError as error:
        raise ConfigError(f"MODEL.CODEC.NAME is '{codec.NAME}': {error}") from None
    _one_of("MODEL.CODEC.METRIC", codec.METRIC, METRICS)
    _one_of("MODEL.CODEC.QUANTIZATION", codec.QUANTIZATION, QUANTIZATIONS)
    _check_operating_point(cfg)
    if (codec.N or codec.M) and entry.is_learned and not entry.has_widths:
        raise ConfigError(f"{codec.NAME} has channels of its own: set MODEL.CODEC.N and M to 0")
    if codec.M and entry.is_learned and not entry.has_latent_width:
        raise ConfigError(f"MODEL.CODEC.M is {codec.M}, but {codec.NAME} has N alone: set M to 0")
    if (codec.N or codec.M) and codec.WEIGHTS == "zoo" and entry.is_learned:
        raise ConfigError(
            "MODEL.CODEC.N and M make a codec the zoo has no weights for: set MODEL.CODEC.WEIGHTS "
            "to a file, or to '' to train from random weights"
        )
    regime = Regime.from_config(cfg)
    if regime.bridge and not (entry.is_learned and entry.has_latents):
        raise ConfigError(
            f"MODEL.CODEC.DECODED is 'latents', but the codec '{codec.NAME}' has none that a "
            "picture is: choose another learned codec, or 'picture'"
        )
    if regime.bridge and cfg.MODEL.DETECTOR.META_ARCHITECTURE == "NoDetector":
        raise ConfigError(
            "MODEL.CODEC.DECODED is 'latents', but with MODEL.DETECTOR.META_ARCHITECTURE "
            "NoDetector nothing detects in them: set it to 'picture'"
        )
    if not entry.is_learned and regime.codec_parts:
        raise ConfigError(
            f"MODEL.CODEC.TRAINABLE is {list(regime.codec_parts)}, but the codec '{codec.NAME}' "
            "has no encoder or decoder to train: choose a learned codec or set "
            "MODEL.CODEC.TRAINABLE '[]'"
        )


def _check_operating_point(cfg: CfgNode) -> None:
    codec = cfg.MODEL.CODEC
    entry = find_codec(codec.NAME)
    if entry.is_conventional:
        if codec.CACHE_GB <= 0:
            raise ConfigError(
                f"MODEL.CODEC.CACHE_GB is {codec.CACHE_GB}: give more than 0, or set "
                "MODEL.CODEC.CACHE to '' to keep nothing"
            )
        picture_codec(cfg)  # finds wrong settings and missing programs
        sequence_codec(cfg)
        if codec.SCALE < 1 and cfg.INPUT.CROP.ENABLED:
            raise ConfigError(
                f"INPUT.CROP.ENABLED is True, but {codec.NAME} codes whole pictures, and at "
                f"MODEL.CODEC.SCALE {codec.SCALE:g} no part of one is the crop: set one of them "
                "otherwise"
            )
        if codec.CACHE:
            check_writable(Path(codec.CACHE).expanduser(), "MODEL.CODEC.CACHE")
        return
    if codec.SETTINGS:
        raise ConfigError(
            f"MODEL.CODEC.SETTINGS are of conventional codecs, and {codec.NAME} is none: set it to "
            "'[]'"
        )
    if entry.widths and codec.QUALITY not in entry.widths:
        raise ConfigError(
            f"MODEL.CODEC.QUALITY is {codec.QUALITY}: {codec.NAME} has qualities "
            f"{min(entry.widths)} to {max(entry.widths)}"
        )
    if codec.BITSTREAM and entry.no_files:
        raise ConfigError(
            f"MODEL.CODEC.BITSTREAM is set, but {codec.NAME} cannot be written to files "
            f"({entry.no_files}): set it to False, or MODEL.CODEC.NAME to one of "
            f"{', '.join(learned_codecs(files=True))}"
        )


def _check_frames(cfg: CfgNode, *, train: bool) -> None:
    codec = cfg.MODEL.CODEC
    entry = find_codec(codec.NAME)
    burn_in = cfg.INPUT.BURN_IN
    if not entry.predicts_frames:
        if train and burn_in:
            raise ConfigError(
                f"INPUT.BURN_IN is {burn_in} frames, but {codec.NAME} learns from no predicted "
                "frames: set it to 0, or choose a codec whose name ends in -temporal"
            )
        if "prediction" in codec.TRAINABLE:
            raise ConfigError(
                f"MODEL.CODEC.TRAINABLE names 'prediction', but {codec.NAME} predicts no frames: "
                "choose a codec whose name ends in -temporal"
            )
        # Of conventional ones, some do.
        if codec.KEY_INTERVAL > 1 and not entry.is_conventional:
            raise ConfigError(
                f"MODEL.CODEC.KEY_INTERVAL is {codec.KEY_INTERVAL}, but {codec.NAME} codes every "
                "frame by itself: set it to 1, or choose a codec whose name ends in -temporal"
            )
        return
    interval, length = codec.KEY_INTERVAL, cfg.INPUT.CLIP_LENGTH
    if train and Regime.from_config(cfg).trains_rate and not 2 <= length <= interval:
        raise ConfigError(
            f"INPUT.CLIP_LENGTH is {length}, but {codec.NAME} learns from clips of a key frame and "
            "frames that are predicted: it must be 2 or more, and no more than "
            f"MODEL.CODEC.KEY_INTERVAL, which is {interval}"
        )
    if train and burn_in and not 2 <= length <= interval - burn_in:
        raise ConfigError(
            f"INPUT.BURN_IN is {burn_in} and INPUT.CLIP_LENGTH {length}: a clip must have 2 frames "
            "or more, and both together no more than MODEL.CODEC.KEY_INTERVAL, which is "
            f"{interval}"
        )


def _check_levels(cfg: CfgNode, *, train: bool) -> None:
    codec = cfg.MODEL.CODEC
    entry = find_codec(codec.NAME)
    count = levels_of(cfg)
    if codec.LEVELS > 1 and (count != codec.LEVELS or not entry.has_latents):
        reason = f"has {count} of its own" if count > 1 else "is no learned codec"
        if entry.is_learned and not entry.has_latents:
            reason = "has no latents that gains could scale"
        raise ConfigError(
            f"MODEL.CODEC.LEVELS is {codec.LEVELS}, but {entry.name} {reason}: set it to 1"
        )
    for key in ("LEVEL_BETAS", "LEVEL_TARGETS"):
        values = codec[key]
        if values and (count == 1 or len(values) != count):
            single = f"; with one, MODEL.CODEC.{'BETA' if key == 'LEVEL_BETAS' else 'TARGET_BPP'}"
            raise ConfigError(
                f"MODEL.CODEC.{key} is {list(values)}, but the codec has {count} level"
                f"{'s' if count > 1 else ''}: give a number for each{single if count == 1 else ''}"
            )
    steps = f", in steps of 1/{LEVEL_STEPS}"
    for key, between in (("LEVELS_TRAIN", ""), ("LEVELS_TEST", steps)):
        for level in codec[key]:
            if count == 1 or not is_level(level, count):
                remedy = f"levels are 0 to {count - 1}{between}"
                raise ConfigError(
                    f"MODEL.CODEC.{key} has {level:g}, but "
                    + (remedy if count > 1 else "MODEL.CODEC.LEVELS is 1: set it to '[]'")
                )
        if len(set(codec[key])) < len(codec[key]):
            raise ConfigError(f"MODEL.CODEC.{key} is {list(codec[key])}: one is twice")
    if train and count > 1 and Regime.from_config(cfg).trains_rate:
        _check_rates_of_levels(cfg)


def _check_rates_of_levels(cfg: CfgNode) -> None:
    codec = cfg.MODEL.CODEC
    if codec.TARGET_BPP > 0:
        raise ConfigError(
            f"MODEL.CODEC.TARGET_BPP is {codec.TARGET_BPP:g}, but the codec has "
            f"{levels_of(cfg)} levels: set it to 0, and MODEL.CODEC.LEVEL_TARGETS to a list"
        )
    if not (codec.LEVEL_BETAS or codec.LEVEL_TARGETS):
        raise ConfigError(
            f"the codec has {levels_of(cfg)} levels, and nothing tells their rates apart: set "
            "MODEL.CODEC.LEVEL_BETAS to weights of the rate, the largest first, or "
            "MODEL.CODEC.LEVEL_TARGETS to bits per pixel, the least first"
        )
    falling = list(codec.LEVEL_BETAS), sorted(codec.LEVEL_BETAS, reverse=True)
    rising = list(codec.LEVEL_TARGETS), sorted(codec.LEVEL_TARGETS)
    for key, (values, ordered) in (("LEVEL_BETAS", falling), ("LEVEL_TARGETS", rising)):
        if values != ordered:
            raise ConfigError(
                f"MODEL.CODEC.{key} is {values}, but level 0 is the lowest rate: give {ordered}"
            )


def _check_weight_of_rate(cfg: CfgNode) -> None:
    codec = cfg.MODEL.CODEC
    regime = Regime.from_config(cfg)
    targets = codec.TARGET_BPP > 0 or (codec.LEVEL_TARGETS and not codec.LEVEL_BETAS)
    if targets and codec.BETA == 0:
        key = "TARGET_BPP" if codec.TARGET_BPP else "LEVEL_TARGETS"
        raise ConfigError(
            f"MODEL.CODEC.{key} adapts BETA by factors from its first value, so BETA must be "
            "above 0 (1.0 is a good start)"
        )
    if codec.TARGET_BPP > 0 and codec.TRAINABLE and not regime.trades_rate:
        raise ConfigError(
            f"MODEL.CODEC.TARGET_BPP is set, but training {regime.name} cannot reach a rate: "
            "set it to 0, or add 'encoder' to MODEL.CODEC.TRAINABLE"
        )
    if regime.codec_parts == ("entropy",) and not (codec.LEVEL_BETAS or codec.BETA):
        raise ConfigError(
            "MODEL.CODEC.TRAINABLE is ['entropy'], which learns from the rate alone, but its "
            "weight is 0: set MODEL.CODEC.BETA above 0"
        )


def _check_loss(cfg: CfgNode) -> None:
    codec = cfg.MODEL.CODEC
    regime = Regime.from_config(cfg)
    _check_weight_of_rate(cfg)
    if regime.detector and not cfg.MODEL.DETECTOR.LOSS_WEIGHT:
        raise ConfigError(
            "MODEL.DETECTOR.LOSS_WEIGHT is 0, but MODEL.DETECTOR.TRAINABLE is True: the detector "
            "would learn from nothing; set one of them otherwise"
        )
    _check_distillation(cfg)
    others = codec.FEATURE_WEIGHT or codec.DISTORTION_WEIGHT or codec.DISTILLATION_WEIGHT
    if regime.trains_transforms and not (cfg.MODEL.DETECTOR.LOSS_WEIGHT or others):
        raise ConfigError(
            "MODEL.DETECTOR.LOSS_WEIGHT is 0, and so are MODEL.CODEC.FEATURE_WEIGHT, "
            "DISTORTION_WEIGHT and DISTILLATION_WEIGHT: the codec would learn to send nothing; set "
            "one of them above 0"
        )
    if regime.bridge and not (cfg.MODEL.DETECTOR.LOSS_WEIGHT or codec.FEATURE_WEIGHT):
        raise ConfigError(
            "MODEL.DETECTOR.LOSS_WEIGHT and MODEL.CODEC.FEATURE_WEIGHT are 0: the bridge would "
            "learn from nothing; set one of them above 0"
        )
    if cfg.MODEL.DETECTOR.LABEL_SCORE and not cfg.MODEL.WEIGHTS:
        raise ConfigError(
            "MODEL.DETECTOR.LABEL_SCORE labels pictures by the detector as it is at the start, but "
            "MODEL.WEIGHTS is '': set it to a trained detector"
        )
    if codec.FEATURE_WEIGHT and regime.detector:
        if not (regime.codec_parts or regime.bridge):
            raise ConfigError(
                "MODEL.CODEC.FEATURE_WEIGHT is set, but MODEL.CODEC.TRAINABLE is '[]': features "
                "of decoded pictures are the codec's to change; set it to 0"
            )
        if not cfg.MODEL.WEIGHTS:
            raise ConfigError(
                "MODEL.CODEC.FEATURE_WEIGHT compares with the detector as it was at the start, "
                "but MODEL.WEIGHTS is '': set it to a trained detector"
            )


def _check_gates(cfg: CfgNode) -> None:
    codec = cfg.MODEL.CODEC
    if not codec.GATED:
        if "gate" in codec.TRAINABLE:
            raise ConfigError(
                "MODEL.CODEC.TRAINABLE names 'gate', but the encoder has no gates: set "
                "MODEL.CODEC.GATED to True"
            )
        return
    entry = find_codec(codec.NAME)
    if not (entry.is_learned and entry.has_latents) or entry.levels > 1:
        raise ConfigError(
            f"MODEL.CODEC.GATED is set, but the encoder of {codec.NAME} can have no gates: set it "
            "to False, or MODEL.CODEC.NAME to another learned codec"
        )
    if codec.DISTILLATION_WEIGHT:
        raise ConfigError(
            "MODEL.CODEC.GATED and MODEL.CODEC.DISTILLATION_WEIGHT are set, but what the full "
            "encoder has, gates leave out: set one of them otherwise"
        )


def _check_distillation(cfg: CfgNode) -> None:
    codec = cfg.MODEL.CODEC
    if not codec.DISTILLATION_WEIGHT:
        return
    if not find_codec(codec.NAME).full:
        light = [name for name in learned_codecs() if find_codec(name).full]
        raise ConfigError(
            f"MODEL.CODEC.DISTILLATION_WEIGHT is set, but the codec '{codec.NAME}' has no light "
            f"encoder: set it to 0, or MODEL.CODEC.NAME to one of {', '.join(light)}"
        )
    if "encoder" not in codec.TRAINABLE:
        raise ConfigError(
            "MODEL.CODEC.DISTILLATION_WEIGHT is set, but MODEL.CODEC.TRAINABLE has no 'encoder' "
            "that could learn: set one of them otherwise"
        )


def _check_solver(cfg: CfgNode) -> None:
    solver = cfg.SOLVER
    if (
        solver.LR_SCHEDULER_NAME == "WarmupCosineLR"
        and not 0 < solver.BASE_LR >= solver.BASE_LR_END
    ):
        raise ConfigError(
            f"SOLVER.BASE_LR is {solver.BASE_LR}: WarmupCosineLR lets it fall to "
            f"SOLVER.BASE_LR_END, {solver.BASE_LR_END}, so it must be above 0 and no less than that"
        )
    if solver.AMP.ENABLED and cfg.MODEL.DEVICE == "cpu" and not precision.multiplies_bfloat16():
        raise ConfigError(
            "SOLVER.AMP.ENABLED trains in bfloat16, which this processor has no instructions for "
            "(AVX512_BF16): set it to False, or MODEL.DEVICE to cuda"
        )


def _check_augmentation(cfg: CfgNode) -> None:
    sizes = cfg.INPUT.MIN_SIZE_TRAIN
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range" and not (
        len(sizes) == 2 and 0 < sizes[0] <= sizes[1]
    ):
        raise ConfigError(
            f"INPUT.MIN_SIZE_TRAIN is {sizes}: with INPUT.MIN_SIZE_TRAIN_SAMPLING range it must be "
            "the least and the greatest size"
        )
    crop = cfg.INPUT.CROP
    fits = share if crop.TYPE.startswith("relative") else whole
    if crop.ENABLED and not (len(crop.SIZE) == 2 and all(fits(x) and x > 0 for x in crop.SIZE)):
        raise ConfigError(
            f"INPUT.CROP.SIZE is {crop.SIZE}: with INPUT.CROP.TYPE {crop.TYPE} it must be a height "
            "and a width, each "
            + ("above 0 and at most 1" if fits is share else "in pixels, 1 or more")
        )


def _check_host(cfg: CfgNode) -> None:
    if cfg.SEED < 0:
        raise ConfigError(f"SEED is {cfg.SEED}: runs repeat and resume by it, so it must be >= 0")
    if cfg.DATALOADER.NUM_WORKERS < 0:
        raise ConfigError(
            f"DATALOADER.NUM_WORKERS is {cfg.DATALOADER.NUM_WORKERS}: it must be >= 0 (0: the main "
            "process loads pictures)"
        )
    try:
        torch.device(cfg.MODEL.DEVICE)
    except RuntimeError:
        raise ConfigError(
            f"MODEL.DEVICE is '{cfg.MODEL.DEVICE}': it must be cuda, cuda:1, ... or cpu"
        ) from None
    for key, reason in (
        ("MODEL.LOAD_PROPOSALS", "proposals fit uncoded pictures"),
        ("TEST.AUG.ENABLED", "evaluation sees each picture once"),
    ):
        if dict(flatten(cfg))[key]:
            raise ConfigError(f"{key} is not supported: {reason}; set it to False")
    if cfg.VIS_PERIOD > 0 and cfg.MODEL.CODEC.TRAINABLE:
        raise ConfigError(
            "VIS_PERIOD draws on detector inputs, which carry gradients while the codec trains: "
            "set VIS_PERIOD 0 and use tools/visualize.py"
        )


def check_devices(num_gpus: int, device: str) -> None:
    """Refuse more processes than GPUs; on ``device`` cpu, any number of processes is fine.

    Raises:
        ConfigError: if ``device`` is a GPU and this machine has fewer than ``num_gpus``.
    """
    present = torch.cuda.device_count()
    if device != "cpu" and num_gpus > present:
        raise ConfigError(
            f"--num-gpus {num_gpus}, but this machine has {present} usable GPU(s) for the device "
            f"'{device}': lower it, or add MODEL.DEVICE cpu to run that many processes on the CPU"
        )


def check_batch(cfg: CfgNode, processes: int) -> None:
    """Refuse a batch that so many processes cannot share evenly.

    Raises:
        ConfigError: if ``SOLVER.IMS_PER_BATCH`` is no multiple of them, and of clips.
    """
    key, share = "SOLVER.IMS_PER_BATCH", processes
    if cfg.SOLVER.REFERENCE_WORLD_SIZE:
        # detectron2 scales the batch, which then has as many pictures per process as with these.
        key, share = "SOLVER.IMS_PER_BATCH", cfg.SOLVER.REFERENCE_WORLD_SIZE
    length = cfg.INPUT.CLIP_LENGTH
    if length > 1 and cfg.SOLVER.IMS_PER_BATCH % (share * length):
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH} frames, which {share} processes "
            f"cannot share evenly in clips of INPUT.CLIP_LENGTH {length}: make it a multiple of "
            f"{share * length}"
        )
    if cfg.SOLVER.IMS_PER_BATCH % share:
        raise ConfigError(
            f"{key} is {cfg.SOLVER.IMS_PER_BATCH}, which {share} processes cannot share evenly: "
            "make it a multiple"
        )


def _one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{key} is '{value}': choose from {', '.join(choices)}")
