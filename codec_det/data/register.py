"""Data sets by config: registration, and the checks that run before long work."""

from __future__ import annotations

import logging
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..detector_check import class_key
from ..errors import ConfigError, DatasetError
from ..evaluation.tasks import check_tasks
from .coco_format import check_coco_format, register_coco_format
from .picture_folder import EVALUATOR_TYPE, load_picture_folder, register_picture_folder
from .sequences import check_clips, has_sequences
from .shapes import SPLITS, register_shapes

logger = logging.getLogger(__name__)


def register_datasets(cfg: CfgNode) -> None:
    """Make the embedded set and those of ``DATASETS`` known to detectron2.

    Raises:
        ConfigError: if an entry is not [name, annotation JSON, image folder], or of
            ``DATASETS.PICTURES`` [name, folder].
        DatasetError: if another data set has its name.
    """
    register_shapes()
    root = Path(cfg.DATASETS.ROOT)
    for entry in cfg.DATASETS.COCO_FORMAT:
        is_list = isinstance(entry, (list, tuple)) and len(entry) == 3
        if not (is_list and all(isinstance(word, str) for word in entry)):
            raise ConfigError(
                f"DATASETS.COCO_FORMAT has the entry {entry!r}: give [name, annotation JSON, "
                "image folder]"
            )
        name, json_file, image_root = entry
        register_coco_format(name, str(root / json_file), str(root / image_root))
    for entry in cfg.DATASETS.PICTURES:
        if not (isinstance(entry, (list, tuple)) and len(entry) == 2):
            raise ConfigError(f"DATASETS.PICTURES has the entry {entry!r}: give [name, folder]")
        name, folder = entry
        register_picture_folder(name, root / folder)


def check_datasets(cfg: CfgNode, *, train: bool) -> None:
    """Check the test sets, and with ``train`` the training sets, as far as files can tell.

    Raises:
        ConfigError: if there is no training set.
        DatasetError: if a set is unknown, or its annotations or pictures cannot be used.
    """
    if train and not cfg.DATASETS.TRAIN:
        raise ConfigError(
            "DATASETS.TRAIN is empty: name what to train on, as in \"('shapes_train',)\""
        )
    has_masks = cfg.MODEL.MASK_ON and class_key(cfg) == "MODEL.ROI_HEADS.NUM_CLASSES"
    masks = cfg.INPUT.MASK_FORMAT if has_masks else ""
    for name in dict.fromkeys((*(cfg.DATASETS.TRAIN if train else ()), *cfg.DATASETS.TEST)):
        if name not in DatasetCatalog.list():
            raise DatasetError(
                f"data set '{name}' is not registered: add it to DATASETS.COCO_FORMAT, or, where "
                "no annotations are needed, DATASETS.PICTURES; or use shapes_train, shapes_val, "
                "coco_2017_train, coco_2017_val, ..."
            )
        metadata = MetadataCatalog.get(name)
        json_file = getattr(metadata, "json_file", None)
        if json_file and name not in SPLITS:
            summary = check_coco_format(json_file, metadata.image_root, masks)
            logger.info("%s: %s", name, summary)
        if cfg.MODEL.CODEC.KEY_INTERVAL > 1 and not has_sequences(DatasetCatalog.get(name)):
            raise DatasetError(
                f"MODEL.CODEC.KEY_INTERVAL is {cfg.MODEL.CODEC.KEY_INTERVAL} frames, but data set "
                f"'{name}' has no sequences (docs/video.md): set it to 1"
            )
        if metadata.get("evaluator_type") == EVALUATOR_TYPE:
            pictures = load_picture_folder(name, metadata.image_root)
            logger.info("%s: %d pictures without annotations", name, len(pictures))
        if train and name in cfg.DATASETS.TRAIN:
            check_tasks(cfg, name, train=True)
            check_clips(name, cfg.INPUT.CLIP_LENGTH, cfg.INPUT.BURN_IN)
        if name in cfg.DATASETS.TEST:
            check_tasks(cfg, name, train=False)
