"""From a data set entry to model input: picture at original size, truth at the detector's."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T

from ..codec.conventional import Precoder
from ..coding_scale import shrink
from ..errors import CodecDetError, DatasetError
from .coded_sequences import SequencePrecoder, build_sequence_precoder
from .image_io import read_image
from .pictures_check import size_fault


class CodecDetectorMapper(DatasetMapper):
    """detectron2's mapper, except that the resize is left to the model.

    A picture must be coded at the size it was taken at, or a bit per pixel is not one. So the
    resize that detectron2 would apply here moves behind the codec: its target is handed on as
    "detector_size" (h, w), and annotations are transformed to it.

    A conventional codec codes here as well, in the loader's processes: the whole picture as it was
    taken, so that what is coded does not depend on chance, and augmentations follow.

    Args:
        resize: picks the detector's input size.
        precoder: codes pictures or frames; None where the codec is part of the model.
        scale: coding scale of the model's codec, :mod:`codec_det.coding_scale`.
        kwargs: those of detectron2's ``DatasetMapper``, with ``augmentations`` free of resizes.
    """

    @configurable
    def __init__(
        self,
        *,
        resize: T.ResizeShortestEdge,
        precoder: Precoder | SequencePrecoder | None = None,
        scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.resize = resize
        self.precoder = precoder
        self.scale = scale

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        arguments = super().from_config(cfg, is_train)
        augmentations = arguments["augmentations"]
        (arguments["resize"],) = (a for a in augmentations if isinstance(a, T.ResizeShortestEdge))
        arguments["augmentations"] = [a for a in augmentations if a is not arguments["resize"]]
        names = cfg.DATASETS.TRAIN if is_train else cfg.DATASETS.TEST
        arguments["precoder"] = build_sequence_precoder(cfg, names)
        arguments["scale"] = cfg.MODEL.CODEC.SCALE
        return arguments

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Load one entry of a detectron2 data set.

        Returns:
            the entry with "image" (3, H, W) uint8, "small" (3, h', w') uint8, the same at its coded
            size, where that is another, "detector_size" (h, w) and, in training,
            "instances" of that size, and "sem_seg" (h, w) int64, the classes of pixels, where the
            set has them; and with a conventional codec "decoded" (3, h', w') uint8,
            "bits" and "measured" as of :class:`codec_det.codec.conventional.Precoded`.

        Raises:
            DatasetError: if the picture cannot be read or has not the size it is annotated with.
            CodecDetError: if a conventional codec cannot code it, or its cache cannot be written.
        """
        entry = copy.deepcopy(dataset_dict)
        image = read_image(entry["file_name"], self.image_format)
        _check_size(entry, image)
        aug_input = T.AugInput(image, sem_seg=self._read_classes(entry, image))
        transforms = self.augmentations(aug_input)
        if self.precoder is not None:
            self._precode(entry, image, transforms)
        resize = self.resize.get_transform(aug_input.image)
        entry["image"] = _to_tensor(aug_input.image)
        if self.scale < 1 and self.precoder is None:
            entry["small"] = _to_tensor(shrink(aug_input.image, self.scale))
        # INPUT.MIN_SIZE_* 0 leaves pictures as they are.
        kept = isinstance(resize, T.NoOpTransform)
        size = aug_input.image.shape[:2] if kept else (resize.new_h, resize.new_w)
        entry["detector_size"] = size
        if aug_input.sem_seg is not None:
            classes = resize.apply_segmentation(aug_input.sem_seg)
            entry["sem_seg"] = torch.as_tensor(classes.astype(np.int64))
        if not self.is_train:
            entry.pop("annotations", None)
        elif "annotations" in entry:
            self._transform_annotations(entry, transforms + T.TransformList([resize]), size)
        return entry

    def _read_classes(self, entry: dict[str, Any], image: np.ndarray) -> np.ndarray | None:
        """(H, W) uint8, of each pixel; None in evaluation, whose evaluators read them."""
        path = entry.pop("sem_seg_file_name", None)
        if path is None or not self.is_train:
            return None
        try:
            classes = utils.read_image(path, "L").squeeze(2)
        except (OSError, ValueError) as error:
            raise DatasetError(f"cannot read the classes of pixels '{path}': {error}") from None
        if classes.shape != image.shape[:2]:
            sizes = [f"{h}x{w}" for h, w in (classes.shape, image.shape[:2])]
            raise DatasetError(
                f"'{path}' is {sizes[0]} (height x width), but its picture '{entry['file_name']}' "
                f"is {sizes[1]}: make them alike"
            )
        return classes

    def _precode(self, entry: dict[str, Any], image: np.ndarray, transforms: T.Transform) -> None:
        assert self.precoder is not None
        bgr = self.image_format == "BGR"
        try:
            coded = self.precoder(image[:, :, ::-1] if bgr else image, entry["file_name"])
        except CodecDetError as error:
            raise type(error)(f"'{entry['file_name']}': {error}") from None
        decoded = coded.picture[:, :, ::-1] if bgr else coded.picture
        shown = transforms.apply_image(decoded)
        entry["decoded"], entry["measured"] = _to_tensor(shown), coded.measured
        # A crop has its share of them.
        entry["bits"] = coded.bits * shown.size / decoded.size


def _to_tensor(image: np.ndarray) -> torch.Tensor:
    """(H, W, 3) to (3, H, W)."""
    return torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _check_size(entry: dict[str, Any], image: np.ndarray) -> None:
    height, width = image.shape[:2]
    annotated = entry.setdefault("height", height), entry.setdefault("width", width)
    fault = size_fault(entry["file_name"], (height, width), annotated)
    if fault:
        raise DatasetError(fault)
