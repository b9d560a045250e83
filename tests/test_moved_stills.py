"""Sequences from single pictures: windows stay inside, boxes stay on what they mark."""

import json

import numpy as np
import pytest
from PIL import Image

from codec_det.data.coco_format import check_coco_format
from codec_det.data.moved_stills import Movement, move_over
from tools import make_sequences as tool

HEIGHT, WIDTH = 90, 130
BOX = [50.0, 40.0, 20.0, 16.0]


def still():
    """A dark picture with a bright box."""
    picture = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    x, y, w, h = map(int, BOX)
    picture[y : y + h, x : x + w] = 220
    return picture


def annotation(box, **values):
    return {"category_id": 2, "bbox": box, "area": box[2] * box[3] / 2, "id": 5, **values}


def frames_of(seed, boxes=(BOX,), **movement):
    moving = Movement(**{"frames": 8, "noise": 0.0, "share": 0.6, **movement})
    return list(move_over(np.random.default_rng(seed), still(), [*map(annotation, boxes)], moving))


@pytest.mark.parametrize("seed", range(8))
def test_boxes_are_where_the_pixels_are(seed):
    for image, objects in frames_of(seed, pan=4.0, zoom=1.5):
        assert image.shape == (54, 78, 3)
        bright = image[..., 0] > 130
        for one in objects:
            rows, columns = np.nonzero(bright)
            x, y, w, h = one["bbox"]
            seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose([x, y, x + w, y + h], seen, atol=0.75)
            assert one["area"] == pytest.approx(w * h / 2, rel=0.01)
            assert (one["category_id"], one["iscrowd"]) == (2, 0)


def test_boxes_mostly_outside_are_dropped_and_others_clipped():
    counts, edges = set(), 0
    for seed in range(30):
        for image, objects in frames_of(seed, pan=5.0, share=0.4):
            counts.add(len(objects))
            for x, y, w, h in (one["bbox"] for one in objects):
                assert min(x, y) >= 0
                assert x + w <= image.shape[1]
                assert y + h <= image.shape[0]
                assert w * h > 0.49 * BOX[2] * BOX[3] / 1.15**2
                edges += x == 0 or y == 0
    assert counts == {0, 1}
    assert edges


def test_the_window_moves_no_faster_than_told_and_may_stand_still():
    for seed in range(6):
        objects = [o[0]["bbox"] for _, o in frames_of(seed, pan=2.0, zoom=1.0, share=0.9) if o]
        steps = np.abs(np.diff(objects, axis=0))[:, :2]
        assert steps.max() < 2.02
    images = [image for image, _ in frames_of(0, pan=0.0, zoom=1.0)]
    assert all((image == images[0]).all() for image in images)
    first, second = (image for image, _ in frames_of(0, frames=2, pan=0.0, zoom=1.0, noise=2.0))
    assert (first.astype(float) - second).std() == pytest.approx(2 * 2**0.5, abs=0.3)


@pytest.fixture
def stills(tmp_path):
    folder = tmp_path / "stills"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(still()).save(folder / name)
    size = {"width": WIDTH, "height": HEIGHT}
    coco = {
        "images": [{"id": i, "file_name": f"{n}.png", **size} for i, n in ((4, "b"), (3, "a"))],
        "annotations": [annotation(BOX, image_id=3, iscrowd=0)],
        "categories": [{"id": 2, "name": "box"}],
    }
    (folder / "set.json").write_text(json.dumps(coco))
    return folder


def run(folder, output, *options):
    arguments = ["--annotations", folder / "set.json", "--images", folder, "--output-dir", output]
    return tool.main([str(x) for x in (*arguments, "--frames", 3, *options)])


def test_the_tool_writes_a_sound_set_that_follows_from_the_seed(stills, tmp_path, capsys):
    assert run(stills, tmp_path / "one") == 0
    assert str(tmp_path / "one/annotations.json") in capsys.readouterr().out
    coco = json.loads((tmp_path / "one/annotations.json").read_text())
    assert [v["name"] for v in coco["videos"]] == ["a.png", "b.png"]
    assert [(i["video_id"], i["frame_id"]) for i in coco["images"]] == [
        (v, f) for v in (1, 2) for f in range(3)
    ]
    assert {a["image_id"] for a in coco["annotations"]} <= {1, 2, 3}
    assert check_coco_format(tmp_path / "one/annotations.json", tmp_path / "one/images").images == 6
    assert run(stills, tmp_path / "two", "--count", 1) == 0
    files = {p.relative_to(tmp_path / "two"): p for p in (tmp_path / "two").rglob("*.png")}
    assert len(files) == 3
    assert all((tmp_path / "one" / n).read_bytes() == p.read_bytes() for n, p in files.items())


def test_a_few_pictures_are_spread_over_the_set(stills, tmp_path):
    coco = json.loads((stills / "set.json").read_text())
    for i in range(5, 10):
        Image.fromarray(still()).save(stills / f"{i}.png")
        coco["images"].append({**coco["images"][0], "id": i, "file_name": f"{i}.png"})
    (stills / "set.json").write_text(json.dumps(coco))
    assert run(stills, tmp_path / "out", "--count", 3) == 0
    videos = json.loads((tmp_path / "out/annotations.json").read_text())["videos"]
    assert [video["name"] for video in videos] == ["a.png", "5.png", "7.png"]


def test_what_cannot_be_made_is_refused(stills, tmp_path, capsys):
    assert run(stills, stills) == 2
    assert "not an empty folder" in capsys.readouterr().err
    (stills / "b.png").unlink()
    assert run(stills, tmp_path / "out") == 2
    assert "b.png" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    for option, value in (("--zoom", "0.5"), ("--share", "0"), ("--pan", "nan"), ("--fps", "x")):
        with pytest.raises(SystemExit):
            run(stills, tmp_path / "out", option, value)
        assert f"'{value}' is no number" in capsys.readouterr().err
