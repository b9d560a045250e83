"""tools/detect.py, as called from a shell."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask
from pycocotools.coco import COCO

from codec_det.deploy.detections import DetectionSheet, choose_image_ids
from codec_det.deploy.receiver import load_receiver
from codec_det.errors import DatasetError
from codec_det.evaluation.objects import Objects
from codec_det.pictures.visualization import class_colour
from codec_det.pixels import to_uint8
from tests.deployed import SIZES, encode, export, make_run
from tests.test_encode import looks
from tools import detect as tool

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_set):
    folder = tmp_path_factory.mktemp("runs")
    run = make_run(folder / "run", *tiny_set, "TEST.DETECTIONS_PER_IMAGE", 20)
    return export(run, folder / "deploy") / "receiver.safetensors"


@pytest.fixture
def coded(model, tmp_path):
    encode(model.parent, tmp_path / "coded")
    return tmp_path / "coded"


def annotations(folder, names):
    """Annotations of pictures with these names, with ids from 100."""
    path = folder / "instances.json"
    images = [
        {"id": i, "file_name": name, "height": 64, "width": 64} for i, name in enumerate(names, 100)
    ]
    categories = [{"id": i, "name": str(i)} for i in range(1, 7)]
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))
    return path


def detect(coded, model, output, *options):
    """Exit status and detections."""
    arguments = [coded, "--model", model, "--output-dir", output, *options]
    status = tool.main(list(map(str, arguments)))
    return status, json.loads((output / "detections.json").read_text())


def test_detections_are_the_receivers(model, coded, tmp_path, capsys):
    status, results = detect(coded, model, tmp_path / "new" / "found")
    assert status == 0
    assert [path.name for path in (tmp_path / "new" / "found").iterdir()] == ["detections.json"]
    receiver = load_receiver(model)
    assert [category["id"] for category in receiver.categories] == [1, 2, 3, 4, 5, 6]
    for number, name in enumerate(sorted(SIZES), 1):
        picture = receiver.decoder.decode((coded / f"{name}.cdet").read_bytes())
        (instances,) = receiver.detect([picture], [picture.shape[1:]])
        own = [result for result in results if result["file_name"] == f"{name}.cdet"]
        assert len(own) == len(instances) > 0
        assert {result["image_id"] for result in own} == {number}
        assert [r["score"] for r in own] == instances.scores.tolist()
        assert [r["category_id"] - 1 for r in own] == instances.pred_classes.tolist()
        boxes = np.array([r["bbox"] for r in own])
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        assert np.allclose(corners, instances.pred_boxes.tensor.numpy(), atol=1e-4)
        height, width = SIZES[name]
        assert (corners >= 0).all()
        assert (corners <= np.array([width, height] * 2) + 1e-4).all()
    lines = capsys.readouterr().out.splitlines()
    size = sum(path.stat().st_size for path in coded.iterdir())
    assert lines[0].startswith(f"{len(results)} detections in 3 pictures; {size} bytes, ")
    assert lines[1] == "image ids: 1, 2, ... in the order of the files"
    assert lines[2] == str(tmp_path / "new" / "found" / "detections.json")


def test_pycocotools_takes_the_results(model, coded, tmp_path):
    names = ["second.png", "other.png", "sub/third.jpg", "first.png"]
    path = annotations(tmp_path, names)
    status, results = detect(coded, model, tmp_path / "found", "--annotations", path)
    assert status == 0
    ids = {result["file_name"]: result["image_id"] for result in results}
    assert ids == {"second.cdet": 100, "third.cdet": 102, "first.cdet": 103}
    loaded = COCO(str(path)).loadRes(str(tmp_path / "found" / "detections.json"))
    assert len(loaded.anns) == len(results)


def test_scores_below_the_threshold_are_left_out(model, coded, tmp_path):
    _, everything = detect(coded, model, tmp_path / "all")
    scores = sorted(result["score"] for result in everything)
    threshold = scores[len(scores) // 2]
    options = ["--score-threshold", threshold]
    _, kept = detect(coded, model, tmp_path / "some", *options)
    assert 0 < len(kept) < len(everything)
    assert kept == [result for result in everything if result["score"] >= threshold]


def test_pictures_show_what_was_found(model, coded, tmp_path):
    output = tmp_path / "found"
    _, results = detect(coded, model, output, "--draw", "--score-threshold", "0")
    names = [f"{name}.png" for name in sorted(SIZES)]
    assert sorted(path.name for path in output.iterdir()) == ["detections.json", *names]
    receiver = load_receiver(model)
    for name in SIZES:
        picture = receiver.decoder.decode((coded / f"{name}.cdet").read_bytes())
        (instances,) = receiver.detect([picture], [picture.shape[1:]])
        shown = to_uint8(picture).permute(1, 2, 0).numpy()
        sheet = DetectionSheet(receiver.categories, 0.0)
        expected = np.array(sheet.draw_one(shown, Objects.found(instances)))
        drawn = np.array(Image.open(output / f"{name}.png"))
        assert np.array_equal(drawn, expected)
        best = max((r for r in results if r["file_name"] == f"{name}.cdet"), key=_score)
        assert (drawn == class_colour(best["category_id"] - 1)).all(axis=2).any()


def _score(result):
    return result["score"]


def test_without_a_threshold_only_likely_objects_are_drawn(model, coded, tmp_path):
    _, results = detect(coded, model, tmp_path / "found", "--draw")
    assert results
    assert max(map(_score, results)) < 0.5  # of random weights
    receiver = load_receiver(model)
    picture = receiver.decoder.decode((coded / "third.cdet").read_bytes())
    shown = to_uint8(picture).permute(1, 2, 0).numpy()
    factor = 384 // 64
    enlarged = np.kron(shown, np.ones((factor, factor, 1), np.uint8))
    assert np.array_equal(np.array(Image.open(tmp_path / "found" / "third.png")), enlarged)


def test_a_drawing_has_the_picture_boxes_and_labels():
    picture = np.full((100, 200, 3), 30, np.uint8)
    found = Objects(
        boxes=np.array([[50.0, 25.0, 150.0, 75.0], [0.0, 0.0, 20.0, 20.0]]),
        classes=np.array([1, 0]),
        scores=np.array([0.9, 0.4]),
        crowd=np.zeros(2, bool),
    )
    sheet = DetectionSheet(CATEGORIES, 0.5)
    drawn = np.array(sheet.draw_one(picture, found))
    assert drawn.shape == (200, 400, 3)
    dog, cat = ((drawn == class_colour(number)).all(axis=2) for number in (1, 0))
    assert dog[50, 100:300].all()
    assert dog[50:150, 100].all()
    assert not dog[60:140, 110:290].any()
    assert dog[30:49, 100:200].any()  # the label
    assert not cat.any()
    assert (drawn[170:, :] == 30).all()


def test_masks_are_in_the_results_and_drawings(tmp_path, tiny_set):
    opts = (*tiny_set, "MODEL.MASK_ON", "True", "MODEL.ROI_MASK_HEAD.CONV_DIM", "8")
    opts += ("MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead")
    run = make_run(tmp_path / "run", *opts, "TEST.DETECTIONS_PER_IMAGE", "5")
    deploy = export(run, tmp_path / "deploy")
    encode(deploy, tmp_path / "coded", {"one": (48, 64)})
    model = deploy / "receiver.safetensors"
    options = ("--draw", "--score-threshold", "0")
    status, results = detect(tmp_path / "coded", model, tmp_path / "found", *options)
    assert (status, len(results)) == (0, 5)
    receiver = load_receiver(model)
    picture = receiver.decoder.decode((tmp_path / "coded" / "one.cdet").read_bytes())
    (instances,) = receiver.detect([picture], [picture.shape[1:]])
    # As pycocotools reads them.
    masks = np.stack([mask.decode(r["segmentation"]) for r in results]).astype(bool)
    assert np.array_equal(masks, instances.pred_masks.numpy())
    assert masks.any()
    shown = to_uint8(picture).permute(1, 2, 0).numpy()
    sheet = DetectionSheet(receiver.categories, 0.0)
    plain = np.array(sheet.draw_one(shown, Objects.found(instances)))
    drawn = np.array(Image.open(tmp_path / "found" / "one.png"))
    changed = (plain != drawn).any(axis=2)
    assert changed.any()
    enlarged = np.kron(masks.any(axis=0), np.ones((drawn.shape[0] // 48,) * 2, bool))
    assert not changed[~enlarged].any()


def test_a_mask_is_its_class_colour_over_the_picture():
    picture = np.full((400, 400, 3), 30, np.uint8)
    found = Objects(
        boxes=np.array([[50.0, 50.0, 350.0, 350.0], [0.0, 0.0, 20.0, 20.0]]),
        classes=np.array([1, 0]),
        scores=np.array([0.9, 0.4]),
        crowd=np.zeros(2, bool),
    )
    masks = np.zeros((2, 400, 400), bool)
    masks[0, 100:300, 100:300] = True
    masks[1, :15, :15] = True
    drawn = np.array(DetectionSheet(CATEGORIES, 0.5).draw_one(picture, found, masks))
    expected = (0.55 * 30 + 0.45 * np.array(class_colour(1))).round()
    assert (drawn[110:290, 110:290] == expected).all()
    assert (drawn[60:90, 60:340] == 30).all()
    assert (drawn[5:10, 5:10] == 30).all()  # of a low score
    assert (picture == 30).all()


def test_bad_files_do_not_stop_the_others(model, coded, tmp_path, capsys):
    (coded / "bad.cdet").write_bytes(b"\x89CDT")
    status, results = detect(coded, model, tmp_path / "found", "--draw")
    assert status == 1
    assert {result["file_name"] for result in results} == {f"{name}.cdet" for name in SIZES}
    # Its number is not given to another.
    assert {result["image_id"] for result in results} == {2, 3, 4}
    assert not (tmp_path / "found" / "bad.png").exists()
    error = capsys.readouterr().err.splitlines()[-2:]
    assert error[0] == "error: 1 of 4 files failed:"
    assert error[1].startswith(f"  {coded / 'bad.cdet'}: cut short")


def named(paths):
    return {path: path.stem for path in paths}


def test_image_ids_are_numbers_in_names_where_all_are(tmp_path):
    def ids(*names):
        return list(choose_image_ids(named(tmp_path / name for name in names), None)[0].values())

    assert ids("000000000139.cdet", "7.cdet") == [139, 7]
    assert ids("000000000139.cdet", "x7.cdet") == [1, 2]
    assert ids("07.cdet", "7.cdet") == [1, 2]
    assert ids("²") == [1]


def test_names_with_folders_are_those_of_folders(tmp_path):
    path = annotations(tmp_path, ["third.png", "a/third.png", "b/third.png", "c/other.png"])
    names = ("third", "b/third", "x/other")
    ids, _ = choose_image_ids({tmp_path / f"{name}.cdet": name for name in names}, path)
    assert list(ids.values()) == [100, 102, 103]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["first.png", "third.png"], "no image called 'second'.*second.cdet"),
        (["first.png", "second.png", "a/third.png", "b/third.png"], "2 images called 'third'"),
    ],
)
def test_files_without_their_image_are_refused(model, coded, tmp_path, capsys, names, message):
    path = annotations(tmp_path, names)
    with pytest.raises(DatasetError, match=message):
        choose_image_ids(named(sorted(coded.iterdir())), path)
    arguments = [coded, "--model", model, "--output-dir", tmp_path / "new", "--annotations", path]
    assert tool.main(list(map(str, arguments))) == 2
    assert f"error: '{path}'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": [{"id": 1}]}', '{"images": 1}'])
def test_other_annotations_are_refused(coded, tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match=r"other.json' is not in COCO's format"):
        choose_image_ids(named(sorted(coded.iterdir())), path)
    path.unlink()
    with pytest.raises(DatasetError, match=r"cannot read .*other.json"):
        choose_image_ids(named(sorted(coded.iterdir())), path)


def test_a_decoder_alone_is_refused(tmp_path, tiny_set, coded, capsys):
    none = ["MODEL.DETECTOR.META_ARCHITECTURE", "NoDetector"]
    model = export(make_run(tmp_path / "run", *tiny_set, *none), tmp_path / "deploy")
    model = model / "receiver.safetensors"
    arguments = [coded, "--model", model, "--output-dir", tmp_path / "new"]
    assert tool.main(list(map(str, arguments))) == 2
    assert f"error: '{model}' has no detector" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_watched_folder_is_used_as_it_is_written(model, coded, tmp_path, capsys, monkeypatch):
    (coded / "cut.cdet").write_bytes((coded / "first.cdet").read_bytes()[:-2])
    _, expected = detect(coded, model, tmp_path / "once")
    capsys.readouterr()
    arguments = [coded, "--watch", "--model", model, "--output-dir", tmp_path / "found"]
    for _ in range(2):
        monkeypatch.setattr("codec_det.deploy.watch.time", looks(3))
        assert tool.main(list(map(str, arguments))) == 130
        last = capsys.readouterr().err.splitlines()[-1]
        assert last == f"interrupted: {tmp_path / 'found' / 'detections.jsonl'} is complete"
    lines = (tmp_path / "found" / "detections.jsonl").read_text().splitlines()
    found = {each["name"]: each for each in map(json.loads, lines)}
    assert len(lines) == len(found) == len(SIZES) + 1
    assert "damaged" in found.pop("cut.cdet")["error"]
    results = [
        {**result, "file_name": name}
        for name, each in found.items()
        for result in each["detections"]
    ]
    for each in expected:
        del each["image_id"]
    order = lambda each: (each["file_name"], each["score"])  # noqa: E731
    assert sorted(results, key=order) == sorted(expected, key=order)
