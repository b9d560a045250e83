"""tools/visualize.py, as called from a shell, on runs of a tiny chain and four pictures."""

import csv
import gc
import json
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from codec_det.data.register import register_datasets
from codec_det.data.shapes import generate
from codec_det.pictures.headings import column_headings
from codec_det.pictures.picture_choice import at_random, by_ids, evenly
from codec_det.pictures.sequence_figure import sequence_figure
from codec_det.runs import code_pictures, open_run
from codec_det.training.checkpoint import ChainCheckpointer
from codec_det.training.trainer import Trainer, load_chain
from tools import visualize as tool


@dataclass
class Runs:
    """Run folders of one data set: evaluated on uncompressed pictures, and trained."""

    folder: Path
    dataset: str
    make: object

    @property
    def paths(self):
        return [str(self.folder / "uncompressed"), str(self.folder / "jft")]


@pytest.fixture
def runs(tmp_path, tiny_cfg):
    # Registered for the whole process, so no two tests may use the same name.
    name = f"pictures_{tmp_path.name}"
    json_file = generate(tmp_path / "set", 4, (64, 64), progress=False)

    def make(folder, *opts, dataset=name):
        cfg = tiny_cfg(
            *("OUTPUT_DIR", str(tmp_path / folder), "MODEL.ROI_HEADS.NUM_CLASSES", 6),
            *("DATASETS.COCO_FORMAT", [[dataset, str(json_file), str(tmp_path / "set/images")]]),
            *("DATASETS.TEST", (dataset,), *opts),
        )
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.yaml").write_text(cfg.dump())
        return cfg

    make("uncompressed", "MODEL.CODEC.NAME", "identity")
    (tmp_path / "uncompressed" / "results.jsonl").touch()
    trainable = ("MODEL.CODEC.TRAINABLE", ["encoder", "decoder"], "MODEL.DETECTOR.TRAINABLE", True)
    cfg = make("jft", *trainable)
    ChainCheckpointer(load_chain(cfg), cfg.OUTPUT_DIR).save("model_final")
    yield Runs(tmp_path, name, make)
    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def contains(image, picture, factor):
    """The share of a picture's pixels that an image shows, enlarged, where it fits best.

    Its upper left corner, by which it is found, must be free of drawing.
    """
    enlarged = np.kron(picture, np.ones((factor, factor, 1), np.uint8))
    height, width = enlarged.shape[:2]
    best = 0.0
    for y in range(image.shape[0] - height + 1):
        for x in np.flatnonzero((image[y, : -width or None] == enlarged[0, 0]).all(axis=1)):
            equal = (image[y : y + height, x : x + width] == enlarged).all(axis=2)
            best = max(best, float(equal.mean()))
    return best


def test_it_writes_a_picture_per_image_and_an_overview(runs, capsys):
    output = runs.folder / "new" / "pictures"
    arguments = ["--count", "2", "--score-threshold", "1", "--output-dir", str(output)]
    assert tool.main([*runs.paths, *arguments]) == 0
    names = ["image_1.png", "image_4.png", "overview.png"]
    assert sorted(path.name for path in output.iterdir()) == names
    assert capsys.readouterr().out.splitlines() == [str(output / name) for name in names]

    one, overview = (np.array(Image.open(output / name)) for name in names[1:])
    assert overview.shape[0] > one.shape[0] + 384
    run = open_run(runs.paths[1])
    (coded,) = code_pictures(run, by_ids(runs.dataset, [4]))
    stored = np.array(Image.open(runs.folder / "set" / "images" / "000004.png"))
    # All but the outlines of the ground truth.
    for picture in (coded.picture, stored):
        assert contains(one, picture, 384 // 64) > 0.8


def test_the_chosen_pictures_are_shown(runs):
    output = runs.folder / "pictures"
    assert tool.main([*runs.paths[:1], "--images", "3", "2", "--output-dir", str(output)]) == 0
    names = ["image_2.png", "image_3.png", "overview.png"]
    assert sorted(path.name for path in output.iterdir()) == names


@pytest.mark.parametrize("by_files", [False, True])
def test_figures_are_those_of_the_evaluation(runs, capsys, by_files):
    config = runs.folder / "jft" / "config.yaml"
    config.write_text(config.read_text().replace("BITSTREAM: false", f"BITSTREAM: {by_files}"))
    run = open_run(runs.paths[1])
    assert run.cfg.MODEL.CODEC.BITSTREAM is by_files
    register_datasets(run.cfg)
    Trainer.test(run.cfg, load_chain(run.cfg, resume=True))
    with (run.folder / "inference" / runs.dataset / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    coded = list(code_pictures(run, evenly(runs.dataset, 4)))
    assert len(rows) == len(coded) == 4
    for row, each in zip(rows, coded, strict=True):
        assert each.bpp == pytest.approx(float(row["bpp"]), rel=1e-5)
        assert each.psnr == pytest.approx(float(row["psnr"]), rel=1e-5)
        assert 0 <= each.ap <= 100


def number_frames(runs, frames):
    """Make the pictures frames of sequences, (video, number) each."""
    path = runs.folder / "set" / "annotations.json"
    data = json.loads(path.read_text())
    for image, (video, number) in zip(data["images"], frames, strict=True):
        image |= {"video_id": video, "frame_id": number}
    data["videos"] = [{"id": i, "name": str(i)} for i in {video for video, _ in frames}]
    path.write_text(json.dumps(data))


@pytest.fixture
def sequences(runs):
    """The pictures as two sequences of two frames, by a run that predicts them."""
    number_frames(runs, [(1, 0), (1, 1), (2, 0), (2, 1)])
    name = ("MODEL.CODEC.NAME", "bmshj2018-hyperprior-temporal", "MODEL.CODEC.KEY_INTERVAL", 2)
    cfg = runs.make("temporal", *name, "INPUT.CLIP_LENGTH", 2)
    ChainCheckpointer(load_chain(cfg), cfg.OUTPUT_DIR).save("model_final")
    return runs


@pytest.mark.parametrize("first", [None, 5])
def test_a_frame_alone_is_what_a_receiver_has_of_it(first, sequences):
    if first:
        # One sequence of two intervals, whose key frames are at odd numbers.
        number_frames(sequences, [(1, first + i) for i in range(4)])
    run = open_run(sequences.folder / "temporal")
    register_datasets(run.cfg)
    entries = DatasetCatalog.get(run.dataset)
    every = [*code_pictures(run, entries, bit_maps=True)]
    # The first is a key frame, and would have other bits if it were predicted.
    for place in (3, 1, 0):
        (alone,) = code_pictures(run, entries[place : place + 1], bit_maps=True)
        assert alone.bpp == every[place].bpp
        assert alone.bit_map.bits == every[place].bit_map.bits
        np.testing.assert_array_equal(alone.picture, every[place].picture)
    backwards = code_pictures(run, entries[::-1])
    assert [x.bpp for x in backwards] == [x.bpp for x in every[::-1]]


def test_a_sequence_is_shown_over_time(sequences, monkeypatch, capsys):
    drawn = []

    def draw(runs, *others):
        drawn.append(runs)
        return sequence_figure(runs, *others)

    monkeypatch.setattr("codec_det.pictures.sequence_figure.sequence_figure", draw)
    output = sequences.folder / "pictures"
    run = str(sequences.folder / "temporal")
    arguments = ["--sequence", "2", "--show", "bits", "--output-dir", str(output)]
    assert tool.main([run, *arguments]) == 0
    assert capsys.readouterr().out.splitlines() == [str(output / "sequence_2.png")]
    assert Image.open(output / "sequence_2.png").width > 1000
    ((_, frames),) = drawn[0]
    assert [original.image_id for original, _ in frames] == [3, 4]
    for _, coded in frames:
        bits = coded.bpp * 64 * 64
        assert coded.bit_map.bits == pytest.approx(bits, rel=1e-3)
    assert tool.main([run, "--sequence", "7", "--output-dir", str(output)]) == 2
    assert "--sequence 7" in capsys.readouterr().err


def test_one_model_is_in_memory_at_a_time(runs, monkeypatch):
    models = []

    def load(*args, **kwargs):
        assert all(reference() is None for reference in models)
        model = load_chain(*args, **kwargs)
        models.append(weakref.ref(model))
        return model

    monkeypatch.setattr("codec_det.runs.load_chain", load)
    gc.disable()
    try:
        arguments = ["--count", "1", "--output-dir", str(runs.folder / "pictures")]
        assert tool.main([*runs.paths, *arguments]) == 0
    finally:
        gc.enable()
    assert len(models) == 2


def test_runs_of_variable_rate_are_shown_at_a_level(runs, capsys):
    cfg = runs.make("levels", "MODEL.CODEC.LEVELS", 3)
    ChainCheckpointer(load_chain(cfg), cfg.OUTPUT_DIR).save("model_final")
    found = [open_run(cfg.OUTPUT_DIR, level) for level in (None, 0.5)]
    assert [run.level for run in found] == [2.0, 0.5]
    assert open_run(runs.paths[1], 0.5).level is None
    headings = [subtitle for _, subtitle in column_headings([found[1], open_run(runs.paths[1])])]
    assert "level 0.5" in headings[0]
    assert "level" not in headings[1]
    arguments = ["--images", "1", "--output-dir", str(runs.folder / "pictures"), "--level"]
    assert tool.main([cfg.OUTPUT_DIR, *runs.paths, *arguments, "1"]) == 0
    assert tool.main([cfg.OUTPUT_DIR, *arguments, "3"]) == 2
    assert "has no level 3: levels are 0 to 2" in capsys.readouterr().err


def test_a_codec_alone_has_no_accuracy(runs):
    cfg = runs.make("codec", "MODEL.DETECTOR.META_ARCHITECTURE", "NoDetector")
    Path(cfg.OUTPUT_DIR, "results.jsonl").touch()
    run = open_run(cfg.OUTPUT_DIR)
    register_datasets(run.cfg)
    (coded,) = code_pictures(run, by_ids(runs.dataset, [1]))
    assert np.isnan(coded.ap)
    assert len(coded.found.scores) == 0
    output = ["--count", "1", "--output-dir", str(runs.folder / "pictures")]
    assert tool.main([cfg.OUTPUT_DIR, *output]) == 0


def test_rows_of_bits_and_differences_are_added(runs):
    sizes = {}
    for shows in (["pictures"], ["bits"], ["difference", "bits", "pictures"]):
        output = runs.folder / "-".join(shows)
        arguments = ["--images", "4", "--output-dir", str(output), "--show", *shows]
        assert tool.main([*runs.paths, *arguments]) == 0
        sizes[len(shows), shows[0]] = Image.open(output / "image_4.png").size
    assert sizes[3, "difference"][1] > sizes[1, "pictures"][1] + 2 * 384
    assert sizes[3, "difference"][1] > sizes[1, "bits"][1] + 2 * 384


@pytest.mark.parametrize("by_files", [False, True])
def test_bits_by_place_are_those_the_run_is_charged_for(runs, by_files):
    config = runs.folder / "jft" / "config.yaml"
    config.write_text(config.read_text().replace("BITSTREAM: false", f"BITSTREAM: {by_files}"))
    for folder, kind in zip(runs.paths, ("uncompressed", "jft"), strict=True):
        run = open_run(folder)
        register_datasets(run.cfg)
        entries = evenly(runs.dataset, 2)
        assert [coded.bit_map for coded in code_pictures(run, entries)] == [None, None]
        for coded in code_pictures(run, entries, bit_maps=True):
            if kind == "uncompressed":
                assert coded.bit_map is None
                continue
            assert coded.bit_map.density.shape == (64, 64)
            if by_files:  # what the file has besides
                assert 0 < 64 * 64 * coded.bpp - coded.bit_map.bits < 400
            else:
                assert coded.bit_map.bits == pytest.approx(64 * 64 * coded.bpp, rel=1e-4)


def test_pictures_drawn_at_random_are_those_of_the_seed(runs):
    output = runs.folder / "pictures"
    arguments = ["--random-seed", "5", "--count", "2", "--output-dir", str(output)]
    assert tool.main([*runs.paths[:1], *arguments]) == 0
    drawn = [f"image_{entry['image_id']}.png" for entry in at_random(runs.dataset, 2, 5)]
    assert sorted(path.name for path in output.iterdir()) == [*drawn, "overview.png"]


def test_pictures_are_chosen_by_disagreement(runs):
    for folder, changed in zip(runs.paths, (None, 3), strict=True):
        run = open_run(folder)
        register_datasets(run.cfg)
        coco = json.loads((runs.folder / "set" / "annotations.json").read_text())
        found = [{**a, "score": 0.9} for a in coco["annotations"] if a["image_id"] != changed]
        saved = run.folder / "inference" / runs.dataset
        saved.mkdir(parents=True)
        (saved / "coco_instances_results.json").write_text(json.dumps(found))
        (saved / "per_image.csv").write_text("image_id\n1\n2\n3\n4\n")
    output = runs.folder / "pictures"
    # By another spelling of the same folder.
    second = str(runs.folder / "uncompressed" / ".." / "jft")
    arguments = ["--disagreement", second, runs.paths[0], "--count", "1"]
    assert tool.main([*runs.paths, *arguments, "--output-dir", str(output)]) == 0
    assert sorted(path.name for path in output.iterdir()) == ["image_3.png", "overview.png"]


def refused(capsys, *arguments):
    assert tool.main(list(map(str, arguments))) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    # After the progress bar, if it got that far.
    last = captured.err.splitlines()[-1]
    assert last.startswith("error: ")
    return last


def test_what_cannot_be_shown_is_refused_before_any_work(runs, capsys, monkeypatch):
    monkeypatch.setattr("codec_det.runs.load_chain", None)
    output = ("--output-dir", runs.folder / "pictures")
    assert "has no config.yaml" in refused(capsys, runs.folder / "none", *output)
    message = refused(capsys, *runs.paths, *output, "--images", 1, 7, 9)
    assert "no image with id 7, 9" in message
    message = refused(capsys, *runs.paths, *output, "--disagreement", *runs.paths)
    assert f"'{runs.paths[0]}' has no saved detections of {runs.dataset}" in message
    other = ("--disagreement", runs.paths[0], "elsewhere")
    message = refused(capsys, *runs.paths, *output, *other)
    assert "--disagreement 'elsewhere' is not one of the runs to show: give" in message
    assert runs.paths[1] in message
    runs.make("elsewhere", dataset="other")
    (runs.folder / "elsewhere" / "results.jsonl").touch()
    message = refused(capsys, *runs.paths, runs.folder / "elsewhere", *output)
    assert f"jft: {runs.dataset}" in message
    assert "elsewhere: other" in message
    (runs.folder / "file").touch()
    message = refused(capsys, *runs.paths, "--output-dir", runs.folder / "file" / "pictures")
    assert f"'{runs.folder / 'file' / 'pictures'}' is not writable" in message


def test_pictures_without_files_are_named(runs, capsys, monkeypatch):
    monkeypatch.setattr("codec_det.runs.load_chain", None)
    for number in (2, 4):
        (runs.folder / "set" / "images" / f"00000{number}.png").unlink()
    output = ("--output-dir", runs.folder / "pictures")
    message = refused(capsys, *runs.paths, *output)
    assert "000002.png" in message
    assert "000004.png" in message


def test_runs_of_other_pictures_under_the_same_name_are_named(runs, capsys):
    elsewhere = generate(runs.folder / "others", 2, (64, 64), progress=False)
    config = runs.folder / "jft" / "config.yaml"
    first = str(runs.folder / "set" / "annotations.json")
    config.write_text(config.read_text().replace(first, str(elsewhere)))
    message = refused(capsys, *runs.paths, "--output-dir", runs.folder / "pictures")
    assert f"run '{runs.paths[1]}'" in message
    assert str(elsewhere) in message


def test_damaged_checkpoints_are_refused(runs, capsys):
    (runs.folder / "jft" / "model_final.pth").write_bytes(b"no checkpoint")
    message = refused(capsys, runs.paths[1], "--output-dir", runs.folder / "pictures")
    assert "no checkpoint in" in message
    assert list((runs.folder / "pictures").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "--count: 0 is not positive"),
        (["--count", "few"], "invalid whole number value: 'few'"),
        (["--score-threshold", "2"], "2.0 is not between 0 and 1"),
        (["--images", "1", "--count", "2"], "not allowed with"),
        (["--images", "1", "--random-seed", "2"], "not allowed with"),
        (["--random-seed", "1", "--disagreement", "a", "b"], "not allowed with"),
        (["--random-seed", "-1"], "-1 is negative"),
        (["--disagreement", "a"], "expected 2 arguments"),
        (["--show", "bytes"], "invalid choice: 'bytes'"),
        (["--images", "cat.png"], "invalid int value: 'cat.png'"),
    ],
)
def test_values_out_of_range_are_refused(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        tool.main(["run", "--output-dir", "pictures", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
