"""Every configuration key codec_det adds to detectron2's, and how config files are read."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import detectron2
import yaml
from detectron2.config import CfgNode, get_cfg

from .errors import ConfigError

MODEL_ZOO = "model_zoo://"
"""Before the names of the config files that come with detectron2, such as
COCO-Detection/retinanet_R_50_FPN_3x.yaml."""

CHAIN = "CodecDetector"
"""The meta-architecture that every config has: a detector's own is put behind the codec."""


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
    # Those of its modules that train, by name, such as "roi_heads.box_head" or "backbone"; []: all.
    cfg.MODEL.DETECTOR.TRAINABLE_PARTS = []
    # Weight of the detector's losses, >= 0. 0: none are computed, and no annotations are needed.
    cfg.MODEL.DETECTOR.LOSS_WEIGHT = 1.0
    # Above 0: no annotations are needed, either; the truth is what the detector, as it is at the
    # start, finds in the original pictures with this score and above. Of boxes alone.
    cfg.MODEL.DETECTOR.LABEL_SCORE = 0.0
    # Name of what trains, in records and curves; "": that of codec_det/regimes.py.
    cfg.MODEL.REGIME = ""

    # The bridge to the detector where MODEL.CODEC.DECODED is "latents". STAGE: the last one of the
    # ResNet that it stands in for, with all before: res2, res3 or res4. BLOCKS: its residual ones,
    # WIDTH: their channels.
    cfg.MODEL.BRIDGE = CfgNode({"STAGE": "res4", "WIDTH": 256, "BLOCKS": 2})

    cfg.MODEL.CODEC = CfgNode()
    # One of the table in codec_det/codec/table.py: a learned codec, a conventional one (jpeg, hevc,
    # vvc, ...), or "identity", which codes nothing, at 24 bits per pixel. Learned ones that end in
    # -centred code all sides of pictures alike (docs/borders.md), those that end in -light have an
    # encoder for small cameras (docs/camera.md); the zoo has no weights for them. Those that end in
    # -temporal, and ssf2020, predict frames of sequences (docs/temporal.md).
    cfg.MODEL.CODEC.NAME = "bmshj2018-hyperprior"
    # Operating point 1 (lowest rate) to 8 (to 6 for cheng2020-*): sets widths and zoo weights. Of
    # conventional codecs: the QP or quality that their programs take.
    cfg.MODEL.CODEC.QUALITY = 1
    # Coding scale, from 0.000001 to 1: pictures are shrunk to it before they are coded, and the
    # detector takes them as they are decoded. Bits per pixel are of the original size.
    cfg.MODEL.CODEC.SCALE = 1.0
    # Frames from a key frame, which is coded by itself, to the next, in sequences; what is between
    # is predicted. 1: every picture is coded by itself.
    cfg.MODEL.CODEC.KEY_INTERVAL = 1
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
    # synthesis (g_s alone), gate (the gates of an encoder that has some), prediction (what a codec
    # of sequences has for predicted frames: its key frames, and all pictures, stay as they are).
    cfg.MODEL.CODEC.TRAINABLE = []
    _add_rate(cfg.MODEL.CODEC)
    # Weight of 255^2 * MSE (RGB in [0, 1]) in the loss, >= 0. 0: reconstructions are for machines.
    cfg.MODEL.CODEC.DISTORTION_WEIGHT = 0.0
    # Weight of the distance between the backbone's features of decoded and original pictures, >= 0,
    # through the detector as it was at the start; and the features by name, []: all it returns.
    cfg.MODEL.CODEC.FEATURE_WEIGHT = 0.0
    cfg.MODEL.CODEC.FEATURES = []
    # Weight of the squared error of latents against those of the full encoder, >= 0, of a codec
    # that ends in -light. Above 0: it starts from weights of the full codec, of which it takes all
    # but g_a (docs/camera.md).
    cfg.MODEL.CODEC.DISTILLATION_WEIGHT = 0.0
    # What the detector is given: "picture", decoded by g_s; or "latents", through a bridge in the
    # place of g_s and of the detector's first stages, which trains in every regime.
    cfg.MODEL.CODEC.DECODED = "picture"
    # Whether the encoder has gates, which leave out what the detector does not look at: G-FT and
    # GT-FT train these alone. Weights without gates are those of open ones (docs/gates.md).
    cfg.MODEL.CODEC.GATED = False
    # Stand-in for rounding while the encoder trains: "noise" or "straight_through" for rate and
    # decoder; or rounded values for the decoder, and for the rate noise ("mixed") or the bits of
    # rounded values, with a slope near rounding thresholds ("threshold"). See docs/proxies.md.
    cfg.MODEL.CODEC.QUANTIZATION = "noise"
    # Train in less memory for more time: activations of g_a and g_s are computed again in the
    # backward pass, instead of being kept.
    cfg.MODEL.CODEC.CHECKPOINT_ACTIVATIONS = False
    # Evaluate by real files: each picture is coded into one and back, and charged its length.
    cfg.MODEL.CODEC.BITSTREAM = False
    # Decode pictures in evaluation also where the detector is given latents: for their PSNR.
    cfg.TEST.DECODE_PICTURES = False
    _add_solver(cfg)
    _add_data(cfg)


def _add_solver(cfg: CfgNode) -> None:
    """Add the optimizer's keys."""
    # "AdamW" or "SGD" (with SOLVER.MOMENTUM and SOLVER.NESTEROV), for all parameter groups.
    cfg.SOLVER.OPTIMIZER = "AdamW"
    # Learning rates of the codec, of the entropy bottleneck's quantiles, of the gains of levels and
    # of gates, scheduled like SOLVER.BASE_LR, which is the detector's. Above 1e-4 large codecs have
    # been seen to diverge.
    cfg.SOLVER.CODEC_LR = 1e-4
    cfg.SOLVER.QUANTILES_LR = 1e-3
    cfg.SOLVER.GAINS_LR = 1e-3
    cfg.SOLVER.GATE_LR = 2e-3
    # Learning rate of the bridge, scheduled like the others.
    cfg.SOLVER.BRIDGE_LR = 3e-3
    # Bound on the L2 norm of the codec's whole gradient, quantiles excluded; 0: no bound.
    cfg.SOLVER.CODEC_CLIP_NORM = 1.0


def _add_data(cfg: CfgNode) -> None:
    """Add the keys of data sets, and of frames in sequences."""
    # Consecutive frames of one sequence that training takes together, with the same augmentation,
    # as samples of the batch, which has SOLVER.IMS_PER_BATCH frames. 1: single pictures.
    cfg.INPUT.CLIP_LENGTH = 1
    # Clips of every other batch are of predicted frames alone: up to so many frames before them,
    # from a key frame on, are coded, but not learnt from. 0: all begin with a key frame.
    cfg.INPUT.BURN_IN = 0
    # Frames per second of sequences whose data set does not tell.
    cfg.INPUT.FPS = 25.0

    # Data sets in COCO format, of pictures or sequences (docs/video.md): a list of [name,
    # annotation JSON, image folder], paths relative to DATASETS.ROOT ("": the current folder).
    cfg.DATASETS.ROOT = ""
    cfg.DATASETS.COCO_FORMAT = []
    # Plain pictures, for training that needs no annotations: a list of [name, folder], which is
    # searched with the folders in it. Relative to DATASETS.ROOT, too.
    cfg.DATASETS.PICTURES = []


def _add_rate(codec: CfgNode) -> None:
    """Add the keys of the rate and its levels to ``MODEL.CODEC``."""
    # Weight of the rate in the loss, per bit per pixel, >= 0.
    codec.BETA = 1.0
    # Bits per pixel to end at; BETA is then the starting point of an adapted weight. 0: fixed BETA.
    codec.TARGET_BPP = 0.0
    # Rates that one codec has: 1; or levels, each a gain for every channel of the latents, of which
    # level 0 is the lowest rate. Training codes each picture at one of them, drawn at random.
    codec.LEVELS = 1
    # Levels to train at; []: all of LEVELS. A detector that is to see one rate alone: T-FT at that.
    codec.LEVELS_TRAIN = []
    # BETA and TARGET_BPP of every level, in their order; []: BETA at all, and no targets.
    codec.LEVEL_BETAS = []
    codec.LEVEL_TARGETS = []
    # Levels to evaluate at, also between two, in steps of 1/64; []: all that are trained at.
    codec.LEVELS_TEST = []


def get_codec_det_cfg() -> CfgNode:
    """detectron2's default config with codec_det's keys added."""
    cfg = get_cfg()
    add_codec_det_config(cfg)
    return cfg


def load_config(config_file: str, opts: Sequence[str]) -> CfgNode:
    """Defaults, overridden by a YAML file ("": none), overridden by a list of KEY VALUE pairs.

    The file may be a plain detectron2 config, or have one as its ``_BASE_``; "model_zoo://" stands
    for the folder of those that come with detectron2. What it names as ``MODEL.META_ARCHITECTURE``
    becomes ``MODEL.DETECTOR.META_ARCHITECTURE``: the codec is put in front of it.

    Raises:
        ConfigError: for a missing or broken file, an unknown key or a value of the wrong type.
    """
    cfg = get_codec_det_cfg()
    cfg.MODEL.META_ARCHITECTURE = CHAIN
    if config_file:
        _merge(cfg, _read_file(config_file), f"config '{config_file}': ")
        _put_behind_codec(cfg)
    if len(opts) % 2:
        raise ConfigError(f"'{opts[-1]}' has no value: give config keys as KEY VALUE pairs")
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        _merge(cfg, _as_mapping(key, value))
    _put_behind_codec(cfg)
    cfg.freeze()
    return cfg


class _ConfigFile(CfgNode):
    """Reads YAML files whose ``_BASE_`` may be of detectron2's model zoo."""

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
        # A base is named relative to its file's folder: "configs/model_zoo://...".
        _, of_zoo, name = filename.rpartition(MODEL_ZOO)
        zoo = Path(detectron2.__file__).parent / "model_zoo/configs"
        if of_zoo:
            filename = str(zoo / name)
            if not (zoo / name).is_file():
                raise ConfigError(
                    f"'{MODEL_ZOO}{name}' is none of detectron2's config files: see {zoo}"
                )
        # Some of detectron2's own have values that Python computes, of which fvcore warns; in files
        # of others such a value could do anything.
        trusted = zoo in Path(filename).parents
        logging.getLogger("fvcore.common.config").disabled = trusted
        try:
            return super().load_yaml_with_base(filename, allow_unsafe=trusted)
        finally:
            logging.getLogger("fvcore.common.config").disabled = False


def _read_file(file: str) -> dict[str, Any]:
    """The keys of a YAML file and its bases."""
    try:
        node = _ConfigFile.load_yaml_with_base(file)
    except FileNotFoundError as error:
        raise ConfigError(f"config file '{error.filename}' does not exist") from None
    except OSError as error:
        raise ConfigError(f"config file '{error.filename}': {error.strerror}") from None
    except RecursionError:
        raise ConfigError(
            f"config '{file}': a _BASE_ leads back to its own file: remove one"
        ) from None
    except (AssertionError, UnicodeDecodeError, yaml.YAMLError) as error:
        # PyYAML draws where it is, in several lines.
        raise ConfigError(f"config '{file}': {' '.join(str(error).split())}") from None
    except (AttributeError, TypeError):
        node = None
    if not isinstance(node, dict):
        raise ConfigError(
            f"config '{file}': not a mapping of keys to values, nested as in codec_det/config.py"
        )
    return node


def _as_mapping(key: str, value: Any) -> dict[str, Any]:
    """A dotted key as a file would have it."""
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def _merge(cfg: CfgNode, node: dict[str, Any], place: str = "", prefix: str = "") -> None:
    if not prefix and str(node.get("VERSION", cfg.VERSION)) != str(cfg.VERSION):
        raise ConfigError(
            f"{place}VERSION is {node['VERSION']}, and its keys had other names: rewrite it with "
            f"those of codec_det/config.py and detectron2's, and VERSION: {cfg.VERSION}"
        )
    for name, value in node.items():
        key = f"{prefix}{name}"
        is_group = isinstance(cfg.get(name), CfgNode)
        if name not in cfg or (isinstance(value, dict) and not is_group):
            raise ConfigError(_unknown_key(key, value))
        if not is_group:
            cfg[name] = _as_declared(value, cfg[name], f"{place}{key}")
        elif isinstance(value, dict):
            _merge(cfg[name], value, place, f"{key}.")
        else:
            raise ConfigError(f"{place}{key} is a group of keys, and takes no value itself")


_WANTED = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}


def _as_declared(value: Any, default: Any, key: str) -> Any:
    """A value as the type that its key has by default; numbers and lists convert.

    Args:
        key: for messages.

    Raises:
        ConfigError: if it is of another type.
    """
    decoded = CfgNode._decode_cfg_value(value)
    kind = type(default)
    if default is None or type(decoded) is kind:
        return decoded
    if kind is str and isinstance(value, str):
        return value  # it looks like something else: 2024, None
    if kind is float and type(decoded) is int:
        return float(decoded)
    if kind is int and type(decoded) is float and decoded.is_integer():
        return int(decoded)
    if kind in (list, tuple):
        if isinstance(decoded, (list, tuple)):
            return kind(decoded)
        # [p2,p3] is text, for want of quotes within.
        words = re.findall(r"[^\s,()[\]]+", decoded) if isinstance(decoded, str) else [decoded]
        raise ConfigError(f'{key} is {decoded!r}: it takes a list, as in "{words}"')
    raise ConfigError(f"{key} is {decoded!r}: it takes {_WANTED.get(kind, kind.__name__)}")


def _put_behind_codec(cfg: CfgNode) -> None:
    """What a file or a user names as the meta-architecture is the detector."""
    named = cfg.MODEL.META_ARCHITECTURE
    if named != CHAIN:
        cfg.MODEL.DETECTOR.META_ARCHITECTURE = named
        cfg.MODEL.META_ARCHITECTURE = CHAIN


def _unknown_key(key: str, value: Any) -> str:
    while isinstance(value, dict) and value:
        name, value = next(iter(value.items()))
        key = f"{key}.{name}"
    known = [name for name, _ in flatten(get_codec_det_cfg())]
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f": did you mean {close[0]}?" if close else "; see codec_det/config.py"
    return f"unknown config key {key}{hint}"


def flatten(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every (dotted key, value) of a config."""
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
