"""Runs, and what a sheet looks like."""

import math
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from detectron2.structures import BoxMode
from PIL import Image

from codec_det.errors import CodecDetError, ConfigError
from codec_det.pictures.bit_map import BitMap
from codec_det.pictures.cells import display_size
from codec_det.pictures.colour_scales import BitScale, DifferenceScale, subtract
from codec_det.pictures.drawing import BLACK, GREY, LINE, WHITE, scale_bar
from codec_det.pictures.headings import column_headings
from codec_det.pictures.visualization import (
    GAP,
    MARGIN,
    Sheet,
    class_colour,
    save_sheet,
)
from codec_det.runs import (
    NOTHING,
    CodedPicture,
    Original,
    check_same_dataset,
    open_run,
    read_original,
)
from tests.objects import objects

LEFT = [0, 0, 40, 50]


@pytest.fixture
def dataset(tmp_path):
    """Ten entries with ids 10, 11, ..., 19; the last one is a picture file."""
    name = f"ten_{tmp_path.name}"
    entries = [
        {"image_id": i, "file_name": str(tmp_path / "a.png"), "annotations": []}
        for i in range(10, 20)
    ]
    entries[-1]["annotations"] = [
        {"bbox": [1, 2, 3, 4], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 5, "iscrowd": 1},
        {"bbox": [1, 2, 3, 4], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0},
    ]
    DatasetCatalog.register(name, lambda: entries)
    yield name
    DatasetCatalog.remove(name)


def test_originals_have_their_pixels_in_rgb_and_their_truth(dataset, tmp_path):
    Image.new("RGB", (8, 6), (250, 20, 30)).save(tmp_path / "a.png")
    original = read_original(DatasetCatalog.get(dataset)[-1])
    assert original.image_id == 19
    assert original.picture.shape == (6, 8, 3)
    assert (original.picture == (250, 20, 30)).all()
    assert original.truth.boxes.tolist() == [[1, 2, 4, 6], [1, 2, 3, 4]]
    assert original.truth.classes.tolist() == [5, 0]
    assert original.truth.crowd.tolist() == [True, False]


@pytest.fixture
def make_run(tiny_cfg, tmp_path):
    """A run folder as training leaves it, without weights."""

    def make(name, *opts):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.yaml").write_text(tiny_cfg(*opts).dump())
        (folder / "last_checkpoint").write_text("model_final.pth")
        return folder

    return make


def test_a_run_is_opened_where_its_folder_is_now(make_run):
    folder = make_run("jft", "MODEL.CODEC.TRAINABLE", ["encoder", "decoder"])
    run = open_run(folder)
    assert Path(run.cfg.OUTPUT_DIR) == folder
    assert run.cfg.MODEL.CODEC.N == 8
    assert (run.regime, run.codec) == ("C-FT", "bmshj2018-hyperprior")
    assert run.dataset == "coco_2017_val"


def test_folders_that_are_no_runs_are_refused(make_run, tmp_path):
    with pytest.raises(CodecDetError, match=r"'.*/none' has no config\.yaml"):
        open_run(tmp_path / "none")
    folder = make_run("a")
    (folder / "last_checkpoint").unlink()
    with pytest.raises(CodecDetError, match=r"'.*/a' has neither a checkpoint nor results"):
        open_run(folder)
    (folder / "results.jsonl").touch()
    open_run(folder)
    with (folder / "config.yaml").open("a") as file:
        file.write("NO_SUCH_KEY: 1\n")
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        open_run(folder)
    with pytest.raises(CodecDetError, match=r"empty DATASETS\.TEST"):
        open_run(make_run("b", "DATASETS.TEST", ()))


def test_runs_with_different_test_sets_are_refused(make_run):
    a, b = (open_run(make_run(name, "DATASETS.TEST", (name,))) for name in ("some", "other"))
    check_same_dataset([a, a])
    with pytest.raises(CodecDetError, match=r"some: some, .*other: other"):
        check_same_dataset([a, b])


def test_headings_name_the_folder_only_where_needed(make_run):
    runs = [
        open_run(make_run("one")),
        open_run(make_run("two")),
        open_run(make_run("three", "MODEL.CODEC.NAME", "identity")),
        open_run(make_run("four", "MODEL.CODEC.QUALITY", 3)),
    ]
    assert column_headings(runs) == [
        ("baseline (one)", "bmshj2018-hyperprior, quality 1"),
        ("baseline (two)", "bmshj2018-hyperprior, quality 1"),
        ("baseline", "uncompressed"),
        ("baseline", "bmshj2018-hyperprior, quality 3"),
    ]


def test_codecs_of_one_quality_are_told_apart(make_run):
    trained = ("MODEL.CODEC.TRAINABLE", ["encoder"], "MODEL.CODEC.BETA", 4.0)
    runs = [
        open_run(make_run("one", "MODEL.CODEC.WEIGHTS", "a/codec_1.pth")),
        open_run(make_run("two", "MODEL.CODEC.WEIGHTS", "a/codec_2.pth", *trained)),
        open_run(make_run("three", "MODEL.CODEC.NAME", "jpeg", "MODEL.CODEC.QUALITY", 30)),
    ]
    assert column_headings(runs) == [
        ("baseline", "bmshj2018-hyperprior, quality 1, a/codec_1.pth"),
        ("E-FT", "bmshj2018-hyperprior, quality 1, a/codec_2.pth"),
        ("baseline", "jpeg, quality 30"),
    ]


def test_headings_say_at_what_scale_pictures_were_coded(make_run):
    half = ("MODEL.CODEC.SCALE", 0.5)
    runs = [
        open_run(make_run("one")),
        open_run(make_run("two", *half)),
        open_run(make_run("three", *half, "MODEL.CODEC.NAME", "identity")),
    ]
    assert [subtitle for _, subtitle in column_headings(runs)] == [
        "bmshj2018-hyperprior, quality 1",
        "bmshj2018-hyperprior, quality 1, scale 0.5",
        "uncompressed, scale 0.5",
    ]


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((128, 128), (384, 384)),
        ((100, 200), (200, 400)),
        ((480, 640), (480, 640)),
        ((2048, 1024), (1024, 512)),
    ],
)
def test_small_pictures_are_enlarged_by_a_whole_factor(size, shown):
    assert display_size(*size) == shown


def test_class_colours_differ_and_follow_from_the_class_alone():
    colours = [class_colour(number) for number in range(80)]
    assert len(set(colours)) == 80
    # A sheet without class 0 draws class 1 in the same colour as one with both.
    both = sheet(threshold=0.4)
    alone = objects([FOUND.boxes[0]], [1], [0.9])
    for image in (both, sheet(found=alone)):
        assert (image == class_colour(1)).all(axis=2).any()


# A sheet of one picture of 128 x 128 pixels, shown at three times its size.
TRUTH = objects([[16, 32, 64, 96]], [0])
FOUND = objects([[20, 40, 60, 90], [70, 80, 120, 120]], [1, 0], [0.9, 0.4])
FACTOR = 3


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, (128, 128, 3), dtype=np.uint8)


def sheet(threshold=0.5, names=("cat", "dog"), found=FOUND, headings=(("J-FT", "codec"),)):
    row = (
        Original(7, noise(0), TRUTH),
        [CodedPicture(noise(1), found, 0.1, 30.0, 50.0)] * len(headings),
    )
    return np.array(Sheet(headings, names, threshold).draw([row]))


def place_of(picture, image):
    """Upper left corner (y, x) of an enlarged picture, by the only patch without any drawing."""
    patch = np.kron(picture[:8, 120:], np.ones((FACTOR, FACTOR, 1), np.uint8))
    for y, x in np.argwhere((image == patch[0, 0]).all(axis=2)):
        if np.array_equal(image[y : y + 8 * FACTOR, x : x + 8 * FACTOR], patch):
            return int(y), int(x) - 120 * FACTOR
    raise AssertionError("the picture is not on the sheet")


def panel_of(picture, image):
    y, x = place_of(picture, image)
    return image[y : y + 128 * FACTOR, x : x + 128 * FACTOR]


def test_a_sheet_shows_original_and_decoded_pixels_enlarged():
    image = sheet(found=NOTHING)
    assert (image[:4] == WHITE).all()
    assert (image[:, :4] == WHITE).all()
    assert (image[-4:] == WHITE).all()
    (y, x), (decoded_y, decoded_x) = place_of(noise(0), image), place_of(noise(1), image)
    assert decoded_y == y
    assert decoded_x >= x + 128 * FACTOR
    panel = panel_of(noise(1), image)
    changed = (panel != np.kron(noise(1), np.ones((FACTOR, FACTOR, 1), np.uint8))).any(axis=2)
    # The outline of the ground truth, two pixels wide, and nothing else.
    left, top, right, bottom = (int(side) * FACTOR for side in TRUTH.boxes[0])
    changed[top : bottom + 1, left : left + 2] = changed[
        top : bottom + 1, right - 1 : right + 1
    ] = 0
    changed[top : top + 2, left : right + 1] = changed[
        bottom - 1 : bottom + 1, left : right + 1
    ] = 0
    assert not changed.any()


def test_detections_above_the_threshold_are_drawn_in_their_classs_colour():
    colours = [class_colour(number) for number in (0, 1)]
    other = colours[1]
    found, low = FOUND.boxes * FACTOR

    def edges(panel, box):
        left, _, right, bottom = map(int, box)
        return np.concatenate([panel[bottom, left : right + 1], panel[bottom - 20 : bottom, left]])

    panel = panel_of(noise(1), sheet(threshold=0.5))
    assert (edges(panel, found) == other).all()
    assert (edges(panel, low) != colours[0]).any(axis=1).mean() > 0.9
    # All of it: a score at the threshold counts.
    panel = panel_of(noise(1), sheet(threshold=0.4))
    assert (edges(panel, low) == colours[0]).all()


def test_ground_truth_is_dashed_in_its_classs_colour_on_both_pictures():
    colour = class_colour(0)
    left, _, right, bottom = (int(side) * FACTOR for side in TRUTH.boxes[0])
    for picture in (noise(0), noise(1)):
        edge = panel_of(picture, sheet(found=NOTHING))[bottom, left + 2 : right - 1]
        share = (edge == colour).all(axis=1).mean()
        assert 0.4 < share < 0.6
        assert share + (edge == BLACK).all(axis=1).mean() == 1


def test_long_names_widen_the_sheet_rather_than_being_cut():
    narrow, wide = sheet(), sheet(names=("cat", "a dog of " + "very " * 15 + "long a name"))
    assert wide.shape[1] > narrow.shape[1] + 200
    headings = (("J-FT", "codec " * 15),)
    assert sheet(headings=headings).shape[1] > narrow.shape[1] + 200
    # The margin stays white: nothing is drawn across the border.
    assert (wide[:, -8:] == WHITE).all()


def test_pictures_without_objects_or_names_can_be_shown():
    original = Original(1, np.zeros((20, 700, 3), np.uint8), NOTHING)
    coded = CodedPicture(
        original.picture, objects([[0, 0, 699, 20]], [9], [0.9]), 24, math.inf, math.nan
    )
    row = original, [coded]
    image = Sheet([("baseline", "uncompressed")], [], 0.5).draw([row])
    assert image.width > 1400


def test_sheets_of_several_rows_are_as_wide_and_higher():
    row = Original(7, noise(0), TRUTH), [CodedPicture(noise(1), FOUND, 0.1, 30.0, 50.0)]
    drawing = Sheet([("J-FT", "codec")], ["cat", "dog"], 0.5)
    one, three = drawing.draw([row]), drawing.draw([row] * 3)
    assert three.width == one.width
    assert three.height >= one.height + 2 * 384


def with_maps(shows, *densities):
    """A sheet of runs with these maps, (128, 128) or None, that decode to noise."""
    coded = [
        CodedPicture(noise(1), NOTHING, 0.1, 30.0, 50.0, None if d is None else BitMap(d, 100.0))
        for d in densities
    ]
    row = Original(7, noise(0), NOTHING), coded
    drawing = Sheet([("J-FT", "codec")] * len(coded), [], 0.5, shows)
    return np.array(drawing.draw([row]))


def shows_enlarged(picture, image):
    enlarged = np.kron(picture, np.ones((FACTOR, FACTOR, 1), np.uint8))
    height, width = enlarged.shape[:2]
    first = (image[: 1 - height, : 1 - width] == enlarged[0, 0]).all(axis=2)
    return any(
        np.array_equal(image[y : y + height, x : x + width], enlarged)
        for y, x in np.argwhere(first)
    )


def test_maps_of_a_row_have_one_scale():
    low, high = np.full((128, 128), 0.1), np.full((128, 128), 0.3)
    low[:64] = 0.02
    image = with_maps(["bits"], low, None, high)
    scale = BitScale([low, high])
    for density in (low, high):
        assert shows_enlarged(scale.draw(density, noise(0)), image)
    assert not shows_enlarged(BitScale([low]).draw(low, noise(0)), image)
    # The run without a map has a frame, and words in it.
    left = image.shape[1] // 2 + 6
    frame = image[MARGIN + 2 * LINE + GAP // 2 :, left : left + 384]
    assert (frame[0] == GREY).all()
    assert (frame[160:220, 100:300] != WHITE).any()


def test_differences_are_drawn_on_the_rows_scale():
    difference = subtract(noise(1), noise(0))
    image = with_maps(["difference"], None)
    assert shows_enlarged(DifferenceScale([difference]).draw(difference), image)


def test_a_row_without_any_map_can_be_shown():
    image = with_maps(["pictures", "bits"], None, None)
    assert image.shape[0] > 2 * 384
    assert (image[:, -MARGIN:] == WHITE).all()


def test_the_scale_of_flat_and_narrow_pictures_is_not_cut():
    for size in ((20, 700), (700, 20)):
        picture = np.zeros((*size, 3), np.uint8)
        coded = CodedPicture(picture, NOTHING, 1, 30.0, 50.0, BitMap(np.ones(size), 0.0))
        drawing = Sheet([("J-FT", "codec")], [], 0.5, ["bits", "difference"])
        image = np.array(drawing.draw([(Original(7, picture, NOTHING), [coded])]))
        assert shows_whole(scale_bar(BitScale([np.ones(size)]), size), image)
        assert (image[:, :MARGIN] == WHITE).all()


def shows_whole(part, image):
    """Whether a bar is in an image; found by its first row that is not white."""
    rows, columns = (np.flatnonzero((part != WHITE).any(axis=(axis, 2))) for axis in (1, 0))
    ink = part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = ink.shape[:2]
    return any(
        np.array_equal(image[y : y + height, x : x + width], ink)
        for y in range(image.shape[0] - height + 1)
        for x in range(image.shape[1] - width + 1)
        if (image[y, x : x + width] == ink[0]).all()
    )


def test_sheets_are_written_whole_or_not_at_all(tmp_path):
    image = Image.new("RGB", (5, 4), (1, 2, 3))
    save_sheet(image, tmp_path / "new" / "a.png")
    with Image.open(tmp_path / "new" / "a.png") as written:
        assert written.size == (5, 4)
        assert written.getpixel((4, 3)) == (1, 2, 3)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.png"]
    (tmp_path / "file").touch()
    with pytest.raises(CodecDetError, match="cannot write"):
        save_sheet(image, tmp_path / "file" / "a.png")
