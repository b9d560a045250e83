"""Tasks: what detectors predict, what data sets have the truth of, and who measures it.

A task is the key of detectron2's outputs: "instances" (boxes, and with them masks or keypoints),
"sem_seg" (a class for each pixel) or "panoptic_seg" (both at once). A data set says by the
``evaluator_type`` in its metadata which truths it has; one that does not say has COCO's.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.evaluation import COCOPanopticEvaluator, DatasetEvaluator, SemSegEvaluator

from ..errors import ConfigError, DatasetError
from .coco import FastCOCOEvaluator

INSTANCES, SEMANTIC, PANOPTIC = "instances", "sem_seg", "panoptic_seg"

PREDICTS: dict[str, tuple[str, ...]] = {
    "NoDetector": (),
    "SemanticSegmentor": (SEMANTIC,),
    "PanopticFPN": (INSTANCES, SEMANTIC, PANOPTIC),
}
"""By meta-architecture; those that are not here predict instances. Others may add their own."""

TRUTHS: dict[str, tuple[str, ...]] = {
    "coco": (INSTANCES,),
    "sem_seg": (SEMANTIC,),
    "coco_panoptic_seg": (INSTANCES, SEMANTIC, PANOPTIC),
    "pictures": (),
}
"""By ``evaluator_type``; plain pictures have none."""


def tasks_of(cfg: CfgNode, dataset: str) -> list[str]:
    """What is predicted and can be measured on a registered data set.

    Raises:
        DatasetError: if something is predicted and nothing here measures sets of its kind.
    """
    kind = _kind(dataset)
    if _predictions(cfg) and kind not in TRUTHS:
        raise DatasetError(
            f"data set '{dataset}' is of evaluator_type '{kind}', which nothing here measures: "
            f"register it as one of {', '.join(TRUTHS)}"
        )
    return [task for task in _predictions(cfg) if task in TRUTHS[kind]]


def build_evaluators(cfg: CfgNode, dataset: str, output_dir: str) -> list[DatasetEvaluator]:
    """An evaluator for each task of :func:`tasks_of`; what they find goes to ``output_dir``."""
    makers: dict[str, Any] = {
        INSTANCES: lambda: FastCOCOEvaluator(
            dataset, output_dir, kpt_oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS
        ),
        SEMANTIC: lambda: SemSegEvaluator(dataset, output_dir=output_dir),
        PANOPTIC: lambda: COCOPanopticEvaluator(dataset, output_dir),
    }
    return [makers[task]() for task in tasks_of(cfg, dataset)]


def needs_truth(cfg: CfgNode) -> bool:
    """Whether training looks at annotations."""
    return bool(cfg.MODEL.DETECTOR.LOSS_WEIGHT) and not cfg.MODEL.DETECTOR.LABEL_SCORE


def check_tasks(cfg: CfgNode, dataset: str, *, train: bool) -> None:
    """Check that a detector can be trained or measured on a registered data set.

    With ``MODEL.DETECTOR.LOSS_WEIGHT`` 0, or with labels of its own, training needs no truth.

    Args:
        train: whether it is to train on it; else it is to be measured.

    Raises:
        ConfigError: if keys do not fit the data set or one another, or a package is missing.
        DatasetError: if the truth is missing that the detector needs.
    """
    if train and not needs_truth(cfg):
        _check_own_labels(cfg)
        return
    predicted, measured = _predictions(cfg), tasks_of(cfg, dataset)
    name = cfg.MODEL.DETECTOR.META_ARCHITECTURE
    if predicted and not TRUTHS[_kind(dataset)]:
        weight = cfg.MODEL.DETECTOR.LOSS_WEIGHT
        raise DatasetError(
            f"data set '{dataset}' has no annotations, and "
            + (
                f"MODEL.DETECTOR.LOSS_WEIGHT is {weight:g}: set MODEL.DETECTOR.LABEL_SCORE to 0.5, "
                "to train by what the detector finds in them"
                if train
                else f"{name} is measured by them: name another in DATASETS.TEST"
            )
        )
    if predicted and not measured:
        raise DatasetError(
            f"MODEL.DETECTOR.META_ARCHITECTURE {name} predicts {', '.join(predicted)}, and data "
            f"set '{dataset}' has the truth of {', '.join(TRUTHS[_kind(dataset)])} alone: choose "
            "another detector or data set"
        )
    if SEMANTIC in measured or (train and SEMANTIC in predicted):
        _check_semantic(cfg, dataset)
    if PANOPTIC in measured and not train and importlib.util.find_spec("panopticapi") is None:
        raise ConfigError(
            f"panoptic quality of {name} on '{dataset}' needs the package panopticapi: pip install "
            "git+https://github.com/cocodataset/panopticapi.git"
        )
    if INSTANCES in measured and cfg.MODEL.KEYPOINT_ON:
        _check_keypoints(cfg, MetadataCatalog.get(dataset), train)


def _predictions(cfg: CfgNode) -> tuple[str, ...]:
    return PREDICTS.get(cfg.MODEL.DETECTOR.META_ARCHITECTURE, (INSTANCES,))


def _kind(dataset: str) -> str:
    return MetadataCatalog.get(dataset).get("evaluator_type", "coco")


def _check_own_labels(cfg: CfgNode) -> None:
    if not cfg.MODEL.DETECTOR.LABEL_SCORE:
        return
    others = [key for key in ("MASK_ON", "KEYPOINT_ON") if cfg.MODEL[key]]
    if others or _predictions(cfg) != (INSTANCES,):
        name = f"MODEL.{others[0]} is True" if others else cfg.MODEL.DETECTOR.META_ARCHITECTURE
        raise ConfigError(
            f"MODEL.DETECTOR.LABEL_SCORE labels boxes alone ({name}): set it to 0 and train by "
            "annotations, or choose a detector of boxes"
        )


def _check_semantic(cfg: CfgNode, dataset: str) -> None:
    """The classes of pixels, and a file of them for each picture."""
    metadata = MetadataCatalog.get(dataset)
    head = cfg.MODEL.SEM_SEG_HEAD
    count = len(metadata.get("stuff_classes", ()))
    if count != head.NUM_CLASSES:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {head.NUM_CLASSES}, and data set '{dataset}' has "
            f"{count} stuff_classes: set it to that"
        )
    if metadata.get("ignore_label") != head.IGNORE_VALUE:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.IGNORE_VALUE is {head.IGNORE_VALUE}, and data set '{dataset}' has "
            f"the ignore_label {metadata.get('ignore_label')}: they are of the same pixels"
        )
    for entry in DatasetCatalog.get(dataset):
        path = entry.get("sem_seg_file_name")
        if path is None or not Path(path).is_file():
            raise DatasetError(
                f"data set '{dataset}': '{entry['file_name']}' has no file of classes of its "
                f"pixels (sem_seg_file_name is {path}), which "
                f"{cfg.MODEL.DETECTOR.META_ARCHITECTURE} needs"
            )


def _check_keypoints(cfg: CfgNode, metadata: Metadata, train: bool) -> None:
    names = metadata.get("keypoint_names")
    if not names:
        raise DatasetError(
            f"MODEL.KEYPOINT_ON is True, and data set '{metadata.name}' has no keypoint_names in "
            "its metadata: set it to False, or use keypoints_coco_2017_train, ..."
        )
    count = cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
    if count != len(names):
        raise ConfigError(
            f"MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS is {count}, and data set '{metadata.name}' has "
            f"{len(names)} keypoint_names: set it to that"
        )
    if train and metadata.get("keypoint_flip_map") is None:
        raise DatasetError(
            f"data set '{metadata.name}' has no keypoint_flip_map in its metadata: a flipped "
            "picture's left is its right; give it a list of pairs of names, or an empty one"
        )
    sigmas = len(cfg.TEST.KEYPOINT_OKS_SIGMAS) or 17  # those of COCO's people
    if not train and sigmas != count:
        raise ConfigError(
            f"TEST.KEYPOINT_OKS_SIGMAS has {sigmas} values, and there are {count} keypoints: give "
            "one for each"
        )
