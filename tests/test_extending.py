"""The recipes of docs/extending.md, run as they stand there."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from codec_det.codec import table
from codec_det.codec.table import build_codec
from codec_det.config import load_config
from codec_det.config_checks import check_config
from codec_det.conventional import build, build_picture_codec
from codec_det.deploy.model_files import load_decoder
from codec_det.errors import WeightsError
from codec_det.evaluation import metrics, tasks
from codec_det.evaluation.results import read_records
from codec_det.rate_accuracy.curves import curves_of
from codec_det.rate_accuracy.records import read_results
from tests.conftest import CONFIGS, TINY
from tests.deployed import export, make_run, random_picture
from tests.test_train_net import command
from tools import decode, detect, encode, train_net

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"


def recipe(heading: str) -> str:
    """The code under a heading."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```(?:python|yaml)\n(.*?)```", section, re.DOTALL)
    return code


@pytest.fixture
def follow(monkeypatch):
    """Runs a recipe; what it registers is forgotten afterwards."""
    for owner, name in (
        (table, "_TABLE"),
        (build, "_CODECS"),
        (metrics, "METRICS"),
        (tasks, "PREDICTS"),
    ):
        monkeypatch.setattr(owner, name, dict(getattr(owner, name)))
    return lambda heading: exec(recipe(heading), {"__name__": "own_codecs"})


def test_learned_codec_trains_and_has_a_curve(follow, tiny_set, tmp_path):
    follow("A learned codec")
    opts = ["MODEL.CODEC.NAME", "relu-hyperprior", "SOLVER.MAX_ITER", "2"]
    assert train_net.main(command(tmp_path / "run", *tiny_set, *opts)) == 0
    (record,) = read_records(tmp_path / "run" / "results.jsonl")
    assert record["codec"]["widths"] == [8, 12]
    (curve,) = curves_of(read_results([tmp_path / "run"]))
    assert (curve.regime, curve.codec) == ("J-FT", "relu-hyperprior")
    cfg = load_config("", ["MODEL.CODEC.NAME", "relu-hyperprior", "MODEL.CODEC.WEIGHTS", "",
                           "MODEL.CODEC.N", "8", "MODEL.CODEC.M", "12"])  # fmt: skip
    codec = build_codec(cfg)
    assert sum(isinstance(x, torch.nn.ReLU) for x in codec.model.g_a) == 3
    assert build_codec(load_config("", ["MODEL.CODEC.NAME", "relu-hyperprior"])).widths == (
        128,
        192,
    )


def test_learned_codec_has_files_that_its_receiver_reads(follow, tiny_set, tmp_path):
    follow("A learned codec")
    keys = [*tiny_set, "MODEL.CODEC.NAME", "relu-hyperprior", "MODEL.CODEC.WEIGHTS", ""]
    deploy = export(make_run(tmp_path / "run", *keys), tmp_path / "deploy")
    (tmp_path / "pictures").mkdir()
    Image.fromarray(random_picture(48, 70, 0)).save(tmp_path / "pictures" / "one.png")
    coded, found = str(tmp_path / "coded"), str(tmp_path / "found")
    model = ["--model", str(deploy / "encoder.safetensors"), "--output-dir", coded]
    assert encode.main([str(tmp_path / "pictures"), *model]) == 0
    receiver = ["--model", str(deploy / "receiver.safetensors"), "--output-dir"]
    assert decode.main([coded, *receiver, str(tmp_path / "decoded")]) == 0
    assert Image.open(tmp_path / "decoded" / "one.png").size == (70, 48)
    assert detect.main([coded, *receiver, found]) == 0
    # Elsewhere, without the package that registers it, the model says what is missing.
    table._TABLE.pop("relu-hyperprior")
    with pytest.raises(WeightsError, match="no codec 'relu-hyperprior'"):
        load_decoder(deploy / "receiver.safetensors")


def test_conventional_codec_codes_and_is_evaluated(follow, tiny_set, tmp_path):
    follow("A conventional codec")
    codec = build_picture_codec("poster", 3)
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    data = codec.encode(picture)
    assert len(data) == 4 + -(-5 * 7 * 9 // 8)
    assert np.array_equal(codec.decode(data), picture & 0b11100000)
    opts = ["MODEL.CODEC.NAME", "poster", "MODEL.CODEC.QUALITY", "2", "MODEL.CODEC.TRAINABLE", "[]"]
    opts += ["MODEL.CODEC.CACHE", str(tmp_path / "cache"), "MODEL.DETECTOR.TRAINABLE", "False"]
    arguments = command(tmp_path / "run", *tiny_set, *opts, flags=["--eval-only"])
    assert train_net.main(arguments) == 0
    (record,) = read_records(tmp_path / "run" / "results.jsonl")
    assert record["rate_is"].startswith("real")
    assert record["results"]["rate"]["bpp"] == pytest.approx(6 + 32 / 64**2)


def test_regime_is_a_config(tmp_path):
    path = tmp_path / "heads.yaml"
    path.write_text(
        recipe("A regime").replace("jft_R50.yaml", str(CONFIGS / "shapes" / "jft.yaml"))
    )
    cfg = load_config(str(path), [str(x) for item in TINY.items() for x in item])
    check_config(cfg)
    model = build_model(cfg)
    assert model.regime.name == "heads"
    training = {k.rpartition(".")[0] for k, p in model.named_parameters() if p.requires_grad}
    wanted = ("codec.model.g_a", "codec.model.h_a", "detector.roi_heads.box_head",
              "detector.roi_heads.box_predictor")  # fmt: skip
    assert {w for w in wanted if any(k.startswith(w) for k in training)} == {*wanted}
    assert all(key.startswith(wanted) for key in training)


def test_task_and_metric_are_entries_of_tables(follow):
    follow("A task")
    assert tasks.PREDICTS["OwnSegmentor"] == ("sem_seg",)
    metric = metrics.metric_of("boundary_IoU")
    assert metric.read({"sem_seg": {"boundary_IoU": 41.5}}) == 41.5
    assert metrics.recorded([{"sem_seg": {"boundary_IoU": 41.5}}]) == ["boundary_IoU"]
