"""Scenes: boxes lie where the pixels are, and outline and texture both are needed, and enough."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_util

from codec_det.data import scenes
from codec_det.data.scenes import CLASS_NAMES, SceneStyle, render_scene

ONE_PLAIN = SceneStyle(objects=(1, 1), noise=(0, 0), grain=(0, 0), clutter=(0, 0))


def scene(seed, height=128, width=128, style=scenes.DEFAULT_STYLE):
    return render_scene(np.random.default_rng(seed), height, width, style)


def painted_pixels(seed, height, width):
    """Pixels that differ between a scene of one object and its bare background, and its truth."""
    image, (annotation,) = scene(seed, height, width, ONE_PLAIN)
    bare = scenes.draw_background(np.random.default_rng(seed), height, width, ONE_PLAIN)
    return np.abs(image.astype(int) - bare).max(axis=2) > 4, annotation


@pytest.mark.parametrize("size", [(128, 128), (64, 200), (240, 100)])
@pytest.mark.parametrize("seed", range(6))
def test_boxes_and_polygons_are_tight_around_the_painted_pixels(seed, size):
    painted, annotation = painted_pixels(seed, *size)
    rows, columns = np.nonzero(painted)
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    x, y, width, height = annotation["bbox"]
    # A corner of a triangle is a fraction of a pixel wide and so hardly shows: hence 1.5, not 1.
    np.testing.assert_allclose([x, y, x + width, y + height], box, atol=1.5)

    run_lengths = mask_util.frPyObjects(annotation["segmentation"], *size)
    outline = mask_util.decode(mask_util.merge(run_lengths))
    wider = cv2.dilate(outline, np.ones((3, 3), np.uint8)).astype(bool)
    assert (painted & ~wider).sum() < 0.02 * painted.sum()
    assert (outline.astype(bool) & ~painted).sum() < 0.02 * outline.sum()
    center = [columns.mean() + 0.5, rows.mean() + 0.5]
    corners = np.reshape(annotation["segmentation"][0], (-1, 2))
    np.testing.assert_allclose(center, corners.mean(axis=0), atol=0.3)
    assert annotation["iscrowd"] == 0


def test_all_classes_have_one_area_and_share_the_objects_evenly():
    annotations = [a for seed in range(400) for a in scene(seed)[1]]
    classes = np.array([a["category_id"] for a in annotations])
    areas = np.array([a["area"] for a in annotations])
    counts = np.bincount(classes, minlength=7)[1:]
    assert counts.sum() > 2.2 * 400
    assert counts.max() / counts.min() < 1.3
    means = [areas[classes == category].mean() for category in range(1, 7)]
    assert max(means) / min(means) < 1.2
    low, high = (math.pi / 4 * (128 * f) ** 2 for f in scenes.DEFAULT_STYLE.diameter)
    assert areas.min() > 0.99 * low
    assert areas.max() < 1.01 * high


@pytest.mark.parametrize("size", [(128, 128), (33, 90)])
def test_boxes_lie_within_the_picture(size):
    for seed in range(40):
        image, annotations = scene(seed, *size)
        assert image.shape == (*size, 3)
        assert image.dtype == np.uint8
        assert 1 <= len(annotations) <= 5
        for x, y, width, height in (a["bbox"] for a in annotations):
            assert min(x, y) >= -0.01
            assert x + width <= size[1] + 0.01
            assert y + height <= size[0] + 0.01


def test_names_go_with_category_ids():
    assert CLASS_NAMES[0] == "striped disc"
    assert CLASS_NAMES[3] == "barred square"
    corners = {name: set() for name in CLASS_NAMES}
    for seed in range(60):
        for annotation in scene(seed)[1]:
            name = CLASS_NAMES[annotation["category_id"] - 1]
            corners[name].add(len(annotation["segmentation"][0]) // 2)
    expected = {"disc": 48, "square": 4, "triangle": 3}
    assert corners == {name: {expected[name.split()[1]]} for name in CLASS_NAMES}


def shape(texture, **changes):
    """A disc with a texture."""
    category_id = 1 + list(scenes.TEXTURES).index(texture)
    whole = scenes.Shape(category_id, 40, (32, 32), 0, 6.4, 0.1, 0.6)
    return replace(whole, **changes)


def test_textures_have_one_mean_and_one_frequency_in_directions_of_their_own():
    pixels = np.arange(256) + 0.5
    for texture, axis in (("striped", 0), ("barred", 1)):
        wave = scenes.texture_of(shape(texture), pixels[None, :], pixels[:, None])
        assert wave.mean() == pytest.approx(0.5, abs=0.01)
        spectrum = np.abs(np.fft.fft2(wave - 0.5))
        peak = np.unravel_index(spectrum.argmax(), spectrum.shape)
        frequency = np.fft.fftfreq(256)[np.array(peak)]
        assert np.hypot(*frequency) == pytest.approx(1 / 6.4, abs=1 / 256)
        assert abs(frequency[axis]) > 4 * abs(frequency[1 - axis])


def lies_down(image, annotation):
    """How far gradients within an object point up and down: stripes 1, bars -1."""
    # The inscribed circle of a triangle is the smallest; beyond it there are edges of outlines.
    reach = 0.2 * max(annotation["bbox"][2:])
    corners = np.reshape(annotation["segmentation"][0], (-1, 2))
    column, row = corners.mean(axis=0)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(float)
    down, right = np.gradient(cv2.GaussianBlur(grey, (0, 0), 0.8))
    rows, columns = np.ogrid[: grey.shape[0], : grey.shape[1]]
    inside = np.hypot(rows + 0.5 - row, columns + 0.5 - column) < reach
    xx, yy = ((a * a)[inside].mean() for a in (right, down))
    return (yy - xx) / (xx + yy + 1e-9)


def texture_accuracy(blur):
    """Share of objects in single-object scenes whose texture the direction of gradients tells."""
    right = []
    for seed in range(150):
        image, (annotation,) = scene(seed, style=replace(scenes.DEFAULT_STYLE, objects=(1, 1)))
        if blur:
            image = cv2.GaussianBlur(image, (0, 0), blur)
        striped = annotation["category_id"] % 2 == 1
        right.append((lies_down(image, annotation) > 0) == striped)
    return np.mean(right)


def test_texture_is_plain_to_see_and_lost_by_blurring():
    assert texture_accuracy(blur=0) > 0.93
    assert texture_accuracy(blur=4) < 0.8


def test_there_is_much_for_a_codec_to_drop():
    mse = []
    for seed in range(10):
        image = scene(seed)[0]
        jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 10])[1]
        decoded = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
        mse.append(np.mean((image.astype(float) - decoded) ** 2))
    assert 10 * math.log10(255**2 / np.mean(mse)) < 26


def paint(shapes):
    """Paint objects onto grey; whether each was painted, and the numbers of those seen."""
    image, owner = np.full((64, 64, 3), 128, np.float32), np.zeros((64, 64), np.intp)
    rng, areas = np.random.default_rng(0), []
    done = [scenes._paint(rng, image, owner, s, areas, scenes.DEFAULT_STYLE) for s in shapes]
    return done, np.unique(owner).tolist()


def test_an_object_that_would_hide_another_is_not_painted():
    big, small = shape("striped"), shape("barred", diameter=14.0)
    assert paint([small, big]) == ([True, False], [0, 1])
    # Nor one that lies on another with more than a quarter of itself.
    assert paint([big, small]) == ([True, False], [0, 1])
    aside = replace(small, center=(10.0, 10.0))
    assert paint([big, aside]) == ([True, True], [0, 1, 2])


def test_edges_are_anti_aliased():
    pixels = np.arange(64) + 0.5
    alpha = scenes.coverage_of(shape("striped"), pixels[None, :], pixels[:, None])
    assert alpha.sum() == pytest.approx(math.pi * 20**2, rel=0.002)
    partial = ((alpha > 0) & (alpha < 1)).sum()
    assert partial == pytest.approx(2 * math.pi * 20, rel=0.35)


def test_too_small_a_picture_is_refused():
    with pytest.raises(ValueError, match="32 pixels"):
        scene(0, 31, 100)
