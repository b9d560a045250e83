"""Faults of data sets in COCO's format: each is found, counted and named."""

import copy
import json
import logging
import os
import re

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import ExifTags, Image

from codec_det.data import pictures_check
from codec_det.data.coco_format import check_coco_format, register_coco_format
from codec_det.data.register import check_datasets, register_datasets
from codec_det.errors import DatasetError

REMOVED = object()

GOOD = {
    "images": [
        {"id": 7, "file_name": "a.png", "width": 40, "height": 30},
        {"id": 9, "file_name": "sub/b.png", "width": 30, "height": 40},
        {"id": 11, "file_name": "sub/c.png", "width": 10, "height": 10},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 5, "bbox": [0, 0, 40, 30], "area": 9, "iscrowd": 0},
        {"id": 2, "image_id": 9, "category_id": 3, "bbox": [5, 5, 5, 5], "area": 25, "iscrowd": 1},
    ],
    "categories": [{"id": 5, "name": "dog"}, {"id": 3, "name": "cat"}],
}


@pytest.fixture
def check(tmp_path):
    """Check a data set whose files are all there; images under `images`."""
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for image in GOOD["images"]:
        size = image["width"], image["height"]
        Image.new("RGB", size).save(tmp_path / "images" / image["file_name"])

    def run(coco, **options):
        json_file = tmp_path / "set.json"
        json_file.write_text(coco if isinstance(coco, str) else json.dumps(coco))
        return check_coco_format(json_file, tmp_path / "images", **options)

    run.images = tmp_path / "images"
    return run


def altered(kind, row, key, value):
    """The good data set with one field of one row replaced."""
    coco = copy.deepcopy(GOOD)
    if value is REMOVED:
        del coco[kind][row][key]
    else:
        coco[kind][row][key] = value
    return coco


def test_a_good_set_is_summed_up(check):
    summary = check(GOOD)
    assert summary.categories == ("cat", "dog")
    assert str(summary) == (
        "3 images (1 without annotations), 2 annotations (1 crowds, 0 empty), 2 categories"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("[]", "JSON list.*detection results"),
        ('{"images": [], "categories": []}', "empty list of images"),
        (json.dumps({**GOOD, "annotations": []}), "empty list of annotations"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "annotations"}), "list of annotations"),
        (json.dumps({**GOOD, "categories": {"1": "dog"}}), "no list of categories"),
        (json.dumps({**GOOD, "images": ["a.png"]}), "no list of images"),
    ],
)
def test_files_that_are_no_detection_sets(check, text, message):
    with pytest.raises(DatasetError, match=message) as caught:
        check(text)
    assert "set.json" in str(caught.value)


def test_a_missing_json_file(tmp_path):
    with pytest.raises(DatasetError, match=r"Cannot read .*none\.json: No such file"):
        check_coco_format(tmp_path / "none.json", tmp_path)


def test_json_of_another_encoding_is_named(tmp_path):
    (tmp_path / "set.json").write_bytes(b'{"images": "\xff\xfe\xfa"}')
    with pytest.raises(DatasetError, match="is not JSON"):
        check_coco_format(tmp_path / "set.json", tmp_path)


@pytest.mark.parametrize(
    ("kind", "row", "key", "value", "message"),
    [
        ("images", 1, "width", REMOVED, "1 image(s) have no width: 9."),
        ("images", 0, "height", 0, "1 image(s) have no height: 7."),
        ("images", 2, "height", None, "1 image(s) have no height: 11."),
        ("images", 1, "file_name", REMOVED, "1 image(s) have no file_name: 9."),
        ("images", 1, "id", 7, "1 image(s) share their id with another: 7."),
        ("images", 1, "id", "9", "1 image number(s) (from 0) have no integer id: 1."),
        ("categories", 1, "id", 5, "1 category(s) share their id with another: 5."),
        ("categories", 1, "name", REMOVED, "1 category(s) have no name: 3."),
        ("annotations", 1, "id", 1, "1 annotation(s) share their id with another: 1."),
        ("annotations", 0, "image_id", 8, "an image_id that is not among the images: 1."),
        ("annotations", 1, "image_id", REMOVED, "an image_id that is not among the images: 2."),
        ("annotations", 1, "category_id", 4, "a category_id that is not among the categories: 2."),
        ("annotations", 1, "area", REMOVED, "1 annotation(s) have no area: 2."),
        ("annotations", 0, "ignore", 1, '1 annotation(s) are set to "ignore": 1.'),
        ("annotations", 1, "bbox", REMOVED, "1 annotation(s) have no box: 2."),
        ("annotations", 1, "bbox", [], "1 annotation(s) have no box: 2."),
        ("annotations", 1, "bbox", [1, 2, 3], "1 annotation(s) have no box: 2."),
        ("annotations", 1, "bbox", [1, 2, 3, "x"], "1 annotation(s) have no box: 2."),
        ("annotations", 0, "bbox", [9, 9, -1, 5], "a box of negative or undefined size: 1."),
        ("annotations", 0, "bbox", [9, 9, float("nan"), 5], "negative or undefined size: 1."),
        ("annotations", 0, "bbox", [0, 0, 41.1, 5], "a box that reaches out of the image: 1."),
        ("annotations", 1, "bbox", [0, -1.1, 5, 5], "a box that reaches out of the image: 2."),
        ("annotations", 1, "bbox", [5, 5, 0, 5], "1 annotation(s) have a box of width or height 0"),
    ],
)
def test_every_fault_is_counted_and_named(check, kind, row, key, value, message):
    with pytest.raises(DatasetError, match=re.escape(message)):
        check(altered(kind, row, key, value))


def test_boxes_may_stick_out_by_a_pixel(check):
    check(altered("annotations", 0, "bbox", [-1, -1, 42, 32]))


def test_boxes_are_measured_by_their_own_image(check):
    # 35 high fits the second image, of 30 x 40, but not the first, of 40 x 30.
    check(altered("annotations", 1, "bbox", [0, 0, 30, 35]))
    with pytest.raises(DatasetError, match="out of the image"):
        check(altered("annotations", 0, "bbox", [0, 0, 30, 35]))


def test_a_few_empty_boxes_are_as_in_coco_itself(check, caplog):
    coco = copy.deepcopy(GOOD)
    filler = [{**GOOD["annotations"][0], "id": 10 + number} for number in range(2000)]
    coco["annotations"] += filler
    for annotation in filler[:2]:
        annotation["bbox"] = [3, 3, 1, 0]
    with caplog.at_level(logging.WARNING):
        assert check(coco).empty_boxes == 2
    assert "2 empty boxes" in caplog.text
    filler[2]["bbox"] = [3, 3, 0, 1]
    with pytest.raises(DatasetError, match=r"3 annotation\(s\) .* width or height 0: 10, 11, 12\."):
        check(coco)


def test_boxes_that_reach_out_by_rounding_are_clipped_with_one_warning(check, caplog):
    coco = altered("annotations", 0, "bbox", [-1.5, 0, 202, 30])
    coco["images"][0]["width"] = 200
    Image.new("RGB", (200, 30)).save(check.images / "a.png")
    with caplog.at_level(logging.WARNING):
        check(coco)  # 1.5 pixels of 200 are less than 1 %
    (line,) = caplog.messages
    assert "1 boxes reach out of their images" in line
    coco["annotations"][0]["bbox"] = [-2.5, 0, 202, 30]
    with pytest.raises(DatasetError, match="reaches out of the image: 1"):
        check(coco)


def test_masks_are_looked_for_where_they_are_needed(check):
    coco = copy.deepcopy(GOOD)
    check(coco)
    with pytest.raises(
        DatasetError, match=r"2 annotation\(s\) have no segmentation: 1, 2\. .*MASK_ON"
    ):
        check(coco, masks="polygon")
    coco["annotations"][0]["segmentation"] = [[0, 0, 9, 0, 9, 9]]
    coco["annotations"][1]["segmentation"] = {"size": [40, 30], "counts": [0, 1200]}  # a crowd
    check(coco, masks="polygon")
    coco["annotations"][1]["iscrowd"] = 0
    with pytest.raises(DatasetError, match=r"have no polygons: 2\. Set INPUT\.MASK_FORMAT bitmask"):
        check(coco, masks="polygon")
    check(coco, masks="bitmask")


def save_16_bits(path):
    Image.fromarray(np.zeros((30, 40), np.uint16)).save(path)


def save_sideways(path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (40, 30)).save(path, exif=exif)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: Image.new("RGB", (41, 30)).save(path), "is 30x41 .* but its .* say 30x40"),
        (save_16_bits, "more than 8 bits per channel"),
        (save_sideways, "is 40x30 .* but its .* say 30x40"),
        (lambda path: path.write_bytes(b"no picture"), "not an image"),
        (lambda path: path.write_bytes(path.read_bytes()[:20]), "Cannot read the image"),
    ],
)
def test_pictures_that_are_not_as_annotated_are_named_by_their_headers(check, spoil, message):
    check(GOOD)
    spoil(check.images / "a.png")
    with pytest.raises(DatasetError, match=message) as caught:
        check(GOOD)
    assert str(check.images / "a.png") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_picture_that_says_last_that_it_lies_on_its_side_is_taken_as_it_is_read(check):
    path = check.images / "a.png"
    save_sideways(path)
    png = path.read_bytes()
    start = png.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(png[start : start + 4], "big")
    tail = png.index(b"IEND") - 4
    path.write_bytes(png[:start] + png[end:tail] + png[start:end] + png[tail:])
    coco = copy.deepcopy(GOOD)
    coco["images"][0] |= {"width": 30, "height": 40}
    coco["annotations"][0]["bbox"] = [0, 0, 30, 30]
    check(coco)


def test_pictures_that_passed_are_not_opened_again(check, monkeypatch):
    check(GOOD)
    opened = []
    real = pictures_check.read_size
    monkeypatch.setattr(pictures_check, "read_size", lambda path: opened.append(path) or real(path))
    check(GOOD)
    assert not opened
    os.utime(check.images / "a.png", ns=(1, 1))
    check(GOOD)
    assert len(opened) == 3
    monkeypatch.setattr(pictures_check, "CACHE", "/dev/null/nowhere")
    check(GOOD)  # without a cache, it only takes longer
    assert len(opened) == 6


def test_long_lists_of_culprits_are_cut_short(check):
    coco = copy.deepcopy(GOOD)
    coco["annotations"] = [
        {**GOOD["annotations"][0], "id": number, "category_id": 1} for number in range(8)
    ]
    with pytest.raises(DatasetError, match=r"8 annotation\(s\) .*: 0, 1, 2, 3, 4, \.\.\."):
        check(coco)


def test_missing_and_empty_files(check):
    (check.images / "sub" / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"1 file\(s\) are missing from .*: sub/b\.png\."):
        check(GOOD)
    (check.images / "sub" / "b.png").mkdir()
    with pytest.raises(DatasetError, match="missing"):
        check(GOOD)
    (check.images / "sub" / "b.png").rmdir()
    (check.images / "sub" / "b.png").touch()
    with pytest.raises(DatasetError, match=r"1 file\(s\) in .* have zero bytes: sub/b\.png\."):
        check(GOOD)


def test_missing_folders(check):
    for path in (check.images / "sub").iterdir():
        path.unlink()
    (check.images / "sub").rmdir()
    with pytest.raises(DatasetError, match=r"2 file\(s\) are missing .*: sub/b\.png, sub/c\.png"):
        check(GOOD)
    check.images.rename(check.images.with_name("elsewhere"))
    with pytest.raises(DatasetError, match="images does not exist"):
        check(GOOD)


@pytest.fixture(params=["coco_format_test"])
def name(request):
    name = request.param
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_registering(check, name, tmp_path):
    check(GOOD)
    for _ in range(2):
        register_coco_format(name, tmp_path / "set.json", check.images)
    register_coco_format(name, tmp_path / "images" / ".." / "set.json", check.images)
    entries = DatasetCatalog.get(name)
    assert entries[1]["file_name"] == str(check.images / "sub" / "b.png")
    assert MetadataCatalog.get(name).thing_classes == ["cat", "dog"]
    assert MetadataCatalog.get(name).evaluator_type == "coco"


def test_a_name_stays_with_its_paths(check, name, tmp_path):
    register_coco_format(name, tmp_path / "set.json", check.images)
    with pytest.raises(DatasetError, match=r"with json_file .*set\.json instead of .*other\.json"):
        register_coco_format(name, tmp_path / "other.json", check.images)
    with pytest.raises(DatasetError, match="with image_root"):
        register_coco_format(name, tmp_path / "set.json", tmp_path)


@pytest.mark.parametrize("name", ["shapes_of_mine"], indirect=True)
def test_a_set_is_checked_even_if_it_is_called_as_the_embedded_are(check, name, tmp_path, tiny_cfg):
    (tmp_path / "set.json").write_text(json.dumps(altered("annotations", 0, "category_id", 4)))
    entry = [name, str(tmp_path / "set.json"), str(check.images)]
    cfg = tiny_cfg("DATASETS.COCO_FORMAT", str([entry]), "DATASETS.TEST", f"('{name}',)")
    register_datasets(cfg)
    with pytest.raises(DatasetError, match=r"set\.json: 1 annotation.*category_id"):
        check_datasets(cfg, train=False)
