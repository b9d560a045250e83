"""Plain folders of pictures: found, sized, trained on without labels, and refused with labels."""

import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import ExifTags, Image

from codec_det.config_differences import training_differences
from codec_det.data import pictures_check
from codec_det.data.loader import training_entries
from codec_det.data.picture_folder import load_picture_folder
from codec_det.data.register import check_datasets, register_datasets
from codec_det.data.shapes import scenes
from codec_det.errors import CodecDetError, DatasetError
from tests.test_train_net import command
from tools import train_net

UNLABELLED = [
    *("MODEL.DETECTOR.TRAINABLE", "False", "MODEL.DETECTOR.LOSS_WEIGHT", "0"),
    *("MODEL.CODEC.FEATURE_WEIGHT", "1", "MODEL.REGIME", "C-FT unlabelled"),
]


@pytest.fixture
def folder(tmp_path):
    """Three pictures, one of them in a folder of the folder, beside a file that is none."""
    root = tmp_path / "street"
    (root / "day").mkdir(parents=True)
    names = ("b.png", "day/a.png", "c.png")
    for name, (picture, _) in zip(names, scenes(3, (64, 96), seed=1), strict=True):
        Image.fromarray(picture).save(root / name)
    (root / "notes.txt").write_text("none")
    return root


def keys(name, folder, *opts):
    return [
        "DATASETS.PICTURES",
        str([[name, str(folder)]]),
        "DATASETS.TRAIN",
        f"('{name}',)",
        *opts,
    ]


def test_pictures_are_found_in_folders_of_folders_with_their_upright_sizes(folder):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (40, 30)).save(folder / "d.jpg", exif=exif)
    entries = load_picture_folder("street", folder)
    found = [(e["file_name"], e["image_id"], e["height"], e["width"]) for e in entries]
    assert found == [
        (str(folder / name), number, *size)
        for number, (name, size) in enumerate(
            [
                ("b.png", (64, 96)),
                ("c.png", (64, 96)),
                ("d.jpg", (40, 30)),
                ("day/a.png", (64, 96)),
            ],
            start=1,
        )
    ]


def test_sizes_are_read_once_and_again_where_a_file_changes(folder, monkeypatch):
    read = []
    original = pictures_check.read_size
    monkeypatch.setattr(
        pictures_check, "read_size", lambda path: read.append(path.name) or original(path)
    )
    first = load_picture_folder("street", folder)
    assert sorted(read) == ["a.png", "b.png", "c.png"]
    assert load_picture_folder("street", folder) == first
    assert len(read) == 3
    Image.new("RGB", (32, 16)).save(folder / "b.png")
    assert load_picture_folder("street", folder)[0]["height"] == 16


def test_codec_trains_on_a_folder_without_annotations(folder, tmp_path, tiny_set):
    opts = [*tiny_set, *keys("street_trained", folder), *UNLABELLED, "SOLVER.IMS_PER_BATCH", "2"]
    assert train_net.main(command(tmp_path / "run", *opts, "SOLVER.MAX_ITER", "2")) == 0
    (record,) = map(json.loads, (tmp_path / "run/results.jsonl").read_text().splitlines())
    assert record["regime"] == "C-FT unlabelled"
    assert record["dataset"] == "tiny"
    metrics = (tmp_path / "run/metrics.json").read_text()
    assert '"loss_features": ' in metrics
    assert '"loss_cls": ' not in metrics


def test_nothing_is_left_out_where_no_annotations_are_needed(folder, tiny_cfg, tiny_set):
    names = ["DATASETS.TRAIN", "('tiny', 'street_mixed')"]
    cfg = tiny_cfg(*tiny_set, *keys("street_mixed", folder), *UNLABELLED, *names)
    register_datasets(cfg)
    register_datasets(cfg)
    check_datasets(cfg, train=True)
    assert len(training_entries(cfg)) == 12 + 3


@pytest.mark.parametrize(
    ("opts", "said"),
    [
        (["MODEL.DETECTOR.LOSS_WEIGHT", "0.5"], "'street_refused' has no annotations, and .* 0.5"),
        ([*UNLABELLED, "DATASETS.TEST", "('street_refused',)"], "name another in DATASETS.TEST"),
    ],
)
def test_a_detector_is_neither_trained_nor_measured_by_a_folder(folder, tiny_cfg, opts, said):
    cfg = tiny_cfg(*keys("street_refused", folder), *opts)
    register_datasets(cfg)
    try:
        with pytest.raises(DatasetError, match=said):
            check_datasets(cfg, train=True)
    finally:
        DatasetCatalog.remove("street_refused")
        MetadataCatalog.remove("street_refused")


@pytest.mark.parametrize("fault", ["missing", "empty", "damaged"])
def test_folders_that_cannot_be_used_are_named(folder, fault):
    if fault == "damaged":
        (folder / "day/a.png").write_bytes(b"no picture")
        said = r"'street' of DATASETS.PICTURES: .*day/a\.png"
    else:
        folder = folder / fault
        said = rf"'street' of DATASETS.PICTURES: .*{fault}'"
    if fault == "empty":
        folder.mkdir()
    with pytest.raises(DatasetError, match=said):
        load_picture_folder("street", folder)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([["street_odd"]], r"DATASETS.PICTURES has the entry \['street_odd'\]"),
        ([["tiny", "elsewhere"]], "'tiny' for the folder 'elsewhere'"),
        ([["street_two", "a"], ["street_two", "b"]], "'street_two' for the folder 'b'"),
    ],
)
def test_entries_that_cannot_be_are_refused(tiny_cfg, tiny_set, entries, said):
    with pytest.raises(CodecDetError, match=said):
        register_datasets(tiny_cfg(*tiny_set, "DATASETS.PICTURES", str(entries)))


def test_folders_of_training_make_other_weights_and_others_do_not():
    before = {"DATASETS.TRAIN": ["a"], "DATASETS.PICTURES": [["a", "x"]]}
    more = {"DATASETS.TRAIN": ["a"], "DATASETS.PICTURES": [["a", "x"], ["b", "y"]]}
    other = {"DATASETS.TRAIN": ["a"], "DATASETS.PICTURES": [["a", "z"]]}
    assert training_differences(more, before) == set()
    assert training_differences(other, before) == {"DATASETS.PICTURES"}
