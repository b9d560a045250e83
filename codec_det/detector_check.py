"""Whether detectron2 can build the detector of a config, found out without memory or time."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.meta_arch import GeneralizedRCNN, RetinaNet

from .bridge import build_bridge
from .config import CHAIN, flatten
from .errors import ConfigError

# What was built before: studies have many configs that differ in other keys alone.
_sound: set[str] = set()

# Its heads' groups of keys, by detector, and a config whose backbone suits them.
_HEADS = (
    (RetinaNet, ("RETINANET",), "jft_retinanet_R50.yaml"),
    (GeneralizedRCNN, ("RPN", "ROI_HEADS"), "Base_R50.yaml"),
)


def check_detector(cfg: CfgNode) -> None:
    """Build the detector on the meta device, where tensors have shapes and no values.

    Raises:
        ConfigError: if it cannot be built, or needs more than objects to train on.
    """
    name = cfg.MODEL.DETECTOR.META_ARCHITECTURE
    if name not in META_ARCH_REGISTRY or name == CHAIN:
        raise ConfigError(
            f"MODEL.DETECTOR.META_ARCHITECTURE is '{name}', which is no registered detector: "
            "import the package that registers it, or use GeneralizedRCNN, RetinaNet, ..."
        )
    detector = cfg.clone()
    detector.defrost()
    del detector.MODEL["CODEC"]
    detector.MODEL.WEIGHTS = detector.MODEL.DEVICE = ""
    key = f"{cfg.MODEL.CODEC.DECODED} {detector.MODEL} {detector.INPUT} {detector.TEST}"
    if name != "NoDetector" and key not in _sound:
        _build(cfg, name)
        _sound.add(key)


def class_key(cfg: CfgNode) -> str | None:
    """The config key that says how many classes the detector has; None where it is not known."""
    name = cfg.MODEL.DETECTOR.META_ARCHITECTURE
    if _is_a(name, GeneralizedRCNN):
        return "MODEL.ROI_HEADS.NUM_CLASSES"
    if _is_a(name, RetinaNet):
        return "MODEL.RETINANET.NUM_CLASSES"
    # By custom, as MODEL.FCOS.NUM_CLASSES.
    group = name.upper()
    return f"MODEL.{group}.NUM_CLASSES" if "NUM_CLASSES" in cfg.MODEL.get(group, {}) else None


def _is_a(name: str, *classes: type) -> bool:
    registered = META_ARCH_REGISTRY.get(name)
    return isinstance(registered, type) and issubclass(registered, classes)


def _build(cfg: CfgNode, name: str) -> None:
    if cfg.MODEL.BACKBONE.NAME not in BACKBONE_REGISTRY:
        known = ", ".join(key for key, _ in BACKBONE_REGISTRY)
        raise ConfigError(
            f"MODEL.BACKBONE.NAME is '{cfg.MODEL.BACKBONE.NAME}': choose from {known}"
        )
    try:
        with torch.device("meta"):
            _check_features(cfg, name, list(build_backbone(cfg).output_shape()))
            build_bridge(cfg, META_ARCH_REGISTRY.get(name)(cfg))
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 (it raises all kinds, assertions without words too)
        place = traceback.extract_tb(error.__traceback__)[-1]
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0] if lines else place.line}"
        keys = ", ".join(_keys_of(cfg, error)) or "these keys of MODEL"
        raise ConfigError(
            f"the detector {name} cannot be built with {keys} ({reason}): compare with a config "
            "that works, such as configs/Base_R50.yaml, configs/jft_retinanet_R50.yaml or "
            "configs/jft_mask_rcnn_R50.yaml"
        ) from None


def _keys_of(cfg: CfgNode, error: Exception) -> list[str]:
    """The keys of MODEL whose values an error names."""
    named = {*(x for x in error.args if isinstance(x, int)), *re.findall(r"\w+", str(error))}
    return [
        key
        for key, value in flatten(cfg.MODEL, "MODEL.")
        if any(x in named for x in _elements(value))
    ]


def _elements(value: Any) -> list[str | int]:
    """Names and numbers in a value, from which errors are made."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return [x for x in values if isinstance(x, (str, int)) and not isinstance(x, bool)]


def _check_features(cfg: CfgNode, name: str, given: Sequence[str]) -> None:
    """The backbone's feature maps are those that the heads look at."""
    for kind, groups, example in _HEADS:
        for group in groups if _is_a(name, kind) else ():
            missing = [key for key in cfg.MODEL[group].IN_FEATURES if key not in given]
            if missing:
                raise ConfigError(
                    f"MODEL.{group}.IN_FEATURES has {', '.join(missing)}, but the backbone "
                    f"{cfg.MODEL.BACKBONE.NAME} gives {', '.join(given)}: take the backbone from a "
                    f"config of {name}, such as configs/{example}"
                )
