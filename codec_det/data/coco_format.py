"""Any data set in COCO's JSON format: check it before any long work, register it with detectron2.

The format: https://cocodataset.org/#format-data. The loader is detectron2's; it stops at some of
the faults below with an assertion or a KeyError, at others hours later, at the image or the
evaluation that meets them, and passes over the rest in silence.
"""

import json
import logging
import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..errors import DatasetError
from .pictures_check import PictureFile, check_pictures
from .sequences import load_coco, sequence_faults

logger = logging.getLogger(__name__)

TOLERANCE = 1.0
"""Pixels that a box may stick out of its image: annotation tools round corners outwards."""

TOLERATED_SHARE = 0.01
"""Share of the image's side that it may stick out with a warning."""

MAX_EMPTY_SHARE = 0.001
"""Share of boxes that may be empty. COCO 2017 train itself has two of height 0; detectron2 drops
such boxes in training, and one in a thousand changes no result."""

SHOWN = 5  # of the culprits named in a message

Record = dict[str, Any]


@dataclass(frozen=True)
class CocoSummary:
    """What is in a data set that passed `check_coco_format`."""

    images: int
    annotations: int
    crowds: int
    empty_boxes: int
    images_without_annotations: int
    categories: tuple[str, ...]
    """Names by ascending id, which is detectron2's order of classes."""

    def __str__(self) -> str:
        return (
            f"{self.images} images ({self.images_without_annotations} without annotations), "
            f"{self.annotations} annotations ({self.crowds} crowds, {self.empty_boxes} empty), "
            f"{len(self.categories)} categories"
        )


def register_coco_format(name: str, json_file: str | Path, image_root: str | Path) -> None:
    """Register a data set in COCO's format under a name; it is read when first loaded.

    Registering it again from the same paths does nothing.

    Raises:
        DatasetError: the name belongs to a data set from other paths.
    """
    if name not in DatasetCatalog:
        DatasetCatalog.register(name, partial(load_coco, json_file, image_root, name))
        paths = {"json_file": str(json_file), "image_root": str(image_root)}
        MetadataCatalog.get(name).set(evaluator_type="coco", **paths)
        return
    known = MetadataCatalog.get(name)
    for key, path in (("json_file", json_file), ("image_root", image_root)):
        registered = known.get(key)
        if registered is None or Path(registered).resolve() != Path(path).resolve():
            raise DatasetError(
                f"A data set {name} is registered already, with {key} {registered} instead of "
                f"{path}. Choose another name."
            )


def check_coco_format(
    json_file: str | Path, image_root: str | Path, masks: str = ""
) -> CocoSummary:
    """Find the faults of a data set in COCO's format.

    Image files must be of the sizes annotated, as their headers tell; their pixels are not read.

    Args:
        masks: format of the masks that every object must have, as ``INPUT.MASK_FORMAT``, "polygon"
            or "bitmask"; "": none.

    Raises:
        DatasetError: the first fault found: what is wrong, where, how often, and the remedy.
    """
    json_file = Path(json_file)
    coco = read_json(json_file)
    try:
        sizes, image_ids = _check_images(coco["images"])
        category_ids = _check_categories(coco["categories"])
        empty, beyond = _check_annotations(coco["annotations"], image_ids, sizes, category_ids)
        if masks:
            _check_masks(coco["annotations"], masks)
        annotated = {annotation["image_id"] for annotation in coco["annotations"]}
        _check_files(coco, Path(image_root))
    except DatasetError as error:
        raise DatasetError(f"{json_file}: {error}") from error.__cause__
    if empty:
        logger.warning("%s: %d empty boxes; training leaves them out.", json_file, empty)
    if beyond:
        logger.warning(
            "%s: %d boxes reach out of their images by a little; training clips them, evaluation "
            "takes them as they are.",
            *(json_file, beyond),
        )
    return CocoSummary(
        images=len(image_ids),
        annotations=len(coco["annotations"]),
        crowds=sum(bool(annotation.get("iscrowd")) for annotation in coco["annotations"]),
        empty_boxes=empty,
        images_without_annotations=len(image_ids) - len(annotated),
        categories=tuple(c["name"] for c in sorted(coco["categories"], key=lambda c: c["id"])),
    )


def read_json(json_file: Path) -> Record:
    """The JSON with its three lists, none of them empty.

    Raises:
        DatasetError: if it cannot be read, or has not.
    """
    try:
        text = json_file.read_bytes()
        coco = json.loads(text)
    except OSError as error:
        raise DatasetError(
            f"Cannot read the annotation file {json_file}: {error.strerror}. Check the path, "
            "and whether the data set has been downloaded and unpacked."
        ) from error
    except ValueError as error:  # not JSON, or not even text
        raise DatasetError(
            f"{json_file} is not JSON ({error}). If it is compressed, unpack it; if it was "
            "downloaded, it may be incomplete: download it again."
        ) from error
    if not isinstance(coco, dict):
        raise DatasetError(
            f"{json_file} holds a JSON {type(coco).__name__}; COCO's format is an object with "
            "images, annotations and categories. Is it a file of detection results?"
        )
    for key in ("images", "annotations", "categories"):
        rows = coco.get(key)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DatasetError(
                f"{json_file} has no list of {key}. Detection needs an instances file, such as "
                "instances_val2017.json; captions and test image lists lack boxes."
            )
        if not rows:
            raise DatasetError(
                f"{json_file} has an empty list of {key}: there is nothing to train or measure on."
            )
    return coco


def _check_images(images: list[Record]) -> tuple[np.ndarray, dict[Hashable, int]]:
    """Their sizes, (N, 2) of width and height, and the row of every id."""
    ids = _unique_ids(images, "image")
    for key in ("width", "height"):
        bad = [i["id"] for i in images if not _is_number(i.get(key)) or i[key] <= 0]
        _refuse(bad, "image", f"have no {key}", "Add it, in pixels: boxes are measured by it.")
    bad = [i["id"] for i in images if not isinstance(i.get("file_name"), str) or not i["file_name"]]
    _refuse(bad, "image", "have no file_name", "Add it, relative to the folder of images.")
    return np.array([(i["width"], i["height"]) for i in images], dtype=float), ids


def _check_categories(categories: list[Record]) -> set[Hashable]:
    """The ids."""
    ids = _unique_ids(categories, "category")
    bad = [c["id"] for c in categories if not isinstance(c.get("name"), str)]
    _refuse(bad, "category", "have no name", "Add it; results are listed by it.")
    return set(ids)


def _check_annotations(
    annotations: list[Record],
    image_ids: dict[Hashable, int],
    sizes: np.ndarray,
    category_ids: set[Hashable],
) -> tuple[int, int]:
    """The numbers of boxes that are empty and that reach out of their images, if tolerable."""
    ids = list(_unique_ids(annotations, "annotation"))
    fix = "Correct them, or remove these annotations."
    bad = [a["id"] for a in annotations if not _known(a.get("image_id"), image_ids)]
    _refuse(bad, "annotation", "are of an image_id that is not among the images", fix)
    bad = [a["id"] for a in annotations if not _known(a.get("category_id"), category_ids)]
    _refuse(bad, "annotation", "are of a category_id that is not among the categories", fix)
    bad = [a["id"] for a in annotations if not _is_number(a.get("area"))]
    _refuse(bad, "annotation", "have no area", "Add it, in pixels: COCO's AP sorts objects by it.")
    bad = [a["id"] for a in annotations if a.get("ignore")]
    _refuse(bad, "annotation", 'are set to "ignore"', "detectron2 has no such; use iscrowd.")

    boxes = _boxes(annotations)
    rows = np.array([image_ids[a["image_id"]] for a in annotations])
    return _check_boxes(boxes, sizes[rows], ids)


def _boxes(annotations: list[Record]) -> np.ndarray:
    """Boxes (N, 4) as x, y, width, height."""
    try:
        boxes = np.array([a["bbox"] for a in annotations])
        # numpy would take words for numbers.
        if boxes.shape == (len(annotations), 4) and boxes.dtype.kind in "iuf":
            return boxes.astype(float)
    except (KeyError, TypeError, ValueError):
        pass  # some are odd: find out which, one by one
    bad = [a["id"] for a in annotations if not _is_box(a.get("bbox"))]
    _refuse(bad, "annotation", "have no box", "Add bbox: [x, y, width, height] in pixels.")
    return np.array([a["bbox"] for a in annotations], dtype=float)


def _check_boxes(boxes: np.ndarray, sizes: np.ndarray, ids: Sequence[Hashable]) -> tuple[int, int]:
    """As :func:`_check_annotations`, of boxes (N, 4) in images of sizes (N, 2)."""
    corner, extent = boxes[:, :2], boxes[:, 2:]
    fix = "Boxes are [x, y, width, height], not corners, in pixels of the image, not fractions."
    bad = ~np.isfinite(boxes).all(axis=1) | (extent < 0).any(axis=1)
    _refuse(_pick(ids, bad), "annotation", "have a box of negative or undefined size", fix)
    beyond = np.maximum(-corner, corner + extent - sizes)  # pixels, by axis
    bad = (beyond > np.maximum(TOLERANCE, TOLERATED_SHARE * sizes)).any(axis=1)
    _refuse(_pick(ids, bad), "annotation", "have a box that reaches out of the image", fix)
    empty = (extent == 0).any(axis=1)
    if empty.sum() > MAX_EMPTY_SHARE * len(boxes):
        fix = "Remove these annotations, or mend their boxes."
        _refuse(_pick(ids, empty), "annotation", "have a box of width or height 0", fix)
    return int(empty.sum()), int((beyond > TOLERANCE).any(axis=1).sum())


def _check_masks(annotations: list[Record], mask_format: str) -> None:
    bad = [a["id"] for a in annotations if not a.get("segmentation")]
    _refuse(bad, "annotation", "have no segmentation", "Add it, or set MODEL.MASK_ON False.")
    if mask_format == "polygon":
        # Crowds are run-length coded in COCO itself, and only evaluation looks at them.
        coded = (a for a in annotations if isinstance(a["segmentation"], dict))
        bad = [a["id"] for a in coded if not a.get("iscrowd")]
        _refuse(bad, "annotation", "have no polygons", "Set INPUT.MASK_FORMAT bitmask.")


def _check_files(coco: Record, root: Path) -> None:
    """Every image file is there, with the size that is annotated, and every frame of sequences."""
    if not root.is_dir():
        raise DatasetError(f"The folder of images {root} does not exist. Check the path.")
    # One listing per folder: looking up every file by its path takes many times longer on the
    # network file systems that data sets live on.
    folders: dict[str, dict[str, os.DirEntry[str]]] = {}
    missing, empty, pictures = [], [], []
    for image in coco["images"]:
        name = image["file_name"]
        folder, _, base = name.rpartition("/")
        if folder not in folders:
            folders[folder] = _listing(root / folder)
        entry = folders[folder].get(base)
        if entry is None or not entry.is_file():
            missing.append(name)
            continue
        status = entry.stat()
        if status.st_size == 0:
            empty.append(name)
        size = image["width"], image["height"]
        pictures.append(PictureFile(root / name, *size, status.st_size, status.st_mtime_ns))
    faults = sequence_faults(coco, missing)
    fix = "Sequences need every frame, once, in one size: mend these, or leave the sequences out."
    _refuse(faults, "fault", "of sequences", fix)
    _refuse(missing, "file", f"are missing from {root}", "Check the folder; unpack all images.")
    _refuse(empty, "file", f"in {root} have zero bytes", "Download or copy these images again.")
    check_pictures(pictures)


def _listing(folder: Path) -> dict[str, os.DirEntry[str]]:
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry for entry in entries}


def _unique_ids(rows: list[Record], kind: str) -> dict[Hashable, int]:
    """The row of every id."""
    ids = [row.get("id") for row in rows]
    bad = [row for row, id_ in enumerate(ids) if not isinstance(id_, int)]
    _refuse(bad, f"{kind} number", "(from 0) have no integer id", "Number them.")
    index = {id_: row for row, id_ in enumerate(ids)}
    if len(index) < len(rows):
        again = [id_ for row, id_ in enumerate(ids) if index[id_] != row]
        _refuse(again, kind, "share their id with another", "Number them anew.")
    return index


def _known(id_: object, ids: dict[Hashable, int] | set[Hashable]) -> bool:
    return isinstance(id_, int) and id_ in ids


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _pick(ids: Sequence[Hashable], mask: np.ndarray) -> list[Hashable]:
    return [ids[row] for row in np.flatnonzero(mask)]


def _refuse(culprits: Sequence[object], kind: str, fault: str, remedy: str) -> None:
    """Raise an error that counts and names the culprits, if there are any."""
    if not culprits:
        return
    named = ", ".join(map(str, culprits[:SHOWN])) + (", ..." if len(culprits) > SHOWN else "")
    raise DatasetError(f"{len(culprits)} {kind}(s) {fault}: {named}. {remedy}")
