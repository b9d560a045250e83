"""From a data set entry to model input: picture at original size, truth at the detector's."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T

from ..errors import DatasetError
from .image_io import read_image


class CodecDetectorMapper(DatasetMapper):
    """detectron2's mapper, except that the resize is left to the model.

    A picture must be coded at the size it was taken at, or a bit per pixel is not one. So the
    resize that detectron2 would apply here moves behind the codec: its target is handed on as
    "detector_size" (h, w), and annotations are transformed to it.

    Args:
        resize: picks the detector's input size.
        kwargs: those of detectron2's ``DatasetMapper``, with ``augmentations`` free of resizes.
    """

    @configurable
    def __init__(self, *, resize: T.ResizeShortestEdge, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.resize = resize

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        arguments = super().from_config(cfg, is_train)
        augmentations = arguments["augmentations"]
        (arguments["resize"],) = (a for a in augmentations if isinstance(a, T.ResizeShortestEdge))
        arguments["augmentations"] = [a for a in augmentations if a is not arguments["resize"]]
        return arguments

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Load one entry of a detectron2 data set.

        Returns:
            the entry with "image" (3, H, W) uint8, "detector_size" (h, w) and, in training,
            "instances" of that size.

        Raises:
            DatasetError: if the picture cannot be read or has not the size it is annotated with.
        """
        entry = copy.deepcopy(dataset_dict)
        image = read_image(entry["file_name"], self.image_format)
        _check_size(entry, image)
        aug_input = T.AugInput(image)
        transforms = self.augmentations(aug_input)
        resize = self.resize.get_transform(aug_input.image)
        entry["image"] = torch.as_tensor(np.ascontiguousarray(aug_input.image.transpose(2, 0, 1)))
        entry["detector_size"] = size = (resize.new_h, resize.new_w)
        if not self.is_train:
            entry.pop("annotations", None)
        elif "annotations" in entry:
            self._transform_annotations(entry, transforms + T.TransformList([resize]), size)
        return entry


def _check_size(entry: dict[str, Any], image: np.ndarray) -> None:
    height, width = image.shape[:2]
    annotated = entry.setdefault("height", height), entry.setdefault("width", width)
    if annotated != (height, width):
        raise DatasetError(
            f"'{entry['file_name']}' is {height}x{width} (height x width, EXIF orientation "
            f"applied), but its annotations say {annotated[0]}x{annotated[1]}: correct the "
            "annotation file, or rewrite the picture without an EXIF orientation"
        )
