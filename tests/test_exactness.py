"""Files decode to the same latents in processes that compute differently."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from checks import exactness_of_sequences
from checks.exactness import (
    INSTRUCTION_SETS,
    FloatEntropyModel,
    Setting,
    Worker,
    all_settings,
    measure,
)
from codec_det.bitstream.expected import Expected, Picture
from codec_det.codec.learned.freeze import freeze_entropy_model
from codec_det.codec.learned.learned_codec import LearnedCodec
from tests.deployed import make_run
from tools import check_exactness as tool


def make_codec(name, levels=1):
    torch.manual_seed(1)
    codec = LearnedCodec(name, 1, n=8, m=12, levels=levels).eval()
    with torch.no_grad():
        # Random weights give latents near zero, which every table codes alike.
        codec.model.g_a[-1].weight *= 100
        codec.model.h_s[-2 if name == "bmshj2018-hyperprior" else -1].weight *= 50
        if codec.gains:
            codec.gains.log_gains -= torch.arange(levels - 1, -1, -1)[:, None] / 2
    codec.model.update()
    return codec, freeze_entropy_model(name, codec.model, Expected(levels=levels))


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(16, 1).repeat(16, 2)


def test_all_settings_are_every_combination_on_the_cpu():
    settings = all_settings()
    assert len(set(settings)) == len(settings) == 2 * 2 * 2 * 2 * len(INSTRUCTION_SETS)
    assert {s.device for s in all_settings(["cpu", "cuda"])} == {"cpu", "cuda"}


def test_a_setting_limits_every_library():
    variables = Setting(threads=2, instructions="sse").environment
    assert variables["OMP_NUM_THREADS"] == variables["OPENBLAS_NUM_THREADS"] == "2"
    assert variables["DNNL_MAX_CPU_ISA"] == "SSE41"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "levels"), [("bmshj2018-hyperprior", 1), ("mbt2018-mean", 3)])
def test_exact_path_decodes_everywhere(name, levels, tmp_path, pictures):
    codec, entropy = make_codec(name, levels)
    settings = [
        Setting(),
        Setting(threads=2, batch=4, channels_last=False, onednn=False, instructions="sse"),
    ]
    result = measure(tmp_path, codec, entropy, pictures, settings, processes=2)
    assert result["exact"]["cases"] == result["float"]["cases"] == 2 * 2 * len(pictures)
    assert result["exact"]["mismatches"] == 0
    assert result["exact"]["by_difference"] == {
        "nothing": [0, 2 * len(pictures)],
        "several": [0, 2 * len(pictures)],
    }
    coded = json.loads((tmp_path / "coded_0.json").read_text())
    exact = [bytes.fromhex(data) for path, _, data, _ in coded if path == "exact"]
    found = {entropy.read(data).picture.level for data in exact}
    assert len(found) == (1 if levels == 1 else len(pictures))


def test_a_wrong_table_is_counted(tmp_path, pictures):
    """The measurement itself: a float path whose scales moved must show as mismatches."""
    codec, entropy = make_codec("bmshj2018-hyperprior")
    coded = FloatEntropyModel.of(entropy, codec.model, Setting())
    y = np.ones((12, 8, 8), np.int32) * np.arange(8, dtype=np.int32)
    z = np.zeros((8, 2, 2), np.int32)
    data = coded.write(y, z, Picture((128, 128), (128, 128)))
    worker = Worker.__new__(Worker)
    worker.entropies = {"float": coded}
    worker._decoded = {}
    before = worker.decode("float", data)
    with torch.no_grad():
        codec.model.h_s[-2].bias += 0.5
    worker._decoded = {}
    assert worker.decode("float", data) != before


def test_tool_reports_and_writes_counts(tmp_path, tiny_cfg, capsys, monkeypatch):
    cfg = tiny_cfg("MODEL.CODEC.WEIGHTS", "", "DATASETS.TEST", ("shapes_val",))
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(cfg.dump())
    (folder / "results.jsonl").touch()
    from PIL import Image

    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(tool, "quick_settings", lambda _: [Setting()])
    output = tmp_path / "counts.json"
    arguments = [str(folder), "--images", str(tmp_path / "a.png"), "--quick", "--count", "1"]
    assert tool.main([*arguments, "--size", "64", "64", "--output", str(output)]) == 0
    assert json.loads(output.read_text())["exact"] == {
        "cases": 1,
        "mismatches": 0,
        "by_difference": {"nothing": [0, 1]},
    }
    assert "0 of 1" in capsys.readouterr().out
    assert tool.main([*arguments, "--size", "96", "64"]) == 2
    assert "lower --count or --size" in capsys.readouterr().err
    changes = ["MODEL.CODEC.NAME", "jpeg", "MODEL.CODEC.CACHE", ""]
    (folder / "config.yaml").write_text(tiny_cfg(*changes).dump())
    assert tool.main([*arguments, "--size", "64", "64"]) == 2
    assert "jpeg, which cannot be deployed" in capsys.readouterr().err


def test_frames_are_checked_under_each_setting_alone(tmp_path, tiny_set, monkeypatch, capsys):
    asked = []

    def measured(folder, codec, frames, settings):
        asked.append((codec.name, frames.shape, settings))
        return {"cases": 9, "mismatches": len(asked) - 1}

    monkeypatch.setattr(exactness_of_sequences, "measure_sequences", measured)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for number in range(3):
        Image.new("RGB", (40, 48)).save(tmp_path / f"{number}.png")
    name = ("MODEL.CODEC.NAME", "mbt2018-mean-temporal")
    run = make_run(tmp_path / "run", *tiny_set, *name, "MODEL.CODEC.KEY_INTERVAL", "4")
    arguments = ["--images", str(tmp_path), "--count", "3", "--size", "48", "32", "--sequence"]
    for status in (0, 1):
        assert tool.main([str(run), *arguments]) == status
        assert f": {status} of 9 did not decode" in capsys.readouterr().out
    codec, shape, settings = asked[0]
    assert (codec, shape) == (name[1], (3, 48, 32, 3))
    assert len(set(settings)) == len(settings) == 6
    assert settings[0] == Setting()
    assert all(setting.batch == 1 for setting in settings)
    run = make_run(tmp_path / "pictures", *tiny_set)
    assert tool.main([str(run), *arguments]) == 2
    assert f"that of '{run}' is bmshj2018-hyperprior" in capsys.readouterr().err
