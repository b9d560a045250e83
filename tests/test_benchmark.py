"""tools/benchmark.py, as called from a shell, on small pictures and a tiny chain."""

import json
import math
from importlib.util import find_spec

import pytest
import torch
from detectron2.utils.events import EventStorage

from benchmarks import camera, environment, folders, memory, receiver, steps, video
from benchmarks.evaluation import without_codec
from benchmarks.result import BenchmarkCurve, BenchmarkResult, BenchmarkRow, table
from benchmarks.settings import BenchmarkSettings, training_batch
from benchmarks.timing import TimeRatio
from codec_det.codec.table import learned_codecs
from codec_det.training.trainer import load_chain
from tests.conftest import CONFIGS, TINY
from tools import benchmark as tool

THIN = str(CONFIGS / "Base_thin.yaml")
OPTS = [str(x) for item in TINY.items() for x in item]


@pytest.fixture
def settings():
    return BenchmarkSettings(THIN, tuple(OPTS), size=(64, 96), batch_size=1, rounds=1)


def run(tmp_path, *arguments):
    """Sections of the JSON that a run of the tool writes."""
    output = tmp_path / "benchmark.json"
    assert tool.main(["--rounds", "1", "--output", str(output), *arguments]) == 0
    return json.loads(output.read_text())["sections"]


def test_codec_compares_both_sides_and_writes_them(tmp_path, capsys):
    name = "bmshj2018-factorized"
    section = run(tmp_path, "--sections", "codec", "--codecs", name, "--size", "65", "96")["codec"]
    notes = section["notes"][name]
    assert notes["max_difference"] < 0.01
    # Both code the same latents: the lengths differ by containers and coders alone.
    assert abs(notes["bytes"] - notes["peer_bytes"]) < 40
    encode, decode = section["comparisons"]
    assert encode["what"] == f"{name}, encode"
    for row in (encode, decode):
        assert row["ratio"] == row["own"] / row["reference"]
    out = capsys.readouterr().out
    assert f"{encode['ratio']:.3f}" in out
    assert "threads: 1" in out


@pytest.mark.slow  # imports and runs PyTorch's ONNX exporter
def test_cameras_are_compared_with_each_other_and_the_peer(tmp_path):
    name = "bmshj2018-factorized"
    options = ["--sections", "camera", "--codecs", name, "--size", "64", "96"]
    section = run(tmp_path, *options)["camera"]
    own, int8, both = section["comparisons"]
    assert [row["against"] for row in (own, int8)] == ["CompressAI"] * 2
    assert both["against"] == camera.FLOAT
    assert both["own"] == int8["own"]
    notes = section["notes"][name]
    assert notes["bytes of the encoder"][camera.INT8] < notes["bytes of the encoder"][camera.FLOAT]
    lengths = notes["bytes"]
    assert lengths[camera.INT8] == pytest.approx(lengths[camera.FLOAT], rel=0.1)


@pytest.mark.slow  # PyTorch's ONNX exporter again, and four programs
@pytest.mark.skipif(find_spec("imageio_ffmpeg") is None, reason="imageio-ffmpeg is not installed")
def test_codecs_of_sequences_are_compared_with_hevc(tmp_path):
    section = run(tmp_path, "--sections", "video", "--short", "--size", "64", "96")["video"]
    rows = {row["what"]: row for row in section["comparisons"]}
    sides = [video.INTRA, video.TEMPORAL, video.ONNX, "avc", "vvc", "av1"]
    decoded = [side for side in sides if side != video.ONNX]
    assert [*rows] == [f"encode, {s}" for s in sides] + [f"decode, {s}" for s in decoded]
    assert {row["against"] for row in rows.values()} == {"hevc"}
    # Of a frame, not of the sequence of four.
    own = rows["encode, avc"]["own"]
    assert section["notes"]["encode, avc"] == f"{1 / own:.2f} frames per second"
    sizes = section["notes"]["bytes per frame"]
    assert sizes[video.TEMPORAL] < sizes[video.INTRA]
    assert sizes[video.ONNX] == pytest.approx(sizes[video.TEMPORAL], rel=0.05)


def test_tools_are_timed_over_a_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(tool.SHORT, "pictures", 2)
    monkeypatch.setattr(folders, "usable_cores", lambda: 2)
    section = run(tmp_path, "--short", "--sections", "folders", "--size", "64", "96")["folders"]
    rows = section["comparisons"]
    assert [row["what"] for row in rows] == [f"{x}.py, cores: 2" for x in folders.TOOLS]
    speeds = section["notes"]["pictures per second, and on one core"]
    for row in rows:
        assert (row["against"], row["unit"]) == ("one core", "s/picture")
        assert speeds[row["what"]][1] == pytest.approx(1 / row["reference"], abs=0.01)


@pytest.mark.slow
def test_training_evaluation_and_growth(tmp_path, monkeypatch):
    monkeypatch.setitem(tool.SHORT, "sides", (64, 128))
    monkeypatch.setitem(tool.SHORT, "memory_of", (steps.JFT, *steps.PEERS))
    sections = ["--sections", "training", "evaluation", "growth"]
    options = ["--short", "--size", "96", "128", "--batch-size", "1", "--config-file", THIN]
    found = run(tmp_path, *sections, *options, *OPTS)
    rows = {(row["what"], row["unit"]): row for row in found["training"]["comparisons"]}
    joint = rows["J-FT", "s"]
    peers = rows["detectron2", "s"]["own"] + rows["CompressAI", "s"]["own"]
    assert joint["against"] == "detectron2 + CompressAI"
    assert joint["ratio"] == pytest.approx(joint["own"] / peers)
    assert {what for what, unit in rows if unit == "s"} == {*steps.TRAINED, *steps.PEERS}
    # Weights, gradients and moments of 0.15 million parameters take 2 MiB; a process takes 1 GiB.
    assert 1 < rows["J-FT", "MiB"]["own"] < 500
    real, estimated, _ = found["evaluation"]["comparisons"]
    assert (real["what"], real["against"]) == ("real bits", "estimated bits")
    speeds = found["evaluation"]["notes"]["pictures per second"]
    assert speeds["real bits"] == pytest.approx(1 / real["own"], abs=0.01)
    assert estimated["against"] == "detector alone"
    grown = {curve["what"]: curve for curve in found["growth"]["growth"]}
    assert grown["Encoding"]["sizes"] == [64**2, 128**2]
    assert grown["Evaluation"]["sizes"] == [1, 2, 4, 8]
    assert all(math.isfinite(curve["exponent"]) for curve in grown.values())


def test_receivers_are_compared_and_told_where_their_time_goes(tmp_path):
    options = ["--sections", "receiver", "--size", "64", "96", "--config-file", THIN, *OPTS]
    trains = ["MODEL.CODEC.TRAINABLE", "['encoder']", "MODEL.DETECTOR.TRAINABLE", "True"]
    section = run(tmp_path, *options, "MODEL.BRIDGE.WIDTH", "8", *trains)["receiver"]
    (row,) = section["comparisons"]
    assert (row["what"], row["target"]) == (receiver.LATENTS, 0.5)
    parts = {name: section["notes"][f"ms, {name}"] for name in (receiver.LATENTS, receiver.PICTURE)}
    common = {"entropy decoding", "res5", "FPN", "proposal_generator", "roi_heads", "rest", "total"}
    early = {"stem", "res2", "res3", "res4"}
    assert common | {"bridge"} <= set(parts[receiver.LATENTS])
    assert not ({"g_s"} | early) & set(parts[receiver.LATENTS])
    assert common | {"g_s"} | early <= set(parts[receiver.PICTURE])
    for found in parts.values():
        total = found.pop("total")
        assert sum(found.values()) == pytest.approx(total, abs=0.5)


@pytest.mark.slow
def test_two_processes_against_one(tmp_path):
    options = ["--sections", "parallel", "--size", "64", "96", "--batch-size", "1"]
    section = run(tmp_path, *options, "--config-file", THIN, *OPTS)["parallel"]
    (row,) = section["comparisons"]
    assert (row["what"], row["against"]) == ("2 processes", "1 process")
    assert section["notes"]["efficiency"] == pytest.approx(0.5 / row["ratio"], abs=1e-3)


@pytest.mark.slow
def test_imports_are_compared_and_the_slowest_help_is_named(tmp_path):
    section = run(tmp_path, "--sections", "startup")["startup"]
    package, slowest = section["comparisons"]
    assert package["what"] == "from codec_det import CodecDetector, add_codec_det_config"
    beyond = section["notes"]["seconds of codec_det beyond detectron2"]
    assert beyond == pytest.approx(package["own"] - package["reference"], abs=1e-3)
    assert slowest["what"].endswith(".py --help, the slowest")
    assert 0 < slowest["own"] < slowest["reference"]


def test_box_ap_is_that_of_detectron2(tmp_path, monkeypatch):
    monkeypatch.setitem(tool.SHORT, "detected", 5)
    section = run(tmp_path, "--sections", "box_ap", "--short")["box_ap"]
    (row,) = section["comparisons"]
    assert row["what"] == "faster-coco-eval"
    assert row["against"] in ("detectron2, compiled", "detectron2, pycocotools")
    assert section["notes"]["pictures"] == 5
    assert section["notes"]["largest difference"] < 1e-6


@pytest.mark.parametrize("name", [*steps.TRAINED, *steps.PEERS])
def test_a_step_changes_exactly_what_it_trains(settings, name, monkeypatch):
    chains = []

    load = steps.load_start

    def note(cfg):
        chains.append(load(cfg))
        return chains[-1]

    monkeypatch.setattr(steps, "load_start", note)
    step = steps.build_step(settings, name)
    (chain,) = chains
    if chain.codec.trains_entropy_model_alone:
        # Of random weights, all latents are rounded to 0, of which scales have nothing to learn.
        with torch.no_grad():
            chain.codec.model.g_a[-1].weight.mul_(100)
    before = {k: v.clone() for k, v in chain.named_parameters()}
    with EventStorage():
        step()
    changed = {
        ".".join(key.split(".")[:3])
        for key, value in chain.named_parameters()
        if not torch.equal(value, before[key])
    }
    parts = {key.split(".")[0] for key in changed}
    codec_parts, detector, latents = steps.TRAINED.get(name, ((), name == steps.DETECTRON2, False))
    assert ("detector" in parts) == detector
    assert ("bridge" in parts) == latents
    assert ("codec.model.g_a" in changed) == bool({"encoder", "gate"} & {*codec_parts})
    assert ("codec.model.h_a" in changed) == ("encoder" in codec_parts)
    assert ("codec.model.h_s" in changed) == bool({"decoder", "entropy"} & {*codec_parts})
    synthesis = bool({"decoder", "synthesis"} & {*codec_parts}) and not latents
    assert ("codec.model.g_s" in changed) == synthesis


def test_compressai_trains_a_model_of_its_own(settings):
    cfg = steps.regime_config(settings, steps.JFT)
    chain = load_chain(cfg)
    batch = training_batch(cfg, 1, (64, 96))
    losses = []
    criterion = steps.RateDistortionLoss.forward

    class Recorded(steps.RateDistortionLoss):
        def forward(self, output, target):
            result = criterion(self, output, target)
            losses.append((result["loss"].item(), target.shape))
            return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "RateDistortionLoss", Recorded)
        step = steps.codec_step(chain.codec, batch, cfg.INPUT.FORMAT)
        for _ in range(30):
            step()
    assert losses[0][1] == (1, 3, 64, 128)
    assert losses[-1][0] < losses[0][0]


def test_truth_is_of_the_size_that_the_detector_sees(settings):
    cfg = settings.config()
    small, large = (training_batch(cfg, 2, (64, 96), size) for size in ((64, 96), (128, 192)))
    for one, other in zip(small, large, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert other["instances"].image_size == other["detector_size"] == (128, 192)
        boxes = one["instances"].gt_boxes.tensor
        assert len(boxes) > 0
        assert torch.allclose(2 * boxes, other["instances"].gt_boxes.tensor)
        assert one["instances"].gt_classes.max() < cfg.MODEL.ROI_HEADS.NUM_CLASSES


def test_detector_alone_sees_the_pictures_as_they_are(settings):
    cfg = settings.config()
    chain = load_chain(cfg).eval()
    batch = training_batch(cfg, 1, (64, 96))
    (output,) = without_codec(chain).eval()(batch)
    assert torch.equal(output["reconstruction"], batch[0]["image"].flip(0))
    assert output["bits"] == 24 * 64 * 96


def test_peak_memory_counts_what_is_freed_again():
    before = memory._reset_peak("cpu")
    block = torch.ones(64 * memory.MIB // 4)
    del block
    assert 60 < (memory._peak("cpu") - before) / memory.MIB < 80
    # A new measurement does not remember it.
    assert memory._peak("cpu") - memory._reset_peak("cpu") > 30 * memory.MIB
    assert memory._peak("cpu") - memory._reset_peak("cpu") < 10 * memory.MIB


def test_exponent_is_the_power_of_growth():
    sizes = [10, 100, 1000]
    assert BenchmarkCurve("", "", sizes, [3 * n**1.5 for n in sizes]).exponent == pytest.approx(1.5)


def test_table_says_which_targets_are_missed():
    def row(what, ratio, target):
        return BenchmarkRow(
            what, "other", TimeRatio(ratio, 1.0, ratio, ratio, ratio, 1), target=target
        )

    result = BenchmarkResult([row("slow", 1.2, 0.9), row("fast", 0.5, 0.9), row("free", 2.0, None)])
    heading, slow, fast, free = table(result).splitlines()
    assert heading.split() == ["median", "against", "median", "ratio", "quartiles", "target"]
    assert slow.endswith("<= 0.9 missed")
    assert fast.endswith("<= 0.9")
    assert free.endswith("2.000 to 2.000")


def test_short_changes_what_is_not_given():
    parser = tool.build_parser()
    short = tool.read_settings(parser.parse_args(["--short", "--size", "96", "128"]))
    assert short.rounds == 3
    assert short.size == short.codec_size == (96, 128)
    assert short.memory_of == (steps.JFT, *steps.PEERS, steps.CHECKPOINTED)
    assert short.config("MODEL.CODEC.N", 8).INPUT.MIN_SIZE_TRAIN == (96,)
    full = tool.read_settings(parser.parse_args([]))
    assert full.rounds == 10
    assert full.codec_size == (512, 768)
    assert full.config().INPUT.MIN_SIZE_TEST == 480


def test_environment_is_named():
    found = environment.describe_environment("cpu", 2)
    assert found["threads"] == 2
    assert found["cpu"]
    assert found["versions"]["compressai"]
    assert found["gpu"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sections", "codec", "--weights", "none.pth"], "none.pth"),
        (
            ["--sections", "training", "--short", "MODEL.CODEC.NAME", "identity"],
            "MODEL.CODEC.NAME is 'identity', which does not train",
        ),
        (["--sections", "growth", "--short", "MODEL.CODEC.NAME", "mbt2018"], "mbt2018"),
        (["--config-file", "none.yaml", "--sections", "training"], "none.yaml"),
    ],
)
def test_what_cannot_be_measured_is_named(arguments, message, capsys):
    assert tool.main(["--rounds", "1", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_named(capsys):
    assert tool.main(["--device", "cuda"]) == 2
    assert "GPU" in capsys.readouterr().err


def test_weights_of_something_else_are_refused(tmp_path, capsys):
    path = tmp_path / "other.pth"
    torch.save({"model": {"fc.weight": torch.zeros(2, 2)}}, path)
    arguments = ["--codecs", "bmshj2018-hyperprior", "--weights", str(path), "--sections", "codec"]
    assert tool.main(arguments) == 2
    assert f"'{path}' has no weights of a bmshj2018-hyperprior" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--rounds", "0"], ["--threads", "0"], ["--size", "0", "8"]])
def test_nothing_to_measure_is_a_usage_error(option, capsys):
    with pytest.raises(SystemExit):
        tool.main(option)
    assert "0 is not positive" in capsys.readouterr().err


def test_offers_only_codecs_with_a_bitstream():
    choices = next(a.choices for a in tool.build_parser()._actions if a.dest == "codecs")
    assert set(choices) < set(learned_codecs())
    assert "mbt2018" not in choices
    # As --help says.
    assert set(BenchmarkSettings("").codecs) == set(choices) - {"bmshj2018-factorized-relu"}
