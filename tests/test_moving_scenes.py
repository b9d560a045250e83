"""Sequences: objects, boxes and cameras move as they should, and all follows from the seed."""

import json

import numpy as np
import pytest

from codec_det.data import shapes
from codec_det.data.coco_format import check_coco_format
from codec_det.data.moving_scenes import Motion, camera_path, render_sequence
from codec_det.data.scenes import SceneStyle
from codec_det.data.sequences import load_coco
from tools import make_shapes

PLAIN = SceneStyle(objects=(1, 1), noise=(0, 0), grain=(0, 0), clutter=(0, 0))
STILL = {"parked": 1.0, "light": (0.0, 0.0)}


def frames_of(seed, size=(64, 80), style=PLAIN, **motion):
    rng = np.random.default_rng(seed)
    return list(render_sequence(rng, *size, Motion(**motion), style))


def center(annotation):
    x, y, w, h = annotation["bbox"]
    return np.array([x + w / 2, y + h / 2])


def test_nothing_changes_where_nothing_moves():
    frames = frames_of(1, frames=4, **STILL)
    assert all((image == frames[0][0]).all() for image, _ in frames)
    assert all(annotations == frames[0][1] for _, annotations in frames)


def test_noise_and_light_change_every_frame():
    noisy = SceneStyle(objects=(0, 0), grain=(2, 2))
    (first, _), (second, _), *_ = frames_of(1, frames=3, style=noisy, **STILL)
    difference = first.astype(float) - second
    assert difference[..., 0].std() == pytest.approx(2 * 2**0.5, abs=0.3)
    lit = frames_of(1, frames=21, parked=1.0, light=(0.1, 0.1), light_period=(40, 40))
    means = [image.mean() for image, _ in lit]
    # Half a period: from one phase to its opposite.
    assert max(means) / min(means) > 1.07


@pytest.mark.parametrize("seed", range(4))
def test_boxes_follow_objects_that_turn_back_at_the_sides(seed):
    (still,) = {len(a) for _, a in frames_of(seed, frames=2, **STILL)}
    assert still == 1
    moving = {"parked": 0.0, "speed": (3.0, 3.0), "light": (0.0, 0.0)}
    frames = frames_of(seed, frames=60, **moving)
    bare = np.median([image for image, _ in frames], axis=0)
    centers = np.array([center(a) for _, (a,) in frames])
    steps = np.abs(np.diff(centers, axis=0))
    # At a turn, a step is shorter.
    assert np.median(np.hypot(*steps.T)) == pytest.approx(3, abs=0.05)
    assert steps.max() < 3.1
    for image, (annotation,) in frames[::12]:
        painted = np.abs(image - bare).max(axis=2) > 12
        x, y, w, h = np.round(annotation["bbox"]).astype(int)
        assert min(x, y) >= 0
        assert x + w <= 80
        assert y + h <= 64
        assert painted[y : y + h, x : x + w].sum() > 0.8 * painted.sum()


def test_a_moving_camera_moves_background_and_boxes_together():
    motion = {"frames": 6, "camera": "moving", "pan": (1.5, 1.5), "shake": (1.0, 1.0), **STILL}
    for seed in range(6):
        path = camera_path(np.random.default_rng(seed), Motion(**motion))
        frames = frames_of(seed, size=(96, 96), **motion)
        for (_, one), (_, other), step in zip(
            frames, frames[1:], np.diff(path, axis=0), strict=False
        ):
            for a, b in zip(one, other, strict=False):
                inside = all(2 < v < 94 for box in (a, b) for v in (*box["bbox"][:2],))
                whole = a["bbox"][2:] == b["bbox"][2:]
                if inside and whole:
                    np.testing.assert_allclose(center(b) - center(a), -step, atol=0.03)


def test_cameras_shake_about_a_place_or_pan_steadily():
    kinds = set()
    for seed in range(12):
        path = camera_path(np.random.default_rng(seed), Motion(frames=50, camera="moving"))
        steps = np.diff(path, axis=0)
        pans = np.ptp(steps, axis=0).max() < 1e-9
        kinds.add(pans)
        assert pans or np.abs(path).max() < 8
        assert not pans or 0.4 <= np.hypot(*steps[0]) <= 1.5
    assert kinds == {True, False}
    assert not camera_path(np.random.default_rng(0), Motion()).any()


def test_objects_mostly_out_of_the_frame_have_no_box():
    motion = {"frames": 40, "camera": "moving", "pan": (3.0, 3.0), **STILL}
    found = [
        a["bbox"] for seed in range(8) for _, boxes in frames_of(seed, **motion) for a in boxes
    ]
    counts = {len(boxes) for seed in range(8) for _, boxes in frames_of(seed, **motion)}
    assert counts == {0, 1}
    for x, y, w, h in found:
        assert min(x, y) >= 0
        assert x + w <= 80.01
        assert y + h <= 64.01


def test_sets_of_sequences_load_and_follow_from_the_seed(tmp_path):
    motion = Motion(frames=3, camera="moving")
    files = []
    for name, count in (("a", 2), ("b", 3)):
        json_file = shapes.generate(tmp_path / name, count, (40, 48), 5, False, motion)
        images = json_file.parent / "images"
        files.append({p.relative_to(images): p.read_bytes() for p in images.rglob("*.png")})
        assert check_coco_format(json_file, images).images == 3 * count
    assert files[0].items() <= files[1].items()
    assert len(set(files[1].values())) == 9
    entries = load_coco(tmp_path / "b/annotations.json", tmp_path / "b/images", "moving_b")
    places = [(e["video_id"], e["frame_id"], e["fps"]) for e in entries]
    assert places == [(v, f, 25.0) for v in (1, 2, 3) for f in (0, 1, 2)]
    assert entries[4]["file_name"].endswith("images/000002/000001.png")


def test_the_tool_draws_sequences(tmp_path, capsys):
    arguments = ["--output-dir", tmp_path / "set", "--count", 2, "--size", 40, 48, "--frames", 3]
    assert make_shapes.main([*map(str, arguments), "--camera", "moving"]) == 0
    assert "2 sequences of 3 frames" in capsys.readouterr().out
    coco = json.loads((tmp_path / "set/annotations.json").read_text())
    assert coco["info"]["motion"]["camera"] == "moving"
    assert [image["video_id"] for image in coco["images"]] == [1, 1, 1, 2, 2, 2]


def test_stills_are_as_they_were(tmp_path):
    """Their stamp says nothing of motion, so that sets drawn before are not drawn anew."""
    json_file = shapes.generate(tmp_path / "set", 1, (40, 48), progress=False)
    assert "motion" not in json.loads(json_file.read_text())["info"]
