"""Every configuration key codec_det adds to detectron2's, and the check of their values."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import META_ARCH_REGISTRY

from .bitstream.ids import CODEC_IDS, WITHOUT_BITSTREAM
from .codec.conventional import build_precoder
from .codec.names import CODEC_NAMES, CONVENTIONAL, LEARNED, METRICS, QUANTIZATIONS, max_quality
from .errors import ConfigError
from .regimes import Regime

OPTIMIZERS = ("AdamW", "SGD")


def add_codec_det_config(cfg: CfgNode) -> None:
    """Add codec_det's keys, with defaults, to a detectron2 config (in place)."""
    # Data order, augmentation and quantization noise follow from it, so it must be fixed: >= 0.
    cfg.SEED = 0

    # The detectron2 meta-architecture behind the codec, e.g. GeneralizedRCNN, RetinaNet; or
    # NoDetector, which trains and measures a codec alone.
    cfg.MODEL.DETECTOR = CfgNode()
    cfg.MODEL.DETECTOR.META_ARCHITECTURE = "GeneralizedRCNN"
    # Whether the detector's weights train. False: they and its batch-norm statistics are frozen.
    cfg.MODEL.DETECTOR.TRAINABLE = False

    cfg.MODEL.CODEC = CfgNode()
    # One of codec_det.codec.names.CODEC_NAMES: a learned codec, a conventional one (jpeg, hevc,
    # vvc, ...), or "identity", which codes nothing, at 24 bits per pixel.
    cfg.MODEL.CODEC.NAME = "bmshj2018-hyperprior"
    # Operating point 1 (lowest rate) to 8 (to 6 for cheng2020-*): sets widths and zoo weights. Of
    # conventional codecs: the QP or quality that their programs take.
    cfg.MODEL.CODEC.QUALITY = 1
    # Settings of a conventional codec other than its defaults, as [name, value]: chroma, bit_depth,
    # preset, ... of its class in codec_det/conventional; and "quality" if it is no whole number.
    cfg.MODEL.CODEC.SETTINGS = []
    # Folder of pictures coded by conventional codecs, so that none is coded twice; "": none. When
    # it has grown to CACHE_GB GiB, the least recently used are removed.
    cfg.MODEL.CODEC.CACHE = "~/.cache/codec_det/coded"
    cfg.MODEL.CODEC.CACHE_GB = 20.0
    # What the zoo weights were trained for: "mse" or "ms-ssim".
    cfg.MODEL.CODEC.METRIC = "mse"
    # Channels of the transforms (N) and of the latents (M); 0: those of QUALITY.
    cfg.MODEL.CODEC.N = 0
    cfg.MODEL.CODEC.M = 0
    # "zoo": CompressAI's pretrained weights; a file: CompressAI checkpoint, codec_det checkpoint or
    # codec export; "": random. Not read when MODEL.WEIGHTS holds a codec as well.
    cfg.MODEL.CODEC.WEIGHTS = "zoo"
    # The parts that train, out of: encoder (g_a, h_a), decoder (g_s, h_s, entropy model),
    # synthesis (g_s alone).
    cfg.MODEL.CODEC.TRAINABLE = []
    # Weight of the rate in the loss, per bit per pixel, >= 0.
    cfg.MODEL.CODEC.BETA = 1.0
    # Bits per pixel to end at; BETA is then the starting point of an adapted weight. 0: fixed BETA.
    cfg.MODEL.CODEC.TARGET_BPP = 0.0
    # Weight of 255^2 * MSE (RGB in [0, 1]) in the loss, >= 0. 0: reconstructions are for machines.
    cfg.MODEL.CODEC.DISTORTION_WEIGHT = 0.0
    # Stand-in for rounding while the encoder trains: "noise" or "straight_through" for rate and
    # decoder; or rounded values for the decoder, and for the rate noise ("mixed") or the bits of
    # rounded values, with a slope near rounding thresholds ("threshold").
    cfg.MODEL.CODEC.QUANTIZATION = "noise"
    # Train in less memory for more time: activations of g_a and g_s are computed again in the
    # backward pass, instead of being kept.
    cfg.MODEL.CODEC.CHECKPOINT_ACTIVATIONS = False
    # Evaluate by real files: each picture is coded into one and back, and charged its length.
    cfg.MODEL.CODEC.BITSTREAM = False

    # "AdamW" or "SGD" (with SOLVER.MOMENTUM and SOLVER.NESTEROV), for all parameter groups.
    cfg.SOLVER.OPTIMIZER = "AdamW"
    # Learning rates of the codec and of the entropy bottleneck's quantiles, scheduled like
    # SOLVER.BASE_LR, which is the detector's. Above 1e-4 large codecs have been seen to diverge.
    cfg.SOLVER.CODEC_LR = 1e-4
    cfg.SOLVER.QUANTILES_LR = 1e-3
    # Bound on the L2 norm of the codec's whole gradient, quantiles excluded; 0: no bound.
    cfg.SOLVER.CODEC_CLIP_NORM = 1.0

    # Data sets in COCO format: a list of [name, annotation JSON, image folder], paths relative to
    # DATASETS.ROOT ("": the current folder).
    cfg.DATASETS.ROOT = ""
    cfg.DATASETS.COCO_FORMAT = []


def get_codec_det_cfg() -> CfgNode:
    """detectron2's default config with codec_det's keys added."""
    cfg = get_cfg()
    add_codec_det_config(cfg)
    return cfg


def check_config(cfg: CfgNode) -> None:
    """Raise :class:`ConfigError` for the first value that cannot work, before any long work."""
    _check_codec(cfg)
    _check_loss(cfg)
    _check_solver(cfg)
    _check_host(cfg)


def _check_codec(cfg: CfgNode) -> None:
    codec = cfg.MODEL.CODEC
    _one_of("MODEL.CODEC.NAME", codec.NAME, CODEC_NAMES)
    _one_of("MODEL.CODEC.METRIC", codec.METRIC, METRICS)
    _one_of("MODEL.CODEC.QUANTIZATION", codec.QUANTIZATION, QUANTIZATIONS)
    _check_operating_point(cfg)
    for key in ("N", "M"):
        if codec[key] < 0:
            raise ConfigError(f"MODEL.CODEC.{key} is {codec[key]}: give channels, or 0 for default")
    if codec.M and codec.NAME.startswith("cheng2020"):
        raise ConfigError(f"MODEL.CODEC.M is {codec.M}, but {codec.NAME} has N alone: set M to 0")
    if (codec.N or codec.M) and codec.WEIGHTS == "zoo" and codec.NAME in LEARNED:
        raise ConfigError(
            "MODEL.CODEC.N and M make a codec the zoo has no weights for: set MODEL.CODEC.WEIGHTS "
            "to a file, or to '' to train from random weights"
        )
    regime = Regime.from_config(cfg)
    if codec.NAME not in LEARNED and regime.codec_parts:
        raise ConfigError(
            f"MODEL.CODEC.TRAINABLE is {list(regime.codec_parts)}, but the codec '{codec.NAME}' "
            "has no encoder or decoder to train: choose a learned codec or set "
            "MODEL.CODEC.TRAINABLE '[]'"
        )


def _check_operating_point(cfg: CfgNode) -> None:
    codec = cfg.MODEL.CODEC
    if codec.NAME in CONVENTIONAL:
        if codec.CACHE_GB <= 0:
            raise ConfigError(
                f"MODEL.CODEC.CACHE_GB is {codec.CACHE_GB}: give more than 0, or set "
                "MODEL.CODEC.CACHE to '' to keep nothing"
            )
        # Finds wrong settings, missing programs and a cache that cannot be written.
        build_precoder(cfg)
        return
    if codec.SETTINGS:
        raise ConfigError(
            f"MODEL.CODEC.SETTINGS are of conventional codecs, and {codec.NAME} is none: set it to "
            "'[]'"
        )
    highest = max_quality(codec.NAME)
    if not 1 <= codec.QUALITY <= highest:
        raise ConfigError(
            f"MODEL.CODEC.QUALITY is {codec.QUALITY}: {codec.NAME} has qualities 1 to {highest}"
        )
    if codec.BITSTREAM and codec.NAME in WITHOUT_BITSTREAM:
        raise ConfigError(
            f"MODEL.CODEC.BITSTREAM is set, but {codec.NAME} cannot be written to files "
            f"({WITHOUT_BITSTREAM[codec.NAME]}): set it to False, or MODEL.CODEC.NAME to one of "
            f"{', '.join(CODEC_IDS)}"
        )


def _check_loss(cfg: CfgNode) -> None:
    codec = cfg.MODEL.CODEC
    for key in ("BETA", "TARGET_BPP", "DISTORTION_WEIGHT"):
        if not (math.isfinite(codec[key]) and codec[key] >= 0):
            raise ConfigError(f"MODEL.CODEC.{key} is {codec[key]}: it must be finite and >= 0")
    regime = Regime.from_config(cfg)
    if codec.TARGET_BPP > 0 and codec.BETA == 0:
        raise ConfigError(
            "MODEL.CODEC.TARGET_BPP adapts BETA by factors from its first value, so BETA must be "
            "above 0 (1.0 is a good start)"
        )
    if codec.TARGET_BPP > 0 and codec.TRAINABLE and not regime.trains_rate:
        raise ConfigError(
            f"MODEL.CODEC.TARGET_BPP is set, but training {regime.name} cannot change the rate: "
            "set it to 0, or add 'encoder' to MODEL.CODEC.TRAINABLE"
        )


def _check_solver(cfg: CfgNode) -> None:
    _one_of("SOLVER.OPTIMIZER", cfg.SOLVER.OPTIMIZER, OPTIMIZERS)
    for key in ("BASE_LR", "CODEC_LR", "QUANTILES_LR", "CODEC_CLIP_NORM"):
        if not (math.isfinite(cfg.SOLVER[key]) and cfg.SOLVER[key] >= 0):
            raise ConfigError(f"SOLVER.{key} is {cfg.SOLVER[key]}: it must be finite and >= 0")
    if cfg.SEED < 0:
        raise ConfigError(f"SEED is {cfg.SEED}: runs repeat and resume by it, so it must be >= 0")
    if cfg.SOLVER.AMP.ENABLED and cfg.MODEL.DEVICE == "cpu":
        raise ConfigError("SOLVER.AMP.ENABLED needs a GPU: set it to False or MODEL.DEVICE to cuda")


def _check_host(cfg: CfgNode) -> None:
    detector = cfg.MODEL.DETECTOR.META_ARCHITECTURE
    if detector not in META_ARCH_REGISTRY or detector == "CodecDetector":
        raise ConfigError(
            f"MODEL.DETECTOR.META_ARCHITECTURE is '{detector}', which is no registered detector: "
            "import the package that registers it, or use GeneralizedRCNN, RetinaNet, ..."
        )
    if cfg.MODEL.LOAD_PROPOSALS:
        raise ConfigError("MODEL.LOAD_PROPOSALS is not supported: proposals fit uncoded pictures")
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
            f"--num-gpus {num_gpus}, but this machine has {present} usable GPU(s): lower it, or "
            "add MODEL.DEVICE cpu to run that many processes on the CPU"
        )


def _one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{key} is '{value}': choose from {', '.join(choices)}")


def load_config(config_file: str, opts: list[str]) -> CfgNode:
    """Defaults, overridden by a YAML file ("": none), overridden by a list of KEY VALUE pairs.

    Raises:
        ConfigError: for a missing or broken file, an unknown key or a value of the wrong type.
    """
    cfg = get_codec_det_cfg()
    try:
        if config_file:
            cfg.merge_from_file(config_file)
        cfg.merge_from_list(opts)
    except FileNotFoundError as error:
        raise ConfigError(f"config file '{error.filename}' does not exist") from None
    except KeyError as error:
        raise ConfigError(_unknown_key(cfg, str(error.args[0]))) from None
    except (AssertionError, ValueError, yaml.YAMLError) as error:
        # What yacs says of a key in a list; of one in a file it raises KeyError.
        if str(error).startswith("Non-existent key"):
            raise ConfigError(_unknown_key(cfg, str(error))) from None
        raise ConfigError(f"config '{config_file}' {' '.join(opts)}: {error}") from None
    except (AttributeError, TypeError):
        raise ConfigError(
            f"config '{config_file}' {' '.join(opts)}: not a mapping of keys to values, nested as "
            "in codec_det/config.py"
        ) from None
    cfg.freeze()
    return cfg


def _unknown_key(cfg: CfgNode, message: str) -> str:
    key = message.rsplit(" ", 1)[-1]
    close = difflib.get_close_matches(key, [name for name, _ in flatten(cfg)], n=1, cutoff=0.5)
    hint = f": did you mean {close[0]}?" if close else "; see codec_det/config.py"
    return f"unknown config key {key}{hint}"


def flatten(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every (dotted key, value) of a config."""
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
