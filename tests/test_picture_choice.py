"""Which pictures are shown: by id, evenly, at random, by disagreement of saved detections."""

import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from codec_det.data.register import register_datasets
from codec_det.data.shapes import generate
from codec_det.errors import CodecDetError, DatasetError
from codec_det.pictures.picture_choice import (
    at_random,
    by_disagreement,
    by_ids,
    check_files,
    evenly,
)
from codec_det.runs import open_run


@pytest.fixture
def dataset(tmp_path):
    """Ten entries with ids 10, 11, ..., 19; the last one has a file."""
    name = f"ten_{tmp_path.name}"
    Image.new("RGB", (8, 6)).save(tmp_path / "19.png")
    entries = [
        {"image_id": i, "file_name": str(tmp_path / f"{i}.png"), "annotations": []}
        for i in range(10, 20)
    ]
    DatasetCatalog.register(name, lambda: entries)
    yield name
    DatasetCatalog.remove(name)


def ids(entries):
    return [entry["image_id"] for entry in entries]


def test_pictures_are_spread_evenly_or_chosen(dataset):
    assert ids(evenly(dataset, 4)) == [10, 13, 16, 19]
    assert ids(evenly(dataset, 1)) == [10]
    assert ids(evenly(dataset, 99)) == list(range(10, 20))
    assert ids(by_ids(dataset, [15, 11, 15])) == [15, 11]


def test_unknown_ids_are_named(dataset):
    with pytest.raises(CodecDetError, match="no image with id 9, 20: its 10 ids go from 10 to 19"):
        by_ids(dataset, [9, 12, 20])


def test_a_seed_always_draws_the_same(dataset):
    three = ids(at_random(dataset, 3, seed=1))
    assert three == sorted(set(three)) == ids(at_random(dataset, 3, seed=1))
    assert set(three) < set(ids(at_random(dataset, 5, seed=1)))
    assert ids(at_random(dataset, 99, seed=1)) == list(range(10, 20))
    drawn = {tuple(ids(at_random(dataset, 3, seed=seed))) for seed in range(20)}
    assert len(drawn) > 15
    assert set().union(*drawn) == set(range(10, 20))


def test_missing_files_are_all_named(dataset, tmp_path):
    check_files(by_ids(dataset, [19]))
    with pytest.raises(DatasetError, match="2 of 3 chosen pictures have no file") as refused:
        check_files(by_ids(dataset, [11, 19, 14]))
    for name in ("11", "14"):
        assert f"{name} ('{tmp_path / name}.png')" in str(refused.value)
    assert "19" not in str(refused.value).replace(str(tmp_path), "")


@pytest.fixture
def make_run(tmp_path, tiny_cfg):
    """``make(folder, shifts, ...)``: a run whose evaluation found what is there, but shifted.

    Its data set has 12 pictures; ``shifts`` are pixels to the right by image id.
    """
    name = f"disagreement_{tmp_path.name}"
    json_file = generate(tmp_path / "set", 12, (64, 64), progress=False)
    coco = json.loads(json_file.read_text())

    def make(folder, shifts, *opts, dataset=name):
        cfg = tiny_cfg(
            *("OUTPUT_DIR", str(tmp_path / folder), "MODEL.ROI_HEADS.NUM_CLASSES", 6),
            *("DATASETS.COCO_FORMAT", [[name, str(json_file), str(tmp_path / "set/images")]]),
            *("DATASETS.TEST", (name,), *opts),
        )
        saved = tmp_path / folder / "inference" / dataset
        saved.mkdir(parents=True)
        (tmp_path / folder / "config.yaml").write_text(cfg.dump())
        (tmp_path / folder / "results.jsonl").touch()
        results = [
            {
                "image_id": a["image_id"],
                "category_id": a["category_id"],
                "bbox": [a["bbox"][0] + shifts.get(a["image_id"], 0), *a["bbox"][1:]],
                "score": 0.9,
            }
            for a in coco["annotations"]
        ]
        (saved / "coco_instances_results.json").write_text(json.dumps(results))
        rows = [f"{image['id']},{image['file_name']}\n" for image in coco["images"]]
        (saved / "per_image.csv").write_text("image_id,file_name\n" + "".join(rows))
        run = open_run(tmp_path / folder)
        register_datasets(run.cfg)
        return run

    yield make
    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def saved_of(run):
    return run.folder / "inference" / run.dataset


def test_runs_disagree_most_where_one_of_them_is_wrong(make_run):
    right, wrong = make_run("right", {}), make_run("wrong", {4: 64, 9: 5})
    assert ids(by_disagreement(right, wrong, 2)) == [4, 9]
    # Either may be the better one; and equal ones follow in the data set's order.
    assert ids(by_disagreement(wrong, right, 4)) == [4, 9, 1, 2]
    assert ids(by_disagreement(right, right, 3)) == [1, 2, 3]


def test_pictures_without_objects_are_not_chosen(make_run, tmp_path):
    path = tmp_path / "set" / "annotations.json"
    coco = json.loads(path.read_text())
    a, b = make_run("a", {}), make_run("b", {3: 64})
    coco["annotations"] = [x for x in coco["annotations"] if x["image_id"] in (3, 5)]
    path.write_text(json.dumps(coco))
    assert ids(by_disagreement(a, b, 12)) == [3, 5]
    path.write_text(json.dumps({**coco, "annotations": []}))
    DatasetCatalog.remove(a.dataset)
    MetadataCatalog.remove(a.dataset)
    register_datasets(a.cfg)
    with pytest.raises(CodecDetError, match="has annotated objects"):
        by_disagreement(a, b, 12)


def refusal(make_run, run):
    with pytest.raises(CodecDetError) as refused:
        by_disagreement(make_run("sound", {}), run, 3)
    assert f"'{run.folder}" in str(refused.value)
    return str(refused.value)


def test_runs_without_saved_detections_are_named(make_run):
    run = make_run("unsaved", {}, dataset="elsewhere")
    message = refusal(make_run, run)
    assert f"no saved detections of {run.dataset}; it has those of elsewhere" in message
    assert f"--config-file {run.folder}/config.yaml --eval-only --resume" in message


def test_a_codec_alone_cannot_disagree(make_run):
    run = make_run("alone", {}, "MODEL.DETECTOR.META_ARCHITECTURE", "NoDetector")
    (saved_of(run) / "coco_instances_results.json").unlink()
    assert "it has no detector, so give another run" in refusal(make_run, run)


def test_pictures_that_a_run_has_not_evaluated_are_named(make_run):
    run = make_run("fewer", {})
    path = saved_of(run) / "per_image.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-7]))
    assert "saved without image 6, 7, 8, 9, 10 and 2 more" in refusal(make_run, run)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"image_id": 12,', '"image_id": 139,', "on another data set, with image 139"),
        ('"category_id": ', '"category_id": 9', "of other classes than"),
        ("[{", "[", "are damaged"),
        ("[{", "null{", "are damaged"),
    ],
)
def test_detections_of_other_data_and_damaged_ones_are_refused(make_run, old, new, message):
    run = make_run("other", {})
    path = saved_of(run) / "coco_instances_results.json"
    path.write_text(path.read_text().replace(old, new))
    assert message in refusal(make_run, run)
