"""Records of evaluations: strict JSON, complete, and whole lines from any number of writers."""

import json
import math
import multiprocessing
from datetime import datetime

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from codec_det.config import get_codec_det_cfg
from codec_det.evaluation.results import (
    append_record,
    build_record,
    changed_keys,
    weights_sha256_of,
)

RESULTS = {
    "rate": {"bpp": 0.125, "psnr": math.inf, "ms_ssim": math.nan, "images": np.int64(3)},
    "bbox": {"AP": np.float32(31.5), "AP-cat": float("nan"), "AP50": np.float32("nan")},
}


@pytest.fixture
def record(tiny_cfg):
    cfg = tiny_cfg(
        "MODEL.CODEC.TRAINABLE",
        ["encoder"],
        "MODEL.CODEC.BETA",
        0.5,
        "MODEL.CODEC.TARGET_BPP",
        0.1,
        "SEED",
        7,
        "MODEL.WEIGHTS",
        "start.pth",
    )
    model = build_model(cfg)
    model.betas = [0.75]  # as adapted while training
    return build_record(cfg, model, "shapes_val", RESULTS), model, cfg


def strict(record):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(json.dumps(record, allow_nan=False), parse_constant=refuse)


def test_record_is_strict_json_and_keeps_its_values(record):
    record, _, _ = record
    assert strict(record) == record
    assert record["results"]["rate"] == {"bpp": 0.125, "psnr": None, "ms_ssim": None, "images": 3}
    assert record["results"]["bbox"] == {"AP": 31.5, "AP-cat": None, "AP50": None}


def test_record_says_what_reproduces_the_point(record):
    record, model, cfg = record
    assert record["regime"] == "E-FT"
    assert record["dataset"] == "shapes_val"
    assert "estimated" in record["rate_is"]
    costs = record["codec"].pop("complexity")
    assert [*costs] == ["g_a", "h_a", "h_s", "g_s"]
    # 3x3 and twice 5x5, of 12, 8 and 8 channels, at a 256th, 1024th and 4096th of the pixels.
    products = 12 * 8 * 9 / 256 + 8 * 8 * 25 * (1 / 1024 + 1 / 4096)
    parameters = 12 * 8 * 9 + 2 * 8 * 8 * 25 + 3 * 8
    assert costs["h_a"] == {"kmac_per_pixel": products / 1000, "parameters": parameters}
    assert record["codec"] == {
        "name": "bmshj2018-hyperprior",
        "quality": 1,
        "metric": "mse",
        "widths": [8, 12],
        "weights": "",
        "quantization": "mixed",
    }
    assert record["detector"] == "GeneralizedRCNN"
    assert (record["beta"], record["target_bpp"], record["distortion_weight"]) == (0.75, 0.1, 0)
    assert (record["weights"], record["seed"], record["iteration"]) == ("start.pth", 7, None)
    assert record["weights_sha256"] == weights_sha256_of(model)
    assert record["config"] == json.loads(json.dumps(changed_keys(cfg)))
    assert record["config"]["MODEL.CODEC.BETA"] == 0.5
    assert torch.__version__.startswith(record["versions"]["torch"])
    assert {"codec_det", "python", "detectron2", "compressai", "numpy"} < record["versions"].keys()
    assert f"{torch.get_num_threads()} threads" in record["device"]
    assert datetime.fromisoformat(record["time"]).tzinfo is not None


def test_record_in_training_counts_iterations_done(tiny_cfg):
    cfg = tiny_cfg()
    with EventStorage(9):
        assert build_record(cfg, build_model(cfg), "set", {})["iteration"] == 10


def test_record_of_a_codec_without_widths(tiny_cfg):
    cfg = tiny_cfg("MODEL.CODEC.NAME", "identity")
    assert strict(build_record(cfg, build_model(cfg), "set", {}))["codec"]["widths"] == []


def test_records_are_appended_as_lines(tmp_path):
    path = tmp_path / "results.jsonl"
    append_record(path, {"a": "x\ny", "b": "ü"})
    append_record(path, {"a": None})
    lines = path.read_text().split("\n")
    assert [json.loads(line) for line in lines[:-1]] == [{"a": "x\ny", "b": "ü"}, {"a": None}]
    assert lines[-1] == ""


def test_record_with_a_value_that_is_no_json_is_not_half_written(tmp_path):
    path = tmp_path / "results.jsonl"
    with pytest.raises(ValueError, match="JSON"):
        append_record(path, {"a": math.nan})
    assert not path.exists()


def _append_many(path, writer):
    for number in range(100):
        append_record(path, {"writer": writer, "number": number, "filler": str(writer) * 20_000})


def test_writers_at_once_do_not_mix(tmp_path):
    path = tmp_path / "results.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(path, w)) for w in (1, 2)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
        assert process.exitcode == 0
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(records) == 200
    for writer in (1, 2):
        own = [r for r in records if r["writer"] == writer]
        assert [r["number"] for r in own] == list(range(100))
        assert all(r["filler"] == str(writer) * 20_000 for r in own)


def small_model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))


def test_checksum_is_of_values_and_not_of_their_layout():
    model = small_model()
    expected = weights_sha256_of(model)
    assert len(expected) == 64
    assert weights_sha256_of(small_model()) == expected
    assert weights_sha256_of(model.to(memory_format=torch.channels_last)) == expected
    assert weights_sha256_of(model.eval()) == expected


@pytest.mark.parametrize("key", ["0.weight", "0.bias", "1.running_var", "1.num_batches_tracked"])
def test_checksum_sees_one_changed_value(key):
    model = small_model()
    before = weights_sha256_of(model)
    model.state_dict()[key].view(-1)[-1] += 1
    assert weights_sha256_of(model) != before


def test_checksum_sees_names_and_shapes():
    flat, column = torch.nn.Module(), torch.nn.Module()
    flat.register_buffer("a", torch.zeros(4))
    column.register_buffer("a", torch.zeros(4, 1))
    other = torch.nn.Module()
    other.register_buffer("b", torch.zeros(4))
    assert len({weights_sha256_of(m) for m in (flat, column, other)}) == 3


def test_changed_keys_are_those_that_differ_from_the_defaults():
    cfg = get_codec_det_cfg()
    assert changed_keys(cfg) == {}
    cfg.MODEL.CODEC.BETA = 0.5
    cfg.SOLVER.STEPS = (1, 2)
    cfg.MODEL.OWN = 3  # as a detector of another package adds
    assert changed_keys(cfg) == {
        "MODEL.CODEC.BETA": 0.5,
        "SOLVER.STEPS": (1, 2),
        "MODEL.OWN": 3,
    }
