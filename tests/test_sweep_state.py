"""What the results on disk say of points."""

import json
import os
from dataclasses import replace

import pytest

from codec_det.config_differences import PLACES_AND_SPEED
from codec_det.rate_accuracy.records import read_results
from codec_det.sweep.duration import estimated_seconds, measured_seconds
from codec_det.sweep.overview import table
from codec_det.sweep.progress import Progress
from codec_det.sweep.state import Status, make_room, states_of
from tests.sweeps import THEN, finish, interrupt, make_configs, points_of, study_of, write_study


@pytest.fixture
def study_file(tmp_path, tiny_set):
    make_configs(tmp_path / "configs", tiny_set)
    return write_study(tmp_path, study_of(tmp_path))


@pytest.fixture
def points(study_file):
    return points_of(study_file)


def states(points):
    return {name: str(state) for name, state in states_of(list(points.values())).items()}


def test_nothing_is_there(points):
    assert set(states(points).values()) == {"missing"}


def test_all_is_done(points):
    for point in points.values():
        finish(point)
    assert set(states(points).values()) == {"done"}


def test_of_several_results_the_newest_counts(points):
    jft = points["jft-low-seed_1"]
    finish(points["codec"])
    finish(jft, config={**jft.cfg, "OUTPUT_DIR": str(jft.folder), "SEED": 9})
    finish(jft)
    assert states(points)["jft-low-seed_1"] == "done"
    finish(jft, config={"OUTPUT_DIR": str(jft.folder), "SEED": 9})
    assert states(points)["jft-low-seed_1"].startswith("changed (")


def test_an_evaluation_of_a_trained_point_is_no_result_of_its_training(points):
    finish(points["codec"])
    finish(points["tft-low-seed_1"], iteration=None)
    assert states(points)["tft-low-seed_1"] == "missing"
    finish(points["tft-low-seed_2"])
    finish(points["tft-low-seed_2"], iteration=None)
    assert states(points)["tft-low-seed_2"] == "done"


def test_a_training_that_was_evaluated_on_its_way(points):
    finish(points["codec"])
    finish(points["tft-low-seed_1"], iteration=1)
    assert states(points)["tft-low-seed_1"] == "missing"
    interrupt(points["tft-low-seed_1"])
    assert states(points)["tft-low-seed_1"] == "interrupted"


def test_an_interrupted_point_older_than_what_it_starts_from_is_stale(points):
    finish(points["codec"])
    interrupt(points["tft-low-seed_1"])
    began = THEN.timestamp() - 60
    os.utime(points["tft-low-seed_1"].folder / "config.yaml", (began, began))
    assert states(points)["tft-low-seed_1"] == "stale (codec)"


def test_a_result_cut_short_is_none(points):
    finish(points["codec"])
    file = points["codec"].folder / "results.jsonl"
    file.write_text(file.read_text()[:-40])
    assert states(points)["codec"] == "missing"


def test_places_and_speed_may_differ_and_the_sweep_may_have_moved(points):
    finish(points["codec"])
    tft = points["tft-low-seed_1"]
    for key in PLACES_AND_SPEED - {"OUTPUT_DIR"}:
        assert key in dict(_flat(tft.cfg))
    moved = {
        **json.loads(json.dumps(_changed(tft))),
        **dict.fromkeys(PLACES_AND_SPEED, "other"),
        "OUTPUT_DIR": "/elsewhere/study/tft-low-seed_1",
        "MODEL.CODEC.WEIGHTS": "/elsewhere/study/codec/model_final.pth",
    }
    finish(tft, config=moved)
    assert states(points)["tft-low-seed_1"] == "done"
    moved["MODEL.CODEC.WEIGHTS"] = "/elsewhere/codec/model_final.pth"
    finish(tft, config=moved)
    assert states(points)["tft-low-seed_1"] == "changed (MODEL.CODEC.WEIGHTS)"


def _flat(cfg):
    from codec_det.config import flatten

    return flatten(cfg)


def _changed(point):
    from codec_det.evaluation.results import changed_keys

    return changed_keys(point.cfg)


def test_changed_config_names_the_keys(study_file, points):
    for point in points.values():
        finish(point)
    other = points_of(study_file, {"SOLVER.BASE_LR": "0.5"})
    assert set(states(other).values()) == {"changed (SOLVER.BASE_LR)"}
    for point in points.values():
        (point.folder / "results.jsonl").unlink()
        interrupt(point)
    assert states(other)["codec"] == "changed (SOLVER.BASE_LR)"
    assert states(points)["codec"] == "interrupted"


def test_a_newer_dependency_makes_points_stale(points):
    for point in points.values():
        finish(point)
    finish(points["codec"], minutes=1)
    found = states(points)
    assert found.pop("codec") == "done"
    assert set(found.values()) == {"stale (codec)"}
    finish(points["tft-low-seed_1"], minutes=2)
    assert states(points)["tft-low-seed_1"] == "done"


def test_weights_that_others_start_from_must_be_there(points):
    for point in points.values():
        finish(point)
    (points["tft-low-seed_1"].folder / "model_final.pth").unlink()
    assert set(states(points).values()) == {"done"}
    (points["codec"].folder / "model_final.pth").unlink()
    found = states(points)
    assert found["codec"] == "missing (no model_final.pth)"
    assert found["tft-low-seed_1"] == "stale (codec)"


def test_results_are_moved_and_never_lost(points):
    codec = points["codec"]
    finish(codec)
    (codec.folder / "model_final.pth").write_text("weights")
    before = (codec.folder / "results.jsonl").read_text()
    state = states_of([codec])["codec"]
    moved = make_room(codec, state)
    assert moved.parent == codec.folder.parent
    assert moved.name.startswith("codec.old-")
    assert (moved / "results.jsonl").read_text() == before
    assert (moved / "model_final.pth").read_text() == "weights"
    assert not codec.folder.exists()
    assert make_room(codec, state) is None


def test_results_set_aside_are_not_among_those_of_the_study(points):
    tft = points["tft-low-seed_1"]
    for folder in (tft.folder, points["jft-low-seed_1"].folder):
        finish(replace(tft, folder=folder), regime="T-FT", codec={"name": "x", "quality": 1})
        (folder / "config.yaml").touch()
    make_room(tft, states_of(list(points.values()))[tft.name])
    assert [r.folder for r in read_results([tft.folder.parent])] == [
        points["jft-low-seed_1"].folder
    ]


def test_an_interrupted_run_stays_where_it_is(points):
    codec = points["codec"]
    interrupt(codec)
    state = states_of([codec])["codec"]
    assert state.status is Status.INTERRUPTED
    assert make_room(codec, state) is None
    assert codec.folder.is_dir()


LOG = """[12/31 23:59:50] detectron2 INFO: Rank of current process: 0. World size: 1
no time
[01/01 00:00:20] last line before the machine was switched off
[01/01 08:00:00] detectron2 INFO: Rank of current process: 0. World size: 1
[01/01 08:01:00] end
"""


def test_time_of_all_stretches_without_that_between_them(tmp_path):
    (tmp_path / "log.txt").write_text(LOG)
    assert measured_seconds(tmp_path) == 30 + 60
    assert measured_seconds(tmp_path / "nowhere") is None


def test_estimates_are_of_points_alike(points):
    listed = list(points.values())
    estimates = estimated_seconds(listed, {"tft-low-seed_1": 40.0, "codec": 90.0, "x": None})
    assert estimates == {"tft-low-seed_1": 40.0, "tft-low-seed_2": 40.0, "codec": 90.0}


def test_time_left_says_what_is_not_known(points):
    progress = Progress(list(points.values()), states_of(list(points.values())))
    assert progress.time_left() == "unknown, as no point like those left has been done"
    for name in ("codec", "tft-low-seed_1"):
        finish(points[name])
        (points[name].folder / "log.txt").write_text(LOG)
    progress = Progress(list(points.values()), states_of(list(points.values())))
    # One T-FT, and a baseline and two J-FTs of which nothing is known.
    assert progress.time_left() == "0:01:30, not counting 3 points like none that has been done"
    assert progress.time_left(at_a_time=3).startswith("0:00:30, ")
    progress.failures = dict.fromkeys(["baseline-low", "jft-low-seed_1", "jft-low-seed_2"], "")
    assert progress.time_left() == "0:01:30"


def train(point):
    """Leave what a finished training leaves, its weights among it."""
    finish(point, weights_sha256="a")
    (point.folder / "last_checkpoint").write_text("model_final.pth")


def test_what_was_trained_is_evaluated_again_where_evaluation_alone_has_changed(study_file, points):
    for point in points.values():
        train(point)
    real = points_of(study_file, {"MODEL.CODEC.BITSTREAM": "True"})
    found = states(real)
    assert found.pop("baseline-low") == "changed (MODEL.CODEC.BITSTREAM)"
    assert set(found.values()) == {"to evaluate (MODEL.CODEC.BITSTREAM)"}
    progress = Progress(list(real.values()), states_of(list(real.values())))
    assert "to evaluate" in table(progress)
    assert make_room(real["codec"], progress.states["codec"]) is None
    # Weights that are lost cannot be.
    (real["codec"].folder / "last_checkpoint").unlink()
    found = states(real)
    assert found["codec"] == "changed (MODEL.CODEC.BITSTREAM)"
    assert found["tft-low-seed_1"] == "stale (codec)"


def test_a_new_test_set_is_evaluated_and_another_training_set_trained_on(
    study_file, points, tiny_set
):
    tft = points["tft-low-seed_1"]
    for point in points.values():
        train(point)
    ((name, *files),) = json.loads(tiny_set[1].replace("'", '"'))
    sets = {"DATASETS.COCO_FORMAT": str([[name, *files], ["new", *files]])}
    new = points_of(study_file, {**sets, "DATASETS.TEST": "('new',)"})
    assert states(new)[tft.name] == "to evaluate (DATASETS.TEST)"
    both = points_of(study_file, {**sets, "DATASETS.TEST": "('tiny', 'new')"})
    assert states(both)[tft.name] == "to evaluate (DATASETS.COCO_FORMAT, DATASETS.TEST)"
    other = {"DATASETS.COCO_FORMAT": str([[name, "other.json", files[1]]])}
    assert states(points_of(study_file, other))[tft.name] == "changed (DATASETS.COCO_FORMAT)"


def test_a_point_evaluated_again_is_no_newer(study_file, points):
    for point in points.values():
        train(point)
    codec = points["codec"]
    finish(codec, minutes=1, weights_sha256="b")
    for point in points.values():
        if point is not codec:
            finish(point, minutes=2, weights_sha256="a")
    assert states(points)["tft-low-seed_1"] == "stale (codec)"
