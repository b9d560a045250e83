"""The shapes data set on disk, and registered with detectron2."""

import json
import logging

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from pycocotools.coco import COCO

from codec_det.data import shapes, written_set
from codec_det.data.coco_format import check_coco_format
from codec_det.data.scenes import CLASS_NAMES
from codec_det.errors import DatasetError


def generate(folder, count=3, **changes):
    return shapes.generate(folder, count, **{"size": (40, 56), "progress": False, **changes})


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}


def test_pycocotools_and_our_own_check_accept_it(tmp_path):
    json_file = generate(tmp_path / "set")
    coco = COCO(str(json_file))
    assert coco.getImgIds() == [1, 2, 3]
    assert [c["name"] for c in coco.loadCats(range(1, 7))] == list(CLASS_NAMES)
    for entry in coco.loadImgs(coco.getImgIds()):
        with Image.open(tmp_path / "set" / "images" / entry["file_name"]) as image:
            assert (image.mode, image.size) == ("RGB", (56, 40))
        assert (entry["width"], entry["height"]) == (56, 40)
    annotation = coco.loadAnns(1)[0]
    assert coco.annToMask(annotation).sum() == pytest.approx(annotation["area"], rel=0.1)
    summary = check_coco_format(json_file, json_file.parent / "images")
    assert (summary.images, summary.categories) == (3, CLASS_NAMES)


def test_files_hold_the_scenes_in_rgb(tmp_path):
    json_file = generate(tmp_path / "set", count=2, seed=7)
    for number, (image, _) in enumerate(shapes.scenes(2, (40, 56), 7), start=1):
        with Image.open(json_file.parent / "images" / f"{number:06d}.png") as stored:
            np.testing.assert_array_equal(np.asarray(stored), image)


def test_pictures_depend_on_seed_and_index_alone(tmp_path):
    first = contents(generate(tmp_path / "a").parent)
    assert contents(generate(tmp_path / "b").parent) == first
    longer = contents(generate(tmp_path / "c", count=11).parent)
    del first["annotations.json"]
    assert first.items() <= longer.items()
    other = contents(generate(tmp_path / "d", seed=1).parent)
    assert all(other[name] != image for name, image in first.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "at least 1"),
        ({"seed": -1}, "not negative"),
        ({"size": (8, 64)}, "too small"),
    ],
)
def test_values_out_of_range_are_refused_and_leave_nothing(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        generate(tmp_path / "set", **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused_but_an_empty_one_is_filled(tmp_path):
    (tmp_path / "set").mkdir()
    assert generate(tmp_path / "set").exists()
    with pytest.raises(DatasetError, match="not an empty folder"):
        generate(tmp_path / "set")


def test_of_two_processes_the_second_drops_its_own(tmp_path, monkeypatch, caplog):
    folder = tmp_path / "set"
    draw = shapes.scenes

    def overtaken(*args):
        monkeypatch.setattr(shapes, "scenes", draw)
        generate(folder, seed=5)  # the other process, finished while this one draws
        yield from draw(*args)

    monkeypatch.setattr(shapes, "scenes", overtaken)
    with caplog.at_level(logging.INFO, logger=written_set.__name__):
        json_file = generate(folder, seed=6)
    assert "Another process" in caplog.text
    assert json.loads(json_file.read_text())["info"]["seed"] == 5
    assert list(tmp_path.iterdir()) == [folder]


def test_an_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        yield next(shapes.render_scene(np.random.default_rng(0), 40, 40) for _ in range(1))
        raise KeyboardInterrupt

    monkeypatch.setattr(shapes, "scenes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def registered(tmp_path, monkeypatch):
    """A small set, registered under a name of its own; its folder."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    split = shapes._Split("tiny", 2, seed=3, size=(40, 56))
    monkeypatch.setattr(shapes, "SPLITS", {"shapes_tiny": split})
    shapes.register_shapes()
    yield tmp_path / "shapes" / "tiny"
    DatasetCatalog.remove("shapes_tiny")
    MetadataCatalog.remove("shapes_tiny")


def test_a_registered_set_is_drawn_when_first_loaded(registered):
    assert not registered.exists()
    entries = DatasetCatalog.get("shapes_tiny")
    assert [entry["image_id"] for entry in entries] == [1, 2]
    assert entries[0]["file_name"] == str(registered / "images" / "000001.png")
    assert {a["category_id"] for e in entries for a in e["annotations"]} <= set(range(6))
    metadata = MetadataCatalog.get("shapes_tiny")
    assert metadata.json_file == str(registered / "annotations.json")
    assert metadata.evaluator_type == "coco"
    assert metadata.thing_classes == list(CLASS_NAMES)


def test_registering_and_loading_again_changes_nothing(registered):
    DatasetCatalog.get("shapes_tiny")
    before = {path: path.stat().st_mtime_ns for path in registered.rglob("*")}
    shapes.register_shapes()
    DatasetCatalog.get("shapes_tiny")
    assert {path: path.stat().st_mtime_ns for path in registered.rglob("*")} == before


def test_pictures_of_another_version_are_not_used(registered, monkeypatch):
    shapes.ensure_shapes("shapes_tiny")
    monkeypatch.setattr(shapes, "VERSION", shapes.VERSION + 1)
    with pytest.raises(DatasetError, match=r"version differ.*Remove that folder"):
        DatasetCatalog.get("shapes_tiny")


def test_the_standard_sets():
    assert shapes.SPLITS["shapes_train"] == shapes._Split("train", 1500, 0, (128, 128))
    assert shapes.SPLITS["shapes_val"] == shapes._Split("val", 300, 1, (128, 128))


def test_no_scene_is_both_trained_on_and_tested_on():
    """One seed may give the same scenes with more frames, or another camera."""
    seeds = {part: set() for part in ("train", "val", "test")}
    for name, split in shapes.SPLITS.items():
        seeds[name.rsplit("_", 1)[1]].add(split.seed)
    assert all(seeds.values())
    assert len(set().union(*seeds.values())) == sum(map(len, seeds.values()))
