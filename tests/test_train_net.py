"""The whole tool, as a user runs it."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from codec_det.data.moving_scenes import Motion
from codec_det.data.shapes import generate
from tests.conftest import CONFIGS, TINY
from tools.train_net import main

ROOT = CONFIGS.parent
# Of scripts: the package may not be installed.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
JFT = [
    "MODEL.CODEC.TRAINABLE", "['encoder', 'decoder']", "MODEL.DETECTOR.TRAINABLE", "True",
    "SOLVER.IMS_PER_BATCH", "4", "SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "2",
    "SOLVER.WARMUP_ITERS", "0",
]  # fmt: skip


def command(output, *opts, flags=()):
    tiny = [str(x) for item in TINY.items() for x in item]
    config = ["--config-file", str(CONFIGS / "Base_thin.yaml"), *flags]
    return [*config, *tiny, "OUTPUT_DIR", str(output), *JFT, *opts]


def losses(output):
    lines = [json.loads(line) for line in Path(output, "metrics.json").read_text().splitlines()]
    return {x["iteration"]: x["total_loss"] for x in lines if "total_loss" in x}


def weights(output, name="model_final.pth"):
    return torch.load(Path(output, name))["model"]


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_set):
    """The output folder of an uninterrupted run."""
    output = tmp_path_factory.mktemp("trained")
    assert main(command(output, *tiny_set)) == 0
    return output


def test_training_leaves_what_a_user_expects(trained):
    assert {"model_final.pth", "config.yaml", "log.txt", "metrics.json", "results.jsonl"} <= {
        p.name for p in trained.iterdir()
    }
    assert not list(trained.glob(".*partial*"))
    metrics = Path(trained, "metrics.json").read_text()
    for name in ("bpp", "psnr", "loss_aux", "loss_rate", "codec_grad_norm", "beta", "rate/bpp"):
        assert f'"{name}": ' in metrics
    (record,) = map(json.loads, Path(trained, "results.jsonl").read_text().splitlines())
    assert record["regime"] == "J-FT"
    assert record["iteration"] == 4
    assert record["results"]["rate"]["images"] == 12
    assert record["results"]["bbox"].keys() >= {"AP", "AP50"}
    rows = Path(trained, "inference/tiny/per_image.csv").read_text().splitlines()
    assert len(rows) == 13
    assert (
        "Regime J-FT: trains codec encoder, codec decoder, detector"
        in Path(trained, "log.txt").read_text()
    )


def test_console_has_what_people_read_and_the_log_has_all(tmp_path, tiny_set, capfd):
    opts = ["SOLVER.MAX_ITER", "1", "SOLVER.CHECKPOINT_PERIOD", "1"]
    assert main(command(tmp_path, *tiny_set, *opts)) == 0
    out, err = capfd.readouterr()
    log = Path(tmp_path, "log.txt").read_text()
    assert "meshgrid" not in err
    assert len(out.splitlines()) < 80
    assert re.search(r"tiny: box AP .* bits per pixel; appended to .*results\.jsonl", out)
    for detail in ("Running with full config", "Environment info", "ROIAlign(", "copypaste"):
        assert detail in log
        assert detail not in out


def test_evaluation_alone_repeats_the_figures(trained, tmp_path, tiny_set):
    file = str(trained / "model_final.pth")
    assert main(command(tmp_path, *tiny_set, "MODEL.WEIGHTS", file, flags=["--eval-only"])) == 0
    before = json.loads(Path(trained, "results.jsonl").read_text().splitlines()[-1])
    after = json.loads(Path(tmp_path, "results.jsonl").read_text())
    assert after["weights_sha256"] == before["weights_sha256"]
    assert after["results"]["rate"]["bpp"] == before["results"]["rate"]["bpp"]
    assert after["results"]["bbox"] == before["results"]["bbox"]


def test_rft_goes_on_from_a_run_and_keeps_what_its_receiver_shows(trained, tmp_path, tiny_set):
    own = ["MODEL.WEIGHTS", str(trained / "model_final.pth"), "MODEL.DETECTOR.LOSS_WEIGHT", "0.0"]
    parts = ["MODEL.CODEC.TRAINABLE", "['entropy']", "MODEL.DETECTOR.TRAINABLE", "False"]
    how = ["MODEL.CODEC.QUANTIZATION", "straight_through", "MODEL.CODEC.BITSTREAM", "True"]
    assert main(command(tmp_path, *tiny_set, *own, *parts, *how)) == 0
    record = json.loads(Path(tmp_path, "results.jsonl").read_text())
    before = json.loads(Path(trained, "results.jsonl").read_text().splitlines()[-1])
    assert record["regime"] == "R-FT"
    # The scale hyperprior predicts no means.
    assert record["results"]["bbox"] == before["results"]["bbox"]
    assert record["results"]["rate"]["psnr"] == before["results"]["rate"]["psnr"]
    old, new = weights(trained), weights(tmp_path)
    moved = {key.split(".")[2] for key in old if not torch.equal(old[key], new[key])}
    assert (
        {"h_s", "entropy_bottleneck"}
        <= moved
        <= {"h_s", "entropy_bottleneck", "gaussian_conditional"}
    )
    assert "loss_cls" not in Path(tmp_path, "metrics.json").read_text()


def test_resume_continues_as_if_never_stopped(trained, tmp_path, tiny_set):
    # Stopped at a checkpoint: the first half is run with the schedule of the whole.
    opts = [*tiny_set, "SOLVER.CHECKPOINT_PERIOD", "2"]
    assert main(command(tmp_path, *opts)) == 0
    for name in ("model_final.pth", "model_0000003.pth"):
        Path(tmp_path, name).unlink(missing_ok=True)
    Path(tmp_path, "last_checkpoint").write_text("model_0000001.pth")
    Path(tmp_path, "metrics.json").unlink()
    assert main(command(tmp_path, *opts, flags=["--resume"])) == 0
    assert equal(weights(tmp_path), weights(trained))


@pytest.mark.slow
def test_resume_after_kill_9(trained, tmp_path, tiny_set):
    arguments = command(tmp_path, *tiny_set)
    process = subprocess.Popen(
        [sys.executable, "tools/train_net.py", *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while not Path(tmp_path, "last_checkpoint").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert Path(tmp_path, "last_checkpoint").read_text() == "model_0000001.pth"
    # And as if a later checkpoint had been cut off by a full disk or a power failure.
    whole = Path(tmp_path, "model_0000001.pth").read_bytes()
    Path(tmp_path, "model_0000002.pth").write_bytes(whole[: len(whole) // 2])
    Path(tmp_path, "last_checkpoint").write_text("model_0000002.pth")
    assert main(command(tmp_path, *tiny_set, flags=["--resume"])) == 0
    assert equal(weights(tmp_path), weights(trained))


@pytest.mark.slow
def test_two_processes_reach_the_parameters_of_one(tmp_path, tiny_set):
    # Nothing random, and losses whose mean over processes is that over all: every anchor and every
    # proposal is used, every picture has as many of them, and batch norm is frozen. SGD, because
    # AdamW turns a gradient of nearly 0 into a full step of either sign.
    opts = [
        *tiny_set, "MODEL.CODEC.QUANTIZATION", "straight_through", "SOLVER.OPTIMIZER", "SGD",
        "MODEL.CODEC.DISTORTION_WEIGHT", "0.01", "SOLVER.CODEC_CLIP_NORM", "0.0",
        "SOLVER.BASE_LR", "0.01", "SOLVER.CODEC_LR", "0.0001", "SOLVER.MAX_ITER", "2",
        "MODEL.RESNETS.NORM", "FrozenBN", "MODEL.FPN.NORM", "", "MODEL.RPN.NMS_THRESH", "1.0",
        "MODEL.RPN.POST_NMS_TOPK_TRAIN", "8", "MODEL.RPN.BATCH_SIZE_PER_IMAGE", "100000",
        "MODEL.RPN.POSITIVE_FRACTION", "1.0", "MODEL.ROI_HEADS.POSITIVE_FRACTION", "1.0",
        "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT", "False",
    ]  # fmt: skip
    for count in ("1", "2"):
        flags = ["--num-gpus", count]
        arguments = command(tmp_path / count, *opts, flags=flags)
        run = [sys.executable, "tools/train_net.py", *arguments]
        subprocess.run(run, cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)
    one, two = (weights(tmp_path / count) for count in ("1", "2"))
    quantiles = "codec.model.entropy_bottleneck.quantiles"
    for key, value in one.items():
        tolerance = 1e-3 if key == quantiles or "_cdf" in key else 1e-5
        assert torch.allclose(value, two[key], rtol=1e-4, atol=tolerance), key
    first = {c: losses(tmp_path / c)[1] for c in ("1", "2")}
    assert first["1"] == pytest.approx(first["2"], rel=1e-5)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.CODEC.NAME", "jpeg9000"], "MODEL.CODEC.NAME is 'jpeg9000': there is no codec"),
        (["MODEL.CODEC.BETA", "-1.0"], "MODEL.CODEC.BETA is -1.0"),
        (["MODEL.CODEC.BETTA", "1"], "MODEL.CODEC.BETTA: did you mean MODEL.CODEC.BETA?"),
        (["MODEL.WEIGHTS", "missing.pth"], "weights 'missing.pth' not found"),
        (["DATASETS.TRAIN", "('nowhere',)"], "data set 'nowhere' is not registered"),
        (["MODEL.CODEC.TRAINABLE", "[]", "MODEL.DETECTOR.TRAINABLE", "False"], "nothing trains"),
    ],
)
def test_mistakes_get_one_line(opts, message, tmp_path, tiny_set, capsys):
    assert main(command(tmp_path, *tiny_set, *opts)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error
    assert error.startswith("error: ")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num-gpus", "0"], "--num-gpus: 0 is not positive"),
        (["--num-machines", "2"], "--dist-url: several machines need one"),
        (["--machine-rank", "1"], "--machine-rank: it is below --num-machines, 1"),
    ],
)
def test_machines_that_cannot_meet_are_a_usage_error(flags, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(flags)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_more_gpus_than_there_are(tmp_path, tiny_set, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    arguments = command(tmp_path, *tiny_set, "MODEL.DEVICE", "cuda")
    assert main(["--num-gpus", "3", *arguments]) == 2
    assert "--num-gpus 3, but this machine has 1 usable GPU" in capsys.readouterr().err


def test_divergence_keeps_the_last_good_checkpoint_and_says_which_term(
    tmp_path, tiny_set, capsys, monkeypatch
):
    from codec_det.meta_arch import CodecDetector

    healthy = CodecDetector._codec_losses

    def diverging(self, *arguments):
        found = healthy(self, *arguments)
        diverging.calls += 1
        if diverging.calls == 4:
            found["loss_rate"] = found["loss_rate"] * math.nan
        return found

    diverging.calls = 0
    monkeypatch.setattr(CodecDetector, "_codec_losses", diverging)
    assert main(command(tmp_path, *tiny_set)) == 1
    error = capsys.readouterr().err
    assert "loss_rate" in error
    assert "model_0000001.pth" in error
    assert all(v.isfinite().all() for v in weights(tmp_path, "model_0000001.pth").values())
    assert Path(tmp_path, "last_checkpoint").read_text() == "model_0000001.pth"


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "--eval-only" in text
    assert "configs/jft_R50.yaml" in text


def test_two_processes_train_on_clips_with_and_without_key_frames(tmp_path):
    file = generate(tmp_path / "set", 4, (64, 64), progress=False, motion=Motion(frames=6))
    clips = [
        *("DATASETS.COCO_FORMAT", str([["moving", str(file), str(file.parent / "images")]])),
        *("DATASETS.TRAIN", "('moving',)", "DATASETS.TEST", "()"),
        *("MODEL.CODEC.NAME", "bmshj2018-hyperprior-temporal", "MODEL.CODEC.KEY_INTERVAL", "8"),
        *("INPUT.CLIP_LENGTH", "2", "INPUT.BURN_IN", "4", "MODEL.ROI_HEADS.NUM_CLASSES", "6"),
    ]
    words = command(tmp_path / "run", *clips, flags=("--num-gpus", "2"))
    run = [sys.executable, str(ROOT / "tools/train_net.py"), *words]
    subprocess.run(run, cwd=tmp_path, env=ENVIRONMENT, check=True, capture_output=True)
    before = weights(tmp_path / "run", "model_0000001.pth")
    after = weights(tmp_path / "run")
    for part in ("model.h_a.0.weight", "prediction.h_a.0.weight", "model.g_a.0.weight"):
        assert not torch.equal(before[f"codec.{part}"], after[f"codec.{part}"])
