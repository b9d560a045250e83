import json
import logging
import math

import pytest

from codec_det.errors import CodecDetError
from codec_det.rate_accuracy.records import (
    Result,
    check_comparable,
    choose_metrics,
    read_results,
    without_overhead,
)
from tests.records import record, result, write_data, write_run


def records_of(*paths, **options):
    return [one.record for one in read_results(paths, **options)]


def test_the_newest_record_of_each_run_counts_at_any_depth(tmp_path):
    write_run(tmp_path / "sweep" / "a", record(ap=1.0), record(ap=2.0))
    write_run(tmp_path / "sweep" / "deeper" / "b", record("T-FT"))
    write_run(tmp_path / "sweep" / "a.old-1", record("C-FT"))
    # Neither a run, nor named as data.
    write_data(tmp_path / "sweep" / "records.jsonl", record("E-FT"))
    results = read_results([tmp_path / "sweep"])
    assert [one.record for one in results] == [record(ap=2.0), record("T-FT")]
    folders = [tmp_path / "sweep" / "a", tmp_path / "sweep" / "deeper" / "b"]
    assert [one.folder for one in results] == folders
    # Named by itself, a folder that was set aside is wanted.
    assert records_of(tmp_path / "sweep" / "a.old-1") == [record("C-FT")]


def test_every_record_of_a_data_file_counts(tmp_path):
    lines = [record(seed=1), record(seed=2), record(seed=3)]
    path = write_data(tmp_path / "data.jsonl", *lines)
    assert records_of(path) == lines
    assert [one.folder for one in read_results([path])] == [None] * 3


def test_a_runs_own_results_file_is_the_run(tmp_path):
    folder = write_run(tmp_path / "a", record(ap=1.0), record(ap=2.0))
    (one,) = read_results([folder / "results.jsonl"])
    assert one.record == record(ap=2.0)
    assert one.folder == folder


def test_a_record_met_twice_counts_once_and_with_its_detections(tmp_path):
    data = write_data(tmp_path / "data.jsonl", record(seed=1), record(seed=1))
    folder = write_run(tmp_path / "a", record(seed=1))
    for order in ([data, folder], [folder, data, tmp_path]):
        (one,) = read_results(order)
        assert one.folder == folder


@pytest.mark.parametrize("damage", [json.dumps(record())[:-9], "[1]", '{"regime": "J-FT"}'])
def test_lines_that_are_no_record_are_skipped_with_a_warning(tmp_path, caplog, damage):
    folder = write_run(tmp_path, record(ap=1.0), damage, record(ap=2.0), damage)
    with caplog.at_level(logging.WARNING):
        assert records_of(folder) == [record(ap=2.0)]
    for line in (2, 4):
        assert f"{folder / 'results.jsonl'}: line {line} is no record" in caplog.text


def test_codecs_trained_alone_count():
    codec = result("C-FT", ap=None, detector="NoDetector")
    assert codec.regime == "codec trained alone"
    assert choose_metrics([codec]) == ["PSNR"]
    assert choose_metrics([codec, result()]) == ["AP", "AP50", "PSNR"]


def test_a_detector_that_was_trained_on_uncompressed_pictures_is_no_tft():
    assert result("T-FT", codec="identity").regime == "detector trained alone"
    assert result("baseline", codec="identity").regime == "baseline"


def test_metrics_are_chosen_of_what_is_there():
    one, level = result(), result("baseline", 24.0, codec="identity")
    one.record["results"]["segm"] = {"AP": 20.0, "AP75": None, "AP-a cat": 3.0}
    assert choose_metrics([one]) == ["AP", "AP50", "mask_AP", "PSNR"]
    assert choose_metrics([one], ["mask_AP-a cat", "PSNR"]) == ["mask_AP-a cat", "PSNR"]
    assert one.figure("mask_AP-a cat") == 3.0
    with pytest.raises(CodecDetError, match=r"'AP75': no result has it; they have AP, AP50, mask"):
        choose_metrics([one], ["AP", "AP75"])
    assert choose_metrics([level]) == ["AP", "AP50"]
    with pytest.raises(CodecDetError, match="no result has any figure of quality"):
        choose_metrics([result("baseline", 24.0, None, codec="identity")])


def test_runs_that_are_not_finished_count_with_a_warning(tmp_path, caplog):
    config = {"SOLVER.MAX_ITER": 900}
    early, late = (record(iteration=i, seed=i, config=config) for i in (300, 900))
    data = write_data(tmp_path / "data.jsonl", early, late, record(config=config))
    with caplog.at_level(logging.WARNING):
        assert len(read_results([data])) == 3
    (message,) = caplog.messages
    assert (
        "not trained to its end (300 of 900 iterations): a record of runs/J-FT-0.1-300" in message
    )


def test_one_of_several_test_sets_is_chosen(tmp_path):
    other = record(ap=50.0, dataset="other_val")
    write_run(tmp_path, record(ap=1.0), other, record(ap=2.0))
    assert records_of(tmp_path) == [record(ap=2.0), other]
    assert records_of(tmp_path, dataset="other_val") == [other]
    with pytest.raises(CodecDetError, match="'third_val': they are of other_val, some_val"):
        read_results([tmp_path], dataset="third_val")


def test_paths_without_results_are_named(tmp_path):
    with pytest.raises(CodecDetError, match=r"/none' does not exist"):
        read_results([tmp_path / "none"])
    with pytest.raises(CodecDetError, match=r"no results in '.*'.* tools/train_net\.py"):
        read_results([tmp_path])
    with pytest.raises(CodecDetError, match="no complete record: evaluate again"):
        read_results([write_run(tmp_path / "cut", '{"regime')])


def test_figures_that_a_record_lacks_are_nan():
    assert result(ap=31.5).figure("AP50") == 41.5
    assert math.isnan(result("baseline", 24.0, codec="identity").figure("PSNR"))


def test_results_of_different_data_sets_do_not_compare():
    results = [result(), result(dataset="other_val", seed=7)]
    with pytest.raises(CodecDetError, match=r"other_val: a record of runs/J-FT-0.1-7.*--dataset"):
        check_comparable(results)


def test_of_a_run_of_variable_rate_the_newest_record_of_each_level_counts(tmp_path):
    def at(level, ap, **changes):
        config = {"MODEL.CODEC.LEVELS": 3, **changes.pop("config", {})}
        return record(ap=ap, level=level, config=config, weights_sha256="b", **changes)

    old = [at(0, 1.0) | {"weights_sha256": "a"}, at(2, 2.0, rate_is="estimated bits per pixel")]
    first, again = at(0, 3.0), at(0, 4.0)
    between = at(0.5, 5.0, config={"MODEL.CODEC.LEVELS_TEST": [0.5]})
    folder = write_run(tmp_path / "a", *old, first, at(1, 3.5), again, between)
    results = read_results([folder])
    assert [(one.level, one.figure("AP")) for one in results] == [(0, 4.0), (1, 3.5), (0.5, 5.0)]
    assert results[0].detections == folder / "inference/some_val/level_0"
    assert results[2].detections == folder / "inference/some_val/level_0.5"
    # Trained again for a fixed rate: no level counts any more.
    (one,) = read_results([write_run(tmp_path / "b", *old, again, record(ap=6.0))])
    assert one.level is None
    assert one.detections == tmp_path / "b/inference/some_val"


def test_net_rates_are_those_of_files_without_their_overhead():
    whole = record(bpp=0.5)
    whole["results"]["rate"]["bpp_overhead"] = 0.125
    uncompressed = Result(record("baseline", 24.0, codec="identity"))
    found = without_overhead([Result(whole), uncompressed])
    assert [one.figure("bpp") for one in found] == [0.375, 24.0]
    assert [one.kind_of_rate for one in found] == ["net", ""]
    assert whole["results"]["rate"]["bpp"] == 0.5
    assert without_overhead(found) == found


def test_estimated_rates_have_no_overhead_to_leave_out():
    estimated = record(rate_is="estimated bits per pixel of the original picture")
    with pytest.raises(CodecDetError, match=r"its rate is estimated.*BITSTREAM True"):
        without_overhead([Result(estimated)])
