"""Plain folders of pictures as data sets, for training that needs no annotations."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..deploy.file_batch import find_files
from ..errors import CodecDetError, DatasetError
from .image_io import SUFFIXES
from .pictures_check import picture_sizes

EVALUATOR_TYPE = "pictures"
"""In the metadata of such data sets: there is no truth to compare detections with."""


def register_picture_folder(name: str, folder: str | Path) -> None:
    """Register the pictures in a folder, and in folders of it, as a data set.

    It is read when first loaded. Registering it again from the same folder does nothing.

    Raises:
        DatasetError: the name belongs to another data set.
    """
    if name not in DatasetCatalog:
        DatasetCatalog.register(name, partial(load_picture_folder, name, folder))
        MetadataCatalog.get(name).set(image_root=str(folder), evaluator_type=EVALUATOR_TYPE)
        return
    known = MetadataCatalog.get(name)
    root = known.get("image_root")
    same = root is not None and Path(root).resolve() == Path(folder).resolve()
    if known.get("evaluator_type") != EVALUATOR_TYPE or not same:
        raise DatasetError(
            f"DATASETS.PICTURES names '{name}' for the folder '{folder}', but another data set of "
            "that name is registered already: choose another name"
        )


def load_picture_folder(name: str, folder: str | Path) -> list[dict[str, Any]]:
    """detectron2's standard dictionaries, without annotations, in order of paths.

    Raises:
        DatasetError: there is no picture, or one whose header cannot be read.
    """
    try:
        files = find_files([Path(folder)], SUFFIXES, "pictures", recursive=True).files
        sizes = picture_sizes(files)
    except CodecDetError as error:
        raise DatasetError(f"data set '{name}' of DATASETS.PICTURES: {error}") from None
    return [
        {"file_name": str(file), "image_id": number, "height": height, "width": width}
        for number, (file, (height, width)) in enumerate(zip(files, sizes, strict=True), start=1)
    ]
